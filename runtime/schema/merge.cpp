#include "schema/merge.h"

#include <algorithm>
#include <map>

#include "schema/schema_parts.h"

namespace rnl::schema {
namespace {

// Keywords that a grammar is made for, by the type that they speak of; "" for all. What is in neither of these lists is
// an annotation.
const std::map<std::string, std::string> kKeywords = {
    {"type", ""},
    {"enum", ""},
    {"const", ""},
    {"$ref", ""},
    {"anyOf", ""},
    {"oneOf", ""},
    {"allOf", ""},
    {"not", ""},
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"minProperties", "object"},
    {"maxProperties", "object"},
    {"propertyNames", "object"},
    {"unevaluatedProperties", "object"},
    {kOtherProperties, "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"additionalItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"uniqueItems", "array"},
    {"unevaluatedItems", "array"},
    {kOtherItems, "array"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
    {"multipleOf", "number"},
};
// Keywords that allow less than a grammar can say.
const std::map<std::string, std::string> kTooMuch = {{"if", ""},
                                                     {"$dynamicRef", ""},
                                                     {"$recursiveRef", ""},
                                                     {"contains", "array"},
                                                     {"patternProperties", "object"},
                                                     {"dependentRequired", "object"},
                                                     {"dependentSchemas", "object"},
                                                     {"dependencies", "object"}};
const std::vector<std::string> kTypes = {"object", "array", "string", "number", "boolean", "null"};

bool is_anything(const Json& schema) { return schema == true || (schema.is_object() && schema.empty()); }

// Whether such a keyword leaves out nothing.
bool is_idle(const std::string& key, const Json& schema) {
  const Json& value = schema[key];
  if (key == "if")
    return is_anything(schema.value("then", Json(true))) && is_anything(schema.value("else", Json(true)));
  if (key == "contains")
    return schema.contains("minContains") && schema["minContains"] == 0 && !schema.contains("maxContains");
  if (!value.is_object()) return false;
  const Json required = schema.value("required", Json::array());
  return std::all_of(value.begin(), value.end(), [&](const Json& one) {
    return is_anything(one) || (one.is_array() && std::all_of(one.begin(), one.end(), [&](const Json& r) {
                                  return std::find(required.begin(), required.end(), r) != required.end();
                                }));
  });
}

// Keys of one pattern alone are the names that an object may have.
bool turn_pattern_properties(const Json& schema, Json* out) {
  const Json& patterns = schema["patternProperties"];
  if (!patterns.is_object() || patterns.size() != 1 || schema.contains("properties") || schema.contains("required") ||
      schema.contains("propertyNames"))
    return false;
  if (schema.value("additionalProperties", Json(false)) != false) return false;
  (*out)["propertyNames"] = {{"pattern", patterns.begin().key()}};
  (*out)["additionalProperties"] = patterns.begin().value();
  return true;
}

// As JSON Schema writes it: Google's names of types, bounds of draft 4, nullable of OpenAPI 3.0.
void modernize(Json* s, const Json& given) {
  if (s->contains("type"))
    for (Json* t : [&] {
           std::vector<Json*> all;
           Json& type = (*s)["type"];
           if (type.is_array())
             for (Json& one : type) all.push_back(&one);
           else all.push_back(&type);
           return all;
         }())
      if (t->is_string()) {
        auto name = t->get<std::string>();
        if (std::all_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; }))
          for (char& c : name) c = char(c + 32);
        *t = name;
      }
  for (const auto& [bound, exclusive] : {std::pair("minimum", "exclusiveMinimum"), {"maximum", "exclusiveMaximum"}})
    if (s->contains(exclusive) && (*s)[exclusive].is_boolean()) {
      const bool is_exclusive = (*s)[exclusive] == true && s->contains(bound);
      s->erase(exclusive);
      if (!is_exclusive) continue;
      (*s)[exclusive] = (*s)[bound];
      s->erase(bound);
    }
  if (given.value("nullable", Json(false)) != true || s->empty()) return;
  const bool simple = !s->contains("$ref") && !s->contains("allOf") && !s->contains("anyOf") && !s->contains("oneOf") &&
                      !s->contains("not");
  if (!simple || !s->contains("type")) {
    *s = Json{{"anyOf", Json::array({*s, Json{{"type", "null"}}})}};
    return;
  }
  Json& type = (*s)["type"];
  if (!type.is_array()) type = Json::array({type});
  if (std::find(type.begin(), type.end(), "null") == type.end()) type.push_back("null");
  if (!s->contains("enum") && !s->contains("const")) return;
  Json all = s->value("enum", Json::array());
  if (s->contains("const")) all = Json::array({(*s)["const"]});
  s->erase("const");
  if (all.is_array() && std::find(all.begin(), all.end(), nullptr) == all.end()) all.push_back(nullptr);
  (*s)["enum"] = all;
}

Json conjunction(const Json& a, const Json& b) {
  if (a == b) return a;
  return Json{{"allOf", Json::array({a, b})}};
}

void merge_types(Json* out, const Json& b, const std::string& where) {
  Json both = Json::array();
  const std::vector<std::string> x = types_of(*out, where), y = types_of(b, where);
  const auto in = [](const std::vector<std::string>& all, const char* t) {
    return std::find(all.begin(), all.end(), t) != all.end();
  };
  for (const std::string& t : x)
    if (in(y, t.c_str())) both.push_back(t);
  // Whole numbers are numbers.
  for (const auto& [one, other] : {std::pair(&x, &y), std::pair(&y, &x)})
    if (in(*one, "integer") && in(*other, "number") && !in(*one, "number") && !in(*other, "integer"))
      both.push_back("integer");
  (*out)["type"] = both.size() == 1 ? both[0] : both;
}

// Each side's additionalProperties holds for the names that only the other side knows.
void merge_properties(Json* out, const Json& a, const Json& b) {
  Json all = Json::object();
  const Json none = Json::object(), pa = a.value("properties", none), pb = b.value("properties", none);
  for (const auto& [name, schema] : pa.items()) {
    if (pb.contains(name)) all[name] = conjunction(schema, pb[name]);
    else all[name] = b.contains("additionalProperties") ? conjunction(schema, b["additionalProperties"]) : schema;
  }
  for (const auto& [name, schema] : pb.items())
    if (!pa.contains(name))
      all[name] = a.contains("additionalProperties") ? conjunction(schema, a["additionalProperties"]) : schema;
  (*out)["properties"] = all;
}

}  // namespace

std::string child(const std::string& where, const std::string& name) {
  std::string out = where + "/";
  for (const char c : name) {
    if (c == '~' || c == '/') out += c == '~' ? "~0" : "~1";
    else out += c;
  }
  return out;
}

Json without_annotations(const Json& schema, const std::string& where) {
  if (!schema.is_object()) return schema;
  Json out = Json::object();
  for (const auto& [key, value] : schema.items())
    if (kKeywords.count(key)) out[key] = value;
  // A discriminator tells alternatives apart where it is written: which OpenAPI demands, though not every `required`
  // says so.
  if (const Json tag = schema.value("discriminator", Json());
      tag.is_object() && tag.contains("propertyName") && tag["propertyName"].is_string() && out.contains("oneOf"))
    for (Json& one : out["oneOf"])
      one = Json{{"allOf", Json::array({one, Json{{"required", Json::array({tag["propertyName"]})}}})}};
  modernize(&out, schema);
  const bool typed = out.contains("type");
  const std::vector<std::string> types = typed ? types_of(out, where) : kTypes;
  for (const auto& [key, type] : kTooMuch) {
    if (!schema.contains(key) || (!type.empty() && std::find(types.begin(), types.end(), type) == types.end()) ||
        is_idle(key, schema))
      continue;
    if (key == "patternProperties" && turn_pattern_properties(schema, &out)) continue;
    refuse(child(where, key), "a grammar cannot express this keyword");
  }
  for (const char* const key : {"unevaluatedProperties", "unevaluatedItems"})
    if (out.contains(key) && is_anything(out[key])) out.erase(key);
  if (out.contains("uniqueItems") && out["uniqueItems"] == false) out.erase("uniqueItems");
  if (out.contains("format") && !(out["format"].is_string() && is_format(out["format"].get<std::string>())))
    out.erase("format");
  return out;
}

Json merged(const Json& a, const Json& b, const std::string& where) {
  if (a.is_boolean()) return a.get<bool>() ? b : a;
  if (b.is_boolean()) return b.get<bool>() ? a : b;
  if (!a.is_object() || !b.is_object()) refuse(where, "a schema is an object, true or false");
  Json out = a;
  // What these leave to other keywords depends on where they stand.
  for (const char* const key : {"unevaluatedProperties", "unevaluatedItems"})
    if (b.contains(key))
      refuse(child(where, key), "a grammar cannot express this keyword within allOf, anyOf and the like");
  if (a.contains("properties") || b.contains("properties")) merge_properties(&out, a, b);
  for (const auto& [key, value] : b.items()) {
    if (key == "properties") continue;
    if (key == "type") {
      if (a.contains("type")) merge_types(&out, b, where);
      else out[key] = value;
    } else if (!out.contains(key)) {
      out[key] = value;
    } else if (out[key] == value) {
      continue;
    } else if (key == "required") {
      for (const Json& r : value)
        if (std::find(out[key].begin(), out[key].end(), r) == out[key].end()) out[key].push_back(r);
    } else if (key == "additionalProperties" || (key == "items" && !value.is_array() && !out[key].is_array())) {
      out[key] = conjunction(out[key], value);
    } else if ((key.rfind("min", 0) == 0 || key == "exclusiveMinimum" || key.rfind("max", 0) == 0 ||
                key == "exclusiveMaximum") &&
               value.is_number() && out[key].is_number()) {
      const bool low = key.rfind("min", 0) == 0 || key == "exclusiveMinimum";
      if (low ? value.get<double>() > out[key].get<double>() : value.get<double>() < out[key].get<double>())
        out[key] = value;
    } else if (key == "enum" || key == "const") {
      Json both = Json::array();
      for (const Json& v : values_of(Json{{key, value}}, where)) {
        const std::vector<Json> mine = values_of(Json{{key, out[key]}}, where);
        if (std::find(mine.begin(), mine.end(), v) != mine.end()) both.push_back(v);
      }
      out.erase(key);
      out["enum"] = both;
    } else if (key == "pattern") {
      if (!out[key].is_array()) out[key] = Json::array({out[key]});
      for (const Json& one : value.is_array() ? value : Json::array({value})) out[key].push_back(one);
    } else if (key == "not") {
      out[key] = Json{{"anyOf", Json::array({out[key], value})}};
    } else if (key == "propertyNames") {
      out[key] = conjunction(out[key], value);
    } else if (key == "anyOf" || key == "oneOf" || key == "$ref" || key == "allOf") {
      if (key == "allOf")
        for (const Json& v : value) out["allOf"].push_back(v);
      else out["allOf"].push_back(Json{{key, value}});
    } else {
      refuse(child(where, key), "it is given twice, differently");
    }
  }
  return out;
}

std::vector<std::string> types_of(const Json& schema, const std::string& where) {
  if (!schema.is_object() || !schema.contains("type")) return kTypes;
  const Json& t = schema["type"];
  std::vector<std::string> out;
  for (const Json& one : t.is_array() ? t : Json::array({t})) {
    if (!one.is_string() ||
        (one != "integer" && std::find(kTypes.begin(), kTypes.end(), one.get<std::string>()) == kTypes.end()))
      refuse(child(where, "type"), "unknown type " + shown(json_text(one)));
    out.push_back(one.get<std::string>());
  }
  return out;
}

std::vector<std::string> types_for(const Json& schema, const std::string& where) {
  const std::vector<std::string> given = types_of(schema, where);
  if (schema.contains("type")) return given;
  std::vector<std::string> out;
  for (const std::string& type : given)
    for (const auto& [key, unused] : schema.items())
      if (kKeywords.at(key) == type && (out.empty() || out.back() != type)) out.push_back(type);
  return out.empty() ? given : out;
}

bool has_type(const Json& v, const std::vector<std::string>& types) {
  for (const std::string& t : types) {
    const bool is = t == "object"    ? v.is_object()
                    : t == "array"   ? v.is_array()
                    : t == "string"  ? v.is_string()
                    : t == "number"  ? v.is_number()
                    : t == "integer" ? v.is_number_integer() ||
                                           (v.is_number_float() && v.get<double>() == double(int64_t(v.get<double>())))
                    : t == "boolean" ? v.is_boolean()
                                     : v.is_null();
    if (is) return true;
  }
  return false;
}

std::vector<Json> values_of(const Json& schema, const std::string& where) {
  std::vector<Json> out;
  if (schema.contains("enum")) {
    if (!schema["enum"].is_array()) refuse(child(where, "enum"), "it is not an array");
    for (const Json& v : schema["enum"]) out.push_back(v);
  }
  if (!schema.contains("const")) return out;
  if (schema.contains("enum") && std::find(out.begin(), out.end(), schema["const"]) == out.end()) return {};
  return {schema["const"]};
}

bool are_apart(const Json& a, const Json& b) {
  if (a == false || b == false) return true;
  if (!a.is_object() || !b.is_object()) return false;
  for (const bool swapped : {false, true}) {
    const Json &one = swapped ? b : a, &other = swapped ? a : b;
    if (one.contains("allOf") &&
        std::any_of(one["allOf"].begin(), one["allOf"].end(), [&](const Json& part) { return are_apart(part, other); }))
      return true;
  }
  const auto fixed = [](const Json& s) { return s.contains("enum") || s.contains("const"); };
  if (fixed(a) && fixed(b)) {
    const std::vector<Json> x = values_of(a, "#"), y = values_of(b, "#");
    return std::none_of(x.begin(), x.end(), [&](const Json& v) { return std::find(y.begin(), y.end(), v) != y.end(); });
  }
  for (const bool swapped : {false, true}) {
    const Json &one = swapped ? b : a, &other = swapped ? a : b;
    if (!fixed(one)) continue;
    const std::vector<Json> x = values_of(one, "#");
    if (std::none_of(x.begin(), x.end(), [&](const Json& v) { return has_type(v, types_of(other, "#")); })) return true;
  }
  bool common = false;
  for (const std::string& t : types_of(a, "#"))
    for (const std::string& u : types_of(b, "#"))
      common = common || t == u || (t == "integer" && u == "number") || (t == "number" && u == "integer");
  if (!common) return true;
  // Objects that both must have a property whose values tell them apart.
  const auto is_object = [](const Json& s) {
    return s.contains("type") && s["type"] == "object" && s.contains("properties") && s.contains("required");
  };
  if (!is_object(a) || !is_object(b)) return false;
  for (const Json& r : a["required"]) {
    if (!r.is_string() || std::find(b["required"].begin(), b["required"].end(), r) == b["required"].end()) continue;
    const auto name = r.get<std::string>();
    if (a["properties"].contains(name) && b["properties"].contains(name) &&
        are_apart(a["properties"][name], b["properties"][name]))
      return true;
  }
  return false;
}

}  // namespace rnl::schema
