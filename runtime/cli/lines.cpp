#include "cli/lines.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "cli/json_text.h"

namespace runnel::cli {

using nlohmann::json;

namespace {

std::string from_hex(const std::string& hex, size_t line) {
  std::string out;
  auto digit = [&](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    throw Failure("line " + std::to_string(line) + ": bytes_hex holds \"" + c + "\"");
  };
  if (hex.size() % 2) throw Failure("line " + std::to_string(line) + ": bytes_hex has an odd number of digits");
  for (size_t i = 0; i < hex.size(); i += 2) out += char(digit(hex[i]) * 16 + digit(hex[i + 1]));
  return out;
}

}  // namespace

std::string json_text(const nlohmann::ordered_json& value, int indent) {
  return value.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}
std::string json_text(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

void for_each_line(const std::string& path, const std::function<void(const json&, size_t)>& see) {
  std::ifstream file;
  if (path != "-") file.open(path);
  std::istream& in = path == "-" ? std::cin : file;
  if (!in) throw Failure(path + ": cannot open: " + std::strerror(errno));
  std::string line;
  for (size_t n = 1; std::getline(in, line); ++n) {
    if (line.empty()) continue;
    try {
      const json given = parse_json(line, "line " + std::to_string(n));
      if (!given.is_object()) throw Failure("line " + std::to_string(n) + " is no JSON object");
      see(given, n);
    } catch (const Failure& e) {
      throw Failure((path == "-" ? "standard input" : path) + ": " + e.what());
    }
  }
  if (in.bad()) throw Failure(path + ": cannot read: " + std::strerror(errno));
}

std::vector<int32_t> ids_of_line(const rnl::Model& model, const json& line, uint32_t flags, size_t number) {
  const bool text = line.contains("text") && line["text"].is_string(),
             hex = line.contains("bytes_hex") && line["bytes_hex"].is_string();
  if (!text && !hex)
    throw Failure("line " + std::to_string(number) + " is neither {\"text\": …} nor {\"bytes_hex\": …}");
  std::vector<int32_t> ids;
  check(model.tokenize(text ? line["text"].get<std::string>() : from_hex(line["bytes_hex"].get<std::string>(), number),
                       flags, &ids));
  return ids;
}

}  // namespace runnel::cli
