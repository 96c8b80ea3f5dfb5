// Why a conversion cannot be done, and texts of a source in messages.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace runnel::convert {

// Why a conversion cannot be done; the text names file and field. Ends the program with exit code 1.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// Error with a printf-style text.
[[noreturn, gnu::format(printf, 1, 2)]] void fail(const char* format, ...);
// Text of the source for a message: shortened, control characters replaced.
std::string printable(std::string_view text, size_t limit = 120);
// The same for a message that quotes texts of the source: each of them is shortened.
std::string printable_quotes(std::string_view message, size_t limit = 200);

}  // namespace runnel::convert
