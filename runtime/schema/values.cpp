// Schemas held against single values.
#include <algorithm>
#include <cmath>

#include "schema/compiler.h"

namespace rnl::schema {
namespace {

constexpr int kMaxDepth = 50;
constexpr size_t kMostValues = 256;
constexpr double kMostTried = 4096;  // whole numbers

uint64_t characters(const std::string& s) {
  return uint64_t(
      std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

bool Compiler::holds(const Json& schema, const Json& value, const std::string& where, int depth) const {
  if (depth > kMaxDepth) refuse(where, "schemas that a value is held against are nested too deep");
  if (schema.is_boolean()) return schema.get<bool>();
  if (!schema.is_object()) refuse(where, "a schema is an object, true or false");
  const Json s = without_annotations(schema, where);
  const auto one = [&](const Json& other, const std::string& at) { return holds(other, value, at, depth + 1); };
  if (s.contains("$ref") && !one(find(text(s, "$ref", where), where), where)) return false;
  if (!has_type(value, types_of(s, where))) return false;
  if (s.contains("enum") || s.contains("const")) {
    const std::vector<Json> all = values_of(s, where);
    if (std::find(all.begin(), all.end(), value) == all.end()) return false;
  }
  for (const char* const key : {"allOf", "anyOf", "oneOf"}) {
    if (!s.contains(key)) continue;
    const std::string at = child(where, key);
    const auto n = std::count_if(s[key].begin(), s[key].end(), [&](const Json& each) { return one(each, at); });
    if (key[1] == 'l' ? size_t(n) != s[key].size() : key[0] == 'a' ? n == 0 : n != 1) return false;
  }
  if (s.contains("not") && one(s["not"], child(where, "not"))) return false;
  return holds_inside(s, value, where, depth);
}

// The keywords that speak of one type.
bool Compiler::holds_inside(const Json& s, const Json& value, const std::string& where, int depth) const {
  const auto within = [&](uint64_t n, const char* least, const char* most) {
    return n >= count(s, least, where, 0) && n <= count(s, most, where, UINT64_MAX);
  };
  if (value.is_string()) {
    const auto all = value.get<std::string>();
    if (!within(characters(all), "minLength", "maxLength")) return false;
    if (s.contains("pattern"))
      for (const Json& p : s["pattern"].is_array() ? s["pattern"] : Json::array({s["pattern"]}))
        if (!p.is_string() || !matches(parse_pattern(p.get<std::string>()), all)) return false;
  } else if (value.is_number()) {
    const double v = value.get<double>();
    const auto bound = [&](const char* key, double missing) {
      return s.contains(key) ? s[key].get<double>() : missing;
    };
    if (v < bound("minimum", v) || v > bound("maximum", v) || v <= bound("exclusiveMinimum", v - 1) ||
        v >= bound("exclusiveMaximum", v + 1))
      return false;
    if (s.contains("multipleOf") && std::fmod(v, bound("multipleOf", 1)) != 0) return false;
  } else if (value.is_array()) {
    if (!within(value.size(), "minItems", "maxItems")) return false;
    if (s.contains("items") || s.contains("prefixItems") || s.contains("uniqueItems") ||
        s.contains("unevaluatedItems")) {
      if (s.contains("prefixItems") || s.contains("unevaluatedItems") || s.value("items", Json(true)).is_array())
        refuse(child(where, s.contains("prefixItems") ? "prefixItems" : "items"),
               "a grammar cannot express it beside an array in enum or const");
      for (size_t i = 0; i < value.size(); ++i) {
        if (s.contains("items") && !holds(s["items"], value[i], child(where, "items"), depth + 1)) return false;
        if (s.contains("uniqueItems") &&
            std::find(value.begin(), value.begin() + std::ptrdiff_t(i), value[i]) != value.begin() + std::ptrdiff_t(i))
          return false;
      }
    }
  } else if (value.is_object()) {
    if (!within(value.size(), "minProperties", "maxProperties")) return false;
    if (s.contains("unevaluatedProperties"))
      refuse(child(where, "unevaluatedProperties"), "a grammar cannot express it beside an object in enum or const");
    const Json properties = s.value("properties", Json::object()), required = s.value("required", Json::array());
    for (const Json& r : required)
      if (!r.is_string() || !value.contains(r.get<std::string>())) return false;
    for (const auto& [name, each] : value.items()) {
      if (s.contains("propertyNames") && !holds(s["propertyNames"], name, child(where, "propertyNames"), depth + 1))
        return false;
      const bool named = properties.contains(name);
      if (!named && !s.contains("additionalProperties")) continue;
      if (!holds(named ? properties[name] : s["additionalProperties"], each,
                 child(where, named ? "properties" : "additionalProperties"), depth + 1))
        return false;
    }
  }
  return true;
}

// All values of a schema, in its order and each once; false where they are not few.
bool Compiler::all_values(const Json& schema, const std::string& where, std::vector<Json>* out, int depth) const {
  if (depth > kMaxDepth || !schema.is_object()) return false;
  const Json s = resolved(without_annotations(schema, where), where);
  const auto add = [&](const Json& v) {
    if (!holds(s, v, where)) return true;
    if (std::find(out->begin(), out->end(), v) == out->end()) out->push_back(v);
    return out->size() <= kMostValues;
  };
  if (s.contains("enum") || s.contains("const")) {
    const std::vector<Json> all = values_of(s, where);
    return std::all_of(all.begin(), all.end(), add);
  }
  if (s.contains("anyOf") && s.size() == 1 && s["anyOf"].is_array())
    return std::all_of(s["anyOf"].begin(), s["anyOf"].end(),
                       [&](const Json& one) { return all_values(one, child(where, "anyOf"), out, depth + 1); });
  if (!s.contains("type")) return false;
  for (const std::string& type : types_of(s, where)) {
    if (type == "null") {
      if (!add(nullptr)) return false;
    } else if (type == "boolean") {
      if (!add(false) || !add(true)) return false;
    } else if (type == "integer" && s.contains("minimum") && s.contains("maximum") &&
               s["minimum"].is_number_integer() && s["maximum"].is_number_integer() &&
               s["maximum"].get<double>() - s["minimum"].get<double>() < kMostTried) {
      for (int64_t v = s["minimum"].get<int64_t>(); v <= s["maximum"].get<int64_t>(); ++v)
        if (!add(v)) return false;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace rnl::schema
