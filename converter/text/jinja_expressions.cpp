#include <algorithm>
#include <cstring>

#include "converter/text/jinja_compiler.h"

namespace runnel::convert::jinja {
namespace {

struct Deeper {
  int& depth;
  Deeper(int& d, const Node& n) : depth(d) {
    if (++depth > kMaxTemplateTerms)
      throw TemplateError(n.line, "an expression nested more than " + std::to_string(kMaxTemplateTerms) + " deep");
  }
  ~Deeper() { --depth; }
};

// Filters and methods that are one built-in. names: of the arguments behind the value, for those given by name.
// is_text: the filter takes anything, as text.
struct Simple {
  const char *name, *builtin, *names;
  bool is_text;
};
constexpr Simple kFilters[] = {
    {"trim", "strip", "chars", true},
    {"upper", "upper", "", true},
    {"lower", "lower", "", true},
    {"capitalize", "capitalize", "", true},
    {"replace", "replace", "old new count", true},
    {"string", "text", "", false},
    {"length", "length", "", false},
    {"count", "length", "", false},
    {"default", "default", "default_value boolean", false},
    {"d", "default", "default_value boolean", false},
    {"first", "first", "", false},
    {"last", "last", "", false},
    {"join", "join", "d", false},
    {"items", "items", "", false},
    {"list", "list", "", false},
    {"int", "int", "default", false},
    {"dictsort", "dictsort", "", false},
};
constexpr Simple kMethods[] = {
    {"strip", "strip", "", false},
    {"lstrip", "lstrip", "", false},
    {"rstrip", "rstrip", "", false},
    {"split", "split", "sep maxsplit", false},
    {"startswith", "startswith", "", false},
    {"endswith", "endswith", "", false},
    {"replace", "replace", "", false},
    {"upper", "upper", "", false},
    {"lower", "lower", "", false},
    {"title", "title", "", false},
    {"capitalize", "capitalize", "", false},
    {"find", "find", "", false},
    {"count", "count", "", false},
    {"items", "items", "", false},
    {"keys", "keys", "", false},
    {"values", "values", "", false},
    {"get", "get", "", false},
    {"format", "format", "", false},
};
constexpr Simple kFunctions[] = {{"range", "range", "", false},
                                 {"raise_exception", "raise_exception", "message", false},
                                 {"strftime_now", "strftime_now", "format", false}};
constexpr std::pair<const char*, const char*> kTests[] = {
    {"defined", "is_defined"},   {"none", "is_none"},
    {"string", "is_string"},     {"mapping", "is_mapping"},
    {"iterable", "is_iterable"}, {"sequence", "is_sequence"},
    {"number", "is_number"},     {"integer", "is_integer"},
    {"boolean", "is_boolean"},   {"true", "is_true"},
    {"false", "is_false"},       {"odd", "is_odd"},
    {"even", "is_even"},         {"divisibleby", "is_divisible"},
};
constexpr std::pair<const char*, const char*> kComparisons[] = {
    {"equalto", "=="},    {"eq", "=="}, {"==", "=="}, {"ne", "!="}, {"!=", "!="}, {"lt", "<"},
    {"lessthan", "<"},    {"<", "<"},   {"le", "<="}, {"<=", "<="}, {"gt", ">"},  {">", ">"},
    {"greaterthan", ">"}, {"ge", ">="}, {">=", ">="}, {"in", "in"}};
constexpr const char* kLoopFields[] = {"index",    "index0",    "first",    "last",    "length",
                                       "revindex", "revindex0", "previtem", "nextitem"};
constexpr const char* kItem = "\1item";

template <size_t N>
const Simple* row_of(const Simple (&rows)[N], const std::string& name) {
  for (const Simple& r : rows)
    if (name == r.name) return &r;
  return nullptr;
}

template <size_t N>
const char* paired(const std::pair<const char*, const char*> (&rows)[N], const std::string& name) {
  for (const auto& [from, to] : rows)
    if (name == from) return to;
  return nullptr;
}

NodePtr node(Kind kind, int line, const std::string& name) { return std::make_unique<Node>(kind, line, name); }

}  // namespace

void Compiler::builtin(const char* name, size_t arguments, int line) {
  static constexpr std::pair<const char*, uint32_t> kNumbers[] = {
#define RNL_CHAT_BUILTIN(number, name, fewest, most) {#name, number},
#include "text/chat_ops.inc"
  };
  for (const auto& [known, number] : kNumbers)
    if (std::strcmp(known, name) == 0) {
      emit(Op::kBuiltin, arguments << 16 | number, line);
      return;
    }
  throw TemplateError(line, std::string("the built-in ") + name);
}

void Compiler::expression(const Node& n) {
  const Deeper deeper(depth_, n);
  switch (n.kind) {
    case Kind::kText: emit(Op::kText, text(n.name), n.line); break;
    case Kind::kInteger:
      out_.program.integers.push_back(n.integer);
      emit(Op::kInteger, out_.program.integers.size() - 1, n.line);
      break;
    case Kind::kPlain: plain(Plain(n.integer), n.line); break;
    case Kind::kName:
      if (n.name == "loop" && find_local("loop") < 0 && !loops_.empty()) fail(n, "loop as a value");
      else if (is_macro(n.name)) fail(n, "the macro \"" + n.name + "\" as a value");
      else load(n.name, n.line);
      break;
    case Kind::kList:
    case Kind::kDict:
      for (const NodePtr& p : n.parts) expression(*p);
      emit(n.kind == Kind::kList ? Op::kList : Op::kDict, n.kind == Kind::kList ? n.parts.size() : n.parts.size() / 2,
           n.line);
      break;
    case Kind::kAttribute: attribute(n); break;
    case Kind::kIndex:
      expression(*n.parts[0]);
      expression(*n.parts[1]);
      emit(Op::kIndex, 0, n.line);
      break;
    case Kind::kSlice:
      for (const NodePtr& p : n.parts)
        if (p) expression(*p);
        else plain(Plain::kNone, n.line);
      emit(Op::kSlice, 0, n.line);
      break;
    case Kind::kCall: call(n); break;
    case Kind::kFilter: filter(n); break;
    case Kind::kTest: test(n); break;
    case Kind::kNot:
    case Kind::kNegative:
      expression(*n.parts[0]);
      emit(n.kind == Kind::kNot ? Op::kNot : Op::kNegative, 0, n.line);
      break;
    case Kind::kBinary: binary(n); break;
    case Kind::kCompare: compare(n); break;
    case Kind::kAnd:
    case Kind::kOr: {
      expression(*n.parts[0]);
      const size_t skip = emit(n.kind == Kind::kAnd ? Op::kJumpIfFalseKeep : Op::kJumpIfTrueKeep, 0, n.line);
      expression(*n.parts[1]);
      patch(skip);
      break;
    }
    case Kind::kConditional: {
      expression(*n.parts[0]);
      const size_t skip = emit(Op::kJumpIfFalse, 0, n.line);
      expression(*n.parts[1]);
      const size_t end = emit(Op::kJump, 0, n.line);
      patch(skip);
      if (n.parts[2]) expression(*n.parts[2]);
      else plain(Plain::kUndefined, n.line);
      patch(end);
      break;
    }
    case Kind::kConcat:
      expression(*n.parts[0]);
      expression(*n.parts[1]);
      emit(Op::kConcat, 0, n.line);
      break;
    case Kind::kUnsupported: fail(n, n.name); break;
    default: throw TemplateError(n.line, "not an expression");
  }
}

void Compiler::binary(const Node& n) {
  const Op op = n.name == "+"    ? Op::kAdd
                : n.name == "-"  ? Op::kSubtract
                : n.name == "*"  ? Op::kMultiply
                : n.name == "//" ? Op::kFloorDivide
                : n.name == "%"  ? Op::kModulo
                                 : Op::kFail;
  if (op == Op::kFail) return fail(n, "the operator " + n.name);
  expression(*n.parts[0]);
  expression(*n.parts[1]);
  emit(op, 0, n.line);
}

void Compiler::compare_op(const std::string& op, int line) {
  const Op code = op == "=="   ? Op::kEqual
                  : op == "!=" ? Op::kNotEqual
                  : op == "<"  ? Op::kLess
                  : op == "<=" ? Op::kLessEqual
                  : op == ">"  ? Op::kGreater
                  : op == ">=" ? Op::kGreaterEqual
                               : Op::kContains;
  emit(code, 0, line);
  if (op == "not in") emit(Op::kNot, 0, line);
}

void Compiler::compare(const Node& n) {
  expression(*n.parts[0]);
  std::vector<size_t> early;
  for (size_t i = 0; i < n.names.size(); ++i) {
    expression(*n.parts[i + 1]);
    const bool is_last = i + 1 == n.names.size();
    if (!is_last) emit(Op::kOver, 0, n.line);
    compare_op(n.names[i], n.line);
    if (!is_last) early.push_back(emit(Op::kJumpIfFalseKeep, 0, n.line));
  }
  if (early.empty()) return;
  const size_t end = emit(Op::kJump, 0, n.line);
  for (const size_t e : early) patch(e);
  emit(Op::kSwap, 0, n.line);
  emit(Op::kPop, 0, n.line);
  patch(end);
}

void Compiler::attribute(const Node& n) {
  const Node& object = *n.parts[0];
  if (object.kind == Kind::kName && object.name == "loop" && !loops_.empty() && find_local("loop") < 0) {
    const auto* field = std::find(std::begin(kLoopFields), std::end(kLoopFields), n.name);
    if (field == std::end(kLoopFields)) return fail(n, "loop." + n.name);
    emit(Op::kLoopField, size_t(field - std::begin(kLoopFields)), n.line);
    return;
  }
  expression(object);
  emit(Op::kAttribute, text(n.name), n.line);
}

int Compiler::arguments(const Node& n, size_t first, const char* names) {
  std::vector<const Node*> values;
  for (size_t i = first; i < n.parts.size(); ++i) values.push_back(n.parts[i].get());
  for (const auto& [keyword, value] : n.keywords) {
    size_t at = 0;
    const char* p = names;
    for (; *p; ++at) {
      const size_t length = std::strcspn(p, " ");
      if (keyword.size() == length && keyword.compare(0, length, p, length) == 0) break;
      p += length + (p[length] == ' ');
    }
    if (!*p || (at < values.size() && values[at])) return -1;
    if (at >= values.size()) values.resize(at + 1);
    values[at] = value.get();
  }
  for (const Node* v : values)
    if (v) expression(*v);
    else plain(Plain::kUndefined, n.line);
  return int(values.size());
}

void Compiler::call(const Node& n) {
  const Node& target = *n.parts[0];
  if (target.kind == Kind::kAttribute) return call_method(n);
  if (target.kind != Kind::kName) return fail(n, "a call of a value");
  if (is_macro(target.name)) return call_macro(n);
  if (find_local(target.name) >= 0) return fail(n, "a call of the variable \"" + target.name + "\"");
  const size_t given = n.parts.size() - 1;
  if (target.name == "namespace" || target.name == "dict") {
    if (given > 1 || (given == 1 && !n.keywords.empty())) return fail(n, target.name + " of several values");
    if (given == 1) {
      expression(*n.parts[1]);
    } else {
      for (const auto& [keyword, value] : n.keywords) {
        emit(Op::kText, text(keyword), n.line);
        expression(*value);
      }
      emit(Op::kDict, n.keywords.size(), n.line);
    }
    if (target.name == "namespace") builtin("namespace", 1, n.line);
    return;
  }
  const Simple* f = row_of(kFunctions, target.name);
  if (!f) return fail(n, "the function \"" + target.name + "\"");
  const int count = arguments(n, 1, f->names);
  if (count < 0) return fail(n, "an argument of \"" + target.name + "\"");
  builtin(f->builtin, size_t(count), n.line);
}

void Compiler::call_macro(const Node& n) {
  const Macro& m = macros_.at(n.parts[0]->name);
  const auto& parameters = m.node->keywords;
  if (n.parts.size() - 1 > parameters.size())
    throw TemplateError(n.line, "the macro \"" + m.node->name + "\" has fewer parameters");
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Node* value = i + 1 < n.parts.size() ? n.parts[i + 1].get() : nullptr;
    for (const auto& [keyword, given] : n.keywords)
      if (keyword == parameters[i].first) value = given.get();
    if (value) expression(*value);
    else plain(Plain::kMissing, n.line);
  }
  for (const auto& [keyword, given] : n.keywords)
    if (std::none_of(parameters.begin(), parameters.end(), [&, k = keyword](const auto& p) { return p.first == k; }))
      throw TemplateError(n.line, "the macro \"" + m.node->name + "\" has no parameter \"" + keyword + "\"");
  emit(Op::kCall, m.index, n.line);
}

void Compiler::call_method(const Node& n) {
  const Node& target = *n.parts[0];
  if (target.parts[0]->kind == Kind::kName && target.parts[0]->name == "loop" && !loops_.empty())
    return fail(n, "loop." + target.name);
  const size_t given = n.parts.size() - 1;
  if (target.name == "join" && given == 1 && n.keywords.empty()) {
    expression(*n.parts[1]);
    expression(*target.parts[0]);
    return builtin("join", 2, n.line);
  }
  const Simple* m = row_of(kMethods, target.name);
  if (!m) return fail(n, "the method \"" + target.name + "\"");
  expression(*target.parts[0]);
  const int count = arguments(n, 1, m->names);
  if (count < 0) return fail(n, "an argument of \"" + target.name + "\"");
  builtin(m->builtin, 1 + size_t(count), n.line);
}

void Compiler::filter(const Node& n) {
  // Without an operand the value is on the stack: the filter of a block.
  if (n.parts[0]) expression(*n.parts[0]);
  if (n.name == "map" || n.name == "select" || n.name == "reject" || n.name == "selectattr" || n.name == "rejectattr")
    return filter_elements(n);
  const size_t given = n.parts.size() - 1 + n.keywords.size();
  if (n.name == "safe" && given == 0) return;
  if (n.name == "reverse" && given == 0) {
    plain(Plain::kNone, n.line);
    plain(Plain::kNone, n.line);
    out_.program.integers.push_back(-1);
    emit(Op::kInteger, out_.program.integers.size() - 1, n.line);
    emit(Op::kSlice, 0, n.line);
    return;
  }
  if (n.name == "title" && given == 0) {
    builtin("text", 1, n.line);
    plain(Plain::kTrue, n.line);
    return builtin("title", 2, n.line);
  }
  if (n.name == "tojson") {
    const auto is_default = [](const auto& k) {
      const Plain wanted = k.first == "ensure_ascii" ? Plain::kFalse : Plain::kNone;
      return (k.first == "ensure_ascii" || k.first == "indent") && k.second->kind == Kind::kPlain &&
             Plain(k.second->integer) == wanted;
    };
    if (n.parts.size() > 1 || !std::all_of(n.keywords.begin(), n.keywords.end(), is_default))
      return fail(n, "an argument of the filter \"tojson\"");
    return builtin("tojson", 1, n.line);
  }
  if (n.name == "join" && n.keywords.size() == 1 && n.keywords[0].first == "attribute" &&
      n.keywords[0].second->kind == Kind::kText) {
    NodePtr value = node(Kind::kAttribute, n.line, n.keywords[0].second->name);
    value->parts.push_back(node(Kind::kName, n.line, kItem));
    comprehension(nullptr, value.get(), n.line);
    if (n.parts.size() > 1) expression(*n.parts[1]);
    return builtin("join", n.parts.size(), n.line);
  }
  const Simple* f = row_of(kFilters, n.name);
  if (!f) return fail(n, "the filter \"" + n.name + "\"");
  if (f->is_text) builtin("text", 1, n.line);
  const int count = arguments(n, 1, f->names);
  if (count < 0) return fail(n, "an argument of the filter \"" + n.name + "\"");
  builtin(f->builtin, 1 + size_t(count), n.line);
}

void Compiler::filter_elements(const Node& n) {
  // Arguments once, before the loop.
  Names own;
  std::vector<std::string> held;
  const bool is_attribute_test = n.name == "selectattr" || n.name == "rejectattr";
  const bool by_keyword =
      n.name == "map" && n.parts.size() == 1 && n.keywords.size() == 1 && n.keywords[0].first == "attribute";
  const size_t named = is_attribute_test ? 2 : 1;  // arguments that name an attribute, a test or a filter
  if (!by_keyword && !n.keywords.empty()) return fail(n, "an argument of the filter \"" + n.name + "\"");
  for (size_t i = 1; i < n.parts.size(); ++i)
    if (i <= named && n.parts[i]->kind != Kind::kText)
      return fail(n, "a name of the filter \"" + n.name + "\" that is computed");
  if (by_keyword && n.keywords[0].second->kind != Kind::kText) return fail(n, "an attribute that is computed");
  for (size_t i = 1 + named; i < n.parts.size(); ++i) {
    const std::string name = "\1argument" + std::to_string(i) + "." + std::to_string(locals_);
    expression(*n.parts[i]);
    own.emplace(name, local());
    emit(Op::kStoreLocal, own[name], n.line);
    held.push_back(name);
  }
  scopes_.push_back(std::move(own));
  NodePtr value = node(Kind::kName, n.line, kItem);
  const auto attribute_of = [&](const std::string& path) {
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find('.', begin), path.size());
      NodePtr inner = node(Kind::kAttribute, n.line, path.substr(begin, end - begin));
      inner->parts.push_back(std::move(value));
      value = std::move(inner);
      begin = end + 1;
    }
  };
  if (by_keyword) attribute_of(n.keywords[0].second->name);
  if (is_attribute_test && n.parts.size() > 1) attribute_of(n.parts[1]->name);
  if (!by_keyword && n.parts.size() > named) {
    NodePtr applied = node(n.name == "map" ? Kind::kFilter : Kind::kTest, n.line, n.parts[named]->name);
    applied->parts.push_back(std::move(value));
    for (const std::string& h : held) applied->parts.push_back(node(Kind::kName, n.line, h));
    value = std::move(applied);
  }
  if (n.name == "reject" || n.name == "rejectattr") {
    NodePtr negated = node(Kind::kNot, n.line, "");
    negated->parts.push_back(std::move(value));
    value = std::move(negated);
  }
  comprehension(n.name == "map" ? nullptr : value.get(), n.name == "map" ? value.get() : nullptr, n.line);
  close_scope();
}

void Compiler::comprehension(const Node* condition, const Node* value, int line) {
  // Anything that is false counts as an empty list.
  emit(Op::kList, 0, line);
  plain(Plain::kTrue, line);
  builtin("default", 3, line);
  const uint32_t item = local();
  scopes_.push_back({{kItem, item}});
  emit(Op::kLoopBegin, 0, line);
  emit(Op::kBuild, 0, line);
  const size_t next = emit(Op::kLoopNext, 0, line);
  emit(Op::kStoreLocal, item, line);
  if (condition) {
    expression(*condition);
    patch(emit(Op::kJumpIfFalse, 0, line), next);
  }
  if (value) expression(*value);
  else emit(Op::kLoadLocal, item, line);
  emit(Op::kAppend, 0, line);
  emit(Op::kJump, next, line);
  patch(next);
  emit(Op::kLoopEnd, 0, line);
  emit(Op::kBuilt, 0, line);
  close_scope();
}

void Compiler::test(const Node& n) {
  const Node& value = *n.parts[0];
  const bool is_known = value.kind == Kind::kName && find_local(value.name) < 0 &&
                        (macros_.count(value.name) || row_of(kFunctions, value.name) || value.name == "namespace");
  if ((n.name == "defined" || n.name == "undefined") && n.parts.size() == 1 && is_known)
    return plain(n.name == "defined" ? Plain::kTrue : Plain::kFalse, n.line);
  if (!n.keywords.empty()) return fail(n, "an argument of the test \"" + n.name + "\"");
  if (const char* op = paired(kComparisons, n.name)) {
    if (n.parts.size() != 2) throw TemplateError(n.line, "the test \"" + n.name + "\" without a value");
    expression(value);
    expression(*n.parts[1]);
    return compare_op(op, n.line);
  }
  const char* known = paired(kTests, n.name == "undefined" ? "defined" : n.name);
  if (!known) return fail(n, "the test \"" + n.name + "\"");
  for (const NodePtr& p : n.parts) expression(*p);
  if (n.parts.size() != (n.name == "divisibleby" ? 2u : 1u))
    throw TemplateError(n.line, "arguments of the test \"" + n.name + "\"");
  builtin(known, n.parts.size(), n.line);
  if (n.name == "undefined") emit(Op::kNot, 0, n.line);
}

}  // namespace runnel::convert::jinja
