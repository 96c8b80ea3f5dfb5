// Objects and arrays.
#include <algorithm>
#include <bit>
#include <map>

#include "schema/compiler.h"

namespace rnl::schema {
namespace {

constexpr size_t kAnyOrder = 8;        // values that are written in any order: each set of them is a rule
constexpr size_t kMostInOrder = 4096;  // rules of those that are written in one order

}  // namespace

// A name that stands in the schema must be one of propertyNames.
void Compiler::check_name(const Json& names, const std::string& name, const std::string& where) const {
  const std::string at = child(where, "propertyNames");
  if (!holds(names, name, at)) refuse(at, "it leaves out the property \"" + shown(name) + "\", which the schema names");
}

Expression Compiler::object(const Json& s, const std::string& where) {
  const Json properties = s.value("properties", Json::object()), required = s.value("required", Json::array());
  if (!properties.is_object()) refuse(child(where, "properties"), "it is not an object");
  if (!required.is_array()) refuse(child(where, "required"), "it is not an array");
  std::set<std::string> wanted, names;
  for (const Json& r : required) {
    if (!r.is_string()) refuse(child(where, "required"), "it holds something that is no name");
    wanted.insert(r.get<std::string>());
  }
  const bool free = !s.contains("properties") && !s.contains("additionalProperties") && wanted.empty();
  const Json others = s.contains("additionalProperties") ? s["additionalProperties"]
                      : s.contains(kOtherProperties)     ? s[kOtherProperties]
                                                         : Json(true);
  const bool are_written = s.contains("additionalProperties") || s.contains(kOtherProperties) || free;
  const Json allowed = s.value("propertyNames", Json(true));
  std::vector<Property> all;
  const auto add = [&](const std::string& name, const Json& schema, const std::string& at) {
    names.insert(name);
    if (s.contains("propertyNames")) check_name(allowed, name, where);
    const Expression e = visit(schema, at);
    if (!e && wanted.count(name)) return false;
    if (e) all.push_back({rule(literal(json_text(name)) + " ws \":\" ws " + *e, at), wanted.count(name) > 0});
    return true;
  };
  for (const auto& [name, schema] : properties.items())
    if (!add(name, schema, child(child(where, "properties"), name))) return std::nullopt;
  const std::string rest =
      child(where, s.contains(kOtherProperties) && !s.contains("additionalProperties") ? "unevaluatedProperties"
                                                                                       : "additionalProperties");
  for (const Json& r : required)
    if (const auto name = r.get<std::string>(); !names.count(name) && !add(name, others, rest)) return std::nullopt;
  const uint64_t most = count(s, "maxProperties", where, UINT64_MAX), least = count(s, "minProperties", where, 0);
  Expression more = are_written ? visit(others, rest) : std::nullopt;
  if (most < wanted.size()) return std::nullopt;
  if (most == wanted.size()) {
    more.reset();
    std::erase_if(all, [](const Property& p) { return !p.required; });
  }
  if (least > wanted.size())
    refuse(child(where, "minProperties"), "more properties than are required can only be asked for by name");
  if ((most < names.size() || (most != UINT64_MAX && more)) && most != wanted.size())
    refuse(child(where, "maxProperties"),
           "it can only be expressed where it is the number of required properties, or leaves room for all");
  std::string one;
  if (more) {
    const std::string at = child(where, "propertyNames"), made = name();
    std::string rules;
    Expression key;  // beside names that stand in the schema none that has a form of its own
    const Json plain = without_annotations(allowed, at);
    if (plain == true || plain == Json::object() || plain == Json{{"type", "string"}})
      key = other_string(names, made, &rules);
    else if (names.empty()) key = visit(merged(plain, Json{{"type", "string"}}, at), at);
    rules_ += rules;
    if (key) one = rule(*key + " ws \":\" ws " + *more, rest);
  }
  return rule("\"{\" ws " + members(all, one, where) + "\"}\"", child(where, "properties"));
}

// The named properties in their order, each with what may stand before it; `more`: any number of others, before each
// and behind all.
std::string Compiler::members(const std::vector<Property>& all, const std::string& more, const std::string& where) {
  std::string rest, first;
  const std::string at = child(where, "properties");
  if (!more.empty()) {
    rest = rule("(\",\" ws " + more + ")*", at);
    first = rule("(" + more + " " + rest + ")?", at);
  }
  for (size_t i = all.size(); i-- > 0;) {
    const Property& p = all[i];
    const std::string begin = p.text + (rest.empty() ? "" : " " + rest);
    first = p.required ? rule(begin, at) : rule(begin + " | " + (first.empty() ? "\"\"" : first), at);
    rest =
        rule((p.required ? "\",\" ws " + p.text : "(\",\" ws " + p.text + ")?") + (rest.empty() ? "" : " " + rest), at);
  }
  return first.empty() ? "" : first + " ws ";
}

Expression Compiler::array(const Json& s, const std::string& where) {
  Json prefix = s.value("prefixItems", Json::array()), items = s.contains("items")       ? s["items"]
                                                               : s.contains(kOtherItems) ? s[kOtherItems]
                                                                                         : Json(true);
  std::string prefix_at = child(where, "prefixItems"),
              items_at = child(where, s.contains("items") || !s.contains(kOtherItems) ? "items" : "unevaluatedItems");
  // The older notation.
  if (items.is_array()) {
    if (s.contains("prefixItems")) refuse(items_at, "it is an array beside prefixItems");
    prefix = items, items = s.contains("additionalItems") ? s["additionalItems"]
                            : s.contains(kOtherItems)     ? s[kOtherItems]
                                                          : Json(true);
    prefix_at = items_at, items_at = child(where, "additionalItems");
  }
  if (!prefix.is_array()) refuse(prefix_at, "it is not an array");
  const uint64_t least = count(s, "minItems", where, 0);
  uint64_t most = count(s, "maxItems", where, UINT64_MAX);
  std::vector<std::string> first;
  for (size_t i = 0; i < prefix.size() && i < most; ++i) {
    const Expression e = visit(prefix[i], child(prefix_at, std::to_string(i)));
    if (!e) most = i;
    else first.push_back(*e);
  }
  if (s.contains("uniqueItems") && most > 1 && (most > first.size() || first.size() > 1)) {
    Expression e;
    if (first.empty() && unique(items, least, most, where, &e)) return e;
    note(child(where, "uniqueItems"),
         "the grammar does not enforce it: what the items may be is not a small set of values");
  }
  const Expression item = most > first.size() ? visit(items, items_at) : std::nullopt;
  if (!item) most = std::min<uint64_t>(most, first.size());
  if (least > most) return std::nullopt;
  const uint64_t n = first.size();
  if (least > n && least - n > kMaxLength)
    refuse(child(where, "minItems"), "it is more than " + std::to_string(kMaxLength));
  std::string body;
  if (most > n) {
    const uint64_t from = least > n ? least - n : 0, to = most == UINT64_MAX ? most : std::min(most - n, kMaxLength);
    const auto repeat = [](const std::string& what, uint64_t low, uint64_t high) {
      if (high == 0) return std::string();
      return " (\",\" ws " + what + "){" + std::to_string(low) + "," +
             (high == UINT64_MAX ? "" : std::to_string(high)) + "}";
    };
    if (n > 0) body = repeat(*item, from, to);
    else body = *item + repeat(*item, from ? from - 1 : 0, to == UINT64_MAX ? to : to - 1);
    if (n == 0 && from == 0) body = "(" + body + ")?";
  }
  // Each of the first ones is a rule with all that follows: groups within groups would be too many.
  for (size_t i = n; i-- > 0;) {
    body = rule((i ? " \",\" ws " : "") + first[i] + " " + body, prefix_at);
    if (i >= least) body += "?";
  }
  return rule("\"[\" ws " + (body.empty() ? "" : body + " ws ") + "\"]\"",
              child(where, s.contains("maxItems") ? "maxItems" : "items"));
}

// Arrays of different values: false where these are not few.
bool Compiler::unique(const Json& items, uint64_t least, uint64_t most, const std::string& where, Expression* out) {
  std::vector<Json> values;
  if (!all_values(items, child(where, "items"), &values)) return false;
  most = std::min<uint64_t>(most, values.size());
  if (least > most) return *out = std::nullopt, true;
  const uint64_t counts = most < values.size() ? most : std::max<uint64_t>(least, 1);
  if (values.size() > kAnyOrder && values.size() * (counts + 1) > kMostInOrder) return false;
  const std::string at = child(where, "uniqueItems");
  std::string body =
      values.size() <= kAnyOrder ? in_any_order(values, least, most, at) : in_this_order(values, least, most, at);
  if (least == 0) body = "(" + body + " ws)?";
  else body += " ws";
  *out = rule("\"[\" ws " + (most == 0 ? "" : body + " ") + "\"]\"", at);
  return true;
}

// By the set of what was written.
std::string Compiler::in_any_order(const std::vector<Json>& values, uint64_t least, uint64_t most,
                                   const std::string& where) {
  std::string base = name(), begin;
  const auto next = [&](uint32_t used) {
    std::string all;
    for (size_t i = 0; i < values.size(); ++i)
      if (const uint32_t then = used | 1u << i; then != used) {
        const bool ends = uint64_t(std::popcount(then)) == most;
        all += (all.empty() ? "" : " | ") + literal(json_text(values[i])) +
               (ends ? "" : " " + base + "u" + std::to_string(then));
      }
    return all;
  };
  for (uint32_t used = 1; used < 1u << values.size(); ++used) {
    const uint64_t n = uint64_t(std::popcount(used));
    if (n < most)
      add_rule(base + "u" + std::to_string(used), "\",\" ws (" + next(used) + ")" + (n >= least ? " | \"\"" : ""),
               where);
  }
  return most == 0 ? "" : "(" + next(0) + ")";
}

// By the next value that may be written and how many were; above the counts that matter all are one.
std::string Compiler::in_this_order(const std::vector<Json>& values, uint64_t least, uint64_t most,
                                    const std::string& where) {
  const std::string base = name();
  const uint64_t last = most < values.size() ? most : std::max<uint64_t>(least, 1);
  const auto pick = [&](size_t from, uint64_t n) {
    return base + "v" + std::to_string(from) + "c" + std::to_string(n);
  };
  for (uint64_t n = 0; n <= last; ++n)
    for (size_t i = 0; i < values.size(); ++i) {
      const uint64_t then = std::min(n + 1, last);
      const bool full = most < values.size() && n + 1 == most, has_more = i + 1 < values.size();
      if (most < values.size() && n == most) continue;
      std::string body = literal(json_text(values[i]));
      if (has_more && !full) body += std::string(" (\",\" ws ") + pick(i + 1, then) + ")" + (then >= least ? "?" : "");
      else if (n + 1 < least) body = kNoText;
      if (has_more) body += " | " + pick(i + 1, n);
      add_rule(pick(i, n), body, where);
    }
  return pick(0, 0);
}

}  // namespace rnl::schema
