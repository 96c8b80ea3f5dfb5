#include "runtime/ops/glu/glu.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(UnaryKind kind, std::vector<int64_t> dims) {
  Case t;
  t.op = "glu";
  params_of<GluParams>(&t.params)->activation = kind;
  t.in = {Array::random(dims, 1, 3.0f), Array::random(dims, 2)};
  t.out = {Array(DType::kF32, dims)};
  return t;
}

TEST(Glu, EveryActivationMatchesReference) {
  for (const UnaryKind kind :
       {UnaryKind::kNone, UnaryKind::kRelu, UnaryKind::kSigmoid, UnaryKind::kTanh, UnaryKind::kSilu, UnaryKind::kGelu,
        UnaryKind::kGeluTanh, UnaryKind::kGeluQuick, UnaryKind::kReluSquared, UnaryKind::kSoftplus})
    for (const int64_t n : {0, 1, 16, 31, 2048}) compare_all(make(kind, {3, n}), 2e-6);
}

TEST(Glu, ManyTasks) { compare_all(make(UnaryKind::kGeluTanh, {33, 2048}), 1e-6); }

TEST(Glu, OutputMayBeAnInput) {
  for (int shared = 0; shared < 2; ++shared) {
    const Case t = make(UnaryKind::kSilu, {2, 37});
    const Ran want = run_reference(t);
    for_each_kernel(t, [&](const Kernel& kernel, const std::string&) {
      std::vector<Array> in = t.in, out = t.out;
      std::vector<TensorView> views;
      OpCall c = t.call(in, out, views);
      views[2].data = views[size_t(shared)].data;
      kernel.run(c);
      expect_close(in[size_t(shared)], want.out[0], 1e-6, kernel.name);
    });
  }
}

TEST(Glu, ReferenceHoldsTheFormula) {
  Case t = make(UnaryKind::kSilu, {1});
  t.in = {Array::f32({1}, {2}), Array::f32({1}, {3})};
  EXPECT_FLOAT_EQ(run_reference(t).out[0].data<float>()[0], float(6 / (1 + std::exp(-2.0))));
}

TEST(Glu, Refuses) {
  Case t = make(UnaryKind::kSilu, {2, 8});
  t.in[1] = Array::random({2, 7}, 1);
  std::vector<TensorView> views;
  const Status s = find_op_by_name("glu")->check(t.call(t.in, t.out, views));
  EXPECT_EQ(s.code(), Code::kInvalidArgument);
  EXPECT_NE(std::string(s.message()).find("up is f32[2, 7]"), std::string::npos) << s.message();
  for (const auto kind : {format::UnaryKind::scale, format::UnaryKind::softcap, format::UnaryKind(99)}) {
    flatbuffers::FlatBufferBuilder b;
    b.Finish(format::CreateGluAttrs(b, kind));
    OpParams p;
    EXPECT_EQ(find_op_by_name("glu")->parse(flatbuffers::GetRoot<format::GluAttrs>(b.GetBufferPointer()), &p).code(),
              Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace runnel::test
