// Files of texts, one JSON object a line, as tokenize and embed read them.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/common.h"

namespace runnel::cli {

// JSON whose texts may hold bytes that are no UTF-8: U+FFFD stands for them.
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);
std::string json_text(const nlohmann::json& value, int indent = -1);
// "-": standard input. Calls see(object, number of the line) for each line that is not empty. Throws Failure with file
// and line.
void for_each_line(const std::string& path, const std::function<void(const nlohmann::json&, size_t)>& see);
// Ids of {"text": …} or {"bytes_hex": …}; flags of rnl_tokenize.
std::vector<int32_t> ids_of_line(const rnl::Model& model, const nlohmann::json& line, uint32_t flags, size_t number);

}  // namespace runnel::cli
