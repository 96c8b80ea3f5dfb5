#include "converter/text/code_set.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>
#include <unicode/uset.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>

namespace runnel::convert {
namespace {

struct NewRange {
  uint32_t first, last;
  char category[3];
};
// Characters that Unicode 15.1 and 16.0 added.
constexpr NewRange kNewRanges[] = {
#include "converter/text/unicode_16.inc"
};

// In ICU's order of UCharCategory.
constexpr std::array<const char*, 30> kCategories = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Me", "Mc", "Nd",
                                                     "Nl", "No", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs", "Pd",
                                                     "Ps", "Pe", "Pc", "Po", "Sm", "Sc", "Sk", "So", "Pi", "Pf"};

const std::vector<uint8_t>& categories() {
  static const std::vector<uint8_t> table = [] {
    std::vector<uint8_t> t(0x110000);
    for (uint32_t c = 0; c < 0x110000; ++c) t[c] = uint8_t(u_charType(UChar32(c)));
    for (const NewRange& r : kNewRanges)
      for (uint32_t c = r.first; c <= r.last; ++c)
        if (t[c] == 0)
          t[c] = uint8_t(std::find(kCategories.begin(), kCategories.end(), std::string_view(r.category)) -
                         kCategories.begin());
    return t;
  }();
  return table;
}

// Characters that ICU does not know belong to none of its properties.
bool is_new(uint32_t c) { return u_charType(UChar32(c)) == 0 && categories()[c] != 0; }

bool is_alphabetic(uint32_t c) {
  if (!is_new(c)) return u_hasBinaryProperty(UChar32(c), UCHAR_ALPHABETIC);
  const std::string_view g = category_of(c);
  return g[0] == 'L' || g == "Nl";
}

// Han is the one script that has grown since and that patterns ask for.
bool has_script(uint32_t c, UScriptCode script) {
  if (is_new(c)) return script == USCRIPT_HAN && c >= 0x2EBF0 && c <= 0x2EE5D;
  UErrorCode error = U_ZERO_ERROR;
  return uscript_getScript(UChar32(c), &error) == script;
}

std::string plain_name(std::string_view name) {
  std::string out;
  for (const char c : name)
    if (c != '_' && c != ' ' && c != '-') out += char(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return out;
}

}  // namespace

std::string_view category_of(uint32_t c) { return kCategories[categories().at(c)]; }

bool CodeSet::has(uint32_t c) const {
  const auto at =
      std::upper_bound(ranges_.begin(), ranges_.end(), c, [](uint32_t v, const Range& r) { return v < r.first; });
  return at != ranges_.begin() && std::prev(at)->last >= c;
}

CodeSet CodeSet::operator|(const CodeSet& o) const {
  std::vector<Range> all = ranges_;
  all.insert(all.end(), o.ranges_.begin(), o.ranges_.end());
  std::sort(all.begin(), all.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  CodeSet s;
  for (const Range& r : all) {
    if (!s.ranges_.empty() && r.first <= s.ranges_.back().last + 1)
      s.ranges_.back().last = std::max(s.ranges_.back().last, r.last);
    else s.ranges_.push_back(r);
  }
  return s;
}

CodeSet CodeSet::operator~() const {
  CodeSet s;
  uint32_t next = 0;
  for (const Range& r : ranges_) {
    if (r.first > next) s.ranges_.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next < 0x110000) s.ranges_.push_back({next, 0x10FFFF});
  return s;
}

CodeSet CodeSet::any_case() const {
  const std::unique_ptr<USet, void (*)(USet*)> set(uset_openEmpty(), uset_close);
  for (const Range& r : ranges_) uset_addRange(set.get(), UChar32(r.first), UChar32(r.last));
  uset_closeOver(set.get(), USET_CASE_INSENSITIVE);
  CodeSet s;
  for (int32_t i = 0; i < uset_getItemCount(set.get()); ++i) {
    UChar32 first = 0, last = 0;
    UErrorCode error = U_ZERO_ERROR;
    if (uset_getItem(set.get(), i, &first, &last, nullptr, 0, &error) == 0)
      s = s | CodeSet(uint32_t(first), uint32_t(last));
  }
  return s;
}

bool property_set(std::string_view given, CodeSet* out) {
  static std::map<std::string, CodeSet> known;  // making one looks at all of Unicode
  const std::string name = plain_name(given);
  if (const auto at = known.find(name); at != known.end()) {
    *out = at->second;
    return true;
  }
  static const std::map<std::string, std::string> kLong = {{"letter", "l"},
                                                           {"mark", "m"},
                                                           {"number", "n"},
                                                           {"punctuation", "p"},
                                                           {"symbol", "s"},
                                                           {"separator", "z"},
                                                           {"other", "c"},
                                                           {"uppercaseletter", "lu"},
                                                           {"lowercaseletter", "ll"},
                                                           {"titlecaseletter", "lt"},
                                                           {"modifierletter", "lm"},
                                                           {"otherletter", "lo"},
                                                           {"nonspacingmark", "mn"},
                                                           {"spacingmark", "mc"},
                                                           {"enclosingmark", "me"},
                                                           {"decimalnumber", "nd"},
                                                           {"letternumber", "nl"},
                                                           {"othernumber", "no"}};
  const auto at_long = kLong.find(name);
  const std::string& category = at_long == kLong.end() ? name : at_long->second;
  const auto is_category = [&](std::string_view g) { return plain_name(g.substr(0, category.size())) == category; };
  const auto is_value = [](uint32_t c) { return c < 0xD800 || c > 0xDFFF; };
  UErrorCode error = U_ZERO_ERROR;
  UScriptCode script = USCRIPT_INVALID_CODE;
  int32_t count = 0;
  if (!category.empty() && category.size() <= 2 && std::any_of(kCategories.begin(), kCategories.end(), is_category)) {
    std::array<bool, kCategories.size()> wanted = {};
    for (size_t i = 0; i < kCategories.size(); ++i) wanted[i] = is_category(kCategories[i]);
    *out = CodeSet::where([&](uint32_t c) { return is_value(c) && wanted[categories()[c]]; });
  } else if (name == "whitespace" || name == "space") {
    *out = CodeSet::where([](uint32_t c) { return u_hasBinaryProperty(UChar32(c), UCHAR_WHITE_SPACE) != 0; });
  } else if (name == "alphabetic") {
    *out = CodeSet::where(is_alphabetic);
  } else if (count = uscript_getCode(std::string(given).c_str(), &script, 1, &error);
             U_SUCCESS(error) && count == 1 && given.size() > 2) {
    *out = CodeSet::where([&](uint32_t c) { return is_value(c) && has_script(c, script); });
  } else {
    return false;
  }
  known.emplace(name, *out);
  return true;
}

}  // namespace runnel::convert
