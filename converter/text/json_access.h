// Members of JSON objects. One that is absent is "", the other value, null or empty; one of another kind than asked for
// is refused, for a file that says what nobody understands must not be read as if it said nothing.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace runnel::convert {

// A member of another kind: the message names key and value, whoever reads the file puts its name in front.
struct WrongJson : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void refuse_json(const std::string& name, const nlohmann::json& value, const char* wanted) {
  std::string shown = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (shown.size() > 100) shown = shown.substr(0, 100) + "...";
  throw WrongJson(name + " is " + shown + " where " + wanted + " belongs");
}

// Also of null, as if it were empty.
inline const nlohmann::json& member(const nlohmann::json& j, const char* key) {
  static const nlohmann::json none;
  if (!j.is_object() && !j.is_null()) refuse_json("what should hold \"" + std::string(key) + "\"", j, "an object");
  const auto at = j.find(key);
  return at == j.end() ? none : *at;
}

inline const nlohmann::json& object_of(const nlohmann::json& j, const char* key) {
  const nlohmann::json& v = member(j, key);
  if (!v.is_object() && !v.is_null()) refuse_json('"' + std::string(key) + '"', v, "an object");
  return v;
}

inline const nlohmann::json& list_of(const nlohmann::json& j, const char* key) {
  static const nlohmann::json none = nlohmann::json::array();
  const nlohmann::json& v = member(j, key);
  if (!v.is_array() && j.is_object() && j.contains(key)) refuse_json('"' + std::string(key) + '"', v, "a list");
  for (const nlohmann::json& element : v)
    if (element.is_null()) refuse_json("an element of \"" + std::string(key) + '"', element, "something");
  return v.is_array() ? v : none;
}

// Whether null is as good as absent.
enum class Null : bool { kRefused, kAbsent };

inline std::string text_of(const nlohmann::json& j, const char* key, Null null = Null::kRefused) {
  const nlohmann::json& v = member(j, key);
  if (v.is_string()) return v.get<std::string>();
  if (!v.is_null() || (null == Null::kRefused && j.is_object() && j.contains(key)))
    refuse_json('"' + std::string(key) + '"', v, "a text");
  return {};
}

inline bool flag_of(const nlohmann::json& j, const char* key, bool otherwise, Null null = Null::kRefused) {
  const nlohmann::json& v = member(j, key);
  if (v.is_boolean()) return v.get<bool>();
  if (!v.is_null() || (null == Null::kRefused && j.is_object() && j.contains(key)))
    refuse_json('"' + std::string(key) + '"', v, "true or false");
  return otherwise;
}

// A token's number. `name` is what the file calls it.
inline int32_t id_of(const nlohmann::json& v, const std::string& name) {
  const bool good =
      v.is_number_integer() && (v.is_number_unsigned() ? v.get<uint64_t>() <= uint64_t(INT32_MAX)
                                                       : v.get<int64_t>() >= 0 && v.get<int64_t>() <= INT32_MAX);
  if (!good) refuse_json(name, v, "a token's number");
  return v.get<int32_t>();
}

// Calls `read`, putting the file's name in front of what is wrong.
template <class Read>
auto reading(const char* file, Read read) {
  try {
    return read();
  } catch (const WrongJson& e) {
    throw std::runtime_error(std::string(file) + ": " + e.what());
  }
}

}  // namespace runnel::convert
