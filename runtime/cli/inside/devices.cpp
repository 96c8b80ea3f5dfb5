// devices: what this machine offers.
#include <cstdio>

#include "api/handles.h"
#include "cli/common.h"
#include "cpu/features.h"
#include "cpu/kernels.h"
#include "cpu/token_threads.h"

namespace runnel::cli {

int cmd_devices(const Options&) {
  char cpu[96];
  cpu_name(cpu, sizeof cpu);
  const Cores cores = find_cores();
  std::printf("CPU  %s, %d threads by default\n", cpu, cores.threads());
  std::printf("     %d of %d cores are fast%s", cores.fast, cores.usable,
              cores.is_mixed() ? ", the others are left alone" : "");
  if (cores.quota > 0) std::printf("; the control group grants the time of %d", cores.quota);
  if (cores.cache > 0) std::printf("; largest cache %.1f MB", double(cores.cache) / 1e6);
  std::printf("\n");
  rnl::Engine engine;
  check(engine.create());
  const TokenThreads token = token_threads(engine.get()->pool, cores);
  std::printf("     %d for one token: %s", token.threads, token.how);
  for (int i = 0; i < kMostThreads && token.mb_per_s[i] > 0; ++i)
    std::printf("%s%.1f", i ? ", " : ", GB/s of 4-bit weights with 1, 2, ... threads: ", token.mb_per_s[i] / 1e3);
  std::printf("\n");
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  for (int i = 0; i < count; ++i)
    std::printf("     %-14s %s\n", targets[i].name, targets[i].available ? "available" : "not on this machine");
  const rnl_status_code code =
      rnl_vulkan_devices([](void*, const char* text) { std::printf("Vulkan  %s\n", text); }, nullptr);
  if (code != RNL_OK) std::printf("Vulkan  none: %s\n", rnl_last_error());
  return 0;
}

}  // namespace runnel::cli
