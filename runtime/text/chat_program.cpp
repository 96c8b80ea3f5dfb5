#include "text/chat_program.h"

#include <cstring>

namespace runnel::chat {
namespace {

constexpr size_t kMaxStack = 1024, kMaxFrames = 48, kMaxLoops = 64, kMaxCaptures = 64, kMaxVariables = 4096;

struct Loop {
  Value list;
  int64_t at;  // of the present element, -1 before the first
};

struct Frame {
  uint32_t back;  // instruction to go on with
  uint32_t locals, loops, captures;
};

Status broken(const char* what) { return Status::make(Code::kInvalidModel, "the program is broken: %s", what); }

class Machine {
 public:
  Machine(const format::ChatProgram& program, int64_t now, Arena* arena, TextBuilder* out)
      : p_(program), now_(now), arena_(arena), out_(out) {}
  Status run(VariableFn variable, void* context);

 private:
  Status step(Op op, uint32_t operand);
  Status operate(Op op, uint32_t operand);
  Status flow(Op op, uint32_t operand);
  Status loop(Op op, uint32_t operand);
  Status call(uint32_t macro);
  Status leave();
  Status push(const Value& v) {
    if (stack_.size() >= kMaxStack)
      return Status::make(Code::kUnsupported, "its expressions need more than %zu values at once", kMaxStack);
    return stack_.push(v);
  }
  Status push(Result<Value> v) {
    if (!v.is_ok()) return v.take_status();
    return push(v.value());
  }
  Status push(Result<bool> v, bool negate) {
    if (!v.is_ok()) return v.take_status();
    return push(Value::boolean(v.value() != negate));
  }
  // The stack was found to hold it.
  Value pop() {
    const Value v = stack_.back();
    stack_.pop();
    return v;
  }
  Status need(size_t n) const { return stack_.size() >= n ? Status::ok() : broken("its stack is empty"); }
  Result<Value> text(uint32_t i) const {
    if (!p_.texts() || i >= p_.texts()->size()) return broken("no such text");
    const flatbuffers::String* s = p_.texts()->Get(i);
    return Value::string(s->c_str(), s->size());
  }
  Result<Value*> variable(Vec<Value>& of, size_t base, uint32_t i) const {
    if (base + i >= of.size()) return broken("no such variable");
    return &of[base + i];
  }
  Status jump(uint32_t to) {
    if (to > p_.code()->size()) return broken("a jump leads out of it");
    pc_ = to;
    return Status::ok();
  }
  Value loop_field(const Loop& l, LoopField field) const;

  const format::ChatProgram& p_;
  int64_t now_;
  Arena* arena_;
  TextBuilder* out_;
  uint32_t pc_ = 0;
  Vec<Value> stack_, globals_, locals_;
  Vec<Loop> loops_;
  Vec<Frame> frames_;
  Vec<size_t> captures_;  // where they begin in out_
};

Status Machine::run(VariableFn variable, void* context) {
  if (p_.version() != kProgramVersion)
    return Status::make(Code::kUnsupported,
                        "the chat program has version %u, this runtime knows %u: update the runtime", p_.version(),
                        kProgramVersion);
  const uint32_t count = p_.variables() ? p_.variables()->size() : 0;
  if (!p_.code() || count > kMaxVariables || p_.main_locals() > kMaxVariables)
    return broken("it has no instructions or too many variables");
  for (uint32_t i = 0; i < count; ++i)
    RNL_TRY(globals_.push(variable(context, p_.variables()->Get(i)->c_str(), p_.variables()->Get(i)->size())));
  RNL_TRY(locals_.assign(p_.main_locals()));
  RNL_TRY(frames_.push({p_.code()->size(), 0, 0, 0}));
  while (pc_ < p_.code()->size()) {
    const uint32_t at = pc_++, code = p_.code()->Get(at);
    Status s = arena_->step(0);
    if (s.is_ok()) s = step(Op(code & 0xFF), code >> 8);
    if (s.is_ok()) continue;
    const unsigned line = p_.lines() && at < p_.lines()->size() ? p_.lines()->Get(at) : 0;
    return std::move(s).with_context("chat template, line %u", line);
  }
  return frames_.size() == 1 ? Status::ok() : broken("it ends within a macro");
}

Status Machine::step(Op op, uint32_t operand) {
  switch (op) {
    case Op::kFail: {
      RNL_ASSIGN(what, text(operand));
      return Status::make(Code::kUnsupported, "%.200s", what.text);
    }
    case Op::kWriteText: {
      RNL_ASSIGN(v, text(operand));
      RNL_TRY(arena_->step(v.size));
      return out_->add(v);
    }
    case Op::kWrite: {
      RNL_TRY(need(1));
      RNL_ASSIGN(v, as_text(pop(), arena_));
      RNL_TRY(arena_->step(v.size));
      return out_->add(v);
    }
    case Op::kText: return push(text(operand));
    case Op::kInteger:
      if (!p_.integers() || operand >= p_.integers()->size()) return broken("no such number");
      return push(Value::number(p_.integers()->Get(operand)));
    case Op::kPlain:
      switch (Plain(operand)) {
        case Plain::kNone: return push(Value::of(Type::kNone));
        case Plain::kFalse: return push(Value::boolean(false));
        case Plain::kTrue: return push(Value::boolean(true));
        case Plain::kMissing: return push(Value::of(Type::kMissing));
        default: return push(Value());
      }
    case Op::kLoadGlobal:
    case Op::kLoadLocal: {
      const bool is_global = op == Op::kLoadGlobal;
      RNL_ASSIGN(v, variable(is_global ? globals_ : locals_, is_global ? 0 : frames_.back().locals, operand));
      return push(*v);
    }
    case Op::kStoreGlobal:
    case Op::kStoreLocal: {
      RNL_TRY(need(1));
      const bool is_global = op == Op::kStoreGlobal;
      RNL_ASSIGN(v, variable(is_global ? globals_ : locals_, is_global ? 0 : frames_.back().locals, operand));
      *v = pop();
      return Status::ok();
    }
    case Op::kCapture:
      if (captures_.size() >= kMaxCaptures) return broken("too many captures");
      return captures_.push(out_->size());
    case Op::kCaptured: {
      if (captures_.size() <= frames_.back().captures) return broken("there is no capture");
      const size_t from = captures_.back();
      captures_.pop();
      RNL_TRY(arena_->step(out_->size() - from));
      return push(out_->take_from(from, arena_));
    }
    default:
      return op >= Op::kJump && op <= Op::kPop           ? flow(op, operand)
             : op >= Op::kLoopBegin && op <= Op::kUnpack ? loop(op, operand)
                                                         : operate(op, operand);
  }
}

// Operators on values.
Status Machine::operate(Op op, uint32_t operand) {
  const bool is_binary = (op >= Op::kAdd && op <= Op::kContains) || op == Op::kIndex || op == Op::kAppend ||
                         op == Op::kSetAttribute || op == Op::kSwap || op == Op::kOver;
  const bool is_unary = op == Op::kAttribute || op == Op::kNot || op == Op::kNegative || op == Op::kBuilt;
  RNL_TRY(need(op == Op::kSlice ? 4 : is_binary ? 2 : is_unary ? 1 : 0));
  Value b, a;
  if (is_binary) b = pop();
  if (is_binary || is_unary) a = pop();
  switch (op) {
    case Op::kAttribute: {
      RNL_ASSIGN(name, text(operand));
      return push(attribute(a, name));
    }
    case Op::kIndex: return push(element(a, b, arena_));
    case Op::kSlice: {
      const Value step = pop(), stop = pop(), start = pop();
      return push(slice(pop(), start, stop, step, arena_));
    }
    case Op::kNot: return push(Value::boolean(!a.truth()));
    case Op::kNegative: return push(arithmetic(uint8_t(Op::kSubtract), Value::number(0), a, arena_));
    case Op::kAdd: return push(add(a, b, arena_));
    case Op::kSubtract:
    case Op::kMultiply:
    case Op::kFloorDivide:
    case Op::kModulo: return push(arithmetic(uint8_t(op), a, b, arena_));
    case Op::kConcat: return push(concat(a, b, arena_));
    case Op::kEqual:
    case Op::kNotEqual: return push(equal(a, b, arena_), op == Op::kNotEqual);
    case Op::kLess:
    case Op::kLessEqual:
    case Op::kGreater:
    case Op::kGreaterEqual: {
      RNL_ASSIGN(c, compare(a, b));
      return push(Value::boolean(op == Op::kLess        ? c < 0
                                 : op == Op::kLessEqual ? c <= 0
                                 : op == Op::kGreater   ? c > 0
                                                        : c >= 0));
    }
    case Op::kContains: return push(contains(a, b, arena_), false);
    case Op::kList:
    case Op::kDict: {
      const size_t n = op == Op::kDict ? 2 * size_t(operand) : operand;
      RNL_TRY(need(n));
      RNL_ASSIGN(items, arena_->take_array<Value>(n));
      for (size_t i = n; i-- > 0;) items[i] = pop();
      Value v = Value::list(items, operand);
      if (op == Op::kDict) v.type = Type::kDict;
      return push(v);
    }
    case Op::kBuild: {
      RNL_ASSIGN(g, arena_->take_array<Growing>(1));
      *g = {};
      Value v = Value::of(Type::kBuilder);
      v.growing = g;
      return push(v);
    }
    case Op::kAppend: RNL_TRY(append(a, b, arena_)); return push(a);
    case Op::kBuilt:
      if (!a.is(Type::kBuilder)) return broken("no list is being built");
      return push(Value::list(a.growing->items, a.growing->size));
    case Op::kSetAttribute: {
      RNL_ASSIGN(name, text(operand));
      return set_attribute(b, name, a, arena_);
    }
    case Op::kBuiltin: {
      const uint32_t count = operand >> 16;
      RNL_TRY(need(count));
      Result<Value> result = call_builtin(operand & 0xFFFF, stack_.end() - count, count, now_, arena_);
      for (uint32_t i = 0; i < count; ++i) stack_.pop();
      return push(std::move(result));
    }
    case Op::kSwap:
    case Op::kOver:
      RNL_TRY(push(b));
      RNL_TRY(push(a));
      return op == Op::kOver ? push(b) : Status::ok();
    case Op::kCall: return call(operand);
    case Op::kReturn: return leave();
    default: return broken("unknown instruction");
  }
}

Status Machine::flow(Op op, uint32_t operand) {
  if (op == Op::kJump) return jump(operand);
  if (op == Op::kJumpIfGiven) {
    RNL_ASSIGN(v, variable(locals_, frames_.back().locals, operand >> 16));
    return v->is(Type::kMissing) ? Status::ok() : jump(pc_ + (operand & 0xFFFF));
  }
  RNL_TRY(need(1));
  const bool truth = stack_.back().truth();
  const bool jumps = op == Op::kJumpIfTrueKeep ? truth : op != Op::kPop && !truth;
  if (!jumps || op == Op::kJumpIfFalse) stack_.pop();
  return jumps ? jump(operand) : Status::ok();
}

Value Machine::loop_field(const Loop& l, LoopField field) const {
  const int64_t n = l.list.size, i = l.at;
  switch (field) {
    case LoopField::kIndex: return Value::number(i + 1);
    case LoopField::kIndex0: return Value::number(i);
    case LoopField::kFirst: return Value::boolean(i == 0);
    case LoopField::kLast: return Value::boolean(i + 1 == n);
    case LoopField::kLength: return Value::number(n);
    case LoopField::kRevindex: return Value::number(n - i);
    case LoopField::kRevindex0: return Value::number(n - i - 1);
    case LoopField::kPrevitem: return i > 0 && i <= n ? l.list.items[i - 1] : Value();
    case LoopField::kNextitem: return i + 1 < n ? l.list.items[i + 1] : Value();
  }
  return Value();
}

Status Machine::loop(Op op, uint32_t operand) {
  if (op == Op::kLoopBegin || op == Op::kUnpack) {
    RNL_TRY(need(1));
    RNL_ASSIGN(list, as_list(pop(), arena_));
    if (op == Op::kLoopBegin) {
      if (loops_.size() >= kMaxLoops) return broken("too many loops");
      return loops_.push({list, -1});
    }
    if (list.size != operand) return Status::make(Code::kInvalidArgument, "%u names for %u values", operand, list.size);
    for (uint32_t i = operand; i-- > 0;) RNL_TRY(push(list.items[i]));
    return Status::ok();
  }
  if (loops_.size() <= frames_.back().loops) return broken("there is no loop");
  Loop& l = loops_.back();
  if (op == Op::kLoopEnd) {
    loops_.pop();
    return Status::ok();
  }
  if (op == Op::kLoopField) return push(loop_field(l, LoopField(operand)));
  if (l.at + 1 >= int64_t(l.list.size)) return jump(operand);
  return push(l.list.items[++l.at]);
}

Status Machine::call(uint32_t macro) {
  if (!p_.macros() || macro >= p_.macros()->size()) return broken("no such macro");
  const format::ChatMacro& m = *p_.macros()->Get(macro);
  if (frames_.size() >= kMaxFrames)
    return Status::make(Code::kUnsupported, "its macros call each other too deep, more than %zu times", kMaxFrames - 1);
  if (m.parameters() > m.locals() || m.locals() > kMaxVariables) return broken("a macro's parameters");
  RNL_TRY(need(m.parameters()));
  const size_t base = locals_.size();
  RNL_TRY(frames_.push({pc_, uint32_t(base), uint32_t(loops_.size()), uint32_t(captures_.size())}));
  for (uint32_t i = 0; i < m.locals(); ++i) RNL_TRY(locals_.push(Value()));
  for (uint32_t i = m.parameters(); i-- > 0;) locals_[base + i] = pop();
  RNL_TRY(captures_.push(out_->size()));
  return jump(m.entry());
}

Status Machine::leave() {
  const Frame f = frames_.back();
  if (frames_.size() < 2 || captures_.size() <= f.captures) return broken("a return outside of a macro");
  const size_t from = captures_[f.captures];
  while (captures_.size() > f.captures) captures_.pop();
  while (loops_.size() > f.loops) loops_.pop();
  while (locals_.size() > f.locals) locals_.pop();
  frames_.pop();
  RNL_TRY(arena_->step(out_->size() - from));
  RNL_TRY(push(out_->take_from(from, arena_)));
  return jump(f.back);
}

}  // namespace

Status run_program(const format::ChatProgram& program, VariableFn variable, void* context, int64_t now, Arena* arena,
                   TextBuilder* out) {
  Machine machine(program, now, arena, out);
  return machine.run(variable, context);
}

}  // namespace runnel::chat
