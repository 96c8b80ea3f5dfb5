// JSON Schemas as grammars: which documents are of them, which schemas are refused, and what the messages name.
#include <random>

#include "converter/text_test.h"
#include "kit.h"
#include "runnel/json_schema.hpp"
#include "text/grammar.h"

namespace runnel::convert {
namespace {

struct Vocabulary {
  Vocabulary() : loaded(from_spm_proto(read_golden("spm_small.model"))) {
    EXPECT_TRUE(TokenOrder::build(loaded.tokenizer, &order).is_ok());
  }
  Loaded loaded;
  TokenOrder order;
};
const Vocabulary& vocabulary() {
  static const Vocabulary v;
  return v;
}

struct Made {
  std::unique_ptr<Grammar> grammar;
  std::string text, error;
  std::vector<std::string> notes;
};
Made make(const std::string& schema) {
  Made m;
  if (!rnl::json_schema_to_grammar(schema, &m.text, &m.error, &m.notes)) return m;
  auto g = Grammar::create(vocabulary().order, m.text.data(), m.text.size());
  if (g.is_ok()) m.grammar = std::move(g.value());
  else m.error = g.take_status().message();
  return m;
}
bool is_document(Grammar& g, const std::string& text) {
  GrammarPosition at;
  g.start(&at);
  auto r = g.accept_bytes(&at, reinterpret_cast<const uint8_t*>(text.data()), text.size());
  EXPECT_TRUE(r.is_ok());
  return r.is_ok() && r.value() && at.may_end;
}
using Texts = std::vector<std::string>;
void expect(const std::string& schema, const Texts& right, const Texts& wrong) {
  const Made m = make(schema);
  ASSERT_TRUE(m.grammar) << schema << "\n" << m.error;
  for (const std::string& t : right)
    EXPECT_TRUE(is_document(*m.grammar, t)) << schema << "\n" << t.substr(0, 200) << "\n" << m.text.substr(0, 900);
  for (const std::string& t : wrong) EXPECT_FALSE(is_document(*m.grammar, t)) << schema << "\n" << t.substr(0, 200);
  EXPECT_TRUE(m.notes.empty()) << schema << "\n" << m.notes[0];
}
void expect_refusal(const std::string& schema, const std::string& says) {
  const Made m = make(schema);
  EXPECT_FALSE(m.grammar) << schema;
  EXPECT_NE(m.error.find(says), std::string::npos) << schema << "\n" << m.error;
  EXPECT_EQ(m.error.find("json.exception"), std::string::npos) << m.error;
}
std::string string_of(size_t n) { return "\"" + std::string(n, 'x') + "\""; }

TEST(Schema, AnnotationsChangeNothing) {
  for (const char* const more : {R"("x-order": 1)",
                                 R"("discriminator": {"propertyName": "kind"})",
                                 R"("propertyOrdering": ["a"])",
                                 R"("$comment": "c")",
                                 R"("examples": [1])",
                                 R"("example": 1)",
                                 R"("deprecated": true)",
                                 R"("readOnly": true)",
                                 R"("xml": {"name": "n"})",
                                 R"("externalDocs": {})",
                                 R"("contentEncoding": "base64")",
                                 R"("$id": "https://a.b/c")",
                                 R"("id": "x")",
                                 R"("nullable": false)",
                                 R"("format": "made-up")",
                                 R"("then": false)",
                                 R"("else": {"not": {}})",
                                 R"("minContains": 3)",
                                 R"("if": {"type": "string"})",
                                 R"("$dynamicAnchor": "node")",
                                 R"("definitions": {"a": {"not": 3}})",
                                 R"("patternProperties": {})",
                                 R"("dependentRequired": {"b": ["a"]})",
                                 R"("dependencies": {"b": {}})",
                                 R"("contains": {"type": "string"})",
                                 R"("unevaluatedItems": false)",
                                 R"("additionalItems": false)",
                                 R"("maxLength": 0)",
                                 R"("unevaluatedProperties": false)",
                                 R"("not": {"type": "null"})",
                                 R"("propertyNames": {"type": "string", "title": "t"})"})
    expect(
        std::string(
            R"({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 3}}, "required": ["a"], )") +
            more + "}",
        {R"({"a":1})", R"({ "a": 3 })"}, {R"({"a":4})", "{}", "null", R"({"a":1,"b":1})", "1"});
}

TEST(Schema, ConstraintsThatNoGrammarCanKeepAreRefusedByPlaceAndKeyword) {
  for (const auto& [keyword, value] :
       std::vector<std::pair<std::string, std::string>>{{"not", R"({"required": ["b"]})"},
                                                        {"patternProperties", R"({"^a": {"type": "string"}})"},
                                                        {"dependentRequired", R"({"a": ["b"]})"},
                                                        {"dependentSchemas", R"({"a": {"required": ["b"]}})"},
                                                        {"dependencies", R"({"a": ["b"]})"},
                                                        {"propertyNames", R"({"pattern": "^b"})"},
                                                        {"minProperties", "2"},
                                                        {"$dynamicRef", "\"#node\""}})
    expect_refusal(
        R"({"type": "object", "properties": {"p/q": {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"], ")" +
            keyword + "\": " + value + "}}}",
        "#/properties/p~1q/" + keyword + ": ");
  expect_refusal(R"({"type": "array", "contains": {"type": "integer"}})", "#/contains: ");
  expect_refusal(R"({"if": {"type": "string"}, "then": {"minLength": 3}})", "#/if: ");
  expect_refusal(R"({"type": "array", "items": {"type": "number", "multipleOf": 0.1}})", "#/items/multipleOf: ");
  expect_refusal(R"({"allOf": [{"properties": {"a": {}}, "unevaluatedProperties": false}, {"properties": {"b": {}}}]})",
                 "#/allOf/0/unevaluatedProperties: ");
}

TEST(Schema, NullableAddsNull) {
  expect(R"({"type": "string", "nullable": true, "maxLength": 2})", {"null", "\"ab\""}, {"1", "\"abc\""});
  expect(R"({"type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": true})", {"null", "\"a\""}, {"\"c\""});
  expect(R"({"type": "string", "enum": ["a", null], "nullable": true})", {"null", "\"a\""}, {});
  expect(R"({"const": "a", "type": "string", "nullable": true})", {"null", "\"a\""}, {"\"b\""});
  expect(
      R"({"$defs": {"A": {"type": "integer", "minimum": 0, "maximum": 5}}, "type": "object", "properties": {"a": {"$ref": "#/$defs/A", "nullable": true}, "b": {"nullable": true, "allOf": [{"$ref": "#/$defs/A"}]},
             "c": {"oneOf": [{"$ref": "#/$defs/A"}, {"type": "boolean"}], "nullable": true}}, "required": ["a", "b", "c"]})",
      {R"({"a":null,"b":null,"c":null})", R"({"a":1,"b":2,"c":true})"},
      {R"({"a":6,"b":null,"c":null})", R"({"a":"","b":1,"c":null})"});
  expect(
      R"({"type": "object", "nullable": true, "properties": {"a": {"type": "number", "nullable": true}}, "required": ["a"]})",
      {"null", R"({"a":null})", R"({"a":1.5})"}, {R"({"a":"1"})"});
  expect(R"({"allOf": [{"type": "string", "nullable": true}, {"type": "string", "maxLength": 1}]})", {"\"a\""},
         {"null"});
}

TEST(Schema, AsPydanticZodOpenApiAndGoogleWriteThem) {
  // A tagged union whose tags have defaults: they are not required, but tell the alternatives apart.
  expect(
      R"({"$defs": {"Cat": {"properties": {"kind": {"const": "cat", "default": "cat", "title": "Kind", "type": "string"}, "n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "type": "object"},
             "Dog": {"properties": {"kind": {"const": "dog", "default": "dog", "type": "string"}, "b": {"type": "boolean"}}, "required": ["b"], "type": "object"}}, "type": "object", "properties": {"pet":
             {"discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}, "propertyName": "kind"}, "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}}, "required": ["pet"]})",
      {R"({"pet":{"kind":"cat","n":3}})", R"({"pet":{"kind":"dog","b":true}})"},
      {R"({"pet":{"kind":"cat","b":true}})", R"({"pet":{"n":3}})"});
  // The same through OpenAPI's inheritance.
  expect(
      R"({"components": {"schemas": {"Pet": {"type": "object", "required": ["t"], "properties": {"t": {"type": "string"}}}, "Cat": {"allOf": [{"$ref": "#/components/schemas/Pet"},
             {"type": "object", "properties": {"t": {"enum": ["cat"]}}}]}, "Dog": {"allOf": [{"$ref": "#/components/schemas/Pet"}, {"type": "object", "properties": {"t": {"enum": ["dog"]}}}]}}},
             "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}], "discriminator": {"propertyName": "t"}})",
      {R"({"t":"cat"})", R"({"t":"dog"})"}, {R"({"t":"cow"})", "{}"});
  // zod: whole numbers, records, addresses with what it looks ahead for.
  expect(R"({"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991})",
         {"0", "-9007199254740991"}, {"9007199254740992", "1.5"});
  expect(R"({"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "boolean"}})",
         {"{}", R"({"x":true,"y":false})"}, {R"({"x":1})"});
  expect(
      R"({"type": "object", "propertyNames": {"type": "string", "enum": ["a", "b"]}, "additionalProperties": {"type": "boolean"}, "required": ["a", "b"]})",
      {R"({"a":true,"b":false})"}, {R"({"a":true})"});
  expect(R"({"type": "object", "patternProperties": {"^x[0-9]$": {"type": "boolean"}}})",
         {"{}", R"({"x1":true,"x2":false})"}, {R"({"x":true})", R"({"x1":1})"});
  expect(
      R"({"type": "string", "pattern": "^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$"})",
      {"\"a.b@c.de\"", "\"O'x@a-b.c.org\""}, {"\".a@b.de\"", "\"a..b@c.de\"", "\"a@b\""});
  expect(
      R"({"type": "string", "format": "uuid", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|00000000-0000-0000-0000-000000000000)$"})",
      {"\"01234567-89ab-4def-8123-456789abcdef\"", "\"00000000-0000-0000-0000-000000000000\""},
      {"\"01234567-89ab-9def-8123-456789abcdef\""});
  // OpenAPI 3.0's bounds, its int64; Google's counts.
  expect(
      R"({"type": "integer", "format": "int64", "minimum": 0, "exclusiveMinimum": true, "maximum": 9223372036854775807})",
      {"1", "9007199254740992"}, {"0", "-1", "9007199254740993"});
  expect(R"({"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "1", "maxItems": "2"})", {"[1]", "[1,2]"},
         {"[]", "[1,2,3]"});
  expect(R"({"type": "object", "properties": {"a": {"type": "string"}}, "unevaluatedProperties": {"type": "integer"}})",
         {"{}", R"({"b":1})"}, {R"({"b":"x"})"});
  expect(R"({"prefixItems": [{"type": "integer"}], "type": "array", "unevaluatedItems": false})", {"[]", "[1]"},
         {"[1,2]"});
  expect(R"({"$ref": "#/$defs/Page%5BA~1B%5D", "$defs": {"Page[A/B]": {"type": "boolean"}}})", {"true"}, {"1"});
  expect(R"({"enum": ["a", "bb", "ccc", 4, 5], "maxLength": 2, "minimum": 5})", {"\"a\"", "\"bb\"", "5"},
         {"\"ccc\"", "4"});
  expect(R"({"type": "string", "enum": ["a1", "b", "c1"], "pattern": "1$", "not": {"const": "c1"}})", {"\"a1\""},
         {"\"b\"", "\"c1\""});
  expect(R"({"not": {"type": ["object", "array", "string"]}})", {"1.5", "null", "true"}, {"\"\"", "{}", "[]"});
}

TEST(Schema, UniqueItems) {
  const std::string three = R"({"type": "array", "items": {"enum": ["a", "b", 3]}, "uniqueItems": true)";
  expect(three + "}", {"[]", "[3]", R"(["a","b",3])", R"([3, "a", "b"])", R"(["b","a"])"},
         {R"(["a","a"])", R"([3,"b",3])", R"(["c"])", R"(["a","b",3,"a"])", "[,3]", R"(["a",])"});
  expect(three + R"(, "minItems": 2, "maxItems": 2})", {R"(["a",3])", R"([3,"a"])"},
         {"[]", "[3]", R"(["a","b",3])", R"(["a","a"])"});
  expect(
      R"({"type": "array", "items": {"anyOf": [{"type": "boolean"}, {"type": "null"}, {"$ref": "#/$defs/n"}]}, "uniqueItems": true, "$defs": {"n": {"type": "integer", "minimum": 1, "maximum": 2}}})",
      {"[true,null,2,1,false]"}, {"[1,2,1]", "[null,null]"});
  // More than can be written in any order: in the schema's.
  std::string values, all, last;
  for (int i = 0; i < 40; ++i) values += (i ? "," : "") + std::to_string(i);
  const std::string many = R"({"type": "array", "items": {"enum": [)" + values + R"(]}, "uniqueItems": true)";
  expect(many + "}", {"[]", "[7]", "[0,3,39]", "[" + values + "]"}, {"[3,3]", "[3,0]", "[40]", "[39,39]"});
  expect(many + R"(, "minItems": 2, "maxItems": 3})", {"[0,1]", "[37,38,39]"}, {"[]", "[39]", "[0,1,2,3]", "[5,5]"});
  expect(many + R"(, "minItems": 40})", {"[" + values + "]"}, {"[0,1]"});
  expect(R"({"type": "array", "items": {"type": "string"}, "uniqueItems": true, "maxItems": 1})", {"[\"a\"]"}, {});
  expect_refusal(R"({"type": "array", "items": {"type": "boolean"}, "uniqueItems": true, "minItems": 3})",
                 "no value matches");
  // What cannot be enforced is said.
  const Made m = make(
      R"({"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "uniqueItems": true}}})");
  ASSERT_TRUE(m.grammar) << m.error;
  ASSERT_EQ(m.notes.size(), 1u);
  EXPECT_EQ(m.notes[0].rfind("#/properties/tags/uniqueItems: the grammar does not enforce it", 0), 0u) << m.notes[0];
  EXPECT_TRUE(is_document(*m.grammar, R"({"tags":["a","b"]})"));
}

TEST(Schema, PatternsWithLengths) {
  expect(R"({"type": "string", "pattern": "^[a-z]+$", "minLength": 1})", {"\"a\"", string_of(3000)}, {"\"\"", "\"A\""});
  expect(R"({"type": "string", "pattern": "^[a-z]+$", "minLength": 3, "maxLength": 5000})",
         {"\"xxx\"", string_of(5000)}, {"\"xx\"", string_of(5001)});
  expect(R"({"type": "string", "pattern": "^[A-Z][a-z]*\\.$", "maxLength": 6})", {"\"A.\"", "\"Aaaaa.\""},
         {"\"Aaaaaa.\"", "\".\""});
  expect(R"({"type": "string", "pattern": "^(foo|ba)+$", "minLength": 5, "maxLength": 7})",
         {"\"foofoo\"", "\"bafoo\"", "\"bababa\"", "\"foobaba\"", "\"foobaba\""},
         {"\"foo\"", "\"baba\"", "\"foofooba\"", "\"foofo\""});
  expect(R"({"type": "string", "pattern": "b", "minLength": 2, "maxLength": 3})",
         {"\"ab\"", "\"b\xC3\xA9x\"", "\"\\n\\\"b\""}, {"\"b\"", "\"aa\"", "\"abcd\""});
  expect(R"({"type": "string", "pattern": "^\\w+@\\w+$", "maxLength": 40})",
         {"\"a@b\"", "\"" + std::string(38, 'a') + "@b\""}, {"\"" + std::string(39, 'a') + "@b\"", "\"ab\""});
  expect(R"({"type": "string", "pattern": "^\\w+@\\w+$", "minLength": 10})",
         {"\"abcdefgh@b\"", "\"" + std::string(300, 'a') + "@b\""}, {"\"abcdefg@b\""});
  expect(R"({"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "z$"}, {"maxLength": 4}]})",
         {"\"az\"", "\"abbz\""}, {"\"a\"", "\"z\"", "\"abbbz\""});
  expect(R"({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083})", {"\"https://a.b/c\""}, {"\"\""});
  expect(R"({"type": "string", "format": "date", "maxLength": 10})", {"\"2024-02-28\""}, {"\"2024-02-30\""});
  expect(R"({"type": "string", "format": "email", "maxLength": 9})", {"\"a@b.cd\"", "\"abc@de.fg\""},
         {"\"abcd@de.fg\"", "\"abc\""});
  expect_refusal(R"({"type": "string", "pattern": "^[a-z]{2}$", "minLength": 3})", "no value matches");
  expect_refusal(R"({"type": "string", "pattern": "^(a{1000}b)*(cd|e)*$", "minLength": 5000, "maxLength": 5100})",
                 "#/pattern: patterns and lengths together are too large");
  expect_refusal(R"({"properties": {"a": {"pattern": "(?<=a)b"}}})", "#/properties/a/pattern: pattern \"(?<=a)b\": ");
  expect_refusal(R"({"type": "string", "pattern": "a\\b"})", "\\b cannot be expressed");
}

TEST(Schema, LengthsAreCounted) {
  for (const auto& [least, most] : std::vector<std::pair<size_t, size_t>>{{0, 12},
                                                                          {3, 40},
                                                                          {0, 1000},
                                                                          {1000, 1000},
                                                                          {999, 1001},
                                                                          {0, 50000},
                                                                          {50001, 50002},
                                                                          {2, 100000},
                                                                          {100000, 100000}}) {
    const std::string schema = "{\"type\": \"string\", \"minLength\": " + std::to_string(least) +
                               ", \"maxLength\": " + std::to_string(most) + "}";
    Texts wrong{string_of(most + 1), string_of(most + 77)};
    if (least) wrong.insert(wrong.end(), {string_of(least - 1), "\"\""});
    expect(schema, {string_of(least), string_of((least + most) / 2), string_of(most)}, wrong);
  }
  // Counted in characters, with escapes.
  std::string two;
  for (int i = 0; i < 500; ++i) two += "\xF0\x9F\x98\x80\\n";
  expect(R"({"type": "string", "minLength": 1000, "maxLength": 1000})", {"\"" + two + "\""},
         {"\"" + two + "x\"", "\"" + two.substr(4) + "\""});
  expect(R"({"type": "array", "items": {"type": "integer"}, "minItems": 700, "maxItems": 900})", {}, {"[]", "[1,2]"});
  std::string items = "1";
  for (int i = 1; i < 900; ++i) items += ",1";
  expect(R"({"type": "array", "items": {"type": "integer"}, "minItems": 900, "maxItems": 901})",
         {"[" + items + "]", "[" + items + ",2]"}, {"[" + items + ",2,2]", "[" + items.substr(2) + "]"});
}

// Sums of lengths in one schema: what a grammar spells out would be far too large.
TEST(Schema, ManyLongStrings) {
  for (const auto& [count, most] : std::vector<std::pair<int, size_t>>{{8, 1000}, {100, 1000}, {70, 100}, {200, 500}}) {
    std::string properties, required, right, wrong;
    for (int i = 0; i < count; ++i) {
      const std::string name = "\"p" + std::to_string(i) + "\"", comma = i ? "," : "";
      properties += comma + name + ": {\"type\": \"string\", \"maxLength\": " + std::to_string(most) + "}";
      required += comma + name;
      right += comma + name + ":" + string_of(i % 3 ? most : 0);
      wrong += comma + name + ":" + string_of(i == count - 1 ? most + 1 : most);
    }
    expect("{\"type\": \"object\", \"properties\": {" + properties + "}, \"required\": [" + required + "]}",
           {"{" + right + "}"}, {"{" + wrong + "}"});
  }
  // Lists of lists of them.
  expect(
      R"({"type": "array", "maxItems": 300, "items": {"type": "array", "minItems": 2, "maxItems": 300, "items": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 500},
             "b": {"type": "string", "minLength": 500}}, "required": ["a", "b"]}}})",
      {"[]", R"([[{"a":")" + std::string(500, 'a') + R"(","b":)" + string_of(500) + R"(},{"a":"","b":)" +
                 string_of(700) + "}]]"},
      {"[[]]", R"([[{"a":"","b":)" + string_of(499) + "}]]"});
}

TEST(Schema, MessagesNameThePlace) {
  // Errors of the grammar too.
  std::string words;
  for (int i = 0; i < 8000; ++i)
    words +=
        (i ? ",\"" : "\"") + std::to_string(i * 7919) + std::string(30, char('a' + i % 26)) + std::to_string(i) + "\"";
  expect_refusal(
      R"({"type": "object", "properties": {"small": {"type": "string", "maxLength": 20}, "large one": {"enum": [)" +
          words + "]}}}",
      "#/properties/large one/enum");
  expect_refusal(R"({"properties": {"a": {"pattern": "^[ab]*a[ab]{18}$"}}})", "#/properties/a/pattern");
  expect_refusal("{\"type\": \"object\", \n\"properties\": {]}", "it is not JSON: line 2");
  expect_refusal(R"({"properties": {"a": {"type": "string", "maxLength": -1}}})",
                 "#/properties/a/maxLength: it is no count");
  expect_refusal(R"({"properties": {"a": {"allOf": [{"required": 3}, {"required": ["x"]}]}}})", "#/properties/a");
  expect_refusal(R"({"properties": {"a": {"$ref": "other.json"}}})", "#/properties/a/$ref: \"other.json\"");
  expect_refusal(R"({"properties": {")" + std::string(5000, 'n') + "\": {\"type\": \"x\"}}}",
                 "/type: unknown type \"x\"");
  EXPECT_LT(make(R"({"properties": {")" + std::string(5000, 'n') + "\": {\"type\": \"x\"}}}").error.size(), 400u);
}

// Names that are written in two ways, long ones, and others beside them.
TEST(Schema, OtherNames) {
  expect(
      R"({"type": "object", "properties": {"a/b": {"type": "integer"}, "a": {"type": "integer"}, "": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}})",
      {R"({"a/b":1,"a":2,"":3,"ab":true})", R"({"a/":true})", R"({"b":true})"},
      {R"({"a\/b":true})", R"({"a":true})", R"({"":true})"});
  const std::string name(700, 'n');
  expect(R"({"type": "object", "properties": {")" + name +
             R"(": {"type": "integer"}}, "additionalProperties": {"type": "boolean"}})",
         {"{\"" + name + "\":1,\"" + name + "n\":true}", "{\"nn\":true}"}, {"{\"" + name + "\":true}"});
}

std::string nested(int n, const std::string& open, const std::string& inner, const std::string& close) {
  std::string out;
  for (int i = 0; i < n; ++i) out += open;
  out += inner;
  for (int i = 0; i < n; ++i) out += close;
  return out;
}

// The header's depths: 500 brackets, 200 schemas.
TEST(Schema, Depth) {
  for (const auto& [open, close] :
       std::vector<std::pair<std::string, std::string>>{{R"({"type":"object","properties":{"a":)", "}}"},
                                                        {R"({"anyOf":[)", "]}"},
                                                        {R"({"allOf":[)", "]}"},
                                                        {R"({"type":"array","items":)", "}"},
                                                        {R"({"not":)", "}"},
                                                        {R"({"type":"array","prefixItems":[)", "]}"}}) {
    const bool is_not = open == R"({"not":)";
    if (!is_not)
      EXPECT_TRUE(make(nested(199, open, "{\"type\":\"string\"}", close)).grammar)
          << open << make(nested(199, open, "{\"type\":\"string\"}", close)).error;
    for (const int n : {201, 400, 3000, test::kIsSlow ? 10000 : 100000}) {
      if (n == 201 && open == R"({"allOf":[)") continue;  // only brackets bound these
      const std::string error = make(nested(n, open, "{}", close)).error;
      EXPECT_TRUE(error.find(" deep") != std::string::npos || (is_not && error.find("/not") != std::string::npos))
          << open << n << error.substr(0, 300);
    }
  }
  for (const char* const bracket : {"[", "{\"a\":"})
    EXPECT_NE(make(nested(100000, bracket, "", "")).error.find("more than 500 deep"), std::string::npos);
  EXPECT_TRUE(make("{\"default\": " + nested(499, "[", "", "]") + "}").grammar);
  EXPECT_NE(make("{\"default\": " + nested(500, "[", "", "]") + "}").error.find("more than 500 deep"),
            std::string::npos);
  EXPECT_TRUE(make("{\"description\": \"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\"}").grammar);
  // References in chains and circles.
  for (const int n : {190, 250}) {
    std::string defs;
    for (int i = 0; i < n; ++i)
      defs += "\"d" + std::to_string(i) + "\": {\"$ref\": \"#/$defs/d" + std::to_string(i + 1) + "\"},";
    const Made m = make("{\"$ref\": \"#/$defs/d0\", \"$defs\": {" + defs + "\"d" + std::to_string(n) +
                        "\": {\"type\": \"null\"}}}");
    EXPECT_EQ(bool(m.grammar), n == 190) << m.error;
  }
  expect_refusal(R"({"allOf": [{"$ref": "#"}, {"type": "string"}]})", "more than 200 deep");
  expect_refusal(R"({"$ref": "#"})", "no text matches");
  expect(R"({"type": "object", "properties": {"next": {"$ref": "#"}}})", {nested(150, "{\"next\":", "{}", "}")}, {"1"});
  // Alternatives of alternatives end in time.
  std::string defs;
  for (int i = 0; i < 40; ++i)
    defs += "\"d" + std::to_string(i) +
            "\": {\"anyOf\": [{\"title\": \"a\", \"minimum\": 1, \"allOf\": [{\"$ref\": \"#/$defs/d" +
            std::to_string(i + 1) + "\"}]}, {\"minimum\": 2, \"allOf\": [{\"$ref\": \"#/$defs/d" +
            std::to_string(i + 1) + "\"}]}]},";
  expect_refusal("{\"$ref\": \"#/$defs/d0\", \"$defs\": {" + defs + "\"d40\": {\"type\": \"integer\"}}}", "multiply");
}

}  // namespace
}  // namespace runnel::convert
