#include "converter/base/error.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace runnel::convert {

void fail(const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  std::vsnprintf(text, sizeof text, format, args);
  va_end(args);
  throw Error(text);
}

std::string printable(std::string_view text, size_t limit) {
  std::string out(text.substr(0, limit));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  if (text.size() > limit) out += "...";
  return out;
}

std::string printable_quotes(std::string_view message, size_t limit) {
  std::string out;
  bool is_quoted = false;
  while (!message.empty()) {
    const size_t quote = message.find('"'), end = std::min(quote, message.size());
    // A text may hold quotes itself; what follows a long one is then cut too.
    out += printable(message.substr(0, end), is_quoted ? limit : 4 * limit);
    if (quote == message.npos) break;
    out += '"';
    is_quoted = !is_quoted;
    message.remove_prefix(quote + 1);
  }
  return printable(out, 5 * limit);
}

}  // namespace runnel::convert
