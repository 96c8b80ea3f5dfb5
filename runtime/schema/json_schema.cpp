#include "runnel/json_schema.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "schema/merge.h"
#include "schema/schema_parts.h"

namespace rnl::schema {
namespace {

constexpr int kMaxDepth = 200;
constexpr uint64_t kLongString = 1000;  // a longer maxLength is cut to this: fewer texts, none wrong

using Expression = std::optional<std::string>;  // empty: no value matches

class Compiler {
 public:
  explicit Compiler(const Json& root) : root_(root) {}
  std::string grammar() {
    const Expression e = visit(root_, "#");
    if (!e) throw Refused("#: no value matches this schema");
    return "root ::= " + *e + "\n" + rules_ + kJsonRules + kPlainCharacter + " ::= [^\"\\\\\\x00-\\x1F] | \"\\\\\" [\"\\\\/bfnrt]\n";
  }

 private:
  [[noreturn]] static void refuse(const std::string& where, const std::string& what) { throw Refused(where + ": " + what); }
  std::string rule(const std::string& body) {
    const std::string name = "s" + std::to_string(next_++);
    rules_ += name + " ::= " + body + "\n";
    return name;
  }

  Expression visit(const Json& given, const std::string& where) {
    if (++depth_ > kMaxDepth) refuse(where, "schemas are nested, or refer to each other, too deep");
    Expression e = given.is_boolean() ? (given.get<bool>() ? Expression("value") : std::nullopt) : visit_object(given, where);
    --depth_;
    return e;
  }
  Expression visit_object(const Json& given, const std::string& where) {
    if (!given.is_object()) refuse(where, "a schema is an object, true or false");
    Json s = without_annotations(given, where);
    if (s.empty()) return "value";
    if (s.contains("$ref")) {
      const std::string to = text(s, "$ref", where);
      s.erase("$ref");
      if (s.empty()) return reference(to, where);
      return visit(merged(without_annotations(find(to, where), to), s, where), where);
    }
    for (const char* const key : {"anyOf", "oneOf"})
      if (s.contains(key)) return alternatives(s, key, where);
    if (s.contains("allOf")) {
      const Json all = s["allOf"];
      if (!all.is_array()) refuse(where + "/allOf", "it is not an array");
      s.erase("allOf");
      for (size_t i = 0; i < all.size(); ++i) s = merged(s, without_annotations(all[i], where + "/allOf/" + std::to_string(i)), where + "/allOf/" + std::to_string(i));
      return visit(s, where);
    }
    if (s.contains("const") || s.contains("enum")) return values(s, where);
    return typed(s, where);
  }

  // The rule of another place in the schema. It may be under way: that is how recursion comes about.
  Expression reference(const std::string& to, const std::string& where) {
    if (const auto it = references_.find(to); it != references_.end()) return it->second;
    const std::string name = "s" + std::to_string(next_++);
    references_[to] = name;
    const Expression e = visit(find(to, where), to);
    // A rule that no text matches drops out of the grammar by itself.
    rules_ += name + " ::= " + e.value_or("[^\\x00-\\U0010FFFF]") + "\n";
    return name;
  }
  const Json& find(const std::string& to, const std::string& where) const {
    if (to.empty() || to[0] != '#' || (to.size() > 1 && to[1] != '/')) refuse(where, "$ref \"" + to + "\": only places in this schema, such as \"#/$defs/name\", can be referred to");
    try {
      return root_.at(Json::json_pointer(to.substr(1)));
    } catch (const Json::exception&) {
      refuse(where, "$ref \"" + to + "\" leads nowhere");
    }
  }
  static std::string text(const Json& s, const char* key, const std::string& where) {
    if (!s[key].is_string()) refuse(where + "/" + key, "it is not a string");
    return s[key].get<std::string>();
  }

  Expression alternatives(Json s, const std::string& key, const std::string& where) {
    const Json all = s[key];
    if (!all.is_array() || all.empty()) refuse(where + "/" + key, "it is not an array of schemas");
    s.erase(key);
    std::vector<Json> each;
    for (size_t i = 0; i < all.size(); ++i) {
      const std::string at = where + "/" + key + "/" + std::to_string(i);
      Json alternative = without_annotations(all[i], at);
      // References are looked through, so that what the alternatives are can be compared.
      if (key == "oneOf")
        for (int n = 0; alternative.is_object() && alternative.contains("$ref") && n < kMaxDepth; ++n) {
          const std::string to = text(alternative, "$ref", at);
          alternative.erase("$ref");
          alternative = merged(without_annotations(find(to, at), to), alternative, at);
        }
      each.push_back(s.empty() ? alternative : merged(s, alternative, at));
    }
    if (key == "oneOf")
      for (size_t i = 0; i < each.size(); ++i)
        for (size_t k = 0; k < i; ++k)
          if (!are_apart(each[k], each[i]))
            refuse(where + "/oneOf", "alternatives " + std::to_string(k) + " and " + std::to_string(i) + " may both match, which a grammar cannot exclude; anyOf allows it");
    std::string choice;
    for (size_t i = 0; i < each.size(); ++i)
      if (const Expression e = visit(each[i], where + "/" + key + "/" + std::to_string(i))) choice += (choice.empty() ? "" : " | ") + *e;
    if (choice.empty()) return std::nullopt;
    return rule(choice);
  }

  Expression values(const Json& s, const std::string& where) {
    for (const auto& [key, unused] : s.items())
      if (key != "const" && key != "enum" && key != "type") refuse(where + "/" + key, "it cannot be expressed together with enum or const");
    std::string choice;
    for (const Json& v : values_of(s, where))
      if (has_type(v, types_of(s, where))) choice += (choice.empty() ? "" : " | ") + literal(json_text(v));
    if (choice.empty()) return std::nullopt;
    return rule(choice);
  }

  Expression typed(const Json& s, const std::string& where) {
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
    return choice.find('|') == std::string::npos ? choice : rule(choice);
  }

  Expression object(const Json& s, const std::string& where) {
    struct Property {
      std::string text;
      bool required;
    };
    const Json properties = s.value("properties", Json::object()), required = s.value("required", Json::array());
    if (!properties.is_object()) refuse(where + "/properties", "it is not an object");
    if (!required.is_array()) refuse(where + "/required", "it is not an array");
    std::set<std::string> wanted, names;
    for (const Json& r : required) {
      if (!r.is_string()) refuse(where + "/required", "it holds something that is no name");
      wanted.insert(r.get<std::string>());
    }
    const bool free = !s.contains("properties") && !s.contains("additionalProperties") && wanted.empty();
    const Json additional = s.value("additionalProperties", Json(free));
    std::vector<Property> all;
    const auto add = [&](const std::string& name, const Json& schema, const std::string& at) {
      names.insert(name);
      const Expression e = visit(schema, at);
      if (!e && wanted.count(name)) return false;
      if (e) all.push_back({rule(literal(json_text(name)) + " ws \":\" ws " + *e), wanted.count(name) > 0});
      return true;
    };
    for (const auto& [name, schema] : properties.items())
      if (!add(name, schema, where + "/properties/" + name)) return std::nullopt;
    for (const Json& r : required)
      if (const auto name = r.get<std::string>(); !names.count(name) && !add(name, s.value("additionalProperties", Json(true)), where + "/additionalProperties")) return std::nullopt;
    const uint64_t most = count(s, "maxProperties", where, UINT64_MAX), least = count(s, "minProperties", where, 0);
    Expression more = visit(additional, where + "/additionalProperties");
    if (most < wanted.size()) return std::nullopt;
    if (most == wanted.size()) {
      more.reset();
      std::erase_if(all, [](const Property& p) { return !p.required; });
    }
    if (least > wanted.size()) refuse(where + "/minProperties", "more properties than are required can only be asked for by name");
    if (most < names.size() || (most != UINT64_MAX && more)) {
      if (most != wanted.size()) refuse(where + "/maxProperties", "it can only be expressed where it is the number of required properties, or leaves room for all");
    }
    std::string rest, first;
    if (more) {
      const std::string one = rule(other_string(names) + " ws \":\" ws " + *more);
      rest = rule("(\",\" ws " + one + ")*");
      first = rule("(" + one + " " + rest + ")?");
    }
    for (size_t i = all.size(); i-- > 0;) {
      const Property& p = all[i];
      const std::string begin = p.text + (rest.empty() ? "" : " " + rest);
      first = p.required ? rule(begin) : rule(begin + " | " + (first.empty() ? "\"\"" : first));
      rest = rule((p.required ? "\",\" ws " + p.text : "(\",\" ws " + p.text + ")?") + (rest.empty() ? "" : " " + rest));
    }
    return rule("\"{\" ws " + (first.empty() ? "" : first + " ws ") + "\"}\"");
  }

  Expression array(const Json& s, const std::string& where) {
    Json prefix = s.value("prefixItems", Json::array()), items = s.value("items", Json(true));
    std::string prefix_key = "/prefixItems/", items_key = "/items";
    // The older notation.
    if (items.is_array()) {
      if (s.contains("prefixItems")) refuse(where + "/items", "it is an array beside prefixItems");
      prefix = items, items = s.value("additionalItems", Json(true));
      prefix_key = "/items/", items_key = "/additionalItems";
    } else if (s.contains("additionalItems")) {
      refuse(where + "/additionalItems", "it has a meaning only beside items that are an array");
    }
    if (!prefix.is_array()) refuse(where + "/prefixItems", "it is not an array");
    const uint64_t least = count(s, "minItems", where, 0);
    uint64_t most = count(s, "maxItems", where, UINT64_MAX);
    std::vector<std::string> first;
    for (size_t i = 0; i < prefix.size() && i < most; ++i) {
      const Expression e = visit(prefix[i], where + prefix_key + std::to_string(i));
      if (!e) most = i;
      else first.push_back(*e);
    }
    const Expression item = most > first.size() ? visit(items, where + items_key) : std::nullopt;
    if (!item) most = std::min<uint64_t>(most, first.size());
    if (least > most) return std::nullopt;
    const uint64_t n = first.size();
    std::string body;
    if (most > n) {
      const uint64_t from = least > n ? least - n : 0, to = most == UINT64_MAX ? most : most - n;
      const auto repeat = [](const std::string& what, uint64_t low, uint64_t high) {
        if (high == 0) return std::string();
        return " (\",\" ws " + what + "){" + std::to_string(low) + "," + (high == UINT64_MAX ? "" : std::to_string(high)) + "}";
      };
      if (n > 0) body = repeat(*item, from, to);
      else body = *item + repeat(*item, from ? from - 1 : 0, to == UINT64_MAX ? to : to - 1);
      if (n == 0 && from == 0) body = "(" + body + ")?";
    }
    for (size_t i = n; i-- > 0;) {
      body = (i ? " \",\" ws " : "") + first[i] + body;
      if (i >= least) body = " (" + body + ")?";
    }
    return rule("\"[\" ws " + (body.empty() ? "" : body + " ws ") + "\"]\"");
  }

  Expression string(const Json& s, const std::string& where) {
    const bool lengths = s.contains("minLength") || s.contains("maxLength");
    if (s.contains("pattern") + s.contains("format") + lengths > 1) refuse(where, "pattern, format and lengths cannot be expressed together");
    try {
      if (s.contains("pattern")) return rule(pattern_string(text(s, "pattern", where)));
      if (s.contains("format")) return rule(format_string(text(s, "format", where)));
    } catch (const Refused& r) {
      refuse(where, r.what());
    }
    if (!lengths) return "string";
    const uint64_t least = count(s, "minLength", where, 0), most = count(s, "maxLength", where, UINT64_MAX);
    if (least > most) return std::nullopt;
    const std::string to = most == UINT64_MAX ? "" : std::to_string(std::max(least, std::min(most, kLongString)));
    return rule("\"\\\"\" " + std::string(kPlainCharacter) + "{" + std::to_string(least) + "," + to + "} \"\\\"\"");
  }

  Expression number(const Json& s, bool integer, const std::string& where) {
    std::optional<Bound> low, high;
    for (const char* const key : {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"}) {
      if (!s.contains(key)) continue;
      if (!s[key].is_number()) refuse(where + "/" + key, "it is not a number");
      const Bound b{s[key].get<double>(), key[0] == 'e'};
      if (std::fabs(b.value) > 9007199254740992.0) refuse(where + "/" + key, "it is beyond 2^53");
      const bool is_low = std::string(key).find("inimum") != std::string::npos;
      std::optional<Bound>& to = is_low ? low : high;
      if (!to || (is_low ? b.value > to->value : b.value < to->value) || (b.value == to->value && b.excluded)) to = b;
    }
    if (s.contains("multipleOf") && !(integer && s["multipleOf"] == 1)) refuse(where + "/multipleOf", "it cannot be expressed");
    if (!low && !high) return integer ? "integer" : "number";
    try {
      const Expression e = integer ? integer_between(low, high) : number_between(low, high);
      if (!e) return std::nullopt;
      return rule(*e);
    } catch (const Refused& r) {
      refuse(where, r.what());
    }
  }

  static uint64_t count(const Json& s, const char* key, const std::string& where, uint64_t missing) {
    if (!s.contains(key)) return missing;
    const Json& v = s[key];
    if (!v.is_number() || v.get<double>() < 0 || v.get<double>() > 1e9 || v.get<double>() != std::floor(v.get<double>())) refuse(where + "/" + key, "it is no count");
    return v.get<uint64_t>();
  }

  const Json& root_;
  std::string rules_;
  std::map<std::string, std::string> references_;
  int next_ = 0, depth_ = 0;
};

}  // namespace
}  // namespace rnl::schema

namespace rnl {

bool json_schema_to_grammar(const std::string& schema, std::string* grammar, std::string* error) {
  try {
    const auto root = schema::Json::parse(schema);
    *grammar = schema::Compiler(root).grammar();
    return true;
  } catch (const std::exception& e) {
    *error = e.what();
    return false;
  }
}

}  // namespace rnl
