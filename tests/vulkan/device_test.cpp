// What the device layer promises beyond right numbers: every operator has a kernel or a reason, shaders stay within
// what any driver offers, and a driver that is wrong, full or absent costs speed or gives a status.
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
constexpr std::initializer_list<Reason> kWithoutShader = {
    {"select_blocks",
     "it sorts the importance of blocks, once for each block of queries; not written for devices yet"}};

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
  const std::map<std::string, std::set<uint32_t>> brought = {
      {"kIntDot", {6018, 6019}}, {"kSubgroups", {61, 63}}, {"kShuffle", {61, 65}}};
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
      if (op == kCapability)
        EXPECT_TRUE(w[1] == kShader || more.contains(w[1])) << file.path() << " capability " << w[1];
      if (op == kExtension) EXPECT_TRUE(needs.contains(name)) << file.path();
      if (op == kExecutionMode && w[2] == kLocalSize)
        EXPECT_LE(w[3] * w[4] * w[5], vulkan::kBaseInvocations) << file.path();
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
    test::g_expected_lies += 2 * int(failed);  // this session's and that of the logits, which is of another kind
    EXPECT_LE(largest_difference(all_logits(*model_, ids_, 7), wanted()), 1e-4f * largest(wanted()));
  }
  // The next session of this driver knows without trying; a damaged note is no note.
  vulkan::g_pretence.dropped_shader = nullptr;
  {
    auto s = open();
    ASSERT_TRUE(s.is_ok());
    EXPECT_EQ(s.value()->backend()->stats().submissions, 0u);
    size_t refused = 0;
    for (uint32_t i = 0; i < s.value()->plan().programs[0].info->ops.size(); ++i)
      refused += s.value()->backend()->refuses(0, i) != nullptr;
    EXPECT_EQ(refused, failed);
  }
  for (const auto& file : fs::directory_iterator(tmp_ / "cache"))
    if (file.path().extension() == ".checked") fs::resize_file(file.path(), 11);
  auto s = open();
  ASSERT_TRUE(s.is_ok());
  for (uint32_t i = 0; i < s.value()->plan().programs[0].info->ops.size(); ++i)
    EXPECT_EQ(s.value()->backend()->refuses(0, i), nullptr) << i;
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
    for (uint32_t i = 0; round == 0 && i < ops; ++i)
      test::g_expected_lies += std::string(s.value()->plan().programs[0].info->ops[i].def->name) == "rms_norm";
    device.value()->use_features_for_tests(vulkan::kSubgroups);
  }
  device.value()->use_features_for_tests(had);
}

// What it found is kept for sessions of the same kind alone.
TEST_F(Device, TheSelfCheckIsMadeForEveryKindOfSession) {
  const auto is_checked_anew = [&](DType kv, int64_t chunk, int64_t context) {
    auto device = vulkan::shared_device().value();
    PlanOptions o = test::plan_options();
    o.kv = kv, o.chunk = chunk, o.context = context;
    const uint64_t before = device->submissions();
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    EXPECT_TRUE(s.is_ok()) << s.take_status().message();
    // Those of an unchecked session copy constants.
    return device->submissions() - before > model_->find_program(nullptr)->ops.size() / 2;
  };
  EXPECT_TRUE(is_checked_anew(DType::kF32, 16, 64));
  EXPECT_FALSE(is_checked_anew(DType::kF32, 16, 64));
  EXPECT_TRUE(is_checked_anew(DType::kQ8, 16, 64));
  EXPECT_TRUE(is_checked_anew(DType::kF16, 16, 64));
  EXPECT_TRUE(is_checked_anew(DType::kF32, 1, 64));
  EXPECT_FALSE(is_checked_anew(DType::kQ8, 16, 64));
  EXPECT_FALSE(is_checked_anew(DType::kF32, 16, 128));
}

// The next session opens the device anew, with what is pretended.
void open_anew() {
  auto device = vulkan::shared_device().value();
  EXPECT_TRUE(device->submit(nullptr, 0).is_ok());
  device->lose_after(1);
  (void)device->submit(nullptr, 0);
}

std::unique_ptr<Model> of_graph(const std::string& inputs, const std::string& values, const std::string& ops,
                                const std::vector<PlainTensor>& weights) {
  TemporaryFolder tmp;
  write_file(tmp / "g.json", R"({"context": 64,
    "symbols": [{"name": "context", "kind": "option"}, {"name": "chunk", "kind": "option"}, {"name": "rollback", "kind": "option"}, {"name": "rows", "kind": "option"},
                {"name": "T", "kind": "axis", "bound": "chunk"}],
    "programs": [{"name": "main", "inputs": [)" +
                                 inputs + "], \"values\": [" + values + "], \"ops\": [" + ops +
                                 "], \"outputs\": [\"y\"]}]}");
  write_file(tmp / "w.safetensors", safetensors_of(weights));
  convert_to(tmp / "g.json", tmp / "m.rnl", Weights::kKeep, tmp / "w.safetensors");
  return open_model(tmp / "m.rnl");
}

// What is used for one token alone is checked too.
TEST_F(Device, ALieAboutOneTokenIsFound) {
  std::vector<float> w(8 * 512);
  for (size_t i = 0; i < w.size(); ++i) w[i] = float(i % 7) - 3;
  const auto model = of_graph(R"({"name": "x", "shape": ["T", "512"]})", R"({"name": "y", "shape": ["T", "8"]})",
                              R"({"name": "matmul", "inputs": ["x", "w"], "outputs": ["y"]})", {{"w", {8, 512}, w}});
  vulkan::g_pretence.is_gpu = true;
  vulkan::g_pretence.dropped_shader = "matmul";
  vulkan::g_pretence.dropped_constant = 7, vulkan::g_pretence.dropped_value = 1;  // kTokens
  open_anew();
  {
    auto s = Session::create(*model, nullptr, test::plan_options(), nullptr, nullptr);
    ASSERT_TRUE(s.is_ok()) << s.take_status().message();
    EXPECT_NE(s.value()->backend()->refuses(0, 0), nullptr);
    test::g_expected_lies += vulkan::shared_device().value()->features() ? 2 : 1;
  }
  vulkan::g_pretence = vulkan::Pretence();
  open_anew();
}

// A program of which the self-check can make no sense is tried again with each session.
TEST_F(Device, ASelfCheckThatBrokeOffIsNotKept) {
  const auto model = of_graph(
      R"({"name": "x", "shape": ["T", "2", "4"]}, {"name": "bounds", "dtype": "i32", "shape": ["2"]})",
      R"({"name": "h", "shape": ["T", "2", "4"]}, {"name": "y", "shape": ["T", "2", "4"]})",
      R"({"name": "attention", "inputs": ["x", "x", "x", "", "", "", "", "bounds"], "outputs": ["h"], "attrs_type": "AttentionAttrs", "attrs": {"scale": 1.0}},
                                 {"name": "unary", "inputs": ["h"], "outputs": ["y"], "attrs_type": "UnaryAttrs", "attrs": {"kind": "square"}})",
      {});
  PlanOptions o = test::plan_options();
  o.context = 64;
  for (int round = 0; round < 2; ++round) {
    auto device = vulkan::shared_device().value();
    const uint64_t before = device->submissions();
    auto s = Session::create(*model, nullptr, o, nullptr, nullptr);
    ASSERT_TRUE(s.is_ok()) << s.take_status().message();
    EXPECT_GT(device->submissions() - before, 2u) << "round " << round;  // the operators behind it were checked
  }
  for (const auto& file : fs::directory_iterator(tmp_ / "cache")) EXPECT_NE(file.path().extension(), ".checked");
}

TEST_F(Device, ItsBytesCountImportedWeights) {
  uint64_t packed = 0;
  for (const TensorInfo& t : model_->tensors())
    if (t.view.dtype == DType::kPacked) packed += t.view.packed->matrix_bytes(t.view.dims[0], t.view.dims[1]);
  ASSERT_GT(packed, 0u);
  auto s = open();
  ASSERT_TRUE(s.is_ok());
  const Backend& b = *s.value()->backend();
  EXPECT_GE(b.device_bytes(), packed + s.value()->plan().arena_bytes);
  auto device = vulkan::shared_device().value();
  if (device->can_import()) EXPECT_GE(b.imported_bytes(), packed);
  else EXPECT_EQ(b.imported_bytes(), 0u);
}

// A wait that fails leaves nothing behind that runs still or a fence that cannot be used again.
class BadWaits {
 public:
  static inline int g_waits = 0, g_idle = 0;
  BadWaits() : device_(vulkan::shared_device().value()), api_(device_->api_for_tests()), real_(api_) {
    g_api = real_, g_waits = g_idle = 0;
    api_.vkWaitForFences = [](VkDevice d, uint32_t n, const VkFence* f, VkBool32 all, uint64_t t) {
      const VkResult r = g_api.vkWaitForFences(d, n, f, all, t);
      return g_waits && --g_waits == 0 ? VK_ERROR_OUT_OF_HOST_MEMORY : r;
    };
    api_.vkDeviceWaitIdle = [](VkDevice d) { return g_idle ? VK_ERROR_OUT_OF_HOST_MEMORY : g_api.vkDeviceWaitIdle(d); };
  }
  ~BadWaits() { api_ = real_; }
  vulkan::Device& device() { return *device_; }

 private:
  static inline vulkan::Api g_api;
  std::shared_ptr<vulkan::Device> device_;
  vulkan::Api& api_;
  vulkan::Api real_;
};

TEST_F(Device, AWaitThatFailsIsMadeAnotherWay) {
  auto s = open();
  ASSERT_TRUE(s.is_ok());
  BadWaits bad;
  std::vector<float> logits;
  for (int n = 1; n <= 3; ++n) {
    BadWaits::g_waits = 1;
    const Status status = feed_ids(*s.value(), std::span(ids_).subspan(size_t(n - 1), 1), &logits);
    EXPECT_TRUE(status.is_ok()) << status.message();
    EXPECT_EQ(BadWaits::g_waits, 0);
  }
  const std::vector<float> all = wanted();
  const size_t vocab = all.size() / ids_.size();
  const std::vector<float> row(all.begin() + long(2 * vocab), all.begin() + long(3 * vocab));
  EXPECT_LE(largest_difference(logits, row), 1e-4f * largest(row));
}

TEST_F(Device, ADeviceThatCannotBeWaitedForIsLost) {
  auto s = open();
  ASSERT_TRUE(s.is_ok());
  std::vector<float> logits;
  ASSERT_TRUE(feed_ids(*s.value(), std::span(ids_).subspan(0, 5), &logits).is_ok());
  {
    BadWaits bad;
    BadWaits::g_waits = BadWaits::g_idle = 1;
    EXPECT_EQ(feed_ids(*s.value(), std::span(ids_).subspan(5, 1), &logits).code(), Code::kDeviceLost);
  }
  EXPECT_EQ(s.value()->position(), 5);
  ASSERT_TRUE(s.value()->recover().is_ok());
  ASSERT_TRUE(feed_ids(*s.value(), std::span(ids_).subspan(5, 1), &logits).is_ok());
  const std::vector<float> all = wanted();
  const size_t vocab = all.size() / ids_.size();
  const std::vector<float> row(all.begin() + long(5 * vocab), all.begin() + long(6 * vocab));
  EXPECT_LE(largest_difference(logits, row), 1e-4f * largest(row));
}

TEST_F(Device, DamagedPipelineCacheIsMadeAnew) {
  for (int round = 0; round < 2; ++round) {
    EXPECT_LE(largest_difference(all_logits(*model_, ids_, 16), wanted()), 1e-4f * largest(wanted()));
    for (const auto& file : fs::directory_iterator(tmp_ / "cache"))
      if (file.path().extension() == ".bin")
        std::ofstream(file.path(), std::ios::binary | std::ios::trunc) << std::string(300, 'x');
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
    api_.vkAllocateMemory = [](VkDevice d, const VkMemoryAllocateInfo* i, const VkAllocationCallbacks* c,
                               VkDeviceMemory* o) {
      return fails() ? VK_ERROR_OUT_OF_DEVICE_MEMORY : g_real.vkAllocateMemory(d, i, c, o);
    };
    api_.vkCreateDescriptorPool = [](VkDevice d, const VkDescriptorPoolCreateInfo* i, const VkAllocationCallbacks* c,
                                     VkDescriptorPool* o) {
      return fails() ? VK_ERROR_OUT_OF_HOST_MEMORY : g_real.vkCreateDescriptorPool(d, i, c, o);
    };
    api_.vkAllocateDescriptorSets = [](VkDevice d, const VkDescriptorSetAllocateInfo* i, VkDescriptorSet* o) {
      return fails() ? VK_ERROR_OUT_OF_POOL_MEMORY : g_real.vkAllocateDescriptorSets(d, i, o);
    };
    api_.vkAllocateCommandBuffers = [](VkDevice d, const VkCommandBufferAllocateInfo* i, VkCommandBuffer* o) {
      return fails() ? VK_ERROR_OUT_OF_DEVICE_MEMORY : g_real.vkAllocateCommandBuffers(d, i, o);
    };
    api_.vkCreateComputePipelines = [](VkDevice d, VkPipelineCache p, uint32_t n, const VkComputePipelineCreateInfo* i,
                                       const VkAllocationCallbacks* c, VkPipeline* o) {
      return fails() ? VK_ERROR_OUT_OF_DEVICE_MEMORY : g_real.vkCreateComputePipelines(d, p, n, i, c, o);
    };
    api_.vkQueueSubmit = [](VkQueue q, uint32_t n, const VkSubmitInfo* i, VkFence f) {
      return fails() ? VK_ERROR_OUT_OF_HOST_MEMORY : g_real.vkQueueSubmit(q, n, i, f);
    };
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
    const auto feed = [&](size_t begin, size_t count) {
      return feed_ids(s, std::span(ids_).subspan(begin, count), &logits);
    };
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
