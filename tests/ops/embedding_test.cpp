#include "ops/op_test.h"
#include "packed_formats.h"
#include "runtime/ops/embedding/embedding.h"

namespace runnel::test {
namespace {

struct Table {
  PackedMatrix matrix;
  Array array;
};

Table make_table(const PackedFormat& f, int64_t vocab, int64_t channels) {
  Table t{random_matrix(f, vocab, channels, 3), {}};
  t.array = Array(DType::kPacked, {vocab, channels}, t.matrix.bytes.size());
  std::memcpy(t.array.data<char>(), t.matrix.bytes.data(), t.matrix.bytes.size());
  return t;
}

Case make(Table& t, std::vector<int32_t> ids, float scale) {
  Case c;
  c.op = "embedding";
  *params_of<EmbeddingParams>(&c.params) = {scale, -1};
  t.array.set_packed(&t.matrix.format);
  const int64_t n = int64_t(ids.size());
  c.in = {Array::i32({n}, ids), t.array};
  c.out = {Array(DType::kF32, {n, t.matrix.columns})};
  return c;
}

TEST(Embedding, LooksUpRowsOfEveryFormat) {
  std::vector<PackedFormat> formats = integer_formats();
  for (const PackedFormat& f : float_formats()) formats.push_back(f);
  for (const PackedFormat& f : formats) {
    Table t = make_table(f, 21, 70);
    const std::vector<int32_t> ids = {20, 0, 7, 7};
    const Ran r = run_reference(make(t, ids, 1.5f));
    for (size_t i = 0; i < ids.size(); ++i)
      for (int64_t c = 0; c < 70; ++c)
        ASSERT_EQ(r.out[0].data<float>()[int64_t(i) * 70 + c], t.matrix.values[size_t(ids[i] * 70 + c)] * 1.5f)
            << name_of(f);
  }
}

// A split table has a group for each 1,024 rows, and lines that begin within a word where a row has an odd number of
// blocks.
TEST(Embedding, SplitTablesOfSeveralGroups) {
  for (int64_t channels : {64, 70}) {
    Table t = make_table(integer_formats().back(), 2085, channels);
    compare_all(make(t, {2084, 0, 1023, 1024, 2047, 2048, 17, 1039}, 1.5f), 1e-6);
  }
}

TEST(Embedding, TakesPlainTablesAndNoIds) {
  Case c;
  c.op = "embedding";
  *params_of<EmbeddingParams>(&c.params) = {2, -1};
  c.in = {Array::i32({2, 1}, {1, 0}), Array::f32({2, 3}, {1, 2, 3, 4, 5, 6})};
  c.out = {Array(DType::kF32, {2, 1, 3})};
  const Ran r = run_reference(c);
  EXPECT_EQ(r.out[0].data<float>()[0], 8);
  EXPECT_EQ(r.out[0].data<float>()[5], 6);
  Table t = make_table(float_formats()[0], 4, 8);
  run_reference(make(t, {}, 1));
}

TEST(Embedding, NamesTheIdThatIsOutOfRange) {
  Table t = make_table(float_formats()[1], 16, 8);
  for (int32_t bad : {-1, 16, 1 << 30}) {
    Case c = make(t, {3, 15, bad}, 1);
    std::vector<TensorView> views;
    const Status s = find_op_by_name("embedding")->check_data(c.call(c.in, c.out, views));
    EXPECT_EQ(s.code(), Code::kInvalidArgument);
    const std::string message = s.message();
    EXPECT_NE(message.find("id " + std::to_string(bad) + " at index 2"), std::string::npos) << message;
    EXPECT_NE(message.find("16 rows"), std::string::npos) << message;
  }
  Case c = make(t, {0, 15}, 1);
  std::vector<TensorView> views;
  EXPECT_TRUE(find_op_by_name("embedding")->check_data(c.call(c.in, c.out, views)).is_ok());
}

TEST(Embedding, ARowMayStandForIdsOutside) {
  for (const PackedFormat& f : {float_formats()[0], integer_formats()[0]}) {
    Table t = make_table(f, 21, 70);
    Case c = make(t, {20, 21, -1, 1 << 30, 3}, 2.0f);
    params_of<EmbeddingParams>(&c.params)->outside = 4;
    std::vector<TensorView> views;
    EXPECT_TRUE(find_op_by_name("embedding")->check_data(c.call(c.in, c.out, views)).is_ok());
    const Ran r = run_reference(c);
    const std::vector<int> rows = {20, 4, 4, 4, 3};
    for (size_t i = 0; i < rows.size(); ++i)
      for (int64_t k = 0; k < 70; ++k)
        ASSERT_EQ(r.out[0].data<float>()[int64_t(i) * 70 + k], t.matrix.values[size_t(rows[i] * 70 + k)] * 2.0f);
    compare_all(c, 1e-6);
    params_of<EmbeddingParams>(&c.params)->outside = 21;
    EXPECT_EQ(find_op_by_name("embedding")->check(c.call(c.in, c.out, views)).code(), Code::kInvalidArgument);
  }
  Case c;
  c.op = "embedding";
  *params_of<EmbeddingParams>(&c.params) = {1, 0};
  c.in = {Array::i32({2}, {1, 7}), Array::f32({2, 3}, {1, 2, 3, 4, 5, 6})};
  c.out = {Array(DType::kF32, {2, 3})};
  compare_all(c, 1e-6);
}

TEST(Embedding, RefusesWrongShapes) {
  Table t = make_table(float_formats()[1], 16, 8);
  Case c = make(t, {1, 2}, 1);
  c.out[0] = Array(DType::kF32, {2, 9});
  std::vector<TensorView> views;
  const Status s = find_op_by_name("embedding")->check(c.call(c.in, c.out, views));
  EXPECT_EQ(s.code(), Code::kInvalidArgument);
  EXPECT_NE(std::string(s.message()).find("y is f32[2, 9]"), std::string::npos) << s.message();
}

}  // namespace
}  // namespace runnel::test
