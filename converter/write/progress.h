// Progress on stderr: a bar, drawn only on a terminal and only when the work takes over a second, or lines for programs
// that show it their own way.
#pragma once

#include <chrono>
#include <cstdint>

namespace runnel::convert {

// From now on lines "progress DONE TOTAL" in place of bars, ten a second and the last one.
void progress_as_lines();

class Progress {
 public:
  Progress(const char* label, uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void advance(uint64_t n);

 private:
  void draw();
  void print_line();
  const char* label_;
  uint64_t total_, done_ = 0;
  bool is_terminal_, drawn_ = false;
  std::chrono::steady_clock::time_point begin_, last_;
};

}  // namespace runnel::convert
