#include "ops/golden.h"
#include "ops/recurrence_test.h"
#include "runtime/ops/selective_scan/selective_scan.h"

namespace runnel::test {
namespace {

struct Options {
  int64_t groups = 1;
  bool state = true, reverse = false, softplus = true;
  DType dtype = DType::kF32;
  float dt_min = 0, dt_max = INFINITY;
};

Case make(int64_t tokens, int64_t channels, int64_t n, Options o = {}) {
  Case t;
  t.op = "selective_scan";
  *params_of<SelectiveScanParams>(&t.params) = {o.dt_min, o.dt_max, o.softplus, o.reverse};
  Array a = Array::random({channels, n}, 3, 2.0f);
  for (size_t i = 0; i < a.bytes() / 4; ++i) a.data<float>()[i] = -std::exp(a.data<float>()[i]);
  const std::vector<int64_t> bc =
      o.groups == 1 ? std::vector<int64_t>{tokens, n} : std::vector<int64_t>{tokens, o.groups, n};
  t.in = {Array::random({tokens, channels}, 1),
          Array::random({tokens, channels}, 2),
          a,
          Array::random(bc, 4),
          Array::random(bc, 5),
          Array::random({channels}, 6),
          Array::random({channels}, 7),
          Array(),
          Array()};
  t.out = {Array(DType::kF32, {tokens, channels})};
  if (o.state) {
    t.in[7] = Array::random({channels, n}, 8);
    if (o.dtype == DType::kF16) {
      t.in[7] = Array(DType::kF16, {channels, n});
      for (size_t i = 0; i < t.in[7].bytes() / 2; ++i) t.in[7].data<uint16_t>()[i] = uint16_t(0x3000 + i % 2000);
    }
    t.out.push_back(Array(o.dtype, {channels, n}));
  }
  return t;
}

TEST(SelectiveScan, MatchesReferenceAtTheEdges) {
  for (int64_t tokens : {0, 1, 2, 7, 8, 9, 40})
    for (int64_t channels : {1, 16, 17, 50})
      for (int64_t n : {1, 8, 16, 20, 33}) compare_all(make(tokens, channels, n), 2e-5);
}

TEST(SelectiveScan, AtTheLimitsOfADevice) { compare_all(make(3, 5, 256), 2e-5); }

TEST(SelectiveScan, Options) {
  for (int64_t tokens : {3, 20}) {
    Options o;
    o.groups = 2;
    compare_all(make(tokens, 64, 16, o), 2e-5);
    compare_all(make(tokens, 24, 16, o), 2e-5);
    o = {};
    o.reverse = true, o.state = false;
    compare_all(make(tokens, 40, 16, o), 2e-5);
    o = {};
    o.dt_min = 0.1f, o.dt_max = 0.5f;
    compare_all(make(tokens, 40, 16, o), 2e-5);
    o = {};
    o.dtype = DType::kF16;
    Case t = make(tokens, 40, 16, o);
    const Ran want = run_reference(t);
    for_each_kernel(t, [&](const Kernel& k, const std::string&) {
      expect_close(run_kernel(t, k, nullptr).out[0], want.out[0], 2e-5, k.name);
    });
  }
}

TEST(SelectiveScan, CutsKeepTheBitsAcrossBothForms) {
  for (int64_t n : {5, 16, 40}) {
    const Case t = make(29, 37, n);
    expect_cuts_keep_bits(t, 29, {0, 1, 3, 4}, {{7, 1}}, {{1}, {8, 9}, {7, 14, 21, 28}, {20}});
    expect_in_place_is_the_same(t, 7, 1);
  }
}

TEST(SelectiveScan, SegmentsAreIndependent) {
  Options o;
  o.state = false;
  for (bool reverse : {false, true}) {
    o.reverse = reverse;
    Case t = make(21, 20, 16, o);
    t.in[8] = Array::i32({4}, {0, 2, 12, 21});
    compare_all(t, 2e-5);
  }
}

TEST(SelectiveScan, RefusesWrongShapesByName) {
  Case t = make(4, 8, 3);
  t.in[3] = Array::random({4, 5}, 1);
  EXPECT_NE(refusal(t).find("B is f32[4, 5], want f32[4, 3]"), std::string::npos) << refusal(t);
  t = make(4, 8, 3);
  t.in[7] = Array::random({8, 4}, 1);
  EXPECT_NE(refusal(t).find("state is f32[8, 4]"), std::string::npos) << refusal(t);
}

TEST(SelectiveScan, GoldenOfTransformersMamba) {
  const Golden golden("selective_scan");
  Case t = make(1, 1, 1);
  t.in = {golden["mamba.x"], golden["mamba.dt"], golden["mamba.a"],      golden["mamba.b"],
          golden["mamba.c"], golden["mamba.d"],  golden["mamba.dt_bias"]};
  t.out = {golden["mamba.y"], golden["mamba.state"]};
  expect_golden(t, 0, golden["mamba.y"], 1e-5, "mamba_selective_scan");
  expect_golden(t, 1, golden["mamba.state"], 1e-5, "mamba_selective_scan's state");
  // The step that follows.
  const TensorView a = t.in[2].view();
  const std::vector<int64_t> token = {1, a.dims[0]}, group = {1, a.dims[1]};
  t.in[0] = golden.get("mamba.next_x", token), t.in[1] = golden.get("mamba.next_dt", token);
  t.in[3] = golden.get("mamba.next_b", group), t.in[4] = golden.get("mamba.next_c", group);
  t.in.push_back(golden["mamba.state"]);
  t.out[0] = golden.get("mamba.next_y", token);
  expect_golden(t, 0, t.out[0], 1e-5, "mamba_selective_state_update");
}

}  // namespace
}  // namespace runnel::test
