#include "runtime/ops/transpose/transpose.h"

#include "ops/op_test.h"

namespace runnel::test {
namespace {

Case make(std::vector<int64_t> dims, std::vector<uint8_t> perm) {
  Case t;
  t.op = "transpose";
  TransposeParams* p = params_of<TransposeParams>(&t.params);
  p->rank = int32_t(perm.size());
  std::vector<int64_t> to;
  for (size_t i = 0; i < perm.size(); ++i) {
    p->perm[i] = perm[i];
    to.push_back(dims[perm[i]]);
  }
  t.in = {Array::random(dims, 1)};
  t.out = {Array(DType::kF32, to)};
  return t;
}

TEST(Transpose, EveryPermutationOfFourAxes) {
  const int64_t d[4] = {2, 3, 4, 5};
  std::vector<uint8_t> perm = {0, 1, 2, 3};
  do {
    const Case t = make({2, 3, 4, 5}, perm);
    const Ran r = run_reference(t);
    const TensorView y = t.out[0].view();
    int64_t at = 0;
    int64_t j[4];
    for (j[0] = 0; j[0] < y.dims[0]; ++j[0])
      for (j[1] = 0; j[1] < y.dims[1]; ++j[1])
        for (j[2] = 0; j[2] < y.dims[2]; ++j[2])
          for (j[3] = 0; j[3] < y.dims[3]; ++j[3]) {
            int64_t k[4];
            for (int i = 0; i < 4; ++i) k[perm[size_t(i)]] = j[i];
            ASSERT_EQ(r.out[0].data<float>()[at++],
                      t.in[0].data<float>()[((k[0] * d[1] + k[1]) * d[2] + k[2]) * d[3] + k[3]]);
          }
  } while (std::next_permutation(perm.begin(), perm.end()));
}

TEST(Transpose, EmptyAndScalar) {
  run_reference(make({0, 3}, {1, 0}));
  const Case t = make({}, {});
  EXPECT_EQ(run_reference(t).out[0].data<float>()[0], t.in[0].data<float>()[0]);
}

Status parsed(const std::vector<uint8_t>& perm) {
  flatbuffers::FlatBufferBuilder b;
  b.Finish(format::CreateTransposeAttrs(b, b.CreateVector(perm)));
  OpParams p;
  return find_op_by_name("transpose")->parse(flatbuffers::GetRoot<format::TransposeAttrs>(b.GetBufferPointer()), &p);
}

TEST(Transpose, Refuses) {
  EXPECT_TRUE(parsed({2, 0, 1}).is_ok());
  for (const std::vector<uint8_t>& perm : {std::vector<uint8_t>{0, 0}, {1, 2}, {255, 0}, {0, 1, 2, 3, 4, 5, 6}})
    EXPECT_EQ(parsed(perm).code(), Code::kInvalidArgument);
  Case t = make({2, 3}, {1, 0});
  t.out = {Array(DType::kF32, {2, 3})};
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("transpose")->check(t.call(t.in, t.out, views)).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace runnel::test
