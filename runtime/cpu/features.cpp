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
// Bits of CPUID's leaves 1 and 7, and of XCR0: the registers that the system saves. (Intel's manual, volume 2A, CPUID;
// the compilers' own test of features is several kilobytes of other CPUs' names.)
struct X86 {
  uint32_t basic = 0, extended_b = 0, extended_c = 0, saved = 0;
};
static X86 x86_features() {
  X86 f;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return f;  // OSXSAVE
  f.basic = c;
  __asm__ volatile("xgetbv" : "=a"(f.saved), "=d"(d) : "c"(0));
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) f.extended_b = b, f.extended_c = c;
  return f;
}
static bool has_avx2(const X86& f) {
  constexpr uint32_t kFma = 1u << 12, kAvx = 1u << 28, kF16c = 1u << 29, kBasic = kFma | kAvx | kF16c;
  constexpr uint32_t kAvx2 = 1u << 5, kYmm = 6;  // XMM and YMM are saved
  return (f.basic & kBasic) == kBasic && (f.extended_b & kAvx2) && (f.saved & kYmm) == kYmm;
}
bool cpu_has_avx2() { return has_avx2(x86_features()); }
bool cpu_has_avx512vnni() {
  constexpr uint32_t kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31, kAll = kF | kDq | kBw | kVl;
  constexpr uint32_t kVnni = 1u << 11, kZmm = 0xe6;  // and masks and ZMM
  const X86 f = x86_features();
  return has_avx2(f) && (f.extended_b & kAll) == kAll && (f.extended_c & kVnni) && (f.saved & kZmm) == kZmm;
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
