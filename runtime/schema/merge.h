// Schemas as values: what they hold beside annotations, the conjunction of two, whether two can match the same value.
#pragma once

#include <string>
#include <vector>

#include "schema/json_text.h"

namespace rnl::schema {

// A schema's constraints alone. Refuses keywords that no grammar is made for, by name.
Json without_annotations(const Json& schema, const std::string& where);
// A schema of the values that match both.
Json merged(const Json& a, const Json& b, const std::string& where);
// Whether no value matches both, as far as types, single values and required properties with single values show.
bool are_apart(const Json& a, const Json& b);

// Types that `type` names; all where there is none. integer and number may both be among them.
std::vector<std::string> types_of(const Json& schema, const std::string& where);
// The types to write values of: without `type` those that the other keywords speak of.
std::vector<std::string> types_for(const Json& schema, const std::string& where);
bool has_type(const Json& value, const std::vector<std::string>& types);
// The values of const and enum that are in both.
std::vector<Json> values_of(const Json& schema, const std::string& where);

}  // namespace rnl::schema
