#include "format/expr.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace runnel {
namespace {

class ExprTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(pool.add_symbol("context").is_ok());
    ASSERT_TRUE(pool.add_symbol("T").is_ok());
    values.v[0] = 1000;
    values.v[1] = 7;
  }
  int64_t eval(const char* text) {
    auto id = pool.parse(text, pool.symbol_count());
    if (!id.is_ok()) return ADD_FAILURE() << id.take_status().message(), -999;
    auto v = pool.evaluate(id.value(), values);
    if (!v.is_ok()) return ADD_FAILURE() << v.take_status().message(), -999;
    return v.value();
  }
  std::string parse_error(const char* text) {
    auto id = pool.parse(text, pool.symbol_count());
    return id.is_ok() ? "" : id.take_status().message();
  }
  ExprPool pool;
  SymbolValues values{};
};

TEST_F(ExprTest, EvaluatesEveryOperator) {
  EXPECT_EQ(eval("12"), 12);
  EXPECT_EQ(eval(" T * 3 + 2"), 23);
  EXPECT_EQ(eval("2+3*4-1"), 13);
  EXPECT_EQ(eval("(2+3)*(4-1)"), 15);
  EXPECT_EQ(eval("10-3-2"), 5);
  EXPECT_EQ(eval("floordiv(7,2)"), 3);
  EXPECT_EQ(eval("floordiv(0-7,2)"), -4);
  EXPECT_EQ(eval("ceildiv(7,2)"), 4);
  EXPECT_EQ(eval("ceildiv(0-7,2)"), -3);
  EXPECT_EQ(eval("ceildiv(8,2)"), 4);
  EXPECT_EQ(eval("mod(0-7,3)"), 2);
  EXPECT_EQ(eval("min(T,context)+max(T,context)"), 1007);
  EXPECT_EQ(eval("min(ceildiv(512+max(T,64),64)*64,ceildiv(context,64)*64)"), 576);
}

TEST_F(ExprTest, RefusesWhatItCannotRead) {
  for (const char* text :
       {"", "1+", "(1", "1)", "foo", "foo(1,2)", "min(1)", "min(1,2", "1 2", "T$", "99999999999999999999", "*3"})
    EXPECT_NE(parse_error(text), "") << text;
  std::string deep(200, '(');
  EXPECT_NE(parse_error((deep + "1" + std::string(200, ')')).c_str()), "");
  EXPECT_NE(parse_error(std::string(600, '1').c_str()), "");
}

TEST_F(ExprTest, LaterSymbolsAreUnknown) {
  EXPECT_FALSE(pool.parse("T", 1).is_ok());
  EXPECT_TRUE(pool.parse("context", 1).is_ok());
}

TEST_F(ExprTest, OverflowAndDivisionAreErrors) {
  auto overflow = pool.parse("context*1099511627776*1099511627776", 2);
  ASSERT_TRUE(overflow.is_ok());
  EXPECT_FALSE(pool.evaluate(overflow.value(), values).is_ok());
  auto zero = pool.parse("floordiv(4,T-7)", 2);
  ASSERT_TRUE(zero.is_ok());
  EXPECT_FALSE(pool.evaluate(zero.value(), values).is_ok());
}

TEST_F(ExprTest, KnowsItsSymbols) {
  const ExprId t = pool.parse("T", 2).value(), sum = pool.parse("T+1", 2).value();
  EXPECT_EQ(pool.as_symbol(t), 1);
  EXPECT_EQ(pool.as_symbol(sum), -1);
  EXPECT_TRUE(pool.depends_on(sum, 1));
  EXPECT_FALSE(pool.depends_on(sum, 0));
  EXPECT_EQ(pool.parse("T", 2).value(), t);
}

TEST_F(ExprTest, DifferentOnesAreCounted) {
  std::vector<std::string> texts;
  for (int i = 0; i <= kMaxExprs; ++i) texts.push_back(std::to_string(i));
  for (int i = 0; i < kMaxExprs; ++i) ASSERT_TRUE(pool.parse(texts[size_t(i)].c_str(), 2).is_ok()) << i;
  EXPECT_EQ(pool.parse(texts.back().c_str(), 2).take_status().code(), Code::kUnsupported);
  EXPECT_TRUE(pool.parse("7", 2).is_ok());
}

TEST_F(ExprTest, SymbolNamesAreChecked) {
  EXPECT_FALSE(pool.add_symbol("T").is_ok());
  EXPECT_FALSE(pool.add_symbol("").is_ok());
  EXPECT_FALSE(pool.add_symbol("1x").is_ok());
  EXPECT_FALSE(pool.add_symbol("a b").is_ok());
}

}  // namespace
}  // namespace runnel
