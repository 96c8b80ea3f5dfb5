// What a node's function reads.
#include "converter/onnx/lowering.h"

namespace runnel::convert {

const Value& Node::in(size_t i) const {
  if (!has(i)) fail("input %zu is missing", i);
  const Value& v = *l_.find(node_.inputs[i]);
  if (v.items) fail("input %zu is a sequence", i);
  return v;
}
const std::vector<Value>& Node::sequence(size_t i) const {
  if (!has(i)) fail("input %zu is missing", i);
  const Value& v = *l_.find(node_.inputs[i]);
  if (!v.items) fail("input %zu is no sequence", i);
  return *v.items;
}
void Node::set(size_t i, Value v) const {
  if (v.rank() > kMaxRank) fail("its output has %d axes, the limit is %d", v.rank(), kMaxRank);
  if (wants(i)) l_.define(node_.outputs[i], std::move(v));
}

const OnnxAttribute* Node::attribute(const char* name, OnnxKind kind) const {
  const auto it = node_.attributes.find(name);
  if (it == node_.attributes.end()) return nullptr;
  if (it->second.kind != kind) fail("attribute \"%s\" is of another kind", name);
  return &it->second;
}
int64_t Node::integer(const char* name, int64_t otherwise) const {
  const OnnxAttribute* a = attribute(name, OnnxKind::kInt);
  return a ? a->i : otherwise;
}
double Node::real(const char* name, double otherwise) const {
  const OnnxAttribute* a = attribute(name, OnnxKind::kFloat);
  return a ? double(a->f) : otherwise;
}
std::string Node::text(const char* name, const char* otherwise) const {
  const OnnxAttribute* a = attribute(name, OnnxKind::kString);
  return a ? a->s : otherwise;
}
std::vector<int64_t> Node::integers(const char* name, std::vector<int64_t> otherwise) const {
  const OnnxAttribute* a = attribute(name, OnnxKind::kInts);
  return a ? a->ints : otherwise;
}

const Sizes& Node::known_sizes(size_t i, const char* what) const {
  const Value& v = in(i);
  if (!v.ints) fail("%s (input %zu) hang on what the graph computes", what, i);
  return *v.ints;
}
int64_t Node::known_integer(size_t i, const char* what) const {
  const std::vector<int64_t> list = known_integers(i, what);
  if (list.size() != 1) fail("%s (input %zu): %zu numbers in the place of one", what, i, list.size());
  return list[0];
}
std::vector<int64_t> Node::known_integers(size_t i, const char* what) const {
  std::vector<int64_t> out;
  for (const Size& s : known_sizes(i, what)) {
    if (!s.is_constant()) fail("%s (input %zu) hang on the sizes of a call: %s", what, i, s.text().c_str());
    out.push_back(s.constant());
  }
  return out;
}
const std::vector<float>& Node::known_floats(size_t i, const char* what) const {
  const Value& v = in(i);
  if (!v.is_constant()) fail("%s (input %zu) are no numbers of the file", what, i);
  return l_.numbers(v);
}
float Node::known_number(size_t i, const char* what) const {
  const std::vector<float>& list = known_floats(i, what);
  if (list.size() != 1) fail("%s (input %zu): %zu numbers instead of one", what, i, list.size());
  return list[0];
}
std::vector<int64_t> Node::integers_of(const char* name, size_t i) const {
  return has_attribute(name) ? integers(name) : has(i) ? known_integers(i, name) : std::vector<int64_t>();
}

Value applied(Lowering& l, const Node& n, LowerFn function, const char* op, const std::vector<Value>& in,
              const std::set<std::string>& without, int64_t opset, const Integers& integers,
              const std::map<std::string, int64_t>& numbers) {
  OnnxNode node;
  node.name = n.name(), node.op = op;
  for (const auto& [name, value] : n.raw().attributes)
    if (!without.count(name)) node.attributes.emplace(name, value);
  for (const auto& [name, list] : integers) {
    OnnxAttribute a;
    a.kind = OnnxKind::kInts, a.ints = list;
    node.attributes[name] = a;
  }
  for (const auto& [name, number] : numbers) {
    OnnxAttribute a;
    a.kind = OnnxKind::kInt, a.i = number;
    node.attributes[name] = a;
  }
  const std::string base = n.raw().outputs[0] + "\n" + op;
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i].is_absent()) {
      node.inputs.push_back("");
      continue;
    }
    node.inputs.push_back(base + std::to_string(i));
    l.define(node.inputs.back(), in[i]);
  }
  node.outputs = {base};
  function(l, Node(l, node, opset));
  return *l.find(base);
}

}  // namespace runnel::convert
