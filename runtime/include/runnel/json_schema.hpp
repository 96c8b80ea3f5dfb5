// JSON Schema to a grammar for rnl_grammar_create(). A library of its own (CMake target runnel::json_schema), apart from librunnel.
//
// Every text of the grammar is a JSON document that the schema accepts. Not every such document is a text of the grammar: properties come in
// the schema's order, space is that of one line or of an indented document, numbers have at most 16 digits before and behind the point.
// Properties beyond those named are written only where additionalProperties asks for them. What would make a text wrong and cannot be
// expressed is refused by name.
#ifndef RUNNEL_JSON_SCHEMA_HPP
#define RUNNEL_JSON_SCHEMA_HPP

#include <string>

namespace rnl {

// false: *error tells the place in the schema and what is wrong there. Works without exceptions to the caller.
bool json_schema_to_grammar(const std::string& schema, std::string* grammar, std::string* error);

// A grammar of any JSON value.
std::string json_grammar();

}  // namespace rnl

#endif
