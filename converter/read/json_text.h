// JSON from outside.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace runnel::convert {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 64;

// Throws Error for what is not JSON, for a key that occurs twice in one object, and beyond kMaxJsonDepth. `where` is
// the name for messages.
Json parse_json(std::string_view text, const std::string& where);

}  // namespace runnel::convert
