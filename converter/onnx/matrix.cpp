// Products.
#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

// Adds what the one reader of the product adds to it, when that is a row of the file: gives the value that then stands
// for the reader's output.
const OnnxNode* bias_of(Lowering& l, const Node& n, int64_t width, Value* bias) {
  const OnnxNode* add = l.only_reader(n.raw().outputs[0], "Add");
  if (!add || add->inputs.size() != 2) return nullptr;
  const std::string& other = add->inputs[add->inputs[0] == n.raw().outputs[0]];
  const Value* v = l.find(other);
  if (other == n.raw().outputs[0] || !v || !v->is_constant() || v->elem != Elem::kFloat || v->rank() == 0)
    return nullptr;
  if (!product(v->shape).is(width) || !v->shape.back().is(width)) return nullptr;
  *bias = l.reshape(*v, {width});
  l.take_over(add);
  return add;
}

// x times a matrix of the file [K, N], value (k, n) at k * k_step + n * n_step.
Value times_matrix(Lowering& l, const Value& x, const Value& w, int64_t rows, int64_t columns, int64_t k_step,
                   int64_t n_step, const Value& bias) {
  if (x.rank() == 0 || !x.shape.back().is(rows)) fail("%s times %s", text(x.shape).c_str(), text(w.shape).c_str());
  const Perm perm = x.order().back() == x.rank() - 1 ? x.order() : identity(x.rank());
  const Value in = l.stored_in(x, perm);
  Sizes shape = in.shape;
  shape.back() = columns;
  return l.labelled(l.emit("matmul", {in, Lowering::packed(l.matrix(w, columns, rows, n_step, k_step)), bias}, shape),
                    perm);
}

// The same for a node, whose one reader may add a bias.
void times_matrix(Lowering& l, const Node& n, const Value& x, const Value& w, int64_t rows, int64_t columns,
                  int64_t k_step, int64_t n_step, Value bias) {
  const OnnxNode* add = bias.is_absent() ? bias_of(l, n, columns, &bias) : nullptr;
  const Value y = times_matrix(l, x, w, rows, columns, k_step, n_step, bias);
  if (add) l.define(add->outputs[0], y);
  n.set(y);
}

// Rows and columns of a matrix of the file that b is for a; {}: it is none.
std::vector<int64_t> matrix_of(Lowering& l, const Value& a, const Value& b) {
  if (!b.is_constant() || b.rank() < 2 || a.is_constant() || a.rank() < b.rank() ||
      !product(Sizes(b.shape.begin(), b.shape.end() - 2)).is(1))
    return {};
  const std::vector<int64_t> dims = l.known_shape(b, "the matrix");
  return dims[dims.size() - 2] > 0 && dims.back() > 0 ? std::vector<int64_t>(dims.end() - 2, dims.end())
                                                      : std::vector<int64_t>();
}

// An operand of a product of values: its batch axes in order, the last two as they stand.
Value operand(Lowering& l, const Value& v, bool* is_turned) {
  const int rank = v.rank();
  *is_turned = !v.is_known() && v.perm[size_t(rank - 2)] == rank - 1;
  Perm perm = identity(rank);
  if (*is_turned) std::swap(perm[size_t(rank - 1)], perm[size_t(rank - 2)]);
  return v.is_known() ? v : l.stored(l.in_order(v, perm));
}

Value product_of(Lowering& l, Value a, Value b) {
  const bool is_row = a.rank() == 1, is_column = b.rank() == 1;
  if (is_row) a = l.reshape(a, {1, a.shape[0]});
  if (is_column) b = l.reshape(b, {b.shape[0], 1});
  const Size m = a.shape[size_t(a.rank() - 2)], k = a.shape.back(), width = b.shape.back();
  if (!(k == b.shape[size_t(b.rank() - 2)])) fail("%s times %s", text(a.shape).c_str(), text(b.shape).c_str());
  Sizes shape = broadcast(Sizes(a.shape.begin(), a.shape.end() - 2), Sizes(b.shape.begin(), b.shape.end() - 2));
  format::BatchMatmulAttrsT attrs;
  const Value x = operand(l, a, &attrs.transpose_a), y = operand(l, b, &attrs.transpose_b);
  Sizes full = shape;
  full.push_back(m), full.push_back(width);
  const Value out = l.emit("batch_matmul", {x, y}, full, attrs);
  if (!is_row) shape.push_back(m);
  if (!is_column) shape.push_back(width);
  return l.reshape(out, shape);
}

}  // namespace

Value multiplied(Lowering& l, const Value& a, const Value& b) {
  const auto m = matrix_of(l, a, b);
  return m.empty() ? product_of(l, a, b) : times_matrix(l, a, b, m[0], m[1], m[1], 1, Value());
}

void lower_matmul(Lowering& l, const Node& n) {
  const Value &a = n.in(0), &b = n.in(1);
  if (a.elem != Elem::kFloat || b.elem != Elem::kFloat) fail("of integers");
  if (a.rank() == 0 || b.rank() == 0) fail("of a number without axes");
  if (const auto m = matrix_of(l, a, b); !m.empty()) return times_matrix(l, n, a, b, m[0], m[1], m[1], 1, {});
  n.set(product_of(l, a, b));
}

void lower_gemm(Lowering& l, const Node& n) {
  Value a = n.in(0);
  const Value& b = n.in(1);
  const bool turn_a = n.integer("transA", 0), turn_b = n.integer("transB", 0);
  const float alpha = float(n.real("alpha", 1)), beta = float(n.real("beta", 1));
  if (a.rank() != 2 || b.rank() != 2) fail("%s times %s", text(a.shape).c_str(), text(b.shape).c_str());
  if (turn_a) a = l.transpose(a, {1, 0});
  if (alpha != 1) a = l.unary(format::UnaryKind::scale, a, alpha);
  Value c;
  if (n.has(2)) c = beta == 1 ? n.in(2) : l.unary(format::UnaryKind::scale, n.in(2), beta);
  if (b.is_constant() && !a.is_constant()) {
    const std::vector<int64_t> dims = l.known_shape(b, "the matrix");
    const int64_t rows = dims[turn_b ? 1 : 0], columns = dims[turn_b ? 0 : 1];
    const bool is_bias = c.is_constant() && c.rank() > 0 && product(c.shape).is(columns) && c.shape.back().is(columns);
    if (rows > 0 && columns > 0 && (c.is_absent() || is_bias))
      return times_matrix(l, n, a, b, rows, columns, turn_b ? 1 : dims[1], turn_b ? dims[1] : 1,
                          is_bias ? l.reshape(c, {columns}) : Value());
  }
  const Value y = product_of(l, a, turn_b ? l.transpose(b, {1, 0}) : b);
  n.set(c.is_absent() ? y : l.binary(format::BinaryKind::add, y, c));
}

}  // namespace runnel::convert
