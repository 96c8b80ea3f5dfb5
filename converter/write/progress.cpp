#include "converter/write/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace runnel::convert {
namespace {

bool g_lines = false;

}  // namespace

void progress_as_lines() { g_lines = true; }

Progress::Progress(const char* label, uint64_t total)
    : label_(label),
      total_(std::max<uint64_t>(total, 1)),
      is_terminal_(::isatty(2) == 1),
      begin_(std::chrono::steady_clock::now()),
      last_(begin_) {}

Progress::~Progress() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
}

void Progress::advance(uint64_t n) {
  done_ = std::min(done_ + n, total_);
  const auto now = std::chrono::steady_clock::now();
  if (g_lines) {
    if (done_ < total_ && now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    print_line();
    return;
  }
  if (!is_terminal_ || now - begin_ < std::chrono::milliseconds(700) || now - last_ < std::chrono::milliseconds(100))
    return;
  last_ = now;
  draw();
}

void Progress::print_line() {
  std::fprintf(stderr, "progress %llu %llu\n", static_cast<unsigned long long>(done_),
               static_cast<unsigned long long>(total_));
}

void Progress::draw() {
  constexpr int kWidth = 30;
  const double share = double(done_) / double(total_);
  const double seconds = std::chrono::duration<double>(last_ - begin_).count();
  const int filled = int(share * kWidth);
  char bar[kWidth + 1];
  for (int i = 0; i < kWidth; ++i) bar[i] = i < filled ? '#' : '.';
  bar[kWidth] = 0;
  std::fprintf(stderr, "\r\033[K%s [%s] %3d%%  %.0f s left", label_, bar, int(share * 100),
               share > 0 ? seconds / share - seconds : 0.0);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace runnel::convert
