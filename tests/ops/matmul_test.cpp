#include "runtime/ops/matmul/matmul.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "ops/op_test.h"
#include "packed_formats.h"

namespace runnel::test {
namespace {

struct PoolDeleter {
  void operator()(ThreadPool* p) const { thread_pool_destroy(p); }
};
using Pool = std::unique_ptr<ThreadPool, PoolDeleter>;

// A product with everything that it owns. Biases stand behind the weights, an absent one as an empty Array.
struct Product {
  std::vector<PackedMatrix> weights;
  Case call;
};

Array packed_array(const PackedMatrix& m) {
  Array a(DType::kPacked, {m.rows, m.columns}, m.bytes.size());
  std::copy(m.bytes.begin(), m.bytes.end(), a.data<unsigned char>());
  return a;
}

void make(Product& p, const std::vector<PackedFormat>& formats, const std::vector<int64_t>& rows, int64_t columns,
          int64_t tokens, bool bias = false, uint32_t seed = 1) {
  p.call.op = "matmul";
  p.call.in = {Array::random({tokens, columns}, seed)};
  p.weights.clear();
  for (size_t i = 0; i < formats.size(); ++i)
    p.weights.push_back(random_matrix(formats[i], rows[i], columns, seed + uint32_t(i) + 10));
  p.call.out.clear();
  for (const PackedMatrix& m : p.weights) {
    p.call.in.push_back(packed_array(m));
    p.call.in.back().set_packed(&m.format);
    p.call.out.push_back(Array(DType::kF32, {tokens, m.rows}));
  }
  if (bias)
    for (size_t i = 0; i < formats.size(); ++i) p.call.in.push_back(Array::random({rows[i]}, seed + 20 + uint32_t(i)));
}

float block_scale(const float* x, int64_t n, std::vector<int>& q) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  q.assign(size_t(n), 0);
  if (largest < 2e-36f) return 0;
  const float inverse = 127.0f / largest;
  for (int64_t i = 0; i < n; ++i) q[size_t(i)] = int(std::nearbyint(x[i] * inverse));
  return largest / 127.0f;
}

// The contract's formula for integer kinds with x rounded to int8, summed in double: what every kernel must give but
// for the rounding of f32 sums.
std::vector<double> with_rounded_x(const Product& p, size_t weight) {
  const PackedMatrix& m = p.weights[weight];
  const int64_t tokens = p.call.out[weight].view().dims[0];
  std::vector<double> y(size_t(tokens * m.rows), 0.0);
  std::vector<int> q;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t first = 0; first < m.columns; first += 32) {
      const int64_t n = std::min<int64_t>(32, m.columns - first);
      if (is_vulkan_mode() && !device_rounds_activations()) {  // x is used as it is
        for (int64_t r = 0; r < m.rows; ++r)
          for (int64_t i = 0; i < n; ++i)
            y[size_t(t * m.rows + r)] += double(m.values[size_t(r * m.columns + first + i)]) *
                                         double(p.call.in[0].data<float>()[t * m.columns + first + i]);
        continue;
      }
      const double scale = block_scale(p.call.in[0].data<float>() + t * m.columns + first, n, q);
      for (int64_t r = 0; r < m.rows; ++r)
        for (int64_t i = 0; i < n; ++i)
          y[size_t(t * m.rows + r)] += double(m.values[size_t(r * m.columns + first + i)]) * scale * q[size_t(i)];
    }
  const size_t bias = 1 + p.weights.size() + weight;
  if (bias < p.call.in.size())
    for (size_t i = 0; i < y.size(); ++i) y[i] += double(p.call.in[bias].data<float>()[i % size_t(m.rows)]);
  return y;
}

void expect_near(const Array& got, const std::vector<double>& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.bytes(), want.size() * 4) << what;
  double largest = 0;
  for (double v : want) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(double(got.data<float>()[i]), want[i], tolerance * largest + 1e-30) << what << " element " << i;
}

std::string describe_case(const Product& p, const std::string& kernel) {
  const TensorView w = p.call.in[1].view();
  return kernel + " " + name_of(*w.packed) + " [" + std::to_string(w.dims[0]) + ", " + std::to_string(w.dims[1]) +
         "] tokens " + std::to_string(p.call.in[0].view().dims[0]);
}

TEST(Matmul, ReferenceHoldsTheFormulaForEveryFormat) {
  std::vector<PackedFormat> formats = integer_formats();
  for (const PackedFormat& f : float_formats()) formats.push_back(f);
  for (const PackedFormat& f : formats) {
    Product p;
    make(p, {f}, {19}, 1100, 3, true);
    const Ran r = run_reference(p.call);
    std::vector<double> want;
    for (int64_t t = 0; t < 3; ++t)
      for (int64_t n = 0; n < 19; ++n) {
        double sum = double(p.call.in[2].data<float>()[n]);
        for (int64_t k = 0; k < 1100; ++k)
          sum += double(p.call.in[0].data<float>()[t * 1100 + k]) * double(p.weights[0].values[size_t(n * 1100 + k)]);
        want.push_back(sum);
      }
    expect_near(r.out[0], want, 1e-6, name_of(f));
  }
}

TEST(Matmul, EveryIntegerFormatFollowsTheRoundedFormula) {
  Pool pool(thread_pool_create(3));
  for (const PackedFormat& f : integer_formats())
    for (int64_t columns : {1, 40, 256, 1056})
      for (int64_t tokens : {1, 2, 5, 9}) {
        // A driver compiles a shader for each format, for a second: the other sizes are of every fourth format there.
        if (is_vulkan_mode() && !(columns == 1056 && tokens == 5) && (f.bits % 4 != 0 || columns == 1 || tokens == 2))
          continue;
        Product p;
        make(p, {f}, {columns == 40 ? 50 : 16}, columns, tokens, columns == 256);
        const std::vector<double> want = with_rounded_x(p, 0);
        for_each_kernel(p.call, [&](const Kernel& k, const std::string&) {
          const Ran one = run_kernel(p.call, k, nullptr), more = run_kernel(p.call, k, pool.get());
          expect_near(one.out[0], want, 1e-5, describe_case(p, k.name));
          EXPECT_EQ(0, std::memcmp(one.out[0].data<char>(), more.out[0].data<char>(), one.out[0].bytes()))
              << "bits depend on threads: " << k.name;
        });
        if (HasFatalFailure()) return;
      }
}

// Zero points beyond the usual ones, as files may have them, and extreme q and x: no sum may wrap.
TEST(Matmul, ExtremeValuesStayExact) {
  for (PackedFormat f : integer_formats())
    for (int zero_point : {0, int(f.zero_point), 255}) {
      if (is_vulkan_mode() && zero_point != f.zero_point) continue;  // compiled into the shader
      f.zero_point = uint8_t(zero_point);
      for (int sign : {-1, 1})
        for (int64_t tokens : {1, 4}) {
          const int64_t columns = 256, blocks = columns / f.block;
          Product p;
          make(p, {f}, {16}, columns, tokens);
          PackedMatrix& m = p.weights[0];
          m.format = f;
          const std::vector<uint8_t> top(size_t(columns), uint8_t((1 << f.bits) - 1)), zero(size_t(columns), 0);
          const std::vector<uint8_t> scales(size_t(blocks), f.scale == ScaleKind::kS6 ? 33 : 1),
              mins(size_t(blocks), 1);
          const std::vector<uint16_t> d(size_t(blocks), float_to_half(1.0f)), dmin(size_t(blocks), float_to_half(0.5f));
          for (int64_t r = 0; r < 16; ++r) {
            const auto& q = r % 2 ? top : zero;
            pack_row(f, m.bytes.data(), columns, r, {q.data(), d.data(), dmin.data(), scales.data(), mins.data()});
            unpack_row(f, m.bytes.data(), columns, r, &m.values[size_t(r * columns)]);
          }
          p.call.in[1] = packed_array(m);
          p.call.in[1].set_packed(&m.format);
          for (int64_t i = 0; i < columns * tokens; ++i) p.call.in[0].data<float>()[i] = float(sign);
          const std::vector<double> want = with_rounded_x(p, 0);
          for_each_kernel(p.call, [&](const Kernel& k, const std::string&) {
            expect_near(run_kernel(p.call, k, nullptr).out[0], want, 1e-6, describe_case(p, k.name));
          });
          if (HasFatalFailure()) return;
        }
    }
}

// A row's bits are the same alone, among others, and at any place.
TEST(Matmul, RowsDoNotDependOnTheirNeighbours) {
  std::vector<PackedFormat> formats = integer_formats();
  for (const PackedFormat& f : float_formats()) formats.push_back(f);
  for (const PackedFormat& f : formats) {
    if (is_vulkan_mode() && f.bits % 4 != 0) continue;
    const int64_t columns = f.block == 16 ? 544 : 1120, tokens = 22, rows = 37;
    Product p;
    make(p, {f}, {rows}, columns, tokens, true);
    for_each_kernel(p.call, [&](const Kernel& k, const std::string&) {
      const Ran all = run_kernel(p.call, k, nullptr);
      for (int64_t t = 0; t < tokens; ++t) {
        Case one = p.call;
        one.in[0] = Array(DType::kF32, {1, columns});
        std::memcpy(one.in[0].data<float>(), p.call.in[0].data<float>() + t * columns, size_t(columns) * 4);
        one.out[0] = Array(DType::kF32, {1, rows});
        const Ran r = run_kernel(one, k, nullptr);
        ASSERT_EQ(0, std::memcmp(r.out[0].data<float>(), all.out[0].data<float>() + t * rows, size_t(rows) * 4))
            << describe_case(p, k.name) << " row " << t;
      }
    });
    if (HasFatalFailure()) return;
  }
}

TEST(Matmul, FloatKindsMatchTheReferenceAtTheEdges) {
  for (const PackedFormat& f : float_formats())
    for (int64_t columns : {1, 31, 600})
      for (int64_t rows : {1, 17, 70})
        for (int64_t tokens : {0, 1, 2, 7, 21}) {
          Product p;
          make(p, {f}, {rows}, columns, tokens, rows == 17);
          compare_all(p.call, 1e-5);
          if (HasFailure()) return;
        }
}

TEST(Matmul, IntegerKindsStayNearTheReference) {
  for (const PackedFormat& f : integer_formats())
    for (int64_t tokens : {0, 1, 3, 9}) {
      Product p;
      make(p, {f}, {33}, 320, tokens, true);
      compare_all(p.call, 2e-2);
      if (HasFailure()) return;
    }
}

// A split matrix has a group for each 1,024 rows, and lines that begin within a word where a row has an odd number of
// blocks.
TEST(Matmul, SplitMatricesOfSeveralGroups) {
  for (int64_t columns : {64, 96, 600})
    for (int64_t tokens : {1, 5}) {
      Product p;
      make(p, {integer_formats().back()}, {2085}, columns, tokens);
      const std::vector<double> want = with_rounded_x(p, 0);
      for_each_kernel(p.call, [&](const Kernel& k, const std::string&) {
        expect_near(run_kernel(p.call, k, nullptr).out[0], want, 1e-5, describe_case(p, k.name));
      });
      if (HasFatalFailure()) return;
    }
}

TEST(Matmul, SeveralWeightsOfDifferentFormatsInOneCall) {
  const PackedFormat q4{PackedKind::kInteger, 4, 32, 0, true, ScaleKind::kU6},
      q6{PackedKind::kInteger, 6, 16, 32, false, ScaleKind::kI8},
      q8{PackedKind::kInteger, 8, 32, 128, false, ScaleKind::kF16};
  for (int64_t tokens : {1, 2, 13})
    for (bool mixed : {false, true}) {
      Product p;
      make(p, {q4, mixed ? float_formats()[1] : q6, q8}, {64, 33, 200}, 512, tokens, true);
      p.call.in[5] = Array();  // the second weight has no bias
      compare_all(p.call, 2e-2);
    }
}

TEST(Matmul, HeadsNeedNoReshape) {
  Product p;
  make(p, {float_formats()[0]}, {24}, 32, 6);
  const Ran flat = run_reference(p.call);
  Case heads = p.call;
  Array x(DType::kF32, {2, 3, 32});
  std::memcpy(x.data<char>(), p.call.in[0].data<char>(), x.bytes());
  heads.in[0] = x;
  heads.out[0] = Array(DType::kF32, {2, 3, 4, 6});
  compare_all(heads, 1e-5);
  EXPECT_EQ(0, std::memcmp(run_reference(heads).out[0].data<char>(), flat.out[0].data<char>(), flat.out[0].bytes()));
}

TEST(Matmul, NonFiniteActivationsGiveNonFiniteRowsAndSpareTheOthers) {
  for (const PackedFormat& f : integer_formats())
    for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                      -std::numeric_limits<float>::infinity()})
      for (int64_t tokens : {1, 6}) {
        Product p;
        make(p, {f}, {20}, 300, tokens);
        const int64_t at = tokens - 1;
        p.call.in[0].data<float>()[at * 300 + 77] = bad;
        for_each_kernel(p.call, [&](const Kernel& k, const std::string&) {
          const Ran r = run_kernel(p.call, k, nullptr);
          for (int64_t i = 0; i < tokens * 20; ++i)
            ASSERT_EQ(std::isfinite(r.out[0].data<float>()[i]), i / 20 != at)
                << describe_case(p, k.name) << " element " << i;
        });
        if (HasFatalFailure()) return;
      }
}

TEST(Matmul, LargestSmallestAndZeroActivations) {
  const PackedFormat q8{PackedKind::kInteger, 8, 32, 128, false, ScaleKind::kF16};
  for (float size : {0.0f, 1e-38f, 1e-30f, 1e30f, 3e38f}) {
    Product p;
    make(p, {q8}, {16}, 64, 2);
    float* x = p.call.in[0].data<float>();
    for (int i = 0; i < 128; ++i) x[i] = i % 32 == 5 ? size : 0.0f;
    const std::vector<double> want = with_rounded_x(p, 0);
    for_each_kernel(p.call, [&](const Kernel& k, const std::string&) {
      const Ran r = run_kernel(p.call, k, nullptr);
      expect_near(r.out[0], want, 1e-5, k.name);
    });
  }
}

TEST(Matmul, EmptySumsLeaveTheBias) {
  for (const PackedFormat& f : {float_formats()[0], integer_formats()[0]})
    for (int64_t tokens : {2, 6}) {
      Product p;
      make(p, {f}, {5}, 0, tokens, true);
      compare_all(p.call, 0);
    }
}

TEST(Matmul, RefusesWrongShapesByName) {
  const OpDef* def = find_op_by_name("matmul");
  std::vector<TensorView> views;
  Product p;
  make(p, {float_formats()[0]}, {24}, 32, 6, true);
  const auto refused = [&](Case c, const char* part) {
    const Status s = def->check(c.call(c.in, c.out, views));
    EXPECT_EQ(s.code(), Code::kInvalidArgument) << part;
    EXPECT_NE(std::string(s.message()).find(part), std::string::npos) << s.message();
  };
  Case c = p.call;
  c.out[0] = Array(DType::kF32, {6, 23});
  refused(c, "output 1 is f32[6, 23]");
  c = p.call;
  c.in[0] = Array::random({6, 31}, 1);
  refused(c, "weight 1 is packed[24, 32]");
  c = p.call;
  c.in[2] = Array::random({23}, 1);
  refused(c, "bias 1 is f32[23]");
  c = p.call;
  c.in.push_back(c.in[2]);
  refused(c, "too many");
  c = p.call;
  c.in.resize(1);
  refused(c, "as many weights");
  c = p.call;
  c.in[1] = Array::random({24, 32}, 1);
  refused(c, "weight 1 is f32[24, 32]");
}

}  // namespace
}  // namespace runnel::test
