// The parts of JSON's own notation that every grammar made from a schema is put together from.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace rnl::schema {

// Objects keep the order of the text.
using Json = nlohmann::ordered_json;

// Rules of any JSON value: value, object, array, string, char, number, integer, boolean, null, ws.
extern const char* const kJsonRules;

// A literal of GBNF for exactly these bytes of UTF-8.
std::string literal(const std::string& text);
// A JSON value as it is written without space.
inline std::string json_text(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace rnl::schema
