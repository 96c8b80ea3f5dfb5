// Weights of few bits in blocks with a scale each, which are written out as real numbers.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

constexpr int64_t kMostWeights = int64_t(1) << 31;

}  // namespace

// Weights of 2, 4 or 8 bits: [N, blocks, bytes of a block], the lowest bits first.
void lower_matmul_bits(Lowering& l, const Node& n) {
  const int64_t columns = n.integer("K", 0), rows = n.integer("N", 0), bits = n.integer("bits", 4),
                block = n.integer("block_size", 0);
  if (columns < 1 || rows < 1 || block < 1 || columns > INT32_MAX || rows > kMostWeights / columns || block > 65536 ||
      (bits != 2 && bits != 4 && bits != 8))
    fail("K %lld, N %lld, %lld bits, blocks of %lld", static_cast<long long>(columns), static_cast<long long>(rows),
         static_cast<long long>(bits), static_cast<long long>(block));
  if (n.has(4)) fail("places of columns (g_idx)");
  if (!n.in(1).tensor || n.in(1).tensor->type != SourceType::kU8) fail("weights that are no bytes of the file");
  const int64_t blocks = (columns + block - 1) / block, each = block * bits / 8, per_byte = 8 / bits;
  const std::vector<float>&packed = n.known_floats(1, "weights"), &scales = n.known_floats(2, "scales");
  if (block % per_byte || int64_t(packed.size()) != rows * blocks * each || int64_t(scales.size()) != rows * blocks)
    fail("%zu bytes of weights and %zu scales", packed.size(), scales.size());
  const auto part = [&](float byte, int64_t i) { return int(byte) >> (i % per_byte * bits) & ((1 << bits) - 1); };
  std::vector<float> zero_points(scales.size(), float(1 << (bits - 1)));
  if (n.has(3)) {
    const std::vector<float>& given = n.known_floats(3, "zero points");
    const int64_t bytes = (blocks + per_byte - 1) / per_byte;  // of a row
    const bool is_packed = n.in(3).tensor && n.in(3).tensor->type == SourceType::kU8;
    if (int64_t(given.size()) != rows * (is_packed ? bytes : blocks)) fail("%zu zero points", given.size());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t b = 0; b < blocks; ++b)
        zero_points[size_t(r * blocks + b)] =
            is_packed ? float(part(given[size_t(r * bytes + b / per_byte)], b)) : given[size_t(r * blocks + b)];
  }
  std::vector<float> w(size_t(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const size_t at = size_t(r * blocks + c / block);
      const int q = part(packed[at * size_t(each) + size_t(c % block / per_byte)], c % block);
      w[size_t(r * columns + c)] = (float(q) - zero_points[at]) * scales[at];
    }
  // As [K, N], which a product takes.
  const Value turned = l.transpose(Lowering::floats(std::move(w), {rows, columns}), {1, 0});
  const Value y = applied(l, n, lower_matmul, "MatMul", {n.in(0), turned});
  n.set(n.has(5) ? l.binary(format::BinaryKind::add, y, n.in(5)) : y);
}

// bitsandbytes' kinds of 4 bits: places in a table, the high bits first, over the rows one behind the other.
void lower_matmul_bnb(Lowering& l, const Node& n) {
  static constexpr float kFp4[8] = {0, 0.00520833333f, 0.66666667f, 1, 0.33333333f, 0.5f, 0.16666667f, 0.25f};
  static constexpr float kNf4[16] = {-1,
                                     -0.6961928009986877f,
                                     -0.5250730514526367f,
                                     -0.39491748809814453f,
                                     -0.28444138169288635f,
                                     -0.18477343022823334f,
                                     -0.09105003625154495f,
                                     0,
                                     0.07958029955625534f,
                                     0.16093020141124725f,
                                     0.24611230194568634f,
                                     0.33791524171829224f,
                                     0.44070982933044434f,
                                     0.5626170039176941f,
                                     0.7229568362236023f,
                                     1};
  const int64_t columns = n.integer("K", 0), rows = n.integer("N", 0), block = n.integer("block_size", 0),
                kind = n.integer("quant_type", 1);
  if (columns < 1 || rows < 1 || block < 1 || columns > INT32_MAX || rows > kMostWeights / columns || kind < 0 ||
      kind > 1)
    fail("K %lld, N %lld, kind %lld, blocks of %lld", static_cast<long long>(columns), static_cast<long long>(rows),
         static_cast<long long>(kind), static_cast<long long>(block));
  if (n.integer("transB", 1) != 1) fail("weights that are not turned");
  const int64_t count = rows * columns;
  const std::vector<float>&packed = n.known_floats(1, "weights"), &scales = n.known_floats(2, "scales");
  if (!n.in(1).tensor || n.in(1).tensor->type != SourceType::kU8 || int64_t(packed.size()) != (count + 1) / 2 ||
      int64_t(scales.size()) != (count + block - 1) / block)
    fail("%zu bytes of weights and %zu scales", packed.size(), scales.size());
  std::vector<float> w(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const int bits = int(packed[size_t(i / 2)]) >> (i % 2 ? 0 : 4) & 15;
    const float value = kind == 1 ? kNf4[bits] : bits > 7 ? -kFp4[bits - 8] : kFp4[bits];
    w[size_t(i)] = value * scales[size_t(i / block)];
  }
  const Value turned = l.transpose(Lowering::floats(std::move(w), {rows, columns}), {1, 0});
  n.set(applied(l, n, lower_matmul, "MatMul", {n.in(0), turned}));
}

// Rows of a table whose blocks lie along its last axis.
void lower_gather_blocks(Lowering& l, const Node& n) {
  const Value &data = n.in(0), &ids = n.in(1);
  const SourceTensor* t = data.tensor;
  if (!t) fail("a table that the graph computes");
  const int64_t bits = n.integer("bits", 4), block = n.integer("block_size", 128);
  const bool is_packed = t->type == SourceType::kU8 && !l.has_four_bits(*t) && bits == 4;
  const std::vector<int64_t> dims = l.known_shape(data, "the table");
  if (dims.size() < 2 || block < 1 || (bits != 4 && bits != 8)) fail("a table %s", text(data.shape).c_str());
  const int rank = int(dims.size());
  if (axis_of(n.integer("quantize_axis", 1), rank) != rank - 1) fail("blocks along another axis than the last");
  if (axis_of(n.integer("gather_axis", 0), rank) != 0) fail("rows of another axis than the first");
  const int64_t columns = dims.back() * (is_packed ? 2 : 1), blocks = (columns + block - 1) / block;
  int64_t rows = 1;
  for (int i = 0; i + 1 < rank; ++i) rows *= dims[size_t(i)];
  const std::vector<float>&given = n.known_floats(0, "the table"), &scales = n.known_floats(2, "scales");
  if (int64_t(scales.size()) != rows * blocks) fail("%zu scales of %s", scales.size(), text(data.shape).c_str());
  const float middle = t->type == SourceType::kU8 && !l.has_four_bits(*t) ? float(1 << (bits - 1)) : 0;
  std::vector<float> zero_points(scales.size(), middle);
  if (n.has(3)) {
    const std::vector<float>& list = n.known_floats(3, "zero points");
    const int64_t each = is_packed ? (blocks + 1) / 2 : blocks;
    if (int64_t(list.size()) != rows * each) fail("%zu zero points", list.size());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t b = 0; b < blocks; ++b)
        zero_points[size_t(r * blocks + b)] =
            is_packed ? float(int(list[size_t(r * each + b / 2)]) >> (b % 2 * 4) & 15) : list[size_t(r * each + b)];
  }
  std::vector<float> table(size_t(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      const size_t at = size_t(r * columns + c), of = size_t(r * blocks + c / block);
      const float q = is_packed ? float(int(given[at / 2]) >> (at % 2 * 4) & 15) : given[at];
      table[at] = (q - zero_points[of]) * scales[of];
    }
  Sizes shape(dims.begin(), dims.end());
  shape.back() = columns;
  n.set(looked_up(l, Lowering::floats(std::move(table), shape), 0, ids));
}

}  // namespace runnel::convert
