#include "converter/read/json_text.h"

#include <algorithm>
#include <set>
#include <vector>

#include "converter/base/error.h"

namespace runnel::convert {
namespace {

// Place and kind of what is wrong, in our words.
[[noreturn]] void fail_json(const Json::exception& e, std::string_view text, const std::string& where) {
  const auto* parse = dynamic_cast<const Json::parse_error*>(&e);
  if (!parse) fail("%s: not valid JSON: a number is out of range", where.c_str());
  const size_t at = std::min<size_t>(parse->byte ? parse->byte - 1 : 0, text.size());
  if (text.find_first_not_of(" \t\r\n") == text.npos) fail("%s: not valid JSON: there is nothing in it", where.c_str());
  if (at >= text.size())
    fail("%s: not valid JSON: it ends at byte %zu, in the middle of a value: truncated?", where.c_str(), text.size());
  const size_t line = size_t(std::count(text.begin(), text.begin() + long(at), '\n')) + 1,
               begin = at == 0 ? text.npos : text.rfind('\n', at - 1);
  fail("%s: not valid JSON: line %zu, byte %zu of it: \"%s\" does not belong there", where.c_str(), line,
       begin == text.npos ? at + 1 : at - begin, printable(text.substr(at, 20)).c_str());
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  std::vector<std::set<std::string>> keys;  // of the open objects
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxJsonDepth)
      fail("%s: JSON is nested too deeply, more than %d lists and objects in each other", where.c_str(), kMaxJsonDepth);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty() && !keys.back().insert(parsed.get<std::string>()).second)
      fail("%s: \"%s\" occurs twice in one JSON object", where.c_str(), printable(parsed.get<std::string>()).c_str());
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& e) {
    fail_json(e, text, where);
  }
}

}  // namespace runnel::convert
