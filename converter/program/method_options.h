// METHOD[:name=value,...] of the command line, as passes take it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace runnel::convert {

// A method, its options with their defaults, and what it does, for --help.
struct MethodRow {
  const char* name;
  std::vector<std::pair<const char*, double>> options;
  const char* words;
};

class MethodOptions {
 public:
  // `flag` stands in front of messages. Throws Error for a method or an option that the rows do not have.
  MethodOptions(const char* flag, const std::vector<MethodRow>& rows, const std::string& text);
  const MethodRow& row() const { return *row_; }
  bool has(const char* name) const { return values_.count(name) > 0; }
  double number(const char* name) const { return values_.at(name); }
  uint32_t whole(const char* name, double least, double most) const;
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  std::string flag_, text_;
  const MethodRow* row_ = nullptr;
  std::map<std::string, double> values_;
};

// The rows as --help prints them.
std::string list_methods(const std::vector<MethodRow>& rows);

}  // namespace runnel::convert
