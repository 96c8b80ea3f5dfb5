#include "cpu/features.h"

#include <cstdint>
#include <cstdio>
#include <cstring>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif
#if defined(__linux__) && (defined(__aarch64__) || defined(__arm__))
#include <sys/auxv.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace runnel {

#if defined(__x86_64__) || defined(__i386__)
bool cpu_has_avx512vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}
bool cpu_has_avx2() {
  // F16C has no name in GCC 12's list; every CPU with AVX2 has it.
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
bool cpu_has_avx512vnni() { return false; }
bool cpu_has_avx2() { return false; }
#endif

#if defined(__aarch64__)
bool cpu_has_neon() { return true; }
#if defined(__linux__)
bool cpu_has_neon_dotprod() { return getauxval(AT_HWCAP) & (1ul << 20); }
bool cpu_has_neon_i8mm() { return cpu_has_neon_dotprod() && (getauxval(AT_HWCAP2) & (1ul << 13)); }
#elif defined(__APPLE__)
static bool apple_feature(const char* name) {
  int v = 0;
  size_t n = sizeof v;
  return sysctlbyname(name, &v, &n, nullptr, 0) == 0 && v;
}
bool cpu_has_neon_dotprod() { return apple_feature("hw.optional.arm.FEAT_DotProd"); }
bool cpu_has_neon_i8mm() { return apple_feature("hw.optional.arm.FEAT_I8MM"); }
#else
bool cpu_has_neon_dotprod() { return false; }
bool cpu_has_neon_i8mm() { return false; }
#endif
#elif defined(__arm__) && defined(__linux__)
// The kernels are built for NEON with fused multiply-adds, which a Cortex-A8 or A9 has not.
bool cpu_has_neon() {
  const unsigned long needed = 1ul << 12 | 1ul << 16;  // NEON, VFPv4
  return (getauxval(AT_HWCAP) & needed) == needed;
}
bool cpu_has_neon_dotprod() { return false; }
bool cpu_has_neon_i8mm() { return false; }
#else
bool cpu_has_neon() { return false; }
bool cpu_has_neon_dotprod() { return false; }
bool cpu_has_neon_i8mm() { return false; }
#endif

void cpu_name(char* buffer, int size) {
  std::snprintf(buffer, size_t(size), "unknown CPU");
#if defined(__x86_64__) || defined(__i386__)
  // The kernel's file takes it from there too, and tens of milliseconds for the clocks that stand beside it.
  unsigned r[13] = {};
  if (unsigned(__get_cpuid_max(0x80000000, nullptr)) < 0x80000004) return;
  for (unsigned i = 0; i < 3; ++i)
    (void)__get_cpuid(0x80000002 + i, &r[4 * i], &r[4 * i + 1], &r[4 * i + 2], &r[4 * i + 3]);
  const char* name = reinterpret_cast<const char*>(r);
  while (*name == ' ') ++name;
  if (*name) std::snprintf(buffer, size_t(size), "%s", name);
#elif defined(__linux__)
  if (std::FILE* f = std::fopen("/proc/cpuinfo", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, f)) {
      if (std::strncmp(line, "model name", 10) != 0 && std::strncmp(line, "Model", 5) != 0) continue;
      const char* colon = std::strchr(line, ':');
      if (!colon) continue;
      line[std::strcspn(line, "\n")] = 0;
      std::snprintf(buffer, size_t(size), "%s", colon + 2);
      break;
    }
    std::fclose(f);
  }
#endif
}

}  // namespace runnel
