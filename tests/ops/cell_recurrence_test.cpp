#include "base/half.h"
#include "ops/golden.h"
#include "ops/recurrence_test.h"
#include "runtime/ops/cell_recurrence/cell_recurrence.h"

namespace runnel::test {
namespace {

constexpr CellKind kKinds[] = {CellKind::kRnn, CellKind::kLstm, CellKind::kGru, CellKind::kSlstm};
constexpr int64_t kGates[] = {1, 4, 3, 4};
constexpr int kStates[] = {1, 2, 1, 4};

struct Options {
  bool states = true, bias = true, reverse = false, forget_exp = false;
  DType dtype = DType::kF32;
};

Case make(CellKind kind, int64_t tokens, int64_t heads, int64_t dim, Options o = {}) {
  Case t;
  t.op = "cell_recurrence";
  *params_of<CellParams>(&t.params) = {kind, o.forget_exp, o.reverse};
  const int64_t gates = kGates[int(kind)];
  t.in = {Array::random({tokens, gates, heads, dim}, 1),
          Array::random({gates, heads, dim, dim}, 2, 0.5f / std::sqrt(float(dim))),
          o.bias ? Array::random({gates, heads, dim}, 3) : Array(),
          Array(),
          Array(),
          Array(),
          Array(),
          Array()};
  t.out = {Array(DType::kF32, {tokens, heads * dim})};
  if (!o.states) return t;
  for (int i = 0; i < kStates[int(kind)]; ++i) {
    Array s = Array::random({heads, dim}, uint32_t(10 + i));
    if (i == 2)  // n of slstm is positive, and 0 where nothing was seen
      for (size_t k = 0; k < s.bytes() / 4; ++k)
        s.data<float>()[k] = k % 5 == 0 ? 0.0f : 0.5f + std::fabs(s.data<float>()[k]);
    if (o.dtype == DType::kF16) {
      Array half(DType::kF16, {heads, dim});
      for (size_t k = 0; k < s.bytes() / 4; ++k) half.data<uint16_t>()[k] = float_to_half(s.data<float>()[k]);
      s = half;
    }
    t.in[size_t(3 + i)] = s;
    t.out.push_back(Array(o.dtype, {heads, dim}));
  }
  return t;
}

std::vector<std::pair<int, int>> states_of(CellKind kind) {
  std::vector<std::pair<int, int>> all;
  for (int i = 0; i < kStates[int(kind)]; ++i) all.push_back({3 + i, 1 + i});
  return all;
}

TEST(CellRecurrence, GoldensOfTorchAndOfThePaper) {
  const Golden golden("cell_recurrence");
  const std::string names[] = {"rnn", "lstm", "gru", "slstm"};
  for (CellKind kind : kKinds) {
    const std::string& name = names[int(kind)];
    Case t;
    t.op = "cell_recurrence";
    *params_of<CellParams>(&t.params) = {kind, false, false};
    t.in = {golden[name + ".x"],
            golden[name + ".r"],
            golden[name + ".r_bias"],
            Array(),
            Array(),
            Array(),
            Array(),
            Array()};
    const TensorView x = t.in[0].view();
    const std::vector<int64_t> state = {x.dims[2], x.dims[3]};
    if (kind != CellKind::kSlstm) t.in[3] = golden.get(name + ".h", state);
    if (kind == CellKind::kLstm) t.in[4] = golden.get(name + ".c", state);
    t.out = {Array(DType::kF32, {x.dims[0], x.dims[2] * x.dims[3]}), Array(DType::kF32, state)};
    expect_golden(t, 0, golden[name + ".y"], 1e-5, name + " y");
    expect_golden(t, 1, golden.get(name + ".h_out", state), 1e-5, name + " h");
    if (kind == CellKind::kLstm) {
      t.out.push_back(Array(DType::kF32, state));
      expect_golden(t, 2, golden.get("lstm.c_out", state), 1e-5, "lstm c");
    }
  }
}

TEST(CellRecurrence, MatchesReferenceAtTheEdges) {
  for (CellKind kind : kKinds)
    for (int64_t tokens : {0, 1, 2, 9})
      for (int64_t heads : {1, 3})
        for (int64_t dim : {1, 15, 16, 33}) compare_all(make(kind, tokens, heads, dim), 1e-5);
}

TEST(CellRecurrence, AtTheLimitsOfADevice) { compare_all(make(CellKind::kGru, 2, 1, 2048), 1e-5); }

TEST(CellRecurrence, Options) {
  for (CellKind kind : kKinds) {
    Options o;
    o.states = false, o.bias = false, o.reverse = true;
    compare_all(make(kind, 7, 2, 20, o), 1e-5);
    o = {};
    o.dtype = DType::kF16;
    const Case t = make(kind, 7, 2, 20, o);
    const Ran want = run_reference(t);
    for_each_kernel(t, [&](const Kernel& k, const std::string&) {
      expect_close(run_kernel(t, k, nullptr).out[0], want.out[0], 1e-5, k.name);
    });
  }
  Options o;
  o.forget_exp = true;
  compare_all(make(CellKind::kSlstm, 30, 2, 20, o), 1e-5);
}

// Of ONNX: a reset before the product, peepholes, bounds, other functions, one matrix for sequences side by side.
TEST(CellRecurrence, FurtherOptions) {
  const UnaryKind functions[] = {UnaryKind::kSigmoid, UnaryKind::kTanh, UnaryKind::kRelu};
  for (CellKind kind : {CellKind::kRnn, CellKind::kLstm, CellKind::kGru})
    for (int64_t dim : {1, 16, 21, 200})
      for (int n = 0; n < 6; ++n) {
        const int64_t gates = kGates[int(kind)];
        Case t = make(kind, 5, 3, dim);
        auto& p = *params_of<CellParams>(&t.params);
        p.reset_first = kind == CellKind::kGru && n % 2;
        p.clip = n < 3 ? INFINITY : 0.4f;
        p.gate = functions[n % 3], p.candidate = functions[(n + 1) % 3];
        if (kind == CellKind::kLstm)
          p.read = functions[(n + 2) % 3], t.in.push_back(Array::random({3, n % 2 ? 1 : 3, dim}, 5));
        if (n % 2) {
          t.in[1] = Array::random({gates, 1, dim, dim}, 2, 0.5f / std::sqrt(float(dim)));
          t.in[2] = Array::random({gates, 1, dim}, 3);
        }
        compare_all(t, 1e-5);
        if (dim == 21) expect_cuts_keep_bits(t, 5, {0}, states_of(kind), {{1}, {2, 4}});
      }
}

TEST(CellRecurrence, OneWideHeadWithAReset) {
  Case t = make(CellKind::kGru, 3, 1, 200);
  params_of<CellParams>(&t.params)->reset_first = true;
  compare_all(t, 1e-5);
  expect_cuts_keep_bits(t, 3, {0}, states_of(CellKind::kGru), {{1}});
}

// With a reset of 1 both forms of a gru are the same but for the bias; with one of 0 only the bias is left.
TEST(CellRecurrence, AResetFollowsItsFormula) {
  Case t = make(CellKind::kGru, 1, 1, 2);
  params_of<CellParams>(&t.params)->reset_first = true;
  t.in[0] = Array::f32({1, 3, 1, 2}, {0.1f, -0.2f, 0.3f, 0.4f, -0.5f, 0.6f});
  t.in[1] = Array::f32({3, 1, 2, 2}, {1, 2, 3, 4, -1, 0.5f, 2, 1, 0.3f, 0.2f, -0.4f, 0.7f});
  t.in[2] = Array::f32({3, 1, 2}, {0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f});
  t.in[3] = Array::f32({1, 2}, {0.5f, -0.25f});
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  const double h[2] = {0.5, -0.25};
  const double r[2] = {sigmoid(0.1 + 0.1 + 0.5 - 0.5), sigmoid(-0.2 + 0.2 + 1.5 - 1)},
               z[2] = {sigmoid(0.3 + 0.3 - 0.5 - 0.125), sigmoid(0.4 + 0.4 + 1 - 0.25)};
  const double n[2] = {std::tanh(-0.5 + 0.5 + 0.3 * r[0] * h[0] + 0.2 * r[1] * h[1]),
                       std::tanh(0.6 + 0.6 - 0.4 * r[0] * h[0] + 0.7 * r[1] * h[1])};
  const Ran got = run_reference(t);
  for (int i = 0; i < 2; ++i) EXPECT_NEAR(got.out[0].data<float>()[i], (1 - z[i]) * n[i] + z[i] * h[i], 1e-6);
}

// Wide enough that the threads share the blocks of a token.
TEST(CellRecurrence, OneWideHead) {
  for (CellKind kind : kKinds) compare_all(make(kind, 3, 1, 200), 1e-5);
}

TEST(CellRecurrence, CutsKeepTheBits) {
  for (CellKind kind : kKinds) {
    const Case t = make(kind, 13, 2, 21);
    expect_cuts_keep_bits(t, 13, {0}, states_of(kind), {{1}, {5, 6}, {2, 4, 12}});
    for (const auto& [in, out] : states_of(kind)) expect_in_place_is_the_same(t, in, out);
  }
}

// Input gates of a hundred and more: e^i is beyond floats, the stabiliser keeps the quotient.
TEST(CellRecurrence, ExponentialGatesDoNotOverflow) {
  for (bool forget_exp : {false, true}) {
    Options o;
    o.states = false, o.forget_exp = forget_exp;
    Case t = make(CellKind::kSlstm, 40, 1, 16, o);
    for (size_t i = 0; i < t.in[0].bytes() / 4; ++i)
      if (i / 16 % 4 < 2) t.in[0].data<float>()[i] *= 150;
    const Ran r = run_reference(t);
    for (size_t i = 0; i < r.out[0].bytes() / 4; ++i) ASSERT_LE(std::fabs(r.out[0].data<float>()[i]), 1.0f);
    compare_all(t, 1e-4);
  }
}

TEST(CellRecurrence, SegmentsAreIndependent) {
  for (CellKind kind : kKinds)
    for (bool reverse : {false, true}) {
      Options o;
      o.states = false, o.reverse = reverse;
      Case t = make(kind, 12, 2, 17, o);
      t.in[7] = Array::i32({5}, {0, 3, 3, 11, 12});
      compare_all(t, 1e-5);
      // The second to last segment alone.
      Case part = make(kind, 8, 2, 17, o);
      part.in[0] = rows_of(t.in[0], 3, 11);
      EXPECT_EQ(0, std::memcmp(run_reference(part).out[0].data<char>(), run_reference(t).out[0].data<float>() + 3 * 34,
                               8 * 34 * 4));
    }
}

TEST(CellRecurrence, RefusesWrongShapesByName) {
  Case t = make(CellKind::kLstm, 4, 2, 8);
  t.in[1] = Array::random({4, 2, 8, 7}, 1);
  EXPECT_NE(refusal(t).find("R is f32[4, 2, 8, 7], want f32[4, 2, 8, 8]"), std::string::npos) << refusal(t);
  t = make(CellKind::kGru, 4, 2, 8);
  t.in[4] = Array::random({2, 8}, 1);
  EXPECT_NE(refusal(t).find("gru has no state c"), std::string::npos) << refusal(t);
  t = make(CellKind::kGru, 4, 2, 8);
  t.in.push_back(Array::random({3, 2, 8}, 1));
  EXPECT_NE(refusal(t).find("gru has no peepholes"), std::string::npos) << refusal(t);
  t = make(CellKind::kLstm, 4, 3, 8);
  t.in[1] = Array::random({4, 2, 8, 8}, 1);
  EXPECT_NE(refusal(t).find("R is f32[4, 2, 8, 8], want f32[4, 3, 8, 8]"), std::string::npos) << refusal(t);
  t = make(CellKind::kLstm, 4, 2, 8);
  *params_of<CellParams>(&t.params) = {CellKind::kGru, false, false};
  EXPECT_NE(refusal(t).find("x is f32[4, 4, 2, 8], want f32[*, 3, *, *]"), std::string::npos) << refusal(t);
  Options o;
  o.states = false;
  t = make(CellKind::kRnn, 4, 2, 8, o);
  t.in[7] = Array::i32({2}, {0, 5});
  EXPECT_NE(refusal(t).find("segment bound 5"), std::string::npos) << refusal(t);
  t = make(CellKind::kRnn, 4, 2, 8);
  t.in[7] = Array::i32({2}, {0, 4});
  EXPECT_NE(refusal(t).find("segments together with states"), std::string::npos) << refusal(t);
}

TEST(CellRecurrence, RefusesUnknownKindsAndStrayAttributes) {
  const auto parse = [](format::CellKind kind, bool forget_exp) {
    flatbuffers::FlatBufferBuilder b;
    b.Finish(format::CreateCellAttrs(b, kind, forget_exp, false));
    OpParams p{};
    return find_op_by_name("cell_recurrence")->parse(flatbuffers::GetRoot<format::CellAttrs>(b.GetBufferPointer()), &p);
  };
  EXPECT_TRUE(parse(format::CellKind::slstm, true).is_ok());
  EXPECT_EQ(parse(format::CellKind::lstm, true).code(), Code::kInvalidArgument);
  EXPECT_EQ(parse(format::CellKind(9), false).code(), Code::kInvalidArgument);
  const auto further = [](format::CellAttrsT a) {
    flatbuffers::FlatBufferBuilder b;
    b.Finish(format::CreateCellAttrs(b, &a));
    OpParams p{};
    return find_op_by_name("cell_recurrence")->parse(flatbuffers::GetRoot<format::CellAttrs>(b.GetBufferPointer()), &p);
  };
  format::CellAttrsT a;
  a.kind = format::CellKind::lstm, a.gate = a.read = format::UnaryKind::relu, a.clip = 3;
  EXPECT_TRUE(further(a).is_ok());
  for (const float clip : {-1.0f, NAN}) {
    a.clip = clip;
    EXPECT_EQ(further(a).code(), Code::kInvalidArgument);
  }
  a.clip = 0, a.candidate = format::UnaryKind::gelu;
  EXPECT_EQ(further(a).code(), Code::kInvalidArgument);
  a.candidate = format::UnaryKind::none, a.reset_first = true;
  EXPECT_EQ(further(a).code(), Code::kInvalidArgument);
  a.kind = format::CellKind::gru;
  EXPECT_EQ(further(a).code(), Code::kInvalidArgument) << "read is of lstm";
  a.read = format::UnaryKind::none;
  EXPECT_TRUE(further(a).is_ok());
}

}  // namespace
}  // namespace runnel::test
