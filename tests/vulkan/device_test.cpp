// What the device layer promises beyond right numbers: every operator has a kernel or a reason, shaders stay within what any driver offers,
// and a driver that is wrong, full or absent costs speed or gives a status.
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "converter/kit.h"
#include "vulkan/kernel.h"
#include "vulkan_session/model_on_device.h"

namespace runnel::convert {
namespace {

struct Row {
  uint16_t number;
  const char* name;
};
constexpr Row kRows[] = {
#define RNL_OP(number, version, name, attrs, a, b, c, d, cpu, vulkan) {number, #name},
#include "ops/registry.inc"
#undef RNL_OP
};
// Operators without shaders, each with its reason.
struct Reason {
  const char *name, *why;
};
constexpr std::initializer_list<Reason> kWithoutShader = {};

TEST(Shaders, EveryOperatorHasSomeOrSaysWhyNot) {
  for (const Row& row : kRows) {
    const Reason* reason = nullptr;
    for (const Reason& r : kWithoutShader)
      if (std::string(r.name) == row.name) reason = &r;
    EXPECT_NE(vulkan::find_vulkan_kernel(row.number) != nullptr, reason != nullptr) << row.name;
  }
}

// SPIR-V: five words of header, then instructions of (words << 16 | opcode).
template <class Fn>
void for_each_instruction(const std::vector<uint32_t>& words, Fn fn) {
  for (size_t at = 5; at < words.size(); at += words[at] >> 16) {
    ASSERT_GT(words[at] >> 16, 0u);
    fn(words[at] & 0xffff, words.data() + at);
  }
}

TEST(Shaders, StayWithinWhatEveryDriverOffers) {
  constexpr uint32_t kCapability = 17, kExtension = 10, kExecutionMode = 16, kLocalSize = 17, kShader = 1;
  int seen = 0;
  // Capabilities of SPIR-V by the feature of the device that brings them; a variant that needs none has none of them.
  const std::map<std::string, std::set<uint32_t>> brought = {{"kIntDot", {6018, 6019}}, {"kSubgroups", {61, 63}}};
  std::map<std::string, std::string> needs;
  std::ifstream list(kGoldens / "../../shaders/variants.txt");
  for (std::string line; std::getline(list, line);) {
    std::istringstream row(line);
    std::string name, option;
    row >> name;
    while (name != "#" && row >> option)
      if (option.starts_with("needs=")) needs[name] = option.substr(6);
  }
  EXPECT_GE(needs.size(), 5u);
  for (const auto& file : fs::directory_iterator(RNL_SHADERS)) {
    if (!file.path().string().ends_with(".small.spv")) continue;
    std::ifstream in(file.path(), std::ios::binary);
    std::vector<uint32_t> words(fs::file_size(file.path()) / 4);
    in.read(reinterpret_cast<char*>(words.data()), std::streamsize(words.size() * 4));
    ASSERT_GT(words.size(), 5u) << file.path();
    EXPECT_LE(words[1], 0x00010300u) << file.path() << ": SPIR-V of a later version than Vulkan 1.1 has";
    for_each_instruction(words, [&](uint32_t op, const uint32_t* w) {
      const std::string name = file.path().stem().stem().string();
      const auto more = needs.contains(name) ? brought.at(needs[name]) : std::set<uint32_t>();
      if (op == kCapability) EXPECT_TRUE(w[1] == kShader || more.contains(w[1])) << file.path() << " capability " << w[1];
      if (op == kExtension) EXPECT_TRUE(needs.contains(name)) << file.path();
      if (op == kExecutionMode && w[2] == kLocalSize) EXPECT_LE(w[3] * w[4] * w[5], vulkan::kBaseInvocations) << file.path();
    });
    ++seen;
  }
  EXPECT_GE(seen, 25);
}

class Device : public testing::Test {
 protected:
  void SetUp() override {
    convert_to(kGoldens / "tiny_gemma3", tmp_ / "m.rnl");
    model_ = open_model(tmp_ / "m.rnl");
    ids_ = ids_of(kGoldens / "tiny_gemma3");
    // Nothing from earlier runs.
    setenv("RUNNEL_CACHE_DIR", (tmp_ / "cache").c_str(), 1);
  }
  void TearDown() override { vulkan::g_pretence = vulkan::Pretence(); }
  Result<std::unique_ptr<Session>> open() {
    PlanOptions o = test::plan_options();
    o.context = int64_t(ids_.size());
    return Session::create(*model_, nullptr, o, nullptr, nullptr);
  }
  std::vector<float> wanted() {
    Checkpoint c = load_safetensors(kGoldens / "tiny_gemma3/logits.safetensors");
    return values_of(c, "logits");
  }
  TemporaryFolder tmp_;
  std::unique_ptr<Model> model_;
  std::vector<int32_t> ids_;
};

TEST_F(Device, KernelsThatLieAreLeftToTheCpu) {
  vulkan::g_pretence.dropped_shader = "rope";
  size_t failed = 0;
  {
    auto s = open();
    ASSERT_TRUE(s.is_ok()) << s.take_status().message();
    const Plan& plan = s.value()->plan();
    for (uint32_t i = 0; i < plan.programs[0].info->ops.size(); ++i) {
      const bool is_rope = std::string(plan.programs[0].info->ops[i].def->name) == "rope";
      EXPECT_EQ(s.value()->backend()->refuses(0, i) != nullptr, is_rope) << i;
      failed += is_rope;
    }
    ASSERT_GT(failed, 0u);
    test::g_expected_lies += int(failed);
    EXPECT_LE(largest_difference(all_logits(*model_, ids_, 7), wanted()), 1e-4f * largest(wanted()));
  }
  // The next session of this driver knows without trying; a damaged note is no note.
  vulkan::g_pretence.dropped_shader = nullptr;
  {
    auto s = open();
    ASSERT_TRUE(s.is_ok());
    EXPECT_EQ(s.value()->backend()->stats().submissions, 0u);
    size_t refused = 0;
    for (uint32_t i = 0; i < s.value()->plan().programs[0].info->ops.size(); ++i) refused += s.value()->backend()->refuses(0, i) != nullptr;
    EXPECT_EQ(refused, failed);
  }
  for (const auto& file : fs::directory_iterator(tmp_ / "cache"))
    if (file.path().extension() == ".checked") fs::resize_file(file.path(), 11);
  auto s = open();
  ASSERT_TRUE(s.is_ok());
  for (uint32_t i = 0; i < s.value()->plan().programs[0].info->ops.size(); ++i) EXPECT_EQ(s.value()->backend()->refuses(0, i), nullptr) << i;
}

// The choice alone, which no operator is: the CPU chooses.
TEST_F(Device, AChoiceThatLiesIsLeftToTheCpu) {
  vulkan::g_pretence.dropped_shader = "choose";
  for (int round = 0; round < 2; ++round) {
    auto s = open();
    ASSERT_TRUE(s.is_ok()) << s.take_status().message();
    const uint32_t ops = uint32_t(s.value()->plan().programs[0].info->ops.size());
    for (uint32_t i = 0; i <= ops; ++i) EXPECT_EQ(s.value()->backend()->refuses(0, i) != nullptr, i == ops) << i;
    if (round == 0) test::g_expected_lies += 1;
    int32_t chosen = -1;
    IoTensor in{"ids", DType::kI32, 1, {int64_t(ids_.size())}, ids_.data(), ids_.size() * 4};
    Session::RunOptions o;
    o.choice = &chosen;
    o.choose_among = INT32_MAX;
    o.sink = [](void*, uint32_t, const TensorView&, int64_t) { return Status::ok(); };
    ASSERT_TRUE(s.value()->run(&in, 1, o).is_ok());
    EXPECT_EQ(chosen, -1);
  }
}

// An optional variant that lies costs its own speed alone: the device goes on with the plain ones.
TEST_F(Device, FeaturesThatLieAreDropped) {
  auto device = vulkan::shared_device();
  ASSERT_TRUE(device.is_ok());
  const uint32_t had = device.value()->features();
  ASSERT_TRUE(device.value()->info().features & vulkan::kSubgroups);
  device.value()->use_features_for_tests(vulkan::kSubgroups);
  vulkan::g_pretence.dropped_shader = "rms_norm__subgroups";
  for (int round = 0; round < 2; ++round) {
    auto s = open();
    ASSERT_TRUE(s.is_ok()) << s.take_status().message();
    const uint32_t ops = uint32_t(s.value()->plan().programs[0].info->ops.size());
    for (uint32_t i = 0; i <= ops; ++i) EXPECT_EQ(s.value()->backend()->refuses(0, i), nullptr) << i;
    EXPECT_EQ(device.value()->features(), 0u);
    EXPECT_LE(largest_difference(all_logits(*model_, ids_, 7), wanted()), 1e-4f * largest(wanted()));
    for (uint32_t i = 0; round == 0 && i < ops; ++i) test::g_expected_lies += std::string(s.value()->plan().programs[0].info->ops[i].def->name) == "rms_norm";
    device.value()->use_features_for_tests(vulkan::kSubgroups);
  }
  device.value()->use_features_for_tests(had);
}

TEST_F(Device, DamagedPipelineCacheIsMadeAnew) {
  for (int round = 0; round < 2; ++round) {
    EXPECT_LE(largest_difference(all_logits(*model_, ids_, 16), wanted()), 1e-4f * largest(wanted()));
    for (const auto& file : fs::directory_iterator(tmp_ / "cache"))
      if (file.path().extension() == ".bin") std::ofstream(file.path(), std::ios::binary | std::ios::trunc) << std::string(300, 'x');
  }
}

TEST_F(Device, AFolderThatCannotBeWrittenCostsOnlyTime) {
  setenv("RUNNEL_CACHE_DIR", "/proc/none", 1);
  EXPECT_LE(largest_difference(all_logits(*model_, ids_, 16), wanted()), 1e-4f * largest(wanted()));
}

// A driver whose n-th allocation of any kind from now on fails; -1: none does.
int64_t g_left = -1;
vulkan::Api g_real;
bool fails() { return g_left >= 0 && g_left-- == 0; }
class FullDevice {
 public:
  FullDevice() : device_(vulkan::shared_device().value()), api_(device_->api_for_tests()) {
    g_real = api_;
    api_.vkAllocateMemory = [](VkDevice d, const VkMemoryAllocateInfo* i, const VkAllocationCallbacks* c, VkDeviceMemory* o) { return fails() ? VK_ERROR_OUT_OF_DEVICE_MEMORY : g_real.vkAllocateMemory(d, i, c, o); };
    api_.vkCreateDescriptorPool = [](VkDevice d, const VkDescriptorPoolCreateInfo* i, const VkAllocationCallbacks* c, VkDescriptorPool* o) { return fails() ? VK_ERROR_OUT_OF_HOST_MEMORY : g_real.vkCreateDescriptorPool(d, i, c, o); };
    api_.vkAllocateDescriptorSets = [](VkDevice d, const VkDescriptorSetAllocateInfo* i, VkDescriptorSet* o) { return fails() ? VK_ERROR_OUT_OF_POOL_MEMORY : g_real.vkAllocateDescriptorSets(d, i, o); };
    api_.vkAllocateCommandBuffers = [](VkDevice d, const VkCommandBufferAllocateInfo* i, VkCommandBuffer* o) { return fails() ? VK_ERROR_OUT_OF_DEVICE_MEMORY : g_real.vkAllocateCommandBuffers(d, i, o); };
    api_.vkCreateComputePipelines = [](VkDevice d, VkPipelineCache p, uint32_t n, const VkComputePipelineCreateInfo* i, const VkAllocationCallbacks* c, VkPipeline* o) {
      return fails() ? VK_ERROR_OUT_OF_DEVICE_MEMORY : g_real.vkCreateComputePipelines(d, p, n, i, c, o);
    };
    api_.vkQueueSubmit = [](VkQueue q, uint32_t n, const VkSubmitInfo* i, VkFence f) { return fails() ? VK_ERROR_OUT_OF_HOST_MEMORY : g_real.vkQueueSubmit(q, n, i, f); };
  }
  ~FullDevice() {
    api_ = g_real;
    g_left = -1;
  }

 private:
  std::shared_ptr<vulkan::Device> device_;
  vulkan::Api& api_;
};

TEST_F(Device, ASessionThatFindsNoMemoryIsAStatus) {
  FullDevice full;
  int imports = 0;
  for (int64_t n = 0;; n += n < 12 ? 1 : 37) {
    g_left = n;
    auto s = open();
    const bool was_met = g_left < 0;
    g_left = -1;
    if (!was_met) {
      EXPECT_TRUE(s.is_ok());
      EXPECT_GT(n, 12);
      break;
    }
    if (s.is_ok()) {
      EXPECT_EQ(++imports, 1);  // weights that cannot be used where they lie are copied
      continue;
    }
    const Status status = s.take_status();
    EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
  }
}

// The call is taken back, the next one is as if nothing had been; or the CPU goes on.
TEST_F(Device, ACallThatFindsNoMemoryIsTakenBack) {
  FullDevice full;
  const std::vector<float> all = wanted();
  const size_t vocab = all.size() / ids_.size();
  for (int64_t n = 0;; ++n) {
    auto opened = open();
    ASSERT_TRUE(opened.is_ok()) << opened.take_status().message();
    Session& s = *opened.value();
    std::vector<float> logits;
    const auto feed = [&](size_t begin, size_t count) { return feed_ids(s, std::span(ids_).subspan(begin, count), &logits); };
    ASSERT_TRUE(feed(0, 8).is_ok());
    g_left = n;
    const Status failed = feed(8, 5);  // of another size than before: it is recorded anew
    const bool was_met = g_left < 0;
    g_left = -1;
    if (!was_met) {
      EXPECT_TRUE(failed.is_ok());
      EXPECT_GE(n, 3);
      break;
    }
    EXPECT_EQ(failed.code(), Code::kOutOfMemory) << failed.message();
    EXPECT_EQ(s.position(), 8);
    if (n % 2) ASSERT_TRUE(s.recover().is_ok());
    ASSERT_TRUE(feed(8, 5).is_ok());
    EXPECT_EQ(s.position(), 13);
    const std::vector<float> row(all.begin() + long(12 * vocab), all.begin() + long(13 * vocab));
    EXPECT_LE(largest_difference(logits, row), 1e-4f * largest(row)) << n;
  }
}

}  // namespace
}  // namespace runnel::convert
