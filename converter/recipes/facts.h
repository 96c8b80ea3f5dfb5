// Typed access to a source's metadata with messages that name file and key. A JSON null counts as absent.
#pragma once

#include <optional>

#include "converter/checkpoint.h"

namespace runnel::convert {

class Facts {
 public:
  // Keys are looked up as prefix + key in `tree`, which must stay alive.
  Facts(const Json& tree, std::string where, std::string prefix = "") : tree_(tree), where_(std::move(where)), prefix_(std::move(prefix)) {}

  const Json* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }
  // Required ones fail when absent. Integers must lie in low..high; numbers must be finite.
  int64_t integer(const std::string& key, int64_t low = 1, int64_t high = int64_t(1) << 30) const;
  int64_t integer(const std::string& key, int64_t low, int64_t high, int64_t otherwise) const;
  // `count` integers: an array of as many, or one that stands for all.
  std::vector<int64_t> integers(const std::string& key, size_t count, int64_t low = 1, int64_t high = int64_t(1) << 30) const;
  double number(const std::string& key) const;
  double number(const std::string& key, double otherwise) const;
  bool boolean(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key, const std::string& otherwise) const;
  // Facts of an object that stands under `key`.
  Facts inside(const std::string& key, const Json& tree) const { return Facts(tree, where_ + ": " + prefix_ + key); }
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

 private:
  const Json& tree_;
  std::string where_, prefix_;
};

// The configuration with the keys that it leaves out (or sets to null) taken from `defaults`.
Json with_defaults(const Json& config, Json defaults);

}  // namespace runnel::convert
