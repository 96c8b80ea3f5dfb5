#include <charconv>
#include <cmath>
#include <vector>

#include "schema/schema_parts.h"

namespace rnl::schema {
namespace {

constexpr int64_t kLargest = 9999999999999999;  // 16 digits

using Alternatives = std::vector<std::string>;

std::string joined(const Alternatives& all) {
  if (all.size() == 1) return all[0];
  std::string out;
  for (const std::string& a : all) out += (out.empty() ? "(" : " | ") + a;
  return out + ")";
}
std::string digits(size_t least, size_t most) {
  if (most == 0) return "";
  return " [0-9]{" + std::to_string(least) + "," + std::to_string(most) + "}";
}
std::string one(char digit) { return std::string(" \"") + digit + "\""; }
std::string span(char from, char to) { return from == to ? one(from) : std::string(" [") + from + "-" + to + "]"; }

// Digit strings of the same length between two.
std::string same_length(const std::string& low, const std::string& high) {
  if (low.empty()) return "";
  const size_t rest = low.size() - 1;
  if (low == std::string(low.size(), '0') && high == std::string(high.size(), '9'))
    return digits(low.size(), low.size());
  if (low[0] == high[0]) return one(low[0]) + same_length(low.substr(1), high.substr(1));
  Alternatives all;
  all.push_back(one(low[0]) + same_length(low.substr(1), std::string(rest, '9')));
  if (high[0] - low[0] > 1) all.push_back(span(char(low[0] + 1), char(high[0] - 1)) + digits(rest, rest));
  all.push_back(one(high[0]) + same_length(std::string(rest, '0'), high.substr(1)));
  return " " + joined(all);
}
// Whole numbers from low to high, neither below 0.
std::string whole(int64_t low, int64_t high) {
  Alternatives all;
  std::string from = std::to_string(low);
  const std::string to = std::to_string(high);
  for (; from.size() < to.size(); from = "1" + std::string(from.size(), '0'))
    all.push_back(same_length(from, std::string(from.size(), '9')));
  all.push_back(same_length(from, to));
  return joined(all);
}

// Digits behind the point that are at least, or at most, these; without trailing zeros. strict: not equal.
std::string fraction_from(const std::string& f, bool strict) {
  if (f.empty()) return strict ? " [0-9]{0,15} [1-9]" : digits(0, 16);
  Alternatives all;
  if (f[0] < '9') all.push_back(span(char(f[0] + 1), '9') + digits(0, 15));
  all.push_back(one(f[0]) + fraction_from(f.substr(1), strict));
  return " " + joined(all);
}
// `first`: a digit has to come.
std::string fraction_to(const std::string& f, bool strict, bool first) {
  if (f.empty()) return first ? " \"0\"" : "";
  Alternatives all;
  if (f[0] > '0') all.push_back(span('0', char(f[0] - 1)) + digits(0, 15));
  // Behind the last digit something less must come when it may not be equal.
  if (f.size() > 1 || !strict) all.push_back(one(f[0]) + fraction_to(f.substr(1), strict, false));
  if (all.empty()) return first ? " \"0\"" : "";
  return " (" + joined(all) + (first ? ")" : ")?");
}
std::string fraction_between(const std::string& low, bool low_strict, const std::string& high, bool high_strict) {
  const char l = low.empty() ? '0' : low[0];
  const std::string low_rest = low.empty() ? "" : low.substr(1), high_rest = high.substr(1);
  if (l == high[0])
    return one(l) + (high_rest.empty() ? "" : fraction_between(low_rest, low_strict, high_rest, high_strict));
  Alternatives all;
  all.push_back(one(l) + fraction_from(low_rest, low_strict));
  if (high[0] - l > 1) all.push_back(span(char(l + 1), char(high[0] - 1)) + digits(0, 15));
  if (!high_rest.empty() || !high_strict) all.push_back(one(high[0]) + fraction_to(high_rest, high_strict, false));
  return " " + joined(all);
}

struct Decimal {
  int64_t whole;
  std::string fraction;  // without trailing zeros
  bool excluded;
};
Decimal decimal_of(const Bound& b) {
  char text[400];
  const auto end = std::to_chars(text, text + sizeof text, std::fabs(b.value), std::chars_format::fixed);
  const std::string s(text, end.ptr);
  const size_t point = s.find('.');
  if (point > 16 && s.size() > 16) return {kLargest, "", false};
  Decimal d{std::stoll(s.substr(0, point)), point == std::string::npos ? "" : s.substr(point + 1), b.excluded};
  while (!d.fraction.empty() && d.fraction.back() == '0') d.fraction.pop_back();
  if (d.fraction.size() > 15) throw Refused("a bound with more than 15 digits behind the point");
  return d;
}

// Numbers from low to high, neither below 0; empty when there is none.
std::optional<std::string> magnitudes(const Decimal& low, const Decimal& high) {
  Alternatives all;
  const auto with = [](int64_t n) { return " \"" + std::to_string(n) + "\""; };
  if (low.whole > high.whole) return std::nullopt;
  if (low.whole == high.whole) {
    if (low.fraction > high.fraction || (low.fraction == high.fraction && (low.excluded || high.excluded)))
      return std::nullopt;
    if (low.fraction == high.fraction)
      return with(low.whole) + (low.fraction.empty() ? "" : " \"." + low.fraction + "\"");
    if (low.fraction.empty() && !low.excluded) all.push_back(with(low.whole));
    all.push_back(with(low.whole) + " \".\"" +
                  fraction_between(low.fraction, low.excluded, high.fraction, high.excluded));
    return joined(all);
  }
  if (low.fraction.empty() && !low.excluded) all.push_back(with(low.whole) + " (\".\" [0-9]{1,16})?");
  else all.push_back(with(low.whole) + " \".\"" + fraction_from(low.fraction, low.excluded));
  if (high.whole - low.whole > 1) all.push_back(whole(low.whole + 1, high.whole - 1) + " (\".\" [0-9]{1,16})?");
  if (!high.fraction.empty() || !high.excluded) all.push_back(with(high.whole));
  if (!high.fraction.empty())
    all.push_back(with(high.whole) + " \".\"" + fraction_to(high.fraction, high.excluded, true));
  return joined(all);
}

}  // namespace

Expression integer_between(const std::optional<Bound>& low, const std::optional<Bound>& high) {
  const auto clamped = [](double x) {
    return x > double(kLargest) ? kLargest : x < -double(kLargest) ? -kLargest : int64_t(x);
  };
  int64_t from = -kLargest, to = kLargest;
  if (low) {
    if (low->value > double(kLargest)) return std::nullopt;
    from = clamped(std::ceil(low->value));
    if (low->excluded && double(from) == low->value) ++from;
  }
  if (high) {
    if (high->value < -double(kLargest)) return std::nullopt;
    to = clamped(std::floor(high->value));
    if (high->excluded && double(to) == high->value) --to;
  }
  if (from > to) return std::nullopt;
  Alternatives all;
  if (from < 0) all.push_back("\"-\" " + whole(std::max<int64_t>(1, -to), -from));
  if (to >= 0) all.push_back(whole(std::max<int64_t>(0, from), to));
  return joined(all);
}

Expression number_between(const std::optional<Bound>& low, const std::optional<Bound>& high) {
  const Bound least{-double(kLargest), false}, most{double(kLargest), false}, zero{0, false};
  const Bound from = low.value_or(least), to = high.value_or(most);
  if (from.value > to.value) return std::nullopt;
  Alternatives all;
  if (from.value < 0) {
    const Bound near = to.value < 0 ? to : zero;
    if (auto m = magnitudes(decimal_of(near), decimal_of(from)); m && (near.value < 0 || !to.excluded || to.value != 0))
      all.push_back("\"-\" " + *m);
    else if (to.value == 0 && to.excluded)
      if (auto below = magnitudes(decimal_of(to), decimal_of(from))) all.push_back("\"-\" " + *below);
  }
  if (to.value >= 0)
    if (auto m = magnitudes(decimal_of(from.value >= 0 ? from : zero), decimal_of(to))) all.push_back(*m);
  if (all.empty()) return std::nullopt;
  return joined(all);
}

}  // namespace rnl::schema
