// What programs may be beside one stream of tokens: inputs that a call leaves out.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <random>

#include "backend.h"
#include "session/session.h"
#include "unit/model_builder.h"

namespace runnel::test {
namespace {

constexpr int kWidth = 5;
constexpr float kEps = 1e-6f;

// y = scan(a or 1, rms_norm(x, weight or 1) + residual or 0); a and residual of each token, weight of the whole call.
ModelBuilder optional_model() {
  ModelBuilder b;
  b.root.features = {"optional_inputs"};
  b.add_input("weight", {"5"});
  b.add_input("x", {"T", "5"});
  b.add_input("residual", {"T", "5"});
  b.add_input("a", {"T", "5"});
  for (int i : {0, 2, 3}) b.program().inputs[size_t(i)]->optional = true;
  b.add_value("n", {"T", "5"});
  b.add_value("y", {"T", "5"});
  b.add_state("h", format::StateKind::recurrent, {"5"}, "", 0);
  b.root.states[0]->block_axis = 0;
  format::NormAttrsT norm;
  norm.eps = kEps;
  b.add_op("rms_norm", {"x", "weight", "residual"}, {"n"}).attrs.Set(norm);
  b.add_op("scan", {"a", "n", "h"}, {"y", "h"}).attrs.Set(format::ScanAttrsT{});
  b.program().outputs = {"y"};
  return b;
}

std::string refusal_of(ModelBuilder& b) {
  AlignedBytes bytes(b.build());
  auto model = Model::open_memory(bytes.data(), bytes.size());
  if (!model.is_ok()) return model.take_status().message();
  auto plan = make_plan(*model.value(), plan_options());
  return plan.is_ok() ? "" : plan.take_status().message();
}

// The rows of one call; a null pointer: left out.
struct OptionalCall {
  int64_t tokens = 1;
  std::vector<float> x, weight, residual, a;
};

struct OptionalStream {
  std::vector<double> h = std::vector<double>(kWidth);
  std::vector<double> run(const OptionalCall& c) {
    std::vector<double> y;
    for (int64_t t = 0; t < c.tokens; ++t) {
      double square = 0;
      for (int i = 0; i < kWidth; ++i) square += double(c.x[size_t(t * kWidth + i)]) * c.x[size_t(t * kWidth + i)];
      const double scale = 1 / std::sqrt(square / kWidth + double(kEps));
      for (int i = 0; i < kWidth; ++i) {
        const size_t at = size_t(t * kWidth + i);
        const double n = c.x[at] * scale * (c.weight.empty() ? 1.0 : c.weight[size_t(i)]) +
                         (c.residual.empty() ? 0.0 : c.residual[at]);
        h[size_t(i)] = h[size_t(i)] * (c.a.empty() ? 1.0 : c.a[at]) + n;
        y.push_back(h[size_t(i)]);
      }
    }
    return y;
  }
};

class OptionalInputs : public ::testing::Test {
 protected:
  OptionalInputs() : bytes_(optional_model().build()) {
    auto m = Model::open_memory(bytes_.data(), bytes_.size());
    EXPECT_TRUE(m.is_ok()) << m.take_status().message();
    model_ = std::move(m.value());
  }
  std::unique_ptr<Session> make(int64_t chunk) const {
    PlanOptions o = plan_options();
    o.context = 4096, o.chunk = chunk, o.rollback = 8;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) return ADD_FAILURE() << s.take_status().message(), nullptr;
    return std::move(s.value());
  }
  OptionalCall draw(int64_t tokens, int present) {
    const auto rows = [&](int64_t n, float low, float high) {
      std::vector<float> v(size_t(n * kWidth));
      for (float& f : v) f = std::uniform_real_distribution<float>(low, high)(random_);
      return v;
    };
    OptionalCall c;
    c.tokens = tokens, c.x = rows(tokens, -2, 2);
    if (present & 1) c.weight = rows(1, -2, 2);
    if (present & 2) c.residual = rows(tokens, -2, 2);
    if (present & 4) c.a = rows(tokens, -1, 1);
    return c;
  }
  static Status feed(Session& s, const OptionalCall& c, std::vector<float>* y) {
    std::vector<IoTensor> in;
    const auto add = [&](const char* name, const std::vector<float>& v, int32_t rank) {
      if (v.empty()) return;
      IoTensor t{name, DType::kF32, rank, {c.tokens, kWidth}, const_cast<float*>(v.data()), v.size() * 4};
      if (rank == 1) t.dims[0] = kWidth;
      in.push_back(t);
    };
    add("x", c.x, 2), add("weight", c.weight, 1), add("residual", c.residual, 2), add("a", c.a, 2);
    y->assign(c.x.size(), NAN);
    IoTensor out{"y", DType::kF32, 0, {}, y->data(), y->size() * 4};
    return s.run_into(nullptr, in.data(), in.size(), &out, 1);
  }
  static void expect_near(const std::vector<float>& y, const std::vector<double>& want) {
    ASSERT_EQ(y.size(), want.size());
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y[i], want[i], 2e-5 * std::max(1.0, std::fabs(want[i]))) << "element " << i;
  }
  AlignedBytes bytes_;
  std::unique_ptr<Model> model_;
  std::mt19937 random_{7};
};

TEST_F(OptionalInputs, EveryCombinationFollowsTheFormulaForEverySplit) {
  for (int64_t chunk : {1, 3, 64}) {
    auto s = make(chunk);
    ASSERT_TRUE(s);
    OptionalStream want;
    for (int round = 0; round < 24; ++round) {
      const OptionalCall c = draw(1 + round % 7, round % 8);
      std::vector<float> y;
      const Status status = feed(*s, c, &y);
      ASSERT_TRUE(status.is_ok()) << status.message();
      expect_near(y, want.run(c));
    }
  }
}

TEST_F(OptionalInputs, TakenBackTokensAreComputedAgainWithWhatTheirCallsGave) {
  for (int64_t chunk : {2, 64}) {
    auto s = make(chunk);
    ASSERT_TRUE(s);
    OptionalStream want;
    std::vector<float> y;
    for (int round = 0; round < 60; ++round) {
      const OptionalCall kept = draw(1 + int64_t(random_() % 5), int(random_() % 8)),
                         taken = draw(1 + int64_t(random_() % 5), int(random_() % 8));
      ASSERT_TRUE(feed(*s, kept, &y).is_ok());
      expect_near(y, want.run(kept));
      ASSERT_TRUE(feed(*s, taken, &y).is_ok());
      const Status status = s->rollback(taken.tokens);
      ASSERT_TRUE(status.is_ok()) << status.message();
    }
    const OptionalCall last = draw(3, 5);
    ASSERT_TRUE(feed(*s, last, &y).is_ok());
    expect_near(y, want.run(last));
  }
}

TEST_F(OptionalInputs, UndoingADraftComputesNothingThatStoodBeforeIt) {
  auto s = make(64);
  ASSERT_TRUE(s);
  OptionalStream want;
  std::vector<float> y;
  for (int round = 0; round < 30; ++round) {
    for (int single = 0; single < round % 4; ++single) {
      const OptionalCall one = draw(1, round % 8);
      ASSERT_TRUE(feed(*s, one, &y).is_ok());
      expect_near(y, want.run(one));
    }
    int runs = 0;
    const auto count = [](void* n, const char*, const char*, uint64_t, uint64_t) { ++*static_cast<int*>(n); };
    const OptionalCall draft = draw(2 + round % 7, round % 8);
    ASSERT_TRUE(feed(*s, draft, &y).is_ok());
    s->set_trace(count, &runs);
    ASSERT_TRUE(s->rollback(draft.tokens).is_ok());
    EXPECT_EQ(runs, 0) << round;
    s->set_trace(nullptr, nullptr);
    OptionalCall kept = draw(3 + round % 5, round % 8);
    ASSERT_TRUE(feed(*s, kept, &y).is_ok());
    OptionalStream branch = want;
    expect_near(y, branch.run(kept));
    // A part of it stays: one pass, over that part.
    s->set_trace(count, &runs);
    ASSERT_TRUE(s->rollback(2).is_ok());
    if (!is_vulkan_mode()) EXPECT_EQ(runs, 2) << "the operators of one pass";
    s->set_trace(nullptr, nullptr);
    kept.tokens -= 2;
    for (auto* rows : {&kept.x, &kept.residual, &kept.a})
      if (!rows->empty()) rows->resize(size_t(kept.tokens * kWidth));
    want.run(kept);
  }
}

TEST_F(OptionalInputs, AForkAndASavedStateKnowWhichInputsWereThere) {
  auto s = make(4);
  ASSERT_TRUE(s);
  OptionalStream want;
  std::vector<float> y;
  const OptionalCall first = draw(6, 3), second = draw(5, 4), third = draw(2, 0);
  ASSERT_TRUE(feed(*s, first, &y).is_ok());
  expect_near(y, want.run(first));
  ASSERT_TRUE(feed(*s, second, &y).is_ok());
  const std::string path = "/tmp/runnel_programs_test." + std::to_string(getpid());
  ASSERT_TRUE(s->save(path.c_str()).is_ok());
  auto restored = make(4);
  ASSERT_TRUE(restored->load(path.c_str()).is_ok());
  unlink(path.c_str());
  auto copy = s->fork();
  ASSERT_TRUE(copy.is_ok());
  for (Session* one : {s.get(), restored.get(), copy.value().get()}) {
    const Status status = one->rollback(5);
    ASSERT_TRUE(status.is_ok()) << status.message();
    OptionalStream branch = want;
    ASSERT_TRUE(feed(*one, third, &y).is_ok());
    expect_near(y, branch.run(third));
  }
}

// y = x + number: a filled input in the place of a number for each token.
ModelBuilder filled_model(const std::vector<std::string>& shape = {"T"}, format::DType dtype = format::DType::f32) {
  ModelBuilder b;
  b.root.features = {"filled_inputs"};
  b.add_input("x", shape);
  b.add_input("number", shape, dtype);
  b.program().inputs[1]->filled = true;
  b.program().inputs[1]->fill = -3;
  b.add_value("y", shape);
  b.add_op("binary", {"x", "number"}, {"y"}).attrs.Set(format::BinaryAttrsT{});
  b.program().outputs = {"y"};
  return b;
}

TEST(FilledInput, ACallThatLeavesItOutHasItsNumber) {
  AlignedBytes bytes(filled_model().build());
  auto model = Model::open_memory(bytes.data(), bytes.size());
  ASSERT_TRUE(model.is_ok()) << model.take_status().message();
  PlanOptions options = plan_options();
  options.chunk = 4;
  auto s = Session::create(*model.value(), nullptr, options, nullptr, nullptr);
  ASSERT_TRUE(s.is_ok()) << s.take_status().message();
  float x[9], number[9], y[9];
  for (int i = 0; i < 9; ++i) x[i] = float(i), number[i] = float(10 * i);
  const IoTensor in[2] = {{"x", DType::kF32, 1, {9}, x, sizeof x},
                          {"number", DType::kF32, 1, {9}, number, sizeof number}};
  for (const size_t given : {size_t(1), size_t(2), size_t(1)}) {
    IoTensor out{"y", DType::kF32, 0, {}, y, sizeof y};
    ASSERT_TRUE(s.value()->run_into(nullptr, in, given, &out, 1).is_ok());
    for (int i = 0; i < 9; ++i) EXPECT_EQ(y[i], given == 1 ? float(i - 3) : float(11 * i)) << i;
  }
}

TEST(FilledInput, ItsNumberStandsOnAllAxes) {
  AlignedBytes bytes(filled_model({"T", "2", "3"}).build());
  auto model = Model::open_memory(bytes.data(), bytes.size());
  ASSERT_TRUE(model.is_ok()) << model.take_status().message();
  auto s = Session::create(*model.value(), nullptr, plan_options(), nullptr, nullptr);
  ASSERT_TRUE(s.is_ok()) << s.take_status().message();
  float x[24] = {}, y[24] = {};
  const IoTensor in{"x", DType::kF32, 3, {4, 2, 3}, x, sizeof x};
  IoTensor out{"y", DType::kF32, 0, {}, y, sizeof y};
  ASSERT_TRUE(s.value()->run_into(nullptr, &in, 1, &out, 1).is_ok());
  for (const float v : y) EXPECT_EQ(v, -3);
}

TEST(FilledInput, WhatItMayNotBeIsRefusedByName) {
  const auto with = [](auto change) {
    ModelBuilder b = filled_model();
    change(b);
    return refusal_of(b);
  };
  EXPECT_EQ(with([](ModelBuilder&) {}), "");
  EXPECT_NE(with([](ModelBuilder& b) {
              b.root.features.clear();
            }).find("value \"number\" has a role or is no input of a model with \"filled_inputs\""),
            std::string::npos);
  EXPECT_NE(with([](ModelBuilder& b) {
              b.program().inputs[1]->shape.clear();
            }).find("value \"number\" has role none but is no vector"),
            std::string::npos);
  for (const auto& change : {+[](ModelBuilder& b) { b.program().inputs[1]->role = format::Role::positions; },
                             +[](ModelBuilder& b) { b.program().values[0]->filled = true; }})
    EXPECT_NE(with(change).find("has a role or is no input"), std::string::npos) << with(change);
}

TEST(OptionalInput, WhatNeedsItIsRefusedByName) {
  const auto with = [](auto change) {
    ModelBuilder b = optional_model();
    change(b);
    return refusal_of(b);
  };
  EXPECT_EQ(with([](ModelBuilder&) {}), "");
  EXPECT_NE(with([](ModelBuilder& b) {
              b.root.features.clear();
            }).find("value \"weight\" has a role or is no input of a model with \"optional_inputs\""),
            std::string::npos);
  EXPECT_NE(with([](ModelBuilder& b) {
              b.program().inputs[1]->optional = true;
            }).find("input 0 is not optional, but \"x\" is"),
            std::string::npos);
  EXPECT_NE(with([](ModelBuilder& b) {
              b.program().values[0]->optional = true;
            }).find("value \"n\" has a role or is no input of a model with"),
            std::string::npos);
  EXPECT_NE(with([](ModelBuilder& b) { b.program().outputs = {"a"}; }).find("output \"a\" is an optional input"),
            std::string::npos);
  // The attributes of an operator may need it too.
  const std::string needed = with([](ModelBuilder& b) {
    for (int i : {1, 2, 3}) b.program().inputs[size_t(i)]->shape = {"T", "1", "5"};
    b.program().values[0]->shape = b.program().values[1]->shape = {"T", "1", "5"};
    b.add_value("z", {"T", "1", "5"});
    b.add_op("attention", {"x", "residual", "a"}, {"z"}).attrs.Set(format::AttentionAttrsT{});
    b.program().ops.erase(b.program().ops.begin() + 1);
    b.program().values.erase(b.program().values.begin() + 1);
    b.root.states.clear();
    b.program().outputs = {"z"};
  });
  EXPECT_NE(needed.find("operator 1 (attention): without optional inputs"), std::string::npos) << needed;
  // A size that only the absent input would tell.
  const std::string unknown = with([](ModelBuilder& b) {
    b.add_symbol("S", format::SymbolKind::axis, "9");
    b.program().inputs[0]->shape = {"S"};
    b.program().values[0]->shape = {"T", "S"};
  });
  EXPECT_NE(unknown.find("\"n\" depends on the size \"S\", which no call binds that leaves out \"weight\""),
            std::string::npos)
      << unknown;
}

// Tokens that stand on another axis than the first, and operators that put several of them together there.
TEST(TokensOfAPass, AreSeenOnEveryAxis) {
  using Add = std::function<void(ModelBuilder&)>;
  const auto transpose = [](ModelBuilder& b, const char* from, const char* to, std::vector<uint8_t> perm) {
    format::TransposeAttrsT t;
    t.perm = std::move(perm);
    b.add_op("transpose", {from}, {to}).attrs.Set(std::move(t));
  };
  // x [T, 2, 4] -> a [2, 4, T] or [2, T, 4] -> b, as `op` makes it -> y [T, ...].
  const auto needs_whole_call = [&](bool last, std::vector<std::string> made, const Add& op) {
    ModelBuilder b;
    b.add_input("x", {"T", "2", "4"});
    if (last) b.add_value("a", {"2", "4", "T"});
    else b.add_value("a", {"2", "T", "4"});
    b.add_value("b", made);
    std::vector<uint8_t> perm;
    std::vector<std::string> shape;
    for (size_t i = 0; i < made.size(); ++i)
      if (made[i] == "T") perm.push_back(uint8_t(i)), shape.push_back(made[i]);
    for (size_t i = 0; i < made.size(); ++i)
      if (made[i] != "T") perm.push_back(uint8_t(i)), shape.push_back(made[i]);
    b.add_value("y", shape);
    transpose(b, "x", "a", last ? std::vector<uint8_t>{1, 2, 0} : std::vector<uint8_t>{1, 0, 2});
    op(b);
    transpose(b, "b", "y", perm);
    b.program().outputs = {"y"};
    AlignedBytes bytes(b.build());
    auto model = Model::open_memory(bytes.data(), bytes.size());
    if (!model.is_ok()) return ADD_FAILURE() << model.take_status().message(), false;
    auto plan = make_plan(*model.value(), plan_options());
    if (!plan.is_ok()) return ADD_FAILURE() << plan.take_status().message(), false;
    return plan.value().programs[0].outputs[0].needs_whole_call;
  };
  const auto plain = [](const char* name) -> Add { return [name](ModelBuilder& b) { b.add_op(name, {"a"}, {"b"}); }; };
  const auto norm = [](const char* name) -> Add {
    return [name](ModelBuilder& b) { b.add_op(name, {"a"}, {"b"}).attrs.Set(format::NormAttrsT{}); };
  };
  const auto times_itself = [](bool turned) -> Add {
    return [turned](ModelBuilder& b) {
      format::BatchMatmulAttrsT t;
      t.transpose_a = !turned, t.transpose_b = turned;
      b.add_op("batch_matmul", {"a", "a"}, {"b"}).attrs.Set(t);
    };
  };
  const Add times_a_matrix = [](ModelBuilder& b) {
    b.add_tensor("w", {2, 4, 3}, std::vector<float>(24, 1));
    b.add_op("batch_matmul", {"a", "w"}, {"b"}).attrs.Set(format::BatchMatmulAttrsT{});
  };
  const std::vector<std::string> inside = {"2", "T", "4"}, at_end = {"2", "4", "T"};
  for (const char* name : {"softmax", "rms_norm", "layer_norm"}) {
    const Add op = name == std::string("softmax") ? plain(name) : norm(name);
    EXPECT_TRUE(needs_whole_call(true, at_end, op)) << name;
    EXPECT_FALSE(needs_whole_call(false, inside, op)) << name;
  }
  const Add unary = [](ModelBuilder& b) {
    format::UnaryAttrsT u;
    u.kind = format::UnaryKind::relu;
    b.add_op("unary", {"a"}, {"b"}).attrs.Set(u);
  };
  EXPECT_FALSE(needs_whole_call(true, at_end, unary));
  EXPECT_FALSE(needs_whole_call(false, inside, unary));
  EXPECT_FALSE(needs_whole_call(false, {"2", "T", "3"}, times_a_matrix));
  EXPECT_TRUE(needs_whole_call(false, {"2", "4", "4"}, times_itself(false)));
  const Add group_norm = [](ModelBuilder& b) {
    format::GroupNormAttrsT g;
    g.groups = 2;
    b.add_op("group_norm", {"a"}, {"b"}).attrs.Set(g);
  };
  EXPECT_TRUE(needs_whole_call(false, inside, group_norm));  // over what lies between the first axis and the last
  // Rows of tokens side by side, and one of them after the other.
  EXPECT_FALSE(needs_whole_call(false, {"2", "T", "2", "2"}, plain("reshape")));
  EXPECT_TRUE(needs_whole_call(false, {"T", "8"}, plain("reshape")));
}

}  // namespace
}  // namespace runnel::test
