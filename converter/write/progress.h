// A progress bar on stderr, drawn only on a terminal and only when the work takes over a second.
#pragma once

#include <chrono>
#include <cstdint>

namespace runnel::convert {

class Progress {
 public:
  Progress(const char* label, uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void advance(uint64_t n);

 private:
  void draw();
  const char* label_;
  uint64_t total_, done_ = 0;
  bool is_terminal_, drawn_ = false;
  std::chrono::steady_clock::time_point begin_, last_;
};

}  // namespace runnel::convert
