#include "converter/onnx/fusion.h"

#include <cmath>
#include <numbers>

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::UnaryKind;

constexpr int64_t kMostHeads = 65536;  // of the operator, and of channels of a head

// Whether two numbers are the same to the digits that exporters write.
bool is_near(double a, double b) { return std::fabs(a - b) <= 1e-4 * std::fabs(b); }

// Reads a graph from a value back to those that it is made of.
class Trail {
 public:
  explicit Trail(Lowering& l) : l_(l) {}

  // The value behind nodes that change nothing.
  std::string behind(std::string name) const {
    int steps = 0;
    for (const OnnxNode* n = l_.producer(name); n && !n->inputs.empty() && steps < 64; n = l_.producer(name), ++steps) {
      const bool is_same = n->domain.empty() && (n->op == "Identity" || n->op == "Dropout" || n->op == "Cast");
      const Value *from = l_.find(n->inputs[0]), *to = l_.find(name);
      if (!is_same || !from || (to && from->elem != to->elem)) break;
      name = n->inputs[0];
    }
    return name;
  }
  const OnnxNode* made(const std::string& name, const char* op) const {
    const OnnxNode* n = l_.producer(behind(name));
    return n && n->domain.empty() && n->op == op ? n : nullptr;
  }
  // The same where nobody else reads the value.
  const OnnxNode* made_for_one(const std::string& name, const char* op) const {
    return l_.is_sole_reader(name) ? made(name, op) : nullptr;
  }
  // A number of the file that adds no axis to a value of one axis or more.
  bool is_number(const std::string& name, double* out) const {
    const Value* v = l_.find(name);
    if (!v || v->elem != Elem::kFloat || !v->is_constant() || v->rank() > 1 || !product(v->shape).is(1)) return false;
    *out = double(l_.numbers(*v)[0]);
    return true;
  }
  // The input of a node of two that is no number, and the number.
  bool with_number(const OnnxNode& n, std::string* other, double* number) const {
    if (n.inputs.size() != 2) return false;
    for (size_t i = 0; i < 2; ++i)
      if (is_number(n.inputs[i], number)) return *other = n.inputs[1 - i], true;
    return false;
  }
  bool is_same(const std::string& a, const std::string& b) const {
    if (behind(a) == behind(b)) return true;
    const Value *x = l_.find(a), *y = l_.find(b);
    return x && y && !x->is_known() && !x->items && x->name == y->name && x->perm == y->perm && x->shape == y->shape;
  }
  const Value& value(const std::string& name) const { return *l_.find(name); }

  // An activation of a value that is read where it begins and where it ends, by nodes whose results nobody else reads.
  Value activated(UnaryKind kind, const std::string& x) const {
    return l_.has_other_names(x) ? l_.unary(kind, value(x)) : convert::activated(l_, kind, x, 2);
  }

  // A product as a number and the factors that are none; those of products within it too.
  struct Product {
    double number = 1;
    Names factors;
  };
  void multiply(const OnnxNode& n, Product* p, int depth = 0) const {
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      double number = 1;
      const bool divides = n.op == "Div" && i == 1;
      if (is_number(n.inputs[i], &number)) p->number *= divides ? 1 / number : number;
      else multiply(n.inputs[i], p, depth);
    }
  }
  void multiply(const std::string& name, Product* p, int depth) const {
    const OnnxNode* n = made_for_one(name, "Mul");
    double number = 0;
    if (const OnnxNode* d = made_for_one(name, "Div"); d && d->inputs.size() == 2 && is_number(d->inputs[1], &number))
      n = d;
    if (n && p->factors.size() < 4 && depth < 8) return multiply(*n, p, depth + 1);
    const OnnxNode* power = made(name, "Pow");
    const size_t times =
        power && is_number(power->inputs[1], &number) && (number == 2 || number == 3) ? size_t(number) : 1;
    for (size_t i = 0; i < times; ++i) p->factors.push_back(behind(times > 1 ? power->inputs[0] : name));
  }
  Product product_of(const std::string& name) const {
    Product p;
    multiply(name, &p, 0);
    return p;
  }
  bool is_power(const Product& p, const std::string& x, size_t times) const {
    if (p.factors.size() != times) return false;
    for (const std::string& f : p.factors)
      if (!is_same(f, x)) return false;
    return true;
  }

 private:
  Lowering& l_;
};

// --- activations

// sqrt(2 / pi) (x + 0.044715 x^3)
bool is_gelu_inner(const Trail& t, const std::string& name, const std::string& x) {
  const double factor = std::sqrt(2 / std::numbers::pi), cubic = 0.044715;
  const Trail::Product p = t.product_of(name);
  if (!is_near(p.number, factor)) return false;
  if (p.factors.size() == 1) {
    const OnnxNode* sum = t.made(p.factors[0], "Add");
    for (size_t i = 0; sum && i < 2; ++i) {
      const Trail::Product cube = t.product_of(sum->inputs[1 - i]);
      if (t.is_same(sum->inputs[i], x) && is_near(cube.number, cubic) && t.is_power(cube, x, 3)) return true;
    }
    return false;
  }
  for (size_t i = 0; p.factors.size() == 2 && i < 2; ++i) {  // x (1 + 0.044715 x^2)
    std::string rest;
    double one = 0;
    const OnnxNode* sum = t.made(p.factors[1 - i], "Add");
    if (!t.is_same(p.factors[i], x) || !sum || !t.with_number(*sum, &rest, &one) || one != 1) continue;
    const Trail::Product square = t.product_of(rest);
    if (is_near(square.number, cubic) && t.is_power(square, x, 2)) return true;
  }
  return false;
}

// x / 2 (1 + erf(x / sqrt 2)), the same with tanh, x sigmoid(x) and x sigmoid(1.702 x). Where nobody else reads x or a
// value on the way to them, the convolution that made x may do them.
bool lower_activation(Lowering& l, const Node& n) {
  const Trail t(l);
  Trail::Product p;
  double number = 0;
  if (n.op() == "Div" && (n.inputs() != 2 || !t.is_number(n.raw().inputs[1], &number))) return false;
  t.multiply(n.raw(), &p);
  if (p.factors.size() != 2) return false;
  for (size_t i = 0; i < 2; ++i) {
    const std::string &x = p.factors[i], &gate = p.factors[1 - i];
    if (t.value(x).rank() == 0) return false;
    const OnnxNode* sigmoid = t.made(gate, "Sigmoid");
    if (sigmoid && p.number == 1 && l.is_sole_reader(gate)) {
      const Trail::Product inner = t.product_of(sigmoid->inputs[0]);
      const bool is_quick = is_near(inner.number, 1.702);
      if ((inner.number == 1 || is_quick) && t.is_power(inner, x, 1))
        return n.set(is_quick ? l.unary(UnaryKind::gelu_quick, t.value(x)) : t.activated(UnaryKind::silu, x)), true;
    }
    const OnnxNode* sum = t.made(gate, "Add");
    std::string bent;
    double one = 0;
    if (!is_near(p.number, 0.5) || !sum || !t.with_number(*sum, &bent, &one) || one != 1) continue;
    if (const OnnxNode* erf = t.made(bent, "Erf")) {
      const Trail::Product inner = t.product_of(erf->inputs[0]);
      const bool is_alone = l.is_sole_reader(gate) && l.is_sole_reader(bent);
      if (is_near(inner.number, std::sqrt(0.5)) && t.is_power(inner, x, 1))
        return n.set(is_alone ? t.activated(UnaryKind::gelu, x) : l.unary(UnaryKind::gelu, t.value(x))), true;
    }
    const OnnxNode* tanh = t.made(bent, "Tanh");
    if (tanh && is_gelu_inner(t, tanh->inputs[0], x)) return n.set(l.unary(UnaryKind::gelu_tanh, t.value(x))), true;
  }
  return false;
}

// --- norms

// The mean of a value along its last axis.
const OnnxNode* mean_of(Lowering& l, const Trail& t, const std::string& name) {
  const OnnxNode* mean = t.made(name, "ReduceMean");
  if (!mean) return nullptr;
  const Node n(l, *mean, l.opset());
  if (!n.integer("keepdims", 1) || !n.has(0) || !n.has_integers("axes", 1)) return nullptr;
  const std::vector<int64_t> axes = n.integers_of("axes", 1);
  const int rank = n.in(0).rank();
  return axes.size() == 1 && (axes[0] == -1 || axes[0] == rank - 1) ? mean : nullptr;
}

// sqrt(mean(x^2) + eps): x and eps.
bool is_deviation(Lowering& l, const Trail& t, const std::string& name, std::string* x, double* eps) {
  const OnnxNode* root = t.made(name, "Sqrt");
  std::string inside = root ? root->inputs[0] : "";
  double half = 0;
  if (const OnnxNode* power = t.made(name, "Pow"); power && t.is_number(power->inputs[1], &half) && half == 0.5)
    inside = power->inputs[0];
  const OnnxNode* sum = inside.empty() ? nullptr : t.made(inside, "Add");
  std::string mean;
  if (!sum || !t.with_number(*sum, &mean, eps) || !(*eps > 0 && *eps < 1)) return false;
  const OnnxNode* over = mean_of(l, t, mean);
  if (!over) return false;
  const Trail::Product square = t.product_of(over->inputs[0]);
  if (square.factors.empty() || square.number != 1) return false;
  *x = square.factors[0];
  return t.is_power(square, *x, 2);
}

// A row of the file that the one reader of a value multiplies it with, or adds to it; the reader's work is done then.
bool take_row(Lowering& l, const std::string& value, const char* op, const Size& width, Value* row, std::string* made) {
  const OnnxNode* n = l.only_reader(value, op);
  if (!n || n->inputs.size() != 2 || n->inputs[0] == n->inputs[1]) return false;
  const Value* v = l.find(n->inputs[n->inputs[0] == value]);
  if (!v || !v->is_constant() || v->elem != Elem::kFloat || v->rank() == 0) return false;
  if (!(product(v->shape) == width) || !(v->shape.back() == width)) return false;
  *row = l.reshape(*v, {width});
  *made = n->outputs[0];
  l.take_over(n);
  return true;
}

// x less its mean: gives x.
std::string centred(Lowering& l, const Trail& t, const std::string& name) {
  const OnnxNode* less = t.made(name, "Sub");
  const OnnxNode* mean = less && less->inputs.size() == 2 ? mean_of(l, t, less->inputs[1]) : nullptr;
  return mean && t.is_same(mean->inputs[0], less->inputs[0]) ? less->inputs[0] : "";
}

// x / sqrt(mean(x^2) + eps), and of layer norm the same of x less its mean; with the factors and the row that follow.
bool lower_norm(Lowering& l, const Node& n) {
  const Trail t(l);
  if (n.inputs() != 2) return false;
  std::string x, squared;
  double eps = 0, one = 0;
  for (size_t i = 0; i < 2; ++i) {
    const std::string &numerator = n.raw().inputs[i], &other = n.raw().inputs[1 - i];
    std::string root;
    if (n.op() == "Div") {
      if (i == 0) root = other;
    } else if (const OnnxNode* inverse = t.made(other, "Reciprocal")) {
      root = inverse->inputs[0];
    } else if (const OnnxNode* d = t.made(other, "Div"); d && t.is_number(d->inputs[0], &one) && one == 1) {
      root = d->inputs[1];
    }
    if (root.empty() || !is_deviation(l, t, root, &squared, &eps)) continue;
    const std::string base = centred(l, t, numerator), other_base = centred(l, t, squared);
    if (t.is_same(squared, numerator) || (!base.empty() && !other_base.empty() && t.is_same(base, other_base)))
      x = numerator;
  }
  if (x.empty()) return false;
  const std::string base = centred(l, t, x);
  const bool is_rms = base.empty();
  if (!is_rms) x = base;
  const Value& v = t.value(x);
  if (v.elem != Elem::kFloat || v.is_known() || v.rank() == 0 || !v.shape.back().is_constant()) return false;
  Value scale, bias;
  std::string made = n.raw().outputs[0];
  if (take_row(l, made, "Mul", v.shape.back(), &scale, &made) && !is_rms)
    take_row(l, made, "Add", v.shape.back(), &bias, &made);
  const Value y = layer_norm_of(l, v, scale, bias, eps, is_rms);
  if (made != n.raw().outputs[0]) l.define(made, y);
  n.set(y);
  return true;
}

// --- attention

// The value without the numbers that it is multiplied with.
std::string unscaled(const Trail& t, std::string name, double* scale) {
  for (;;) {
    double number = 0;
    std::string other;
    const OnnxNode* n = t.made_for_one(name, "Mul");
    if (n && t.with_number(*n, &other, &number)) {
      *scale *= number, name = other;
      continue;
    }
    n = t.made_for_one(name, "Div");
    if (!n || n->inputs.size() != 2 || !t.is_number(n->inputs[1], &number)) return name;
    *scale /= number, name = n->inputs[0];
  }
}

// The weights of a softmax along the last axis, behind what turns NaN (of rows without any key) into 0.
const OnnxNode* softmax_behind(Lowering& l, const Trail& t, const std::string& name) {
  const OnnxNode* softmax = t.made_for_one(name, "Softmax");
  if (const OnnxNode* where = t.made_for_one(name, "Where")) {
    const OnnxNode* is_nan = t.made_for_one(where->inputs[0], "IsNaN");
    double zero = 1;
    if (is_nan && t.is_number(where->inputs[1], &zero) && zero == 0 && t.is_same(is_nan->inputs[0], where->inputs[2]))
      softmax = t.made(where->inputs[2], "Softmax");
  }
  if (!softmax) return nullptr;
  const Node n(l, *softmax, l.opset());
  const int64_t axis = n.integer("axis", l.opset() < 13 ? 1 : -1);
  return axis == -1 || axis == n.in(0).rank() - 1 ? softmax : nullptr;
}

// softmax(scale q k^T + bias) v
bool lower_attention_of_products(Lowering& l, const Node& n) {
  const Trail t(l);
  const OnnxNode* softmax = n.inputs() == 2 ? softmax_behind(l, t, n.raw().inputs[0]) : nullptr;
  if (!softmax) return false;
  std::string scores = softmax->inputs[0];
  Names biases;
  while (const OnnxNode* sum = t.made_for_one(scores, "Add")) {
    const auto is_product = [&](const std::string& name) {
      double unused = 1;
      return t.made_for_one(unscaled(t, name, &unused), "MatMul") || t.made_for_one(name, "Add");
    };
    const size_t product = is_product(sum->inputs[0]) ? 0 : 1;
    if (!is_product(sum->inputs[product])) return false;
    biases.push_back(sum->inputs[1 - product]);
    scores = sum->inputs[product];
  }
  double scale = 1;
  const OnnxNode* product = t.made_for_one(unscaled(t, scores, &scale), "MatMul");
  if (!product) return false;
  const Value q = t.value(unscaled(t, product->inputs[0], &scale)),
              keys = t.value(unscaled(t, product->inputs[1], &scale)), v = n.in(1);
  for (const Value* x : {&q, &keys, &v})
    if (x->elem != Elem::kFloat || x->rank() != q.rank()) return false;
  if (q.rank() != 4 && q.rank() != 3) return false;
  // Three axes are the heads of one sequence, if they stood behind its tokens before.
  if (q.rank() == 3 && !q.shape[0].is(1) && (q.is_known() || q.perm != Perm{1, 0, 2})) return false;
  const auto by_heads = [&](const Value& x) {
    Sizes shape = x.shape;
    if (shape.size() == 3) shape.insert(shape.begin(), 1);
    return l.reshape(x, shape);
  };
  Value bias;
  for (const std::string& name : biases) {
    const Value& more = t.value(name);
    if (more.elem != Elem::kFloat) return false;
    bias = bias.is_absent() ? more : l.binary(BinaryKind::add, bias, more);
  }
  const Value turned = by_heads(keys),
              y = attention_of(l, by_heads(q), l.transpose(turned, {0, 1, 3, 2}), by_heads(v), scale, bias);
  if (y.is_absent()) return false;
  Sizes shape = q.shape;
  shape.back() = v.shape.back();
  n.set(l.reshape(y, shape));
  return true;
}

}  // namespace

Value attention_of(Lowering& l, const Value& q, const Value& k, const Value& v, double scale, const Value& bias,
                   double softcap, const Value& sinks) {
  const Size batch = q.shape[0], heads = q.shape[1], queries = q.shape[2], keys = k.shape[2];
  for (const Value* x : {&q, &k, &v})
    if (!(x->shape[0] == batch) || !x->shape[1].is_constant() || !x->shape[3].is_constant() || x->shape[3].is(0))
      return {};
  if (!(k.shape[3] == q.shape[3]) || !(v.shape[1] == k.shape[1]) || !(v.shape[2] == keys)) return {};
  if (k.shape[1].constant() < 1 || heads.constant() % k.shape[1].constant()) return {};
  for (const Size& size : {heads, q.shape[3], v.shape[3]})
    if (size.constant() < 1 || size.constant() > kMostHeads) return {};
  // Sequences side by side stand one behind the other.
  const bool is_one = batch.is(1);
  if (!is_one && (!bias.is_absent() || !(queries == keys))) return {};
  const auto rows = [&](const Value& x) {
    return l.plain(l.reshape(l.transpose(x, {0, 2, 1, 3}), {batch * x.shape[2], x.shape[1], x.shape[3]}));
  };
  std::vector<Value> in = {rows(q), rows(k), rows(v), {}, {}, sinks};
  if (!is_one) {
    if (!queries.is_constant()) return {};
    format::IndexAttrsT starts;
    starts.step = float(queries.constant());
    in.push_back({});
    in.push_back(l.emit("index", {}, {batch + 1}, starts, Elem::kInt));
  } else if (!bias.is_absent()) {
    Sizes shape(size_t(std::max(0, 4 - bias.rank())), Size(1));
    shape.insert(shape.end(), bias.shape.begin(), bias.shape.end());
    if (shape.size() != 4 || !shape[0].is(1) || !(shape[1].is(1) || shape[1] == heads) ||
        !(shape[2].is(1) || shape[2] == queries) || !(shape[3].is(1) || shape[3] == keys))
      return {};
    in.push_back(l.expand(l.plain(l.reshape(bias, {shape[1], shape[2], shape[3]})), {shape[1], shape[2], keys}));
  }
  format::AttentionAttrsT attrs;
  attrs.scale = float(scale), attrs.softcap = float(softcap), attrs.causal = false;
  const Value y = l.emit("attention", in, {batch * queries, heads, v.shape[3]}, attrs);
  return l.transpose(l.reshape(y, {batch, queries, heads, v.shape[3]}), {0, 2, 1, 3});
}

bool lower_spelt_out(Lowering& l, const Node& n) {
  if (!n.raw().domain.empty() || n.outputs() != 1) return false;
  if (n.op() == "MatMul") return lower_attention_of_products(l, n);
  if (n.op() != "Mul" && n.op() != "Div") return false;
  return lower_norm(l, n) || lower_activation(l, n);
}

}  // namespace runnel::convert
