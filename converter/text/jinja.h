// Chat templates: the part of Jinja that they use, as transformers sets it up (trim_blocks, lstrip_blocks, loop
// controls, generation).
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/model_generated.h"

namespace runnel::convert {

// A template that is wrong or goes beyond what can be compiled; the message names the line and the construct.
struct TemplateError : std::runtime_error {
  TemplateError(int line, const std::string& what) : std::runtime_error("line " + std::to_string(line) + ": " + what) {}
};

// Limits of a template: blocks and expressions within each other, parts of one expression, elifs of one if.
inline constexpr int kMaxTemplateDepth = 200, kMaxTemplateTerms = 4000, kMaxTemplateBranches = 1000;

namespace jinja {

enum class Token : uint8_t {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};
struct Lexeme {
  Token kind;
  std::string text;  // of data and strings without quotes and escapes
  int line;
};
std::vector<Lexeme> tokenize(std::string_view source);

struct Node;
using NodePtr = std::unique_ptr<Node>;
enum class Kind : uint8_t {
  // expressions
  kText,
  kInteger,
  kPlain,
  kName,
  kList,
  kDict,
  kAttribute,
  kIndex,
  kSlice,
  kCall,
  kFilter,
  kTest,
  kNot,
  kNegative,
  kBinary,
  kCompare,
  kAnd,
  kOr,
  kConditional,
  kConcat,
  kUnsupported,
  // statements
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kFilterBlock,
  kScope,
  kBreak,
  kContinue
};
struct Node {
  Kind kind;
  int line;
  std::string name;            // text, name, attribute, filter, test, operator, macro
  int64_t integer = 0;         // kPlain: a chat::Plain
  std::vector<NodePtr> parts;  // operands; kSlice: object, start, stop, step, absent ones null; kDict: keys and values
                               // in turn
  std::vector<std::pair<std::string, NodePtr>> keywords;  // of calls, filters and tests; parameters of a macro, default
                                                          // or null
  std::vector<NodePtr> body, otherwise;                   // statements
  std::vector<std::string> names;                         // targets of kFor and kSet; kCompare: operators
  Node(Kind k, int l, std::string n = "") : kind(k), line(l), name(std::move(n)) {}
};
// kIf: parts[0] condition. kFor: parts[0] iterable, parts[1] filter or null. kSet: parts[0] value, name an attribute or
// empty.
std::vector<NodePtr> parse(std::string_view source);

}  // namespace jinja

struct CompiledTemplate {
  format::ChatProgramT program;
  bool may_fail = false;            // it holds instructions that refuse what is beyond chat programs
  std::vector<std::string> beyond;  // what they are, each with its line
};
CompiledTemplate compile_template(const std::string& source);

}  // namespace runnel::convert
