// A schema as the rules of a grammar: one walk over the schema, from the root.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "schema/merge.h"
#include "schema/schema_parts.h"

namespace rnl::schema {

class Compiler {
 public:
  explicit Compiler(const Json& root) : root_(root) {}
  std::string grammar();
  // What the grammar does not ensure.
  const std::vector<std::string>& notes() const { return notes_; }
  // The place that is being looked at.
  const std::string& place() const { return place_; }

 private:
  static uint64_t count(const Json& s, const char* key, const std::string& where, uint64_t missing);
  static std::string text(const Json& s, const char* key, const std::string& where);
  // Rules carry the place that they were made for as a note.
  std::string name() { return "s" + std::to_string(next_++); }
  void add_rule(const std::string& name, const std::string& body, const std::string& where);
  std::string rule(const std::string& body, const std::string& where);
  void note(const std::string& where, const std::string& what);

  Expression visit(const Json& given, const std::string& where);
  Expression visit_object(const Json& given, const std::string& where);
  Expression without_not(Json s, const std::string& where);
  Expression reference(const std::string& to, const std::string& where);
  const Json& find(const std::string& to, const std::string& where) const;
  // Without references and allOf at its top.
  Json resolved(Json s, const std::string& where) const;
  Expression alternatives(Json s, const std::string& key, const std::string& where);
  Expression values(const Json& s, const std::string& where);
  Expression typed(const Json& s, const std::string& where);
  Expression string(const Json& s, const std::string& where);
  Expression number(const Json& s, bool integer, const std::string& where);

  // containers.cpp
  struct Property {
    std::string text;
    bool required;
  };
  Expression object(const Json& s, const std::string& where);
  std::string members(const std::vector<Property>& all, const std::string& more, const std::string& where);
  void check_name(const Json& names, const std::string& name, const std::string& where) const;
  Expression array(const Json& s, const std::string& where);
  bool unique(const Json& items, uint64_t least, uint64_t most, const std::string& where, Expression* out);
  std::string in_any_order(const std::vector<Json>& values, uint64_t least, uint64_t most, const std::string& where);
  std::string in_this_order(const std::vector<Json>& values, uint64_t least, uint64_t most, const std::string& where);

  // values.cpp: whether a value is one of the schema's, and all values where these are few.
  bool holds(const Json& schema, const Json& value, const std::string& where, int depth = 0) const;
  bool holds_inside(const Json& s, const Json& value, const std::string& where, int depth) const;
  bool all_values(const Json& schema, const std::string& where, std::vector<Json>* out, int depth = 0) const;

  const Json& root_;
  std::string rules_, place_;
  std::map<std::string, std::string> references_;
  std::vector<std::string> notes_;
  int next_ = 0, depth_ = 0, visits_ = 0;
};

}  // namespace rnl::schema
