#include "runtime/ops/inner_model/inner_model.h"

#include "ops/recurrence_test.h"
#include "ops/unary/unary.h"

namespace runnel::test {
namespace {

enum Input { kQ, kK, kV, kRate, kKeep, kMomentum, kRead, kNormWeight, kNormBias, kState };

struct Options {
  int64_t dim = 20, hidden = 0, batch = 1;
  bool bias = false, residual = false, norm = false, keep = false, momentum = false, read = false, state = true;
  InnerLoss loss = InnerLoss::kSquared;
  InnerMap map = InnerMap::kIdentity;
  UnaryKind activation = UnaryKind::kGeluTanh;
};

Array between(std::vector<int64_t> dims, uint32_t seed, float low, float high) {
  Array a = Array::random(std::move(dims), seed);
  for (size_t i = 0; i < a.bytes() / 4; ++i)
    a.data<float>()[i] = low + (high - low) / (1 + std::exp(-2 * a.data<float>()[i]));
  return a;
}

Case make(int64_t tokens, int64_t heads, const Options& o) {
  Case t;
  t.op = "inner_model";
  *params_of<InnerModelParams>(&t.params) = {
      o.batch, int32_t(o.hidden), uint8_t(o.activation), o.loss, o.map, o.bias, o.residual, 3.0f, 0.3f, 4.0f, 0.7f,
      1e-6f};
  const float size = 1 / std::sqrt(float(o.dim));
  t.in = {Array::random({tokens, heads, o.dim}, 1, size), Array::random({tokens, heads, o.dim}, 2, size),
          Array::random({tokens, heads, o.dim}, 3, size), between({tokens, heads}, 4, 0, 0.2f)};
  t.in.resize(10);
  if (o.keep) t.in[kKeep] = between({tokens, heads}, 5, 0.9f, 1);
  if (o.momentum) t.in[kMomentum] = between({tokens, heads}, 6, 0, 0.8f);
  if (o.read) t.in[kRead] = between({tokens, heads}, 7, 0.2f, 1);
  if (o.norm)
    t.in[kNormWeight] = between({heads, o.dim}, 8, 0.5f, 1.5f),
    t.in[kNormBias] = Array::random({heads, o.dim}, 9, 0.1f);
  t.out = {Array(DType::kF32, {tokens, heads, o.dim})};
  if (o.state) {
    const int64_t parameters =
        o.hidden ? 2 * o.dim * o.hidden + (o.bias ? o.hidden + o.dim : 0) : o.dim * o.dim + (o.bias ? o.dim : 0);
    t.in[kState] = Array::random({heads, o.momentum ? 3 : 2, parameters}, 10, 0.2f);
    t.out.push_back(Array(DType::kF32, {heads, o.momentum ? 3 : 2, parameters}));
  }
  return t;
}

std::vector<Options> all_options() {
  std::vector<Options> list(10);
  list[1].bias = list[1].norm = list[1].residual = list[1].read = true, list[1].batch = 4;             // TTT-linear
  list[2] = list[1], list[2].hidden = 33, list[2].dim = 17;                                            // TTT-MLP
  list[3].keep = list[3].momentum = true, list[3].hidden = 40, list[3].activation = UnaryKind::kSilu;  // Titans
  list[4] = list[3], list[4].batch = 3, list[4].norm = true;
  list[5].loss = InnerLoss::kPower, list[5].map = InnerMap::kPower, list[5].keep = true;            // Moneta
  list[6].loss = InnerLoss::kHuber, list[6].keep = true, list[6].hidden = 16, list[6].norm = true;  // Yaad
  list[7].map = InnerMap::kSoftmax, list[7].keep = true, list[7].hidden = 9, list[7].bias = true;   // Memora
  list[8].dim = 1, list[8].state = false;
  list[9].dim = 64, list[9].activation = UnaryKind::kRelu, list[9].hidden = 5, list[9].residual = true;
  return list;
}

// What fits the shared memory of every device.
TEST(InnerModel, AtTheLimitsOfADevice) {
  Options o;
  o.dim = 991;
  compare_all(make(2, 1, o), 2e-4);
}

TEST(InnerModel, EveryOptionMatchesTheReference) {
  for (const Options& o : all_options())
    for (int64_t tokens : {0, 1, 2, 13}) compare_all(make(tokens, 3, o), 1e-4);
}

TEST(InnerModel, CutsKeepBits) {
  for (const Options& o : all_options()) {
    if (!o.state) continue;
    const Case t = make(13, 2, o);
    std::vector<int> streams = {kQ, kK, kV, kRate};
    for (int i : {kKeep, kMomentum, kRead})
      if (t.in[size_t(i)].dtype() != DType::kNone) streams.push_back(i);
    expect_cuts_keep_bits(t, 13, streams, {{kState, 1}}, {{1}, {4, 5}, {2, 3, 9, 12}});
    expect_in_place_is_the_same(t, kState, 1);
  }
}

// The gradient against differences of the loss: one token of a batch of two, so that A = -rate G and W stays.
TEST(InnerModel, GradientIsTheSlopeOfTheLoss) {
  for (Options o : all_options()) {
    if (o.map != InnerMap::kIdentity || !o.state) continue;
    o.dim = 5, o.batch = 2, o.keep = o.momentum = o.read = false;
    if (o.hidden) o.hidden = 7;
    Case t = make(1, 1, o);
    const int64_t parameters = t.in[kState].view().dims[2];
    std::memset(t.in[kState].data<float>() + parameters, 0, size_t(parameters) * 4);
    const Ran r = run_reference(t);
    const float rate = t.in[kRate].data<float>()[0];
    // The loss at other weights, read off a call whose query is the key and whose A is those weights.
    const auto loss = [&](int64_t at, float change) {
      Case s = t;
      params_of<InnerModelParams>(&s.params)->scale = 1;
      s.in[kQ] = s.in[kK];
      s.in[kRate] = Array::f32({1, 1}, {0});
      float* state = s.in[kState].data<float>();
      std::memcpy(state + parameters, state, size_t(parameters) * 4);
      state[parameters + at] += change;
      const Ran out = run_reference(s);
      double sum = 0;
      for (int64_t i = 0; i < o.dim; ++i) {
        const double e = double(out.out[0].data<float>()[i]) - double(s.in[kV].data<float>()[i]), a = std::fabs(e);
        sum += o.loss == InnerLoss::kPower              ? a * a * a
               : o.loss == InnerLoss::kHuber && a > 0.3 ? 0.3 * (a - 0.15)
                                                        : e * e / 2;
      }
      return sum;
    };
    for (int64_t at = 0; at < parameters; ++at) {
      const double slope = (loss(at, 0.01f) - loss(at, -0.01f)) / 0.02;
      EXPECT_NEAR(-double(r.out[1].data<float>()[parameters + at]) / double(rate), slope,
                  2e-3 + 0.02 * std::fabs(slope))
          << "parameter " << at << ", hidden " << o.hidden;
    }
  }
}

TEST(InnerModel, RefusesByName) {
  Options o;
  Case t = make(3, 2, o);
  t.in[kState] = Array::random({2, 3, 400}, 1);
  EXPECT_NE(refusal(t).find("state"), std::string::npos) << refusal(t);
  o.read = o.keep = true;
  EXPECT_NE(refusal(make(3, 2, o)).find("read together"), std::string::npos);
  o = {};
  o.norm = true;
  t = make(3, 2, o);
  t.in[kNormBias] = Array();
  EXPECT_NE(refusal(t).find("only one of norm_weight"), std::string::npos);
}

}  // namespace
}  // namespace runnel::test
