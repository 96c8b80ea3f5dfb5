#include "cpu/cores.h"

#include <cstdio>
#include <cstring>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace runnel {
namespace {

// The number that a file begins with; 0: no file, or no number.
long long number_in(const char* path, long long* second = nullptr) {
  long long n = 0;
  if (std::FILE* f = std::fopen(path, "r")) {
    if (std::fscanf(f, "%lld", &n) != 1) n = 0;
    else if (second && std::fscanf(f, "%lld", second) != 1) *second = 0;
    std::fclose(f);
  }
  return n;
}

// Where the speed of a core stands, and how many per cent of the fastest one's count as fast.
struct Measure {
  const char* file;
  int percent;
};
// The scheduler's capacity knows that a small core does less at the same clock; where it is the same for all, as on
// systems that were not told, the highest clock has to do. Middle cores of phones are at half of the capacity and
// above, small ones below it.
constexpr Measure kMeasures[] = {{"cpu_capacity", 50}, {"cpufreq/cpuinfo_max_freq", 80}};

void find_fast(const char* root, const CoreSet& allowed, Cores* c) {
  uint32_t speed[CoreSet::kMost];
  for (const Measure& m : kMeasures) {
    uint32_t best = 0, worst = UINT32_MAX;
    c->usable = 0;
    for (int i = 0; i < CoreSet::kMost; ++i) {
      if (!allowed.has(i)) continue;
      char path[256];
      std::snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/%s", root, i, m.file);
      const long long n = number_in(path);
      speed[i] = n > 0 && n < UINT32_MAX ? uint32_t(n) : 0;
      best = speed[i] > best ? speed[i] : best;
      worst = speed[i] < worst ? speed[i] : worst;
      ++c->usable;
    }
    c->fast = 0;
    c->fast_set = {};
    for (int i = 0; i < CoreSet::kMost; ++i)
      if (allowed.has(i) && uint64_t(speed[i]) * 100 >= uint64_t(best) * uint64_t(m.percent))
        c->fast_set.add(i), ++c->fast;
    if (best != worst) return;
  }
}

int64_t largest_cache(const char* root, const CoreSet& cores) {
  int core = 0;
  while (core < CoreSet::kMost - 1 && !cores.has(core)) ++core;
  int64_t most = 0;
  for (int i = 0; i < 8; ++i) {
    char path[256];
    std::snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/cache/index%d/size", root, core, i);
    const int64_t kib = number_in(path);  // "2048K"
    most = kib * 1024 > most ? kib * 1024 : most;
  }
  return most;
}

// Time of `quota` in each `period`, both in microseconds, as a number of cores.
void limit(long long quota, long long period, int* cores) {
  if (quota <= 0 || period <= 0 || quota / period >= CoreSet::kMost) return;
  const int n = int((quota + period - 1) / period);
  if (*cores == 0 || n < *cores) *cores = n;
}

// Of the control group of this process and of those around it.
int quota_of(const char* root) {
  int cores = 0;
  long long period = 0;
  char path[512], line[256], group[256] = "";
  std::snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
  if (std::FILE* f = std::fopen(path, "r")) {
    while (std::fgets(line, sizeof line, f))
      if (std::strncmp(line, "0::/", 4) == 0)
        line[std::strcspn(line, "\n")] = 0, std::memcpy(group, line + 3, std::strlen(line + 3) + 1);
    std::fclose(f);
  }
  for (char* end = group + std::strlen(group);;) {
    std::snprintf(path, sizeof path, "%s/sys/fs/cgroup%s/cpu.max", root, group);
    const long long quota = number_in(path, &period);  // "max" is no number
    limit(quota, period, &cores);
    while (end > group && *end != '/') --end;
    if (!*end) break;
    *end = 0;
  }
  // Version 1, as a container has it.
  std::snprintf(path, sizeof path, "%s/sys/fs/cgroup/cpu/cpu.cfs_period_us", root);
  period = number_in(path);
  std::snprintf(path, sizeof path, "%s/sys/fs/cgroup/cpu/cpu.cfs_quota_us", root);
  limit(number_in(path), period, &cores);
  return cores;
}

}  // namespace

Cores find_cores(const char* root, const CoreSet& allowed) {
  Cores c;
  find_fast(root, allowed, &c);
  c.quota = quota_of(root);
  c.cache = largest_cache(root, c.fast_set);
  return c;
}

Cores find_cores() {
#if defined(__linux__)
  CoreSet allowed;
  if (sched_getaffinity(0, sizeof allowed.bits, reinterpret_cast<cpu_set_t*>(allowed.bits)) == 0)
    return find_cores("", allowed);
#endif
  Cores c;
#if defined(__APPLE__)
  int v = 0;
  size_t n = sizeof v;
  c.fast = sysctlbyname("hw.perflevel0.logicalcpu", &v, &n, nullptr, 0) == 0 && v > 0 ? v : 2;
#else
  c.fast = 1;
#endif
  c.usable = c.fast;
  return c;
}

void run_on(const CoreSet& cores) {
#if defined(__linux__)
  (void)sched_setaffinity(0, sizeof cores.bits, reinterpret_cast<const cpu_set_t*>(cores.bits));
#else
  (void)cores;
#endif
}

}  // namespace runnel
