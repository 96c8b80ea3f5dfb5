#include "backend.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if RNL_TEST_VULKAN
#include "base/log.h"
#include "vulkan_session/model_on_device.h"
#endif

namespace runnel::test {

const char* const kSourceDir = RNL_SOURCE_DIR;

bool is_vulkan_mode() {
  const char* backend = std::getenv("RUNNEL_TEST_BACKEND");
  return backend && std::strcmp(backend, "vulkan") == 0;
}

#if RNL_TEST_VULKAN
int g_expected_lies = 0;
namespace {

std::atomic<int> g_lies{0};
uint32_t g_features = 0;

class OpenDevice : public ::testing::Environment {
 public:
  void SetUp() override {
    set_log(
        [](void*, int, const char* message) {
          std::fprintf(stderr, "%s\n", message);
          if (std::strstr(message, "gives other results than on the CPU")) ++g_lies;
        },
        nullptr);
    if (std::getenv("RUNNEL_TEST_SMALL")) {
      vulkan::g_pretence.weight_window = 128 << 10;
      vulkan::g_pretence.weight_allocation = 256 << 10;
      vulkan::g_pretence.storage_range = 4 << 20;
      vulkan::g_pretence.is_gpu = vulkan::g_pretence.has_no_import = true;
      vulkan::g_pretence.quirks = {true, true};
    }
    auto opened = vulkan::shared_device();
    if (!opened.is_ok()) FAIL() << opened.take_status().message();
    device_ = opened.value();
    g_features = device_->features();
    // Variants that were asked for are there.
    const char* wish = std::getenv("RUNNEL_VULKAN_FEATURES");
    if (wish && std::strcmp(wish, "all") == 0)
      EXPECT_EQ(g_features, uint32_t(vulkan::kIntDot | vulkan::kSubgroups | vulkan::kShuffle));
  }
  void TearDown() override {
    if (device_) EXPECT_GT(device_->submissions(), 0u) << "nothing ran on the device";
    device_.reset();
    EXPECT_EQ(vulkan::Instance::validation_messages(), 0u);
    EXPECT_EQ(g_lies, g_expected_lies) << "operators failed the self-check";
  }

 private:
  std::shared_ptr<vulkan::Device> device_;
};
[[maybe_unused]] ::testing::Environment* const g_device =
    is_vulkan_mode() ? ::testing::AddGlobalTestEnvironment(new OpenDevice) : nullptr;

}  // namespace
bool device_rounds_activations() { return g_features & vulkan::kIntDot; }
#else
bool device_rounds_activations() { return false; }
#endif

}  // namespace runnel::test
