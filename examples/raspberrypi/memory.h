// What a session takes: the plan beside what Linux counts.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <runnel/runnel.hpp>
#include <string>

// The sum of a process file's lines that begin with one of these names, in bytes.
inline double bytes_of(const char* path, std::initializer_list<const char*> names) {
  std::ifstream file(path);
  double kib = 0;
  for (std::string line; std::getline(file, line);)
    for (const char* name : names)
      if (line.rfind(name, 0) == 0) kib += std::atof(line.c_str() + std::string(name).size());
  return kib * 1024;
}

inline double anonymous_bytes() { return bytes_of("/proc/self/smaps_rollup", {"Anonymous:", "Swap:"}); }
inline double peak_bytes() { return bytes_of("/proc/self/status", {"VmHWM:"}); }

// At the end of a program, to stderr.
inline void print_memory(const char* program, const rnl::Session& session) {
  const rnl_memory m = session.memory();
  std::fprintf(stderr,
               "%s: anonymous memory %.1f MB, planned %.1f MB; weights and vocabulary %.1f MB, mapped from the file; "
               "largest resident size %.1f MB\n",
               program, anonymous_bytes() / 1e6, double(m.anonymous) / 1e6, double(m.weights + m.tokenizer) / 1e6,
               peak_bytes() / 1e6);
}
