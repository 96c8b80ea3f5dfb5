// Schemas as values: what they hold beside annotations, the conjunction of two, whether two can match the same value.
#pragma once

#include <string>
#include <vector>

#include "schema/json_text.h"

namespace rnl::schema {

// What unevaluatedProperties and unevaluatedItems become where they stand: what holds for those that no other keyword
// speaks of.
inline constexpr char kOtherProperties[] = "\x01other properties", kOtherItems[] = "\x01other items";

// A place within a schema as a JSON Pointer.
std::string child(const std::string& where, const std::string& name);
// A schema's constraints alone, in the words of JSON Schema 2020-12. Keywords that it does not know are annotations;
// refuses those that it knows and no grammar is made for, unless they leave out nothing.
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
