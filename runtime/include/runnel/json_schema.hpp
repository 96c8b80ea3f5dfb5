// JSON Schema to a grammar for rnl_grammar_create(). A library of its own (CMake target runnel::json_schema), apart from librunnel.
//
// Every text of the grammar is a JSON document that the schema accepts, but for what a note says. Not every such document is a text of the
// grammar: properties come in the schema's order, space is that of one line or of an indented document, numbers have at most 16 digits before
// and behind the point. Properties beyond those named are written only where additionalProperties asks for them. What would make a text wrong
// and cannot be expressed is refused by place and keyword.
//
// Keywords that JSON Schema does not know, and formats other than date, time, date-time, duration, uuid, ipv4, ipv6, hostname, email and uri,
// are annotations: they change nothing. nullable, as OpenAPI 3.0 has it, adds null. A pattern with lengths or a format is spelled out in up to
// 4,000 states, a maxLength that needs more is cut; lengths alone are counted, up to 100,000. uniqueItems is enforced where the items' values are
// few: in any order up to 8 of them, else in the schema's order; other arrays get a note.
//
// Brackets may be nested 500 deep, schemas with those that they refer to 200: about 0.5 MiB of stack.
#ifndef RUNNEL_JSON_SCHEMA_HPP
#define RUNNEL_JSON_SCHEMA_HPP

#include <string>
#include <vector>

namespace rnl {

// false: *error tells the place in the schema (a JSON Pointer) and what is wrong there. *notes gets what the grammar does not enforce, with its
// place. Works without exceptions to the caller. Rules of the grammar carry their places, which errors of rnl_grammar_create() then name.
bool json_schema_to_grammar(const std::string& schema, std::string* grammar, std::string* error, std::vector<std::string>* notes = nullptr);

// A grammar of any JSON value.
std::string json_grammar();

}  // namespace rnl

#endif
