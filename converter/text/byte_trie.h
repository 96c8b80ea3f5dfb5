// Builds the tries of runtime/text/byte_trie.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace runnel::convert {

// Values are below 2^24 - 1 and stand in the trie plus 1.
std::vector<uint64_t> build_byte_trie(const std::map<std::string, uint32_t>& strings);

}  // namespace runnel::convert
