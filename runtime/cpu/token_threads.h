// How many threads of a pool compute one token.
//
// A product of one token reads all weights and is bound by memory: more threads than it takes to keep memory busy gain
// nothing, and on small machines they lose (a Pi 5 reads 9.3, 13.2 and 11.6 GB/s with 1, 2 and 4). So it is measured,
// by the machine's own kernel for 4-bit weights, which also tells where a core is too slow to keep up with memory.
#pragma once

#include <cstddef>

#include "cpu/cores.h"
#include "cpu/thread_pool.h"

namespace runnel {

struct TokenThreads {
  int threads = 1;
  int mb_per_s[kMostThreads] = {};  // of weights read with 1, 2, ... threads; 0: not measured
  const char* how = "";             // for reports
};

// The lowest number of threads that comes within 5% of the fastest.
int choose_threads(const int* mb_per_s, int count);

// The file in which the figures of a pool on these cores are kept. False: in none.
bool token_threads_file(const ThreadPool* pool, const Cores& cores, char* path, size_t size);

// For a pool on these cores that nobody uses. Measured once, some milliseconds with a buffer of 8 to 32 MiB, and kept
// in the process and in the cache folder; all threads where that would tell nothing. Any thread.
TokenThreads token_threads(ThreadPool* pool, const Cores& cores);

}  // namespace runnel
