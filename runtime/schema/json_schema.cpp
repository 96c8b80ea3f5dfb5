#include "runnel/json_schema.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <utility>

#include "schema/compiler.h"

namespace rnl::schema {
namespace {

constexpr int kMaxDepth = 200;    // of schemas, with those that they refer to
constexpr int kMaxNesting = 500;  // of brackets in the text
constexpr int kMaxVisits = 50000;

// Brackets are counted before anything is parsed.
void check_nesting(const std::string& text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') ++i;
    else if (c == '"') in_string = !in_string;
    else if (!in_string && (c == '{' || c == '[') && ++depth > kMaxNesting)
      throw Refused("#: brackets are nested more than " + std::to_string(kMaxNesting) + " deep");
    else if (!in_string && (c == '}' || c == ']')) --depth;
  }
}

}  // namespace

std::string Compiler::grammar() {
  const Expression e = visit(root_, "#");
  if (!e) throw Refused("#: no value matches this schema");
  return "root ::= " + *e + "\n" + rules_ + kJsonRules + kPlainCharacter +
         " ::= [^\"\\\\\\x00-\\x1F] | \"\\\\\" [\"\\\\/bfnrt]\n";
}

uint64_t Compiler::count(const Json& s, const char* key, const std::string& where, uint64_t missing) {
  if (!s.contains(key)) return missing;
  const Json& v = s[key];
  // Google's interfaces write them as strings.
  if (v.is_string() && !v.get<std::string>().empty() && v.get<std::string>().size() < 10 &&
      v.get<std::string>().find_first_not_of("0123456789") == std::string::npos)
    return std::stoull(v.get<std::string>());
  if (!v.is_number() || v.get<double>() < 0 || v.get<double>() != std::floor(v.get<double>()))
    refuse(child(where, key), "it is no count");
  return v.get<double>() > 1e9 ? 1000000000 : v.get<uint64_t>();
}
std::string Compiler::text(const Json& s, const char* key, const std::string& where) {
  if (!s[key].is_string()) refuse(child(where, key), "it is not a string");
  return s[key].get<std::string>();
}
void Compiler::add_rule(const std::string& name, const std::string& body, const std::string& where) {
  rules_ += "# " + shown(where) + "\n" + name + " ::= " + body + "\n";
}
std::string Compiler::rule(const std::string& body, const std::string& where) {
  const std::string made = name();
  add_rule(made, body, where);
  return made;
}
void Compiler::note(const std::string& where, const std::string& what) {
  const std::string all = shown(where) + ": " + what;
  if (std::find(notes_.begin(), notes_.end(), all) == notes_.end()) notes_.push_back(all);
}

Expression Compiler::visit(const Json& given, const std::string& where) {
  place_ = where;
  if (++depth_ > kMaxDepth)
    refuse(where, "schemas are nested, or refer to each other, more than " + std::to_string(kMaxDepth) + " deep");
  if (++visits_ > kMaxVisits)
    refuse(where, "the schema's alternatives multiply to more than " + std::to_string(kMaxVisits) + " schemas");
  Expression e =
      given.is_boolean() ? (given.get<bool>() ? Expression("value") : std::nullopt) : visit_object(given, where);
  --depth_;
  return e;
}

Expression Compiler::visit_object(const Json& given, const std::string& where) {
  if (!given.is_object()) refuse(where, "a schema is an object, true or false");
  Json s = without_annotations(given, where);
  for (const auto& [key, other] :
       {std::pair("unevaluatedProperties", kOtherProperties), {"unevaluatedItems", kOtherItems}})
    if (s.contains(key)) {
      s[other] = s[key];
      s.erase(key);
    }
  if (s.empty()) return "value";
  if (s.contains("$ref")) {
    const std::string to = text(s, "$ref", where);
    s.erase("$ref");
    if (s.empty()) return reference(to, where);
    return visit(merged(without_annotations(find(to, where), to), s, where), where);
  }
  for (const char* const key : {"anyOf", "oneOf"})
    if (s.contains(key)) return alternatives(s, key, where);
  if (s.contains("allOf")) return visit(resolved(std::move(s), where), where);
  if (s.contains("const") || s.contains("enum")) return values(s, where);
  if (s.contains("not")) return without_not(std::move(s), where);
  return typed(s, where);
}

// `not` of nothing that the rest allows, or of whole types.
Expression Compiler::without_not(Json s, const std::string& where) {
  const std::string at = child(where, "not");
  const Json no = resolved(without_annotations(s["not"], at), at);
  s.erase("not");
  if (no == true || (no.is_object() && no.empty())) return std::nullopt;
  if (no == false || (!s.empty() && are_apart(s, no))) return visit(s, where);
  if (!no.is_object() || no.size() != 1 || !no.contains("type")) refuse(at, "a grammar cannot express this keyword");
  std::vector<std::string> types = types_of(s, where);
  for (const std::string& t : types_of(no, at)) {
    if (t == "integer" && std::find(types.begin(), types.end(), "number") != types.end())
      refuse(at, "a grammar cannot express this keyword");
    std::erase_if(types, [&](const std::string& mine) { return mine == t || (t == "number" && mine == "integer"); });
  }
  s["type"] = types;
  return typed(s, where);
}

// The rule of another place in the schema. It may be under way: that is how recursion comes about.
Expression Compiler::reference(const std::string& to, const std::string& where) {
  if (const auto it = references_.find(to); it != references_.end()) return it->second;
  const std::string made = name();
  references_[to] = made;
  // A rule that no text matches drops out of the grammar by itself.
  add_rule(made, visit(find(to, where), to).value_or(kNoText), to);
  return made;
}
const Json& Compiler::find(const std::string& to, const std::string& where) const {
  const std::string at = child(where, "$ref"), quoted = "\"" + shown(to) + "\"";
  if (to.empty() || to[0] != '#' || (to.size() > 1 && to[1] != '/'))
    refuse(at, quoted + ": only places in this schema, such as \"#/$defs/name\", can be referred to");
  std::string path;
  for (size_t i = 1; i < to.size(); ++i) {
    const std::string hex = to.substr(i + 1, 2);
    if (to[i] != '%' || hex.size() != 2 || hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
      path += to[i];
    else path += char(std::stoi(hex, nullptr, 16)), i += 2;
  }
  try {
    return root_.at(Json::json_pointer(path));
  } catch (const Json::exception&) {
    refuse(at, quoted + " leads nowhere");
  }
}
Json Compiler::resolved(Json s, const std::string& where) const {
  for (int n = 0; s.is_object() && (s.contains("$ref") || s.contains("allOf")) && n < kMaxDepth; ++n) {
    const char* const key = s.contains("$ref") ? "$ref" : "allOf";
    const Json given = s[key];
    s.erase(key);
    if (*key == '$') {
      if (!given.is_string()) refuse(child(where, key), "it is not a string");
      s = merged(without_annotations(find(given.get<std::string>(), where), given.get<std::string>()), s, where);
    } else {
      if (!given.is_array()) refuse(child(where, key), "it is not an array");
      for (size_t i = 0; i < given.size(); ++i) {
        const std::string at = child(child(where, key), std::to_string(i));
        s = merged(s, without_annotations(given[i], at), at);
      }
    }
  }
  return s;
}

Expression Compiler::alternatives(Json s, const std::string& key, const std::string& where) {
  const Json all = s[key];
  const std::string here = child(where, key);
  if (!all.is_array() || all.empty()) refuse(here, "it is not an array of schemas");
  s.erase(key);
  std::vector<Json> each;
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string at = child(here, std::to_string(i));
    Json alternative = without_annotations(all[i], at);
    // References are looked through, so that what the alternatives are can be compared.
    if (key == "oneOf") alternative = resolved(std::move(alternative), at);
    each.push_back(s.empty() ? alternative : merged(s, alternative, at));
  }
  if (key == "oneOf")
    for (size_t i = 0; i < each.size(); ++i)
      for (size_t k = 0; k < i; ++k)
        if (!are_apart(each[k], each[i]))
          refuse(here, "alternatives " + std::to_string(k) + " and " + std::to_string(i) +
                           " may both match, which a grammar cannot exclude; anyOf allows it");
  std::string choice;
  for (size_t i = 0; i < each.size(); ++i)
    if (const Expression e = visit(each[i], child(here, std::to_string(i))))
      choice += (choice.empty() ? "" : " | ") + *e;
  if (choice.empty()) return std::nullopt;
  return rule(choice, here);
}

Expression Compiler::values(const Json& s, const std::string& where) {
  std::string choice;
  Json rest = s;
  rest.erase("enum"), rest.erase("const");
  for (const Json& v : values_of(s, where))
    if (holds(rest, v, where)) choice += (choice.empty() ? "" : " | ") + literal(json_text(v));
  if (choice.empty()) return std::nullopt;
  return rule(choice, child(where, s.contains("enum") ? "enum" : "const"));
}

Expression Compiler::typed(const Json& s, const std::string& where) {
  std::string choice;
  for (const std::string& type : types_for(s, where)) {
    Expression e;
    if (type == "object") e = object(s, where);
    else if (type == "array") e = array(s, where);
    else if (type == "string") e = string(s, where);
    else if (type == "integer" || type == "number") e = number(s, type == "integer", where);
    else e = type;
    if (e) choice += (choice.empty() ? "" : " | ") + *e;
  }
  if (choice.empty()) return std::nullopt;
  return choice.find('|') == std::string::npos ? choice : rule(choice, where);
}

Expression Compiler::string(const Json& s, const std::string& where) {
  StringAsk ask;
  if (s.contains("pattern"))
    for (const Json& p : s["pattern"].is_array() ? s["pattern"] : Json::array({s["pattern"]})) {
      if (!p.is_string()) refuse(child(where, "pattern"), "it is not a string");
      ask.patterns.push_back(p.get<std::string>());
    }
  if (s.contains("format")) ask.format = text(s, "format", where);
  ask.lengths = {count(s, "minLength", where, 0), count(s, "maxLength", where, Regex::kUnbounded)};
  const bool lengths = s.contains("minLength") || s.contains("maxLength");
  if (ask.patterns.empty() && ask.format.empty() && !lengths) return "string";
  if (ask.lengths.least > ask.lengths.most) return std::nullopt;
  const std::string at = child(where, s.contains("pattern")     ? "pattern"
                                      : s.contains("format")    ? "format"
                                      : s.contains("maxLength") ? "maxLength"
                                                                : "minLength");
  if (ask.lengths.least > kMaxLength)
    refuse(child(where, "minLength"), "it is more than " + std::to_string(kMaxLength));
  const std::string made = name();
  std::string rules, not_enforced;
  try {
    const Expression e = string_text(ask, made, &rules, &not_enforced);
    if (!not_enforced.empty()) note(child(where, "format"), "the grammar does not enforce " + not_enforced);
    if (!e) return std::nullopt;
    add_rule(made, *e, at);
    if (!rules.empty()) rules_ += "# " + shown(at) + "\n" + rules;
  } catch (const Refused& r) {
    refuse(at, r.what() + std::string(!ask.patterns.empty() && lengths ? " (minLength, maxLength)" : ""));
  }
  return made;
}

Expression Compiler::number(const Json& s, bool integer, const std::string& where) {
  constexpr double kExact = 9007199254740992.0;  // 2^53
  std::optional<Bound> low, high;
  for (const char* const key : {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}) {
    if (!s.contains(key)) continue;
    if (!s[key].is_number()) refuse(child(where, key), "it is not a number");
    Bound b{s[key].get<double>(), key[0] == 'e'};
    const bool is_low = std::string(key).find("inimum") != std::string::npos;
    // Bounds of int64 and the like become those up to which all whole numbers are exact: fewer texts, none wrong.
    if (is_low ? b.value < -kExact : b.value > kExact) b = {is_low ? -kExact : kExact, false};
    if (std::fabs(b.value) > kExact) refuse(child(where, key), "it is beyond 2^53");
    std::optional<Bound>& to = is_low ? low : high;
    if (!to || (is_low ? b.value > to->value : b.value < to->value) || (b.value == to->value && b.excluded)) to = b;
  }
  if (s.contains("multipleOf") && !(integer && s["multipleOf"] == 1))
    refuse(child(where, "multipleOf"), "a grammar cannot express this keyword");
  if (!low && !high) return integer ? "integer" : "number";
  const std::string at = child(where, s.contains("minimum")   ? "minimum"
                                      : s.contains("maximum") ? "maximum"
                                      : low                   ? "exclusiveMinimum"
                                                              : "exclusiveMaximum");
  try {
    const Expression e = integer ? integer_between(low, high) : number_between(low, high);
    if (!e) return std::nullopt;
    return rule(*e, at);
  } catch (const Refused& r) {
    refuse(at, r.what());
  }
}

}  // namespace rnl::schema

namespace rnl {

bool json_schema_to_grammar(const std::string& schema, std::string* grammar, std::string* error,
                            std::vector<std::string>* notes) {
  try {
    schema::check_nesting(schema);
    const auto root = schema::Json::parse(schema);
    schema::Compiler compiler(root);
    try {
      *grammar = compiler.grammar();
    } catch (const schema::Json::exception&) {
      throw schema::Refused(compiler.place() + ": a value of the wrong type stands there");
    }
    if (notes) notes->insert(notes->end(), compiler.notes().begin(), compiler.notes().end());
    return true;
  } catch (const schema::Json::parse_error& e) {
    const size_t at = std::min<size_t>(e.byte ? e.byte - 1 : 0, schema.size()),
                 line = size_t(std::count(schema.begin(), schema.begin() + std::ptrdiff_t(at), '\n'));
    *error = "it is not JSON: line " + std::to_string(line + 1) + ", byte " + std::to_string(at + 1) + " of the text";
  } catch (const std::exception& e) {
    *error = e.what();
  }
  return false;
}

}  // namespace rnl
