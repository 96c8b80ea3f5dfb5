// The builder of programs by itself: no source, inputs of any number, values over any axes.
#include "converter/program/program.h"

#include <gtest/gtest.h>

namespace runnel::convert {
namespace {

Names shape(const ModelBuilder& b, const std::string& name) {
  for (const auto& v : b.model.programs.at(0)->values)
    if (v->name == name) return v->shape;
  return {};
}

TEST(Program, ValuesOverSeveralAxesAndInputs) {
  ModelBuilder b(Weights::kKeep);
  Program p(b, "image");
  p.graph().add_symbol("H", format::SymbolKind::axis, "1024");
  p.graph().add_symbol("W", format::SymbolKind::axis, "1024");
  const Var pixels = p.input("pixels", "H W", {3}), mask = p.input("mask", "H W", {3}),
            colour = p.input("colour", "", {3});
  const Var masked = p.mul(pixels, mask);
  const Var red = p.slice(masked, 2, 0, 1);
  const Var both = p.concat({masked, red}, 2);
  const Var shifted = p.binary(format::BinaryKind::add, both, p.constant("shift", {1, 2, 3, 4}, {-1}));
  p.set_scope("head.");
  const Var soft = p.unary(format::UnaryKind::silu, p.scale(colour, 2));
  p.graph().add_output(shifted.name);
  p.graph().add_output(soft.name);

  const format::ProgramT& made = *b.model.programs.at(0);
  EXPECT_EQ(made.name, "image");
  ASSERT_EQ(made.inputs.size(), 3u);
  EXPECT_EQ(made.inputs[0]->shape, (Names{"H", "W", "3"}));
  EXPECT_EQ(made.inputs[2]->shape, Names{"3"});
  EXPECT_EQ(shape(b, masked.name), (Names{"H", "W", "3"}));
  EXPECT_EQ(shape(b, red.name), (Names{"H", "W", "1"}));
  EXPECT_EQ(shape(b, shifted.name), (Names{"H", "W", "4"}));
  EXPECT_EQ(shape(b, soft.name), Names{"3"});
  EXPECT_EQ(soft.name, "head.unary#2");
  ASSERT_EQ(made.ops.size(), 6u);
  EXPECT_EQ(made.ops[1]->attrs.AsSliceAttrs()->axis, 2);
  EXPECT_EQ(made.ops[3]->inputs, (Names{both.name, "shift"}));
  EXPECT_EQ(made.outputs, (Names{shifted.name, soft.name}));
  EXPECT_TRUE(b.has_tensor("shift"));
}

TEST(Program, AxesInFrontMustMeet) {
  ModelBuilder b(Weights::kKeep);
  Program p(b, "main");
  const Var x = p.input("x", "T", {4}), y = p.input("y", "T", {2, 2}), rows = p.input("rows", "R", {4});
  EXPECT_THROW(p.add(x, rows), Error);
  EXPECT_THROW(p.add(x, y), Error);
}

}  // namespace
}  // namespace runnel::convert
