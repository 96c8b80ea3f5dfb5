#include "converter/program/method_options.h"

#include <charconv>
#include <cstdio>

#include "converter/base/error.h"

namespace runnel::convert {

MethodOptions::MethodOptions(const char* flag, const std::vector<MethodRow>& rows, const std::string& text)
    : flag_(flag), text_(text) {
  size_t at = text.find(':');
  for (const MethodRow& r : rows)
    if (text.substr(0, at) == r.name) row_ = &r;
  if (!row_) refuse("not a method; there is " + list_methods(rows));
  for (const auto& [name, value] : row_->options) values_[name] = value;
  while (at != std::string::npos) {
    const size_t next = text.find(',', at + 1);
    const std::string pair = text.substr(at + 1, next == std::string::npos ? next : next - at - 1);
    const size_t equals = pair.find('=');
    const auto found = values_.find(pair.substr(0, equals));
    if (equals == std::string::npos || found == values_.end())
      refuse("\"" + printable(pair) + "\" is no option of it; there is " + list_methods({*row_}));
    const char *from = pair.data() + equals + 1, *end = pair.data() + pair.size();
    const auto [stop, error] = std::from_chars(from, end, found->second);
    if (error != std::errc() || stop != end) refuse("\"" + printable(std::string(from, end)) + "\" is no number");
    at = next;
  }
}

uint32_t MethodOptions::whole(const char* name, double least, double most) const {
  const double v = number(name);
  if (!(v >= least && v <= most) || v != double(uint32_t(v)))
    refuse(std::string(name) + " is not a whole number from " + std::to_string(int64_t(least)) + " to " +
           std::to_string(int64_t(most)));
  return uint32_t(v);
}

void MethodOptions::refuse(const std::string& why) const {
  fail("%s %s: %s", flag_.c_str(), printable(text_).c_str(), why.c_str());
}

std::string list_methods(const std::vector<MethodRow>& rows) {
  std::string all;
  for (const MethodRow& r : rows) {
    std::string options;
    for (const auto& [name, value] : r.options) {
      char text[64];
      std::snprintf(text, sizeof text, "%s%s=%g", options.empty() ? "" : ",", name, value);
      options += text;
    }
    all += (all.empty() ? "" : "; ") + std::string(r.name) + "[:" + options + "]: " + r.words;
  }
  return all;
}

}  // namespace runnel::convert
