// JSON from outside.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "cli/common.h"

namespace runnel::cli {

inline constexpr int kMaxJsonDepth = 64;

// A discarded value for what is not JSON. Throws Failure where lists and objects lie deeper in each other. `where` is
// the name for messages.
inline nlohmann::json parse_json(std::string_view text, const std::string& where) {
  const auto watch = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxJsonDepth)
      throw Failure(where + ": more than " + std::to_string(kMaxJsonDepth) + " lists and objects in each other");
    return true;
  };
  return nlohmann::json::parse(text.begin(), text.end(), watch, false);
}

}  // namespace runnel::cli
