// Which cores this process may use, and how many threads suit them.
#pragma once

#include <cstdint>

namespace runnel {

// Threads that are chosen by the library, not by the app.
inline constexpr int kMostThreads = 4;

// Cores by the system's numbers. Those from 1,024 on are left out.
struct CoreSet {
  static constexpr int kMost = 1024;
  uint64_t bits[kMost / 64] = {};

  bool has(int core) const { return bits[core / 64] >> (core % 64) & 1; }
  void add(int core) { bits[core / 64] |= uint64_t(1) << (core % 64); }
};

struct Cores {
  int usable = 0;     // that this process may run on
  int fast = 0;       // those of them that are not much slower than the fastest
  CoreSet fast_set;   // which; empty where the system does not tell
  int quota = 0;      // cores' worth of time that the control groups grant, rounded up; 0: no limit
  int64_t cache = 0;  // bytes of the largest cache of a fast core; 0: the system does not tell

  // Whether there are small cores, which are better left alone: a call waits for its slowest thread.
  bool is_mixed() const { return fast < usable; }
  int threads() const {
    int n = fast < kMostThreads ? fast : kMostThreads;
    if (quota > 0 && quota < n) n = quota;
    return n < 1 ? 1 : n;
  }
};

// Of this machine and process.
Cores find_cores();
// The same from files of Linux below `root`, of a process that may run on `allowed`.
Cores find_cores(const char* root, const CoreSet& allowed);

// Keeps the calling thread on these cores. Of no effect where the system refuses, as it may when other limits have
// changed meanwhile.
void run_on(const CoreSet& cores);

}  // namespace runnel
