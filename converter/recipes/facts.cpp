#include "converter/recipes/facts.h"

#include <cmath>

namespace runnel::convert {

const Json* Facts::find(const std::string& key) const {
  const auto it = tree_.find(prefix_ + key);
  return it == tree_.end() || it->is_null() ? nullptr : &*it;
}

void Facts::refuse(const std::string& key, const std::string& why) const { fail("%s: %s%s %s", where_.c_str(), prefix_.c_str(), key.c_str(), why.c_str()); }

int64_t Facts::integer(const std::string& key, int64_t low, int64_t high) const {
  const Json* v = find(key);
  if (!v) refuse(key, "is missing");
  if (!v->is_number_integer()) refuse(key, "is not an integer");
  const bool is_huge = v->is_number_unsigned() && v->get<uint64_t>() > uint64_t(INT64_MAX);
  const int64_t n = is_huge ? INT64_MAX : v->get<int64_t>();
  if (n < low || n > high) refuse(key, "is " + v->dump() + ", outside of " + std::to_string(low) + " to " + std::to_string(high));
  return n;
}

int64_t Facts::integer(const std::string& key, int64_t low, int64_t high, int64_t otherwise) const { return has(key) ? integer(key, low, high) : otherwise; }

double Facts::number(const std::string& key) const {
  const Json* v = find(key);
  if (!v) refuse(key, "is missing");
  if (!v->is_number() || !std::isfinite(v->get<double>())) refuse(key, "is not a finite number");
  return v->get<double>();
}

double Facts::number(const std::string& key, double otherwise) const { return has(key) ? number(key) : otherwise; }

std::vector<int64_t> Facts::integers(const std::string& key, size_t count, int64_t low, int64_t high) const {
  const Json* v = find(key);
  if (!v || !v->is_array()) return std::vector<int64_t>(count, integer(key, low, high));
  if (v->size() != count) refuse(key, "has " + std::to_string(v->size()) + " values, wanted " + std::to_string(count));
  std::vector<int64_t> out;
  for (const Json& one : *v) {
    const Json alone = {{prefix_ + key, one}};
    out.push_back(Facts(alone, where_, prefix_).integer(key, low, high));
  }
  return out;
}

bool Facts::boolean(const std::string& key, bool otherwise) const {
  const Json* v = find(key);
  if (!v) return otherwise;
  if (!v->is_boolean()) refuse(key, "is neither true nor false");
  return v->get<bool>();
}

std::string Facts::text(const std::string& key, const std::string& otherwise) const {
  const Json* v = find(key);
  if (!v) return otherwise;
  if (!v->is_string()) refuse(key, "is not a string");
  return v->get<std::string>();
}

Json with_defaults(const Json& config, Json defaults) {
  for (const auto& [key, value] : config.items())
    if (!value.is_null()) defaults[key] = value;
  return defaults;
}

}  // namespace runnel::convert
