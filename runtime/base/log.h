// Notices to the embedding program; silent until it asks for them.
#pragma once

namespace runnel {

using LogFn = void (*)(void* user, int level, const char* message);
void set_log(LogFn fn, void* user);
enum class LogLevel : int { kInfo = 0, kWarning = 1 };
[[gnu::format(printf, 2, 3)]] void log(LogLevel level, const char* fmt, ...);

}  // namespace runnel
