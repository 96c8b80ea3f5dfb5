#include "base/log.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace runnel {
namespace {

std::atomic<LogFn> g_log{nullptr};
std::atomic<void*> g_user{nullptr};

}  // namespace

void set_log(LogFn fn, void* user) {
  g_user.store(user);
  g_log.store(fn);
}

void log(LogLevel level, const char* fmt, ...) {
  const LogFn fn = g_log.load();
  if (!fn) return;
  char message[512];
  va_list args;
  va_start(args, fmt);
  std::vsnprintf(message, sizeof message, fmt, args);
  va_end(args);
  fn(g_user.load(), int(level), message);
}

}  // namespace runnel
