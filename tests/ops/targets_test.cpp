// Which CPU targets a machine has, and that their kernels say so. RUNNEL_TEST_TARGETS names those that are expected,
// best first: an emulated CPU that offers less, or more, than it should would leave kernels untested.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "contract/op.h"
#include "cpu/kernels.h"

namespace runnel::test {

TEST(Targets, AreThoseThatTheCpuHas) {
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  std::string have;
  for (int i = 0; i < count; ++i)
    if (targets[i].available) have += (have.empty() ? "" : " ") + std::string(targets[i].name);
  if (const char* want = std::getenv("RUNNEL_TEST_TARGETS")) EXPECT_EQ(have, want);
  ASSERT_GT(count, 0);
  EXPECT_TRUE(targets[count - 1].available) << "every machine has " << targets[count - 1].name;
}

TEST(Targets, StandInTheirKernelsNames) {
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  for (int i = 0; i < count; ++i) {
    int kernels = 0;
    for (int number = 0; number < 256; ++number) {
      const KernelList list = targets[i].kernels(uint16_t(number));
      for (int k = 0; k < list.count; ++k, ++kernels)
        EXPECT_TRUE(std::string(list.rows[k].name).ends_with(std::string("__") + targets[i].name)) << list.rows[k].name;
    }
    // A target may leave operators to the next one; the floor has all.
    EXPECT_GE(kernels, i + 1 < count ? 1 : 20) << targets[i].name;
  }
}

}  // namespace runnel::test
