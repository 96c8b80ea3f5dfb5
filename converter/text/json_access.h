// Members of JSON objects that may be absent or of another kind: then "", the other value, or null.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace runnel::convert {

inline const nlohmann::json& member(const nlohmann::json& j, const char* key) {
  static const nlohmann::json none;
  const auto at = j.find(key);
  return at == j.end() ? none : *at;
}

inline std::string text_of(const nlohmann::json& j, const char* key) {
  const nlohmann::json& v = member(j, key);
  return v.is_string() ? v.get<std::string>() : std::string();
}

inline bool flag_of(const nlohmann::json& j, const char* key, bool otherwise) {
  const nlohmann::json& v = member(j, key);
  return v.is_boolean() ? v.get<bool>() : otherwise;
}

}  // namespace runnel::convert
