#include "converter/text/jinja_compiler.h"

#include <algorithm>
#include <set>

namespace runnel::convert {
namespace jinja {
namespace {

constexpr size_t kMaxSource = size_t(1) << 20, kMaxOperand = size_t(1) << 24;

// Names that statements set in their own scope.
void collect(const std::vector<NodePtr>& nodes, std::set<std::string>* out) {
  for (const NodePtr& n : nodes) {
    if (n->kind == Kind::kSetBlock || (n->kind == Kind::kSet && n->name.empty()))
      out->insert(n->names.begin(), n->names.end());
    if (n->kind != Kind::kIf) continue;
    collect(n->body, out);
    collect(n->otherwise, out);
  }
}

}  // namespace

size_t Compiler::emit(Op op, size_t operand, int line) {
  if (operand >= kMaxOperand || out_.program.code.size() >= kMaxOperand)
    throw TemplateError(line, "the template is too large");
  out_.program.code.push_back(uint32_t(op) | uint32_t(operand) << 8);
  out_.program.lines.push_back(uint16_t(std::min(line, 0xFFFF)));
  return out_.program.code.size() - 1;
}

void Compiler::patch(size_t at, size_t target) {
  uint32_t& code = out_.program.code[at];
  code = (code & 0xFF) | uint32_t(target) << 8;
}

uint32_t Compiler::text(const std::string& s) {
  const auto [at, is_new] = texts_.emplace(s, uint32_t(out_.program.texts.size()));
  if (is_new) out_.program.texts.push_back(s);
  return at->second;
}

void Compiler::fail(const Node& n, const std::string& what) {
  out_.beyond.push_back("line " + std::to_string(n.line) + ": " + what);
  emit(Op::kFail, text(what + " is not supported"), n.line);
}

uint32_t Compiler::global(const std::string& name) {
  const auto [at, is_new] = globals_.emplace(name, uint32_t(out_.program.variables.size()));
  if (is_new) out_.program.variables.push_back(name);
  return at->second;
}

int64_t Compiler::find_local(const std::string& name) const {
  for (size_t i = scopes_.size(); i-- > 0;)
    if (const auto at = scopes_[i].find(name); at != scopes_[i].end()) return at->second;
  return -1;
}

void Compiler::load(const std::string& name, int line) {
  const int64_t slot = find_local(name);
  if (slot >= 0) emit(Op::kLoadLocal, size_t(slot), line);
  else emit(Op::kLoadGlobal, global(name), line);
}

void Compiler::store(const std::string& name, int line) {
  const int64_t slot = find_local(name);
  if (slot >= 0) emit(Op::kStoreLocal, size_t(slot), line);
  else emit(Op::kStoreGlobal, global(name), line);
}

void Compiler::open_scope(const std::vector<NodePtr>& body, const std::vector<std::string>& own, int line) {
  std::set<std::string> set;
  collect(body, &set);
  Names names;
  for (const std::string& name : own) names.emplace(name, local());
  for (const std::string& name : set) {
    if (names.count(name)) continue;
    load(name, line);
    names.emplace(name, local());
    emit(Op::kStoreLocal, names[name], line);
  }
  scopes_.push_back(std::move(names));
}

void Compiler::find_macros(const std::vector<NodePtr>& nodes) {
  for (const NodePtr& n : nodes) {
    if (n->kind == Kind::kIf) {
      find_macros(n->body);
      find_macros(n->otherwise);
    }
    if (n->kind != Kind::kMacro) continue;
    if (!macros_.emplace(n->name, Macro{uint32_t(macros_.size()), n.get()}).second)
      throw TemplateError(n->line, "the macro \"" + n->name + "\" is defined twice");
  }
}

void Compiler::statements(const std::vector<NodePtr>& nodes) {
  for (const NodePtr& n : nodes) statement(*n);
}

void Compiler::statement(const Node& n) {
  switch (n.kind) {
    case Kind::kOutput:
      if (n.parts[0]->kind == Kind::kText) {
        emit(Op::kWriteText, text(n.parts[0]->name), n.line);
      } else {
        expression(*n.parts[0]);
        emit(Op::kWrite, 0, n.line);
      }
      break;
    case Kind::kIf: if_statement(n); break;
    case Kind::kFor: for_statement(n); break;
    case Kind::kSet:
      expression(*n.parts[0]);
      if (!n.name.empty()) {
        load(n.names[0], n.line);
        emit(Op::kSetAttribute, text(n.name), n.line);
      } else {
        targets(n);
      }
      break;
    case Kind::kSetBlock:
      captured(n);
      store(n.names[0], n.line);
      break;
    case Kind::kFilterBlock:
      captured(n);
      emit(Op::kWrite, 0, n.line);
      break;
    case Kind::kScope:
      open_scope(n.body, {}, n.line);
      statements(n.body);
      close_scope();
      break;
    case Kind::kMacro:
      if (macros_.count(n.name) == 0 || macros_.at(n.name).node != &n)
        throw TemplateError(n.line, "a macro within a loop or a macro is not supported");
      break;
    case Kind::kBreak:
    case Kind::kContinue:
      if (loops_.empty()) throw TemplateError(n.line, "break or continue outside of a loop");
      if (loops_.back().captures != captures_)
        throw TemplateError(n.line, "break or continue within a block set is not supported");
      if (n.kind == Kind::kContinue) emit(Op::kJump, loops_.back().next, n.line);
      else loops_.back().breaks.push_back(emit(Op::kJump, 0, n.line));
      break;
    default: throw TemplateError(n.line, "not a statement");
  }
}

void Compiler::if_statement(const Node& n) {
  expression(*n.parts[0]);
  const size_t skip = emit(Op::kJumpIfFalse, 0, n.line);
  statements(n.body);
  if (n.otherwise.empty()) return patch(skip);
  const size_t end = emit(Op::kJump, 0, n.line);
  patch(skip);
  statements(n.otherwise);
  patch(end);
}

// The value on the stack goes to the names.
void Compiler::targets(const Node& n) {
  if (n.names.size() > 1) emit(Op::kUnpack, n.names.size(), n.line);
  for (const std::string& name : n.names) store(name, n.line);
}

void Compiler::for_statement(const Node& n) {
  expression(*n.parts[0]);
  const auto own_scope = [&] {
    Names own;
    for (const std::string& name : n.names) own.emplace(name, local());
    scopes_.push_back(std::move(own));
  };
  if (n.parts[1]) {
    // What the filter leaves, then the loop over it: loop.length counts that.
    own_scope();
    const uint32_t whole = local();
    emit(Op::kLoopBegin, 0, n.line);
    emit(Op::kBuild, 0, n.line);
    const size_t next = emit(Op::kLoopNext, 0, n.line);
    emit(Op::kStoreLocal, whole, n.line);
    emit(Op::kLoadLocal, whole, n.line);
    targets(n);
    loops_.push_back({{}, next, captures_});
    expression(*n.parts[1]);
    loops_.pop_back();
    patch(emit(Op::kJumpIfFalse, 0, n.line), next);
    emit(Op::kLoadLocal, whole, n.line);
    emit(Op::kAppend, 0, n.line);
    emit(Op::kJump, next, n.line);
    patch(next);
    emit(Op::kLoopEnd, 0, n.line);
    emit(Op::kBuilt, 0, n.line);
    close_scope();
  }
  emit(Op::kLoopBegin, 0, n.line);
  const size_t next = emit(Op::kLoopNext, 0, n.line);
  own_scope();
  targets(n);
  open_scope(n.body, n.names, n.line);
  // The targets live in the outer of the two scopes.
  for (const std::string& name : n.names) scopes_.back().erase(name);
  loops_.push_back({{}, next, captures_});
  statements(n.body);
  emit(Op::kJump, next, n.line);
  const LoopContext loop = loops_.back();
  loops_.pop_back();
  close_scope();
  close_scope();
  patch(next);
  for (const size_t b : loop.breaks) patch(b);
  if (!n.otherwise.empty()) emit(Op::kLoopField, size_t(chat::LoopField::kLength), n.line);
  emit(Op::kLoopEnd, 0, n.line);
  if (n.otherwise.empty()) return;
  emit(Op::kNot, 0, n.line);
  const size_t skip = emit(Op::kJumpIfFalse, 0, n.line);
  statements(n.otherwise);
  patch(skip);
}

void Compiler::captured(const Node& n) {
  emit(Op::kCapture, 0, n.line);
  ++captures_;
  open_scope(n.body, {}, n.line);
  statements(n.body);
  close_scope();
  --captures_;
  emit(Op::kCaptured, 0, n.line);
  if (n.parts[0]) expression(*n.parts[0]);
}

void Compiler::macro(const Macro& m) {
  const Node& n = *m.node;
  auto& entry = *out_.program.macros[m.index];
  entry.entry = uint32_t(out_.program.code.size());
  entry.parameters = uint32_t(n.keywords.size());
  std::vector<std::string> parameters;
  for (const auto& [name, value] : n.keywords) parameters.push_back(name);
  if (parameters.size() > 200) throw TemplateError(n.line, "a macro of so many parameters");
  locals_ = 0;
  scopes_ = {};
  loops_.clear();
  captures_ = 0;
  Names names;
  for (const std::string& p : parameters) names.emplace(p, local());
  if (names.size() != parameters.size()) throw TemplateError(n.line, "a parameter is named twice");
  scopes_.push_back(std::move(names));
  for (const auto& [name, value] : n.keywords) {
    const size_t at = emit(Op::kJumpIfGiven, 0, n.line);
    if (value) expression(*value);
    else plain(Plain::kUndefined, n.line);
    store(name, n.line);
    const size_t skip = out_.program.code.size() - at - 1;
    if (skip > 0xFFFF) throw TemplateError(n.line, "the default of a parameter is too long");
    patch(at, size_t(find_local(name)) << 16 | skip);
  }
  open_scope(n.body, {}, n.line);
  // Setting a parameter sets the parameter.
  for (const std::string& p : parameters) scopes_.back().erase(p);
  statements(n.body);
  close_scope();
  emit(Op::kReturn, 0, n.line);
  entry.locals = locals_;
}

CompiledTemplate Compiler::run(const std::string& source) {
  if (source.size() > kMaxSource)
    throw TemplateError(1, "the template has " + std::to_string(source.size()) + " bytes where at most " +
                               std::to_string(kMaxSource) + " can be");
  const std::vector<NodePtr> nodes = parse(source);
  find_macros(nodes);
  format::ChatProgramT& p = out_.program;
  p.version = chat::kProgramVersion;
  p.template_source = source;
  for (size_t i = 0; i < macros_.size(); ++i) p.macros.push_back(std::make_unique<format::ChatMacroT>());
  statements(nodes);
  p.main_locals = locals_;
  const size_t end = emit(Op::kJump, 0, 0);
  for (const auto& [name, m] : macros_) macro(m);
  patch(end);
  return std::move(out_);
}

}  // namespace jinja

CompiledTemplate compile_template(const std::string& source) { return jinja::Compiler().run(source); }

}  // namespace runnel::convert
