#include <algorithm>
#include <initializer_list>

#include "converter/text/jinja.h"
#include "text/chat_program.h"

namespace runnel::convert::jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}
  std::vector<NodePtr> run() { return statements({}); }

 private:
  const Lexeme& now() const { return tokens_[at_]; }
  int line() const { return now().line; }
  [[noreturn]] void fail(const std::string& what) const { throw TemplateError(line(), what); }
  bool is(Token kind, std::string_view text) const { return now().kind == kind && now().text == text; }
  bool is_op(std::string_view text) const { return is(Token::kOperator, text); }
  bool is_name(std::string_view text) const { return is(Token::kName, text); }
  bool take(Token kind, std::string_view text) {
    if (!is(kind, text)) return false;
    ++at_;
    return true;
  }
  bool take_op(std::string_view text) { return take(Token::kOperator, text); }
  bool take_name(std::string_view text) { return take(Token::kName, text); }
  void expect_op(std::string_view text) {
    if (!take_op(text)) fail("\"" + std::string(text) + "\" is missing before \"" + now().text + "\"");
  }
  std::string name() {
    if (now().kind != Token::kName) fail("a name is missing");
    return tokens_[at_++].text;
  }
  void end_of_block() {
    if (now().kind != Token::kBlockEnd) fail("\"" + now().text + "\" is not expected here");
    ++at_;
  }
  template <class... Parts>
  NodePtr make(Kind kind, int at, std::string text, Parts... parts) {
    if (++terms_ > kMaxTemplateTerms)
      fail("an expression of more than " + std::to_string(kMaxTemplateTerms) + " parts");
    NodePtr n = std::make_unique<Node>(kind, at, std::move(text));
    (n->parts.push_back(std::move(parts)), ...);
    return n;
  }

  std::vector<NodePtr> statements(std::initializer_list<std::string_view> ends);
  NodePtr statement(const std::string& keyword, int at);
  NodePtr if_statement(int at);
  NodePtr for_statement(int at);
  NodePtr set_statement(int at);
  NodePtr macro(int at);
  void finish(const char* end) {
    if (!take_name(end)) fail(std::string(end) + " is missing");
    end_of_block();
  }

  NodePtr tuple(bool with_conditional = true);
  NodePtr expression() { return conditional(); }
  NodePtr conditional();
  NodePtr any_of();
  NodePtr all_of();
  NodePtr negation();
  NodePtr comparison();
  NodePtr sum();
  NodePtr concat();
  NodePtr product();
  NodePtr power();
  NodePtr unary(bool with_filter = true);
  NodePtr primary();
  NodePtr postfix(NodePtr node);
  NodePtr subscript(NodePtr node);
  NodePtr filters(NodePtr node);
  NodePtr filter(NodePtr node);
  NodePtr test(NodePtr node);
  void arguments(Node* call);

  std::vector<Lexeme> tokens_;
  size_t at_ = 0;
  int depth_ = 0, terms_ = 0;
};

struct Deeper {
  int& depth;
  Deeper(int& d, int line) : depth(d) {
    if (++depth > kMaxTemplateDepth)
      throw TemplateError(line, "expressions or blocks too deep in each other, more than " +
                                    std::to_string(kMaxTemplateDepth));
  }
  ~Deeper() { --depth; }
};

// Statements up to a block tag that begins with one of `ends`, whose keyword is the next token then.
std::vector<NodePtr> Parser::statements(std::initializer_list<std::string_view> ends) {
  const Deeper deeper(depth_, line());
  std::vector<NodePtr> out;
  while (now().kind != Token::kEnd) {
    const int at = line();
    terms_ = 0;
    if (now().kind == Token::kData) {
      out.push_back(make(Kind::kOutput, at, "", make(Kind::kText, at, now().text)));
      ++at_;
    } else if (now().kind == Token::kVariableBegin) {
      ++at_;
      out.push_back(make(Kind::kOutput, at, "", tuple()));
      if (now().kind != Token::kVariableEnd) fail("\"" + now().text + "\" is not expected here");
      ++at_;
    } else {
      ++at_;
      for (const std::string_view end : ends)
        if (is_name(end)) return out;
      if (NodePtr n = statement(name(), at)) out.push_back(std::move(n));
    }
  }
  if (ends.size()) fail(std::string(*(ends.end() - 1)) + " is missing");
  return out;
}

NodePtr Parser::statement(const std::string& keyword, int at) {
  if (keyword == "if") return if_statement(at);
  if (keyword == "for") return for_statement(at);
  if (keyword == "set") return set_statement(at);
  if (keyword == "macro") return macro(at);
  if (keyword == "break" || keyword == "continue") {
    end_of_block();
    return make(keyword == "break" ? Kind::kBreak : Kind::kContinue, at, "");
  }
  if (keyword == "generation") {
    end_of_block();
    NodePtr n = make(Kind::kScope, at, "");
    n->body = statements({"endgeneration"});
    finish("endgeneration");
    return n;
  }
  if (keyword == "filter") {
    NodePtr n = make(Kind::kFilterBlock, at, "", filter(nullptr));
    while (is_op("|")) n->parts[0] = filters(std::move(n->parts[0]));
    end_of_block();
    n->body = statements({"endfilter"});
    finish("endfilter");
    return n;
  }
  if (keyword == "with") {
    NodePtr n = make(Kind::kScope, at, "");
    std::vector<NodePtr> sets;
    while (now().kind != Token::kBlockEnd) {
      NodePtr set = make(Kind::kSet, line(), "");
      set->names.push_back(name());
      expect_op("=");
      set->parts.push_back(expression());
      sets.push_back(std::move(set));
      if (!take_op(",")) break;
    }
    end_of_block();
    n->body = statements({"endwith"});
    finish("endwith");
    n->body.insert(n->body.begin(), std::make_move_iterator(sets.begin()), std::make_move_iterator(sets.end()));
    return n;
  }
  throw TemplateError(at, "the statement \"" + keyword + "\" is not supported");
}

NodePtr Parser::if_statement(int at) {
  NodePtr first = make(Kind::kIf, at, "", tuple(false));
  end_of_block();
  Node* last = first.get();
  int branches = 0;
  for (;;) {
    last->body = statements({"elif", "else", "endif"});
    if (take_name("elif")) {
      terms_ = 0;
      if (++branches > kMaxTemplateBranches)
        fail("more than " + std::to_string(kMaxTemplateBranches) + " elifs of one if");
      NodePtr next = make(Kind::kIf, line(), "", tuple(false));
      end_of_block();
      Node* inner = next.get();
      last->otherwise.push_back(std::move(next));
      last = inner;
      continue;
    }
    if (take_name("else")) {
      end_of_block();
      last->otherwise = statements({"endif"});
    }
    finish("endif");
    return first;
  }
}

NodePtr Parser::for_statement(int at) {
  NodePtr n = make(Kind::kFor, at, "");
  const bool is_wrapped = take_op("(");
  do n->names.push_back(name());
  while (take_op(","));
  if (is_wrapped) expect_op(")");
  if (!take_name("in")) fail("\"in\" is missing");
  n->parts.push_back(tuple(false));
  n->parts.push_back(take_name("if") ? expression() : nullptr);
  if (is_name("recursive")) fail("a recursive loop is not supported");
  end_of_block();
  n->body = statements({"else", "endfor"});
  if (take_name("else")) {
    end_of_block();
    n->otherwise = statements({"endfor"});
  }
  finish("endfor");
  return n;
}

NodePtr Parser::set_statement(int at) {
  NodePtr n = make(Kind::kSet, at, "");
  const bool is_wrapped = take_op("(");
  do n->names.push_back(name());
  while (take_op(","));
  if (is_wrapped) expect_op(")");
  if (n->names.size() == 1 && take_op(".")) n->name = name();
  if (take_op("=")) {
    n->parts.push_back(tuple());
    end_of_block();
    return n;
  }
  n->kind = Kind::kSetBlock;
  n->parts.push_back(nullptr);
  if (n->names.size() != 1) fail("a block set of several names");
  if (is_op("|")) n->parts[0] = filters(nullptr);
  end_of_block();
  n->body = statements({"endset"});
  finish("endset");
  return n;
}

NodePtr Parser::macro(int at) {
  NodePtr n = make(Kind::kMacro, at, name());
  expect_op("(");
  while (!is_op(")")) {
    std::string parameter = name();
    n->keywords.emplace_back(std::move(parameter), take_op("=") ? expression() : nullptr);
    if (!take_op(",")) break;
  }
  expect_op(")");
  end_of_block();
  n->body = statements({"endmacro"});
  finish("endmacro");
  return n;
}

NodePtr Parser::tuple(bool with_conditional) {
  const int at = line();
  NodePtr first = with_conditional ? expression() : any_of();
  if (!is_op(",")) return first;
  NodePtr n = make(Kind::kList, at, "", std::move(first));
  while (take_op(",")) {
    if (now().kind == Token::kBlockEnd || now().kind == Token::kVariableEnd || is_op(")")) break;
    n->parts.push_back(with_conditional ? expression() : any_of());
  }
  return n;
}

NodePtr Parser::conditional() {
  const Deeper deeper(depth_, line());
  NodePtr value = any_of();
  while (is_name("if")) {
    const int at = line();
    ++at_;
    NodePtr condition = any_of();
    NodePtr otherwise = take_name("else") ? conditional() : nullptr;
    value = make(Kind::kConditional, at, "", std::move(condition), std::move(value), std::move(otherwise));
  }
  return value;
}

NodePtr Parser::any_of() {
  NodePtr left = all_of();
  while (is_name("or")) {
    const int at = line();
    ++at_;
    left = make(Kind::kOr, at, "", std::move(left), all_of());
  }
  return left;
}

NodePtr Parser::all_of() {
  NodePtr left = negation();
  while (is_name("and")) {
    const int at = line();
    ++at_;
    left = make(Kind::kAnd, at, "", std::move(left), negation());
  }
  return left;
}

NodePtr Parser::negation() {
  if (!is_name("not")) return comparison();
  const Deeper deeper(depth_, line());
  const int at = line();
  ++at_;
  return make(Kind::kNot, at, "", negation());
}

NodePtr Parser::comparison() {
  const int at = line();
  NodePtr n = make(Kind::kCompare, at, "", sum());
  for (;;) {
    static constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
    const bool is_operator = now().kind == Token::kOperator && std::find(std::begin(kOperators), std::end(kOperators),
                                                                         now().text) != std::end(kOperators);
    if (is_operator) n->names.push_back(tokens_[at_++].text);
    else if (take_name("in")) n->names.push_back("in");
    else if (is_name("not") && tokens_[at_ + 1].kind == Token::kName && tokens_[at_ + 1].text == "in")
      at_ += 2, n->names.push_back("not in");
    else break;
    n->parts.push_back(sum());
  }
  return n->names.empty() ? std::move(n->parts[0]) : std::move(n);
}

NodePtr Parser::sum() {
  NodePtr left = concat();
  while (is_op("+") || is_op("-")) {
    const Lexeme& op = tokens_[at_++];
    left = make(Kind::kBinary, op.line, op.text, std::move(left), concat());
  }
  return left;
}

NodePtr Parser::concat() {
  NodePtr left = product();
  while (is_op("~")) {
    const int at = line();
    ++at_;
    left = make(Kind::kConcat, at, "", std::move(left), product());
  }
  return left;
}

NodePtr Parser::product() {
  NodePtr left = power();
  while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
    const Lexeme& op = tokens_[at_++];
    left = make(Kind::kBinary, op.line, op.text, std::move(left), power());
  }
  return left;
}

NodePtr Parser::power() {
  NodePtr left = unary();
  while (is_op("**")) {
    const int at = line();
    ++at_;
    left = make(Kind::kBinary, at, "**", std::move(left), unary());
  }
  return left;
}

NodePtr Parser::unary(bool with_filter) {
  const Deeper deeper(depth_, line());
  const int at = line();
  NodePtr n;
  if (take_op("-")) n = make(Kind::kNegative, at, "", unary(false));
  else if (take_op("+")) n = unary(false);
  else n = primary();
  n = postfix(std::move(n));
  return with_filter ? filters(std::move(n)) : std::move(n);
}

NodePtr Parser::primary() {
  const Lexeme& t = now();
  const int at = t.line;
  const auto plain = [&](chat::Plain p) {
    NodePtr n = make(Kind::kPlain, at, "");
    n->integer = int64_t(p);
    return n;
  };
  switch (t.kind) {
    case Token::kName:
      ++at_;
      if (t.text == "true" || t.text == "True") return plain(chat::Plain::kTrue);
      if (t.text == "false" || t.text == "False") return plain(chat::Plain::kFalse);
      if (t.text == "none" || t.text == "None") return plain(chat::Plain::kNone);
      return make(Kind::kName, at, t.text);
    case Token::kString: {
      NodePtr n = make(Kind::kText, at, "");
      while (now().kind == Token::kString) n->name += tokens_[at_++].text;
      return n;
    }
    case Token::kInteger: {
      NodePtr n = make(Kind::kInteger, at, "");
      n->integer = std::stoll(t.text);
      ++at_;
      return n;
    }
    case Token::kFloat: ++at_; return make(Kind::kUnsupported, at, "the fraction " + t.text);
    default: break;
  }
  if (take_op("(")) {
    NodePtr n = is_op(")") ? make(Kind::kList, at, "") : tuple();
    expect_op(")");
    return n;
  }
  if (take_op("[")) {
    NodePtr n = make(Kind::kList, at, "");
    while (!is_op("]")) {
      n->parts.push_back(expression());
      if (!take_op(",")) break;
    }
    expect_op("]");
    return n;
  }
  if (!take_op("{")) fail("an expression is missing before \"" + t.text + "\"");
  NodePtr n = make(Kind::kDict, at, "");
  while (!is_op("}")) {
    n->parts.push_back(expression());
    expect_op(":");
    n->parts.push_back(expression());
    if (!take_op(",")) break;
  }
  expect_op("}");
  return n;
}

NodePtr Parser::postfix(NodePtr node) {
  for (;;) {
    const int at = line();
    if (take_op(".")) {
      if (now().kind == Token::kInteger) {
        NodePtr key = make(Kind::kInteger, at, "");
        key->integer = std::stoll(tokens_[at_++].text);
        node = make(Kind::kIndex, at, "", std::move(node), std::move(key));
      } else {
        node = make(Kind::kAttribute, at, name(), std::move(node));
      }
    } else if (take_op("[")) {
      node = subscript(std::move(node));
    } else if (is_op("(")) {
      node = make(Kind::kCall, at, "", std::move(node));
      arguments(node.get());
    } else {
      return node;
    }
  }
}

NodePtr Parser::subscript(NodePtr node) {
  const int at = line();
  NodePtr bounds[3];
  int n = 0;
  bool is_slice = false;
  for (;;) {
    if (!is_op(":") && !is_op("]")) bounds[n] = expression();
    if (n == 2 || !take_op(":")) break;
    is_slice = true;
    ++n;
  }
  expect_op("]");
  if (is_slice)
    return make(Kind::kSlice, at, "", std::move(node), std::move(bounds[0]), std::move(bounds[1]),
                std::move(bounds[2]));
  if (!bounds[0]) fail("an index is missing");
  return make(Kind::kIndex, at, "", std::move(node), std::move(bounds[0]));
}

NodePtr Parser::filters(NodePtr node) {
  for (;;) {
    if (is_op("|")) {
      ++at_;
      node = filter(std::move(node));
    } else if (is_name("is")) {
      ++at_;
      node = test(std::move(node));
    } else if (is_op("(") && node) {
      node = make(Kind::kCall, line(), "", std::move(node));
      arguments(node.get());
    } else {
      return node;
    }
  }
}

NodePtr Parser::filter(NodePtr node) {
  NodePtr n = make(Kind::kFilter, line(), name(), std::move(node));
  while (take_op(".")) n->name += "." + name();
  if (is_op("(")) arguments(n.get());
  return n;
}

NodePtr Parser::test(NodePtr node) {
  const int at = line();
  const bool is_negated = take_name("not");
  NodePtr n = make(Kind::kTest, at, name(), std::move(node));
  const bool is_value = now().kind == Token::kName || now().kind == Token::kString || now().kind == Token::kInteger ||
                        now().kind == Token::kFloat || is_op("[") || is_op("{");
  if (is_op("(")) {
    arguments(n.get());
  } else if (is_value && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fail("tests in a row");
    // `if` and `not` behind a test end it in templates that Jinja takes; it would read them as names.
    if (!is_name("if") && !is_name("not")) n->parts.push_back(postfix(primary()));
  }
  return is_negated ? make(Kind::kNot, at, "", std::move(n)) : std::move(n);
}

void Parser::arguments(Node* call) {
  expect_op("(");
  while (!is_op(")")) {
    if (is_op("*") || is_op("**")) fail("arguments from a list are not supported");
    if (now().kind == Token::kName && tokens_[at_ + 1].kind == Token::kOperator && tokens_[at_ + 1].text == "=") {
      std::string keyword = name();
      ++at_;
      call->keywords.emplace_back(std::move(keyword), expression());
    } else {
      if (!call->keywords.empty()) fail("an argument without a name behind one with a name");
      call->parts.push_back(expression());
    }
    if (!take_op(",")) break;
  }
  expect_op(")");
}

}  // namespace

std::vector<NodePtr> parse(std::string_view source) { return Parser(source).run(); }

}  // namespace runnel::convert::jinja
