// Activations that a graph spells out in several nodes, and those that a convolution takes over.
#include <cmath>
#include <optional>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

// The number that a value is, whatever its axes.
std::optional<double> number_of(Lowering& l, const std::string& name) {
  const Value* v = l.ahead(name);
  if (!v || !v->is_constant() || v->elem != Elem::kFloat || !product(v->shape).is(1)) return std::nullopt;
  return double(l.numbers(*v)[0]);
}
bool is_number(Lowering& l, const std::string& name, double wanted) {
  const auto number = number_of(l, name);
  return number && std::abs(*number - wanted) <= 1e-5 * wanted;
}

// What a node of two inputs reads beside this one; "": nothing else.
std::string beside(const OnnxNode* n, const std::string& name) {
  if (!n || n->inputs.size() != 2 || n->inputs[0] == n->inputs[1]) return "";
  return n->inputs[n->inputs[0] == name];
}
// The only reader of a value, if it is this operator and reads that number too.
const OnnxNode* with_number(Lowering& l, const std::string& value, const char* op, double number) {
  const OnnxNode* reader = l.only_reader(value, op);
  return reader && is_number(l, beside(reader, value), number) ? reader : nullptr;
}

}  // namespace

format::WindowAttrsT* open_convolution(Lowering& l, const std::string& value, size_t readers) {
  const Value* v = l.find(value);
  format::OpT* op = v && l.has_readers(value, readers) ? l.maker(*v) : nullptr;
  if (!op || op->name != "conv") return nullptr;
  format::WindowAttrsT* attrs = op->attrs.AsWindowAttrs();
  return attrs->activation == UnaryKind::none && attrs->least == -INFINITY && attrs->most == INFINITY ? attrs : nullptr;
}

Value activated(Lowering& l, UnaryKind kind, const std::string& value, size_t readers) {
  if (auto* conv = open_convolution(l, value, readers)) {
    conv->activation = kind;
    return *l.find(value);
  }
  return l.unary(kind, *l.find(value));
}

// x sigmoid(x); n is the sigmoid.
bool lower_silu(Lowering& l, const Node& n) {
  const std::string& x = n.raw().inputs[0];
  const OnnxNode* product = l.only_reader(n.raw().outputs[0], "Mul");
  if (beside(product, n.raw().outputs[0]) != x) return false;
  const Value y = activated(l, UnaryKind::silu, x, 2);
  l.take_over(product);
  l.define(product->outputs[0], y);
  n.set(y);
  return true;
}

// x (1 + erf(x / sqrt 2)) / 2; n makes x / sqrt 2.
bool lower_gelu(Lowering& l, const Node& n) {
  const Names& in = n.raw().inputs;
  if (in.size() != 2 || in[0] == in[1]) return false;
  const bool is_product = n.op() == "Mul", is_turned = is_product && is_number(l, in[0], std::sqrt(0.5));
  if (!is_turned && !is_number(l, in[1], is_product ? std::sqrt(0.5) : std::sqrt(2.0))) return false;
  const std::string& x = in[is_turned];
  const OnnxNode* erf = l.only_reader(n.raw().outputs[0], "Erf");
  const OnnxNode* sum = erf ? with_number(l, erf->outputs[0], "Add", 1) : nullptr;
  const OnnxNode* product = sum ? l.only_reader(sum->outputs[0], "Mul") : nullptr;
  if (!product || beside(product, sum->outputs[0]) != x || l.find(x)->elem != Elem::kFloat) return false;
  const OnnxNode* half = with_number(l, product->outputs[0], "Mul", 0.5);
  if (!half || !(l.find(x)->shape == broadcast(l.find(x)->shape, l.ahead(beside(half, product->outputs[0]))->shape)))
    return false;
  const Value y = activated(l, UnaryKind::gelu, x, 2);
  for (const OnnxNode* node : {erf, sum, product, half}) l.take_over(node);
  l.define(half->outputs[0], y);
  n.set(y);
  return true;
}

}  // namespace runnel::convert
