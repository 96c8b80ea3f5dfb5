#include "converter/write/output.h"

#include <algorithm>

#include "base/file.h"
#include "converter/base/error.h"

namespace runnel::convert {
namespace fs = std::filesystem;
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};

void compare(const fs::path& output, const fs::path& source) {
  if (is_same_file(output.c_str(), source.c_str()))
    fail("%s: the result would take the place of its own source %s", output.c_str(), source.c_str());
}

// Endings of what is read of a folder.
bool may_be_read(const fs::path& file) {
  for (const char* ending : {".json", ".jinja", ".md", ".model", ".safetensors", ".tiktoken", ".txt"})
    if (file.extension() == ending) return true;
  return false;
}

template <class Iterator>
void compare_all(const fs::path& output, const fs::path& folder) {
  std::error_code error;
  for (Iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (may_be_read(it->path())) compare(output, it->path());
}

void on_signal(int signal) {
  remove_temporary_files();
  ::raise(signal);  // as soon as this returns; the action is the default one again
}

}  // namespace

void refuse_own_source(const fs::path& output, const std::vector<fs::path>& sources) {
  std::error_code error;
  if (!fs::exists(output, error)) return;
  for (const fs::path& source : sources) {
    if (source.empty()) continue;
    if (fs::is_directory(source, error)) {
      compare_all<fs::recursive_directory_iterator>(output, source);
    } else {
      compare(output, source);
      // A tokenizer may lie beside it.
      compare_all<fs::directory_iterator>(output, source.has_parent_path() ? source.parent_path() : fs::path("."));
    }
  }
}

void remove_output_when_interrupted() {
  for (const int signal : kSignals) {
    struct sigaction action = {};
    if (::sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;  // nohup
    action = {};
    action.sa_handler = on_signal;
    action.sa_flags = int(SA_RESETHAND);
    for (const int other : kSignals) sigaddset(&action.sa_mask, other);
    ::sigaction(signal, &action, nullptr);
  }
}

SignalPause::SignalPause() {
  sigset_t held;
  sigemptyset(&held);
  for (const int signal : kSignals) sigaddset(&held, signal);
  ::pthread_sigmask(SIG_BLOCK, &held, &before_);
}

SignalPause::~SignalPause() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace runnel::convert
