// The compiler's parts, shared by jinja_compiler.cpp (statements) and jinja_expressions.cpp.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "converter/text/jinja.h"
#include "text/chat_program.h"

namespace runnel::convert::jinja {

using chat::Op;
using chat::Plain;

class Compiler {
 public:
  CompiledTemplate run(const std::string& source);

 private:
  using Names = std::map<std::string, uint32_t>;  // name -> local
  struct Macro {
    uint32_t index;
    const Node* node;
  };
  struct LoopContext {
    std::vector<size_t> breaks;
    size_t next;  // instruction of its kLoopNext
    int captures;
  };

  // Code.
  size_t emit(Op op, size_t operand, int line);
  void patch(size_t at) { patch(at, out_.program.code.size()); }
  void patch(size_t at, size_t target);
  uint32_t text(const std::string& s);
  void fail(const Node& n, const std::string& what);
  void builtin(const char* name, size_t arguments, int line);
  void plain(Plain p, int line) { emit(Op::kPlain, size_t(p), line); }

  // Variables.
  uint32_t local() { return locals_++; }
  uint32_t global(const std::string& name);
  // -1: no local of that name.
  int64_t find_local(const std::string& name) const;
  void load(const std::string& name, int line);
  void store(const std::string& name, int line);
  bool is_macro(const std::string& name) const { return find_local(name) < 0 && macros_.count(name); }
  // A scope where what the nodes set lives by itself, beginning with its value outside.
  void open_scope(const std::vector<NodePtr>& body, const std::vector<std::string>& own, int line);
  void close_scope() { scopes_.pop_back(); }

  // Statements.
  void find_macros(const std::vector<NodePtr>& nodes);
  void statements(const std::vector<NodePtr>& nodes);
  void statement(const Node& n);
  void if_statement(const Node& n);
  void for_statement(const Node& n);
  void targets(const Node& n);
  void captured(const Node& n);
  void macro(const Macro& m);

  // Expressions: each leaves one value.
  void expression(const Node& n);
  void compare(const Node& n);
  void compare_op(const std::string& op, int line);
  void binary(const Node& n);
  void attribute(const Node& n);
  void call(const Node& n);
  void call_macro(const Node& n);
  void call_method(const Node& n);
  void filter(const Node& n);
  void filter_elements(const Node& n);
  void test(const Node& n);
  // The list on the stack, element by element as "\1item": those for which the condition holds, mapped to value (null:
  // as they are).
  void comprehension(const Node* condition, const Node* value, int line);
  // Arguments of a call by position, undefined where none is given; how many, or -1 when one has an unknown name.
  int arguments(const Node& n, size_t first, const char* names);

  CompiledTemplate out_;
  std::map<std::string, uint32_t> texts_, globals_;
  std::map<std::string, Macro> macros_;
  std::vector<Names> scopes_;
  std::vector<LoopContext> loops_;
  uint32_t locals_ = 0;
  int captures_ = 0, depth_ = 0;
};

}  // namespace runnel::convert::jinja
