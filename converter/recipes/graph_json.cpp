#include "converter/recipes/graph_json.h"

#include <flatbuffers/idl.h>

#include <cstring>
#include <cstdlib>
#include <map>
#include <set>
#include <string_view>

#include "converter/program/graph.h"
#include "converter/read/read.h"
#include "converter/recipes/schema_text.h"

namespace runnel::convert {
namespace {

constexpr size_t kMaxTables = 4u << 20;

enum class Use { kPlain, kMatrix };

// How operator input `index` reads a tensor.
Use use_of(const format::OpT& op, size_t index) {
  if (op.name == "matmul") return index >= 1 && index <= op.outputs.size() ? Use::kMatrix : Use::kPlain;
  if (op.name == "embedding") return index == 1 ? Use::kMatrix : Use::kPlain;
  return Use::kPlain;
}

void add_plain(const SourceTensor& t, const std::string& name, ModelBuilder& b) {
  if (is_float(t.type) || is_quantised(t.type)) {
    b.add_floats(name, t);
    return;
  }
  format::DType dtype = format::DType::none;
  switch (t.type) {
    case SourceType::kI32: dtype = format::DType::i32; break;
    case SourceType::kI64: dtype = format::DType::i64; break;
    case SourceType::kI8: dtype = format::DType::i8; break;
    case SourceType::kU8:
    case SourceType::kBool: dtype = format::DType::u8; break;
    default: fail("tensor \"%s\" has a type that the file cannot hold", t.describe().c_str());
  }
  b.add_bytes(format::SegmentKind::weights, name, dtype, t.shape, std::vector<uint8_t>(t.data, t.data + t.bytes));
}

// What a parser of the schema's JSON says ("12: 5: error: unknown field: foo"), in our words.
std::string problem_of(const std::string& error) {
  static constexpr std::string_view kMark = "error: ";
  const size_t at = error.find(kMark), digits = error.find_first_of("0123456789");
  if (at == error.npos || digits > at) return "it is none";
  const std::string detail = error.substr(at + kMark.size()),
                    line = "line " + std::to_string(std::atoi(error.c_str() + digits)) + ": ";
  static const std::pair<const char*, const char*> kKinds[] = {
      {"unknown field: ", "no field of the schema is called"},
      {"unknown enum value: ", "no value of the schema is called"},
      {"required field is missing: ", "this field is missing:"},
      {"field set more than once: ", "this field stands twice:"}};
  for (const auto& [begin, ours] : kKinds)
    if (detail.rfind(begin, 0) == 0) return line + ours + " \"" + printable(detail.substr(std::strlen(begin))) + "\"";
  return line + "a value of a kind that does not belong there";
}

}  // namespace

void read_graph_json(const std::string& text, const std::string& where, ModelBuilder& b) {
  if (text.find('\0') != std::string::npos) fail("%s: not JSON (a zero byte)", where.c_str());
  flatbuffers::IDLOptions options;
  options.strict_json = true;
  flatbuffers::Parser parser(options);
  if (!parser.Parse(kSchemaText)) fail("the built-in schema does not parse");
  if (!parser.Parse(text.c_str())) {
    parse_json(text, where + ": not a model in JSON");
    fail("%s: not a model in JSON: %s", where.c_str(), problem_of(parser.error_).c_str());
  }
  flatbuffers::Verifier verifier(parser.builder_.GetBufferPointer(), parser.builder_.GetSize(), 64, kMaxTables);
  if (!format::VerifyModelBuffer(verifier)) fail("%s: nested too deeply or incomplete", where.c_str());
  format::GetModel(parser.builder_.GetBufferPointer())->UnPackTo(&b.model);
  if (b.model.programs.empty()) fail("%s: no programs", where.c_str());
  if (!b.model.segments.empty()) fail("%s: segments are made by the converter and cannot be given", where.c_str());
  for (auto& program : b.model.programs)
    for (auto& op : program->ops) {
      const OpRow row = op_row(op->name);
      if (op->code != 0 && op->code != row.number)
        fail("%s: operator \"%s\" has number %u, not %u", where.c_str(), printable(op->name).c_str(), row.number,
             op->code);
      if (op->version > row.version)
        fail("%s: operator \"%s\" has version %u; this converter knows up to %u", where.c_str(),
             printable(op->name).c_str(), op->version, row.version);
      op->code = row.number;
      if (op->version == 0) op->version = version_needed(*op);
    }
}

void add_graph_tensors(Checkpoint& c, ModelBuilder& b) {
  std::map<std::string, Use> declared;
  for (const auto& t : b.model.tensors) {
    if (t->dtype != format::DType::packed && t->dtype != format::DType::f32 && t->dtype != format::DType::none)
      fail("tensor \"%s\": the JSON may ask for packed or f32; other types follow the weights file",
           printable(t->name).c_str());
    if (t->dtype != format::DType::none)
      declared[t->name] = t->dtype == format::DType::packed ? Use::kMatrix : Use::kPlain;
  }
  b.model.tensors.clear();
  std::set<std::string> states;
  for (const auto& s : b.model.states) states.insert(s->name);
  std::map<std::string, Use> added;
  for (const auto& program : b.model.programs) {
    std::set<std::string> values;
    for (const auto& v : program->inputs) values.insert(v->name);
    for (const auto& v : program->values) values.insert(v->name);
    for (const auto& op : program->ops)
      for (size_t i = 0; i < op->inputs.size(); ++i) {
        const std::string& name = op->inputs[i];
        if (name.empty() || values.count(name) || states.count(name)) continue;
        const auto it = declared.find(name);
        const Use use = it != declared.end() ? it->second : use_of(*op, i);
        if (const auto before = added.find(name); before != added.end()) {
          if (before->second != use)
            fail("tensor \"%s\" is used as a packed matrix and as a plain tensor (operator %s): store it twice",
                 printable(name).c_str(), op->name.c_str());
          continue;
        }
        const SourceTensor* t = c.find(name);
        if (!t)
          fail("%s: operator %s reads \"%s\", which is no value, no state and no tensor of the weights file",
               c.path.c_str(), op->name.c_str(), printable(name).c_str());
        if (use == Use::kMatrix) b.add_matrix(name, *t);
        else add_plain(*t, name, b);
        added[name] = use;
      }
  }
  for (const auto& s : b.model.states) {
    if (s->initial.empty() || added.count(s->initial)) continue;
    const SourceTensor* t = c.find(s->initial);
    if (!t)
      fail("%s: state \"%s\" starts as \"%s\", which is no tensor of the weights file", c.path.c_str(),
           printable(s->name).c_str(), printable(s->initial).c_str());
    add_plain(*t, s->initial, b);
    added[s->initial] = Use::kPlain;
  }
  for (const auto& [name, use] : declared)
    if (!added.count(name))
      fail("%s: tensor \"%s\" is listed but no operator reads it", c.path.c_str(), printable(name).c_str());
}

}  // namespace runnel::convert
