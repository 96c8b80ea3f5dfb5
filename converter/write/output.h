// Where the result goes: never onto a file of its own source, and nothing half-written stays when the program is
// interrupted.
#pragma once

#include <csignal>
#include <filesystem>
#include <vector>

namespace runnel::convert {

// Throws Error when `output` is, by whatever name or link, one of these files or a file that is read below these
// folders.
void refuse_own_source(const std::filesystem::path& output, const std::vector<std::filesystem::path>& sources);

// From now on SIGINT, SIGTERM and SIGHUP remove temporary files before they end the program.
void remove_output_when_interrupted();

// Keeps these signals back in this thread, and in those that it starts meanwhile for good: a file is known to the
// handler a moment after it is made.
class SignalPause {
 public:
  SignalPause();
  ~SignalPause();
  SignalPause(const SignalPause&) = delete;
  SignalPause& operator=(const SignalPause&) = delete;

 private:
  sigset_t before_;
};

}  // namespace runnel::convert
