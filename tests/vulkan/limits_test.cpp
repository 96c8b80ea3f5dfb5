// What a device's limits do not allow is found when a session begins: the CPU takes the operator, or there is no
// session. No call fails for it.
#include "converter/kit.h"
#include "vulkan_session/model_on_device.h"

namespace runnel::convert {
namespace {

class Limits : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    convert_to(kGoldens / GetParam(), tmp_ / "m.rnl");
    model_ = open_model(tmp_ / "m.rnl");
    ids_ = ids_of(kGoldens / GetParam());
    Checkpoint c = load_safetensors(kGoldens / GetParam() / "logits.safetensors");
    wanted_ = values_of(c, "logits");
  }
  void TearDown() override {
    model_.reset();
    vulkan::g_pretence = vulkan::Pretence();
    open_anew();
  }
  // The next session opens a device with these limits.
  static void open_anew() {
    auto device = vulkan::shared_device().value();
    EXPECT_TRUE(device->submit(nullptr, 0).is_ok());
    device->lose_after(1);
    (void)device->submit(nullptr, 0);
  }
  // Operators that the CPU keeps; -1: no session. All calls of a session give the right numbers.
  int64_t kept_with(int64_t chunk) {
    open_anew();
    PlanOptions o = test::plan_options();
    o.context = int64_t(ids_.size()), o.chunk = chunk;
    auto opened = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!opened.is_ok()) {
      const Status s = opened.take_status();
      EXPECT_TRUE(s.code() == Code::kUnsupported || s.code() == Code::kOutOfMemory) << s.message();
      return -1;
    }
    Session& s = *opened.value();
    int64_t kept = 0;
    const size_t ops = s.plan().programs[0].info->ops.size(), vocab = wanted_.size() / ids_.size();
    for (uint32_t i = 0; i < ops; ++i) kept += s.backend()->refuses(0, i) != nullptr;
    size_t fed = 0;
    for (const size_t count : {size_t(1), size_t(2), size_t(5), size_t(1), ids_.size()}) {
      const size_t n = std::min(count, ids_.size() - fed);
      std::vector<float> logits;
      const Status status = feed_ids(s, std::span(ids_).subspan(fed, n), &logits);
      EXPECT_TRUE(status.is_ok()) << status.message();
      fed += n;
      const std::vector<float> row(wanted_.begin() + long((fed - 1) * vocab), wanted_.begin() + long(fed * vocab));
      if (status.is_ok())
        EXPECT_LE(largest_difference(logits, row), 1e-4f * largest(row)) << "after " << fed << " tokens";
    }
    EXPECT_EQ(s.backend()->stats().cpu_ops > 0, kept > 0);
    return kept;
  }
  TemporaryFolder tmp_;
  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_;
  std::vector<float> wanted_;
};

TEST_P(Limits, OfWhatABindingReaches) {
  int64_t last = INT64_MAX;
  bool some = false;
  for (const uint64_t range : {1 << 12, 1 << 16, 1 << 20, 1 << 24}) {
    vulkan::g_pretence.storage_range = range;
    vulkan::g_pretence.weight_window = range - 256;
    const int64_t kept = kept_with(16);
    EXPECT_LE(kept, last) << range;
    some = some || kept > 0;
    last = kept < 0 ? last : kept;
    if (HasFailure()) break;
  }
  EXPECT_TRUE(some);
  EXPECT_EQ(last, 0);
}

TEST_P(Limits, OfWorkgroups) {
  bool some = false;
  for (const uint32_t groups : {1u, 3u, 40u, 65535u}) {
    vulkan::g_pretence.groups = groups;
    const int64_t kept = kept_with(16);
    some = some || kept > 0;
    if (groups == 65535) EXPECT_EQ(kept, 0);
    if (HasFailure()) break;
  }
  EXPECT_TRUE(some);
}

// A driver that ends long loops without a word (quirks.inc) is not asked for them.
TEST(LongLoops, GiveTheRightNumbers) {
  TemporaryFolder tmp;
  write_file(tmp / "g.json", R"({"context": 64,
    "symbols": [{"name": "context", "kind": "option"}, {"name": "chunk", "kind": "option"}, {"name": "rollback", "kind": "option"}, {"name": "rows", "kind": "option"},
                {"name": "T", "kind": "axis", "bound": "chunk"}],
    "programs": [{"name": "main", "inputs": [{"name": "x", "shape": ["T", "70000"]}], "values": [{"name": "y", "shape": ["T"]}],
      "ops": [{"name": "reduce", "inputs": ["x"], "outputs": ["y"], "attrs_type": "ReduceAttrs", "attrs": {"kind": "sum", "axis": 1}}], "outputs": ["y"]}]})");
  write_file(tmp / "w.safetensors", safetensors_of({}));
  convert_to(tmp / "g.json", tmp / "m.rnl", Weights::kKeep, tmp / "w.safetensors");
  const auto model = open_model(tmp / "m.rnl");
  PlanOptions o = test::plan_options();
  o.chunk = 2;
  auto s = Session::create(*model, nullptr, o, nullptr, nullptr);
  ASSERT_TRUE(s.is_ok()) << s.take_status().message();
  std::vector<float> x(140000, 1.0f), y(2);
  const IoTensor in{"x", DType::kF32, 2, {2, 70000}, x.data(), x.size() * 4};
  IoTensor out{"y", DType::kF32, 1, {2}, y.data(), 8};
  const Status status = s.value()->run_into(nullptr, &in, 1, &out, 1);
  ASSERT_TRUE(status.is_ok()) << status.message();
  EXPECT_EQ(y, std::vector<float>({70000, 70000}));
}

INSTANTIATE_TEST_SUITE_P(All, Limits, testing::Values("tiny_gemma3", "tiny_mamba2", "tiny_mixtral"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace runnel::convert
