// A parsed pattern.
#pragma once

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "converter/text/code_set.h"
#include "converter/text/regex.h"
#include "text/regex.h"

namespace runnel::convert {

struct RegexNode {
  enum class Kind { kSet, kConcat, kAlternate, kRepeat, kLook, kAtomic, kBegin, kEnd };
  Kind kind = Kind::kConcat;
  CodeSet set;  // kSet; kBegin and kEnd: characters that may stand on the other side
  std::vector<std::unique_ptr<RegexNode>> children;  // a concat without children matches nothing
  uint32_t low = 0, high = 0;                        // kRepeat; high may be kRegexUnlimited
  RegexMode mode = RegexMode::kGreedy;
  bool negative = false, behind = false;  // kLook
  int height = 0;                         // of the tree below

  void add(std::unique_ptr<RegexNode> child) {
    height = std::max(height, child->height + 1);
    children.push_back(std::move(child));
  }
};
using RegexTree = std::unique_ptr<RegexNode>;

// Throws UnsupportedTokenizer.
RegexTree parse_regex(std::string_view pattern, RegexFlavour flavour);

}  // namespace runnel::convert
