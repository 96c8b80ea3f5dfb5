#include "converter/passes/impose_window.h"

#include <algorithm>
#include <map>
#include <set>

#include "converter/program/graph.h"
#include "format/states.h"

namespace runnel::convert {
namespace {

class Imposer {
 public:
  Imposer(const ImposedWindow& imposed, ModelBuilder& builder) : imposed_(imposed), b_(builder) {}

  size_t run() {
    for (auto& program : b_.model.programs) rewrite(*program);
    for (const std::string& name : seen_) bound_state(name);
    return changed_;
  }

 private:
  static std::string input(const format::OpT& op, size_t i) { return i < op.inputs.size() ? op.inputs[i] : ""; }

  void rewrite(format::ProgramT& program) {
    program_ = &program;
    std::vector<std::unique_ptr<format::OpT>> old;
    old.swap(program.ops);
    makers_.clear();
    for (auto& op : old) {
      for (const std::string& y : op->outputs) makers_[y] = op.get();
      format::OpT& o = *op;
      if (o.name == "rope") turn_exactly(o);
      program.ops.push_back(std::move(op));
      if (o.name == "attention" && !input(o, 3).empty()) impose(o);
    }
  }

  [[noreturn]] void refuse(const format::OpT& op, const char* why) {
    fail("--window: attention \"%s\" %s", printable(op.outputs[0]).c_str(), why);
  }

  void impose(format::OpT& op) {
    format::AttentionAttrsT attrs;
    if (const auto* a = op.attrs.AsAttentionAttrs()) attrs = *a;
    const std::string states[2] = {op.inputs[3], input(op, 4)};
    int64_t& reads = windows_[states[0]];
    if (attrs.window > 0 && attrs.window <= imposed_.window) {
      reads = windows_[states[1]] = std::max<int64_t>(reads, attrs.window);
      return;
    }
    if (attrs.stride > 1) refuse(op, "keeps one position of several, which a window would not bound");
    if (!input(op, 6).empty()) refuse(op, "adds a bias to each pair of positions");
    attrs.window = uint32_t(imposed_.window);
    op.attrs.Set(attrs);
    reads = windows_[states[1]] = imposed_.window;
    seen_.insert({states[0], states[1]});
    ++changed_;
    if (imposed_.sinks > 0) add_sinks(op, attrs);
  }

  // Angles of positions in the millions lose their fraction when they are rounded as the original code rounds them.
  void turn_exactly(format::OpT& op) {
    format::RopeAttrsT attrs;
    if (const auto* a = op.attrs.AsRopeAttrs()) attrs = *a;
    attrs.exact = true;
    set_attrs(op, attrs);
  }

  // Behind the attention over the window, one over the first positions, joined to its result.
  void add_sinks(format::OpT& over_window, const format::AttentionAttrsT& attrs) {
    const std::string y = over_window.outputs[0], near = y + ".window", lse = y + ".lse";
    const Names q = value_of(*program_, over_window.inputs[0]).shape;
    add_value(*program_, near, value_of(*program_, y).shape);
    add_value(*program_, lse, {q[0], q[1]});
    over_window.outputs = {near, lse};
    makers_.erase(y);

    format::SparseAttentionAttrsT first;
    first.scale = attrs.scale, first.softcap = attrs.softcap;
    first.window = attrs.window, first.first = uint32_t(imposed_.sinks);
    Names inputs = over_window.inputs;
    inputs.resize(13);
    inputs[0] = queries_before_the_window(over_window);
    for (const size_t i : {3, 4}) inputs[i] = first_state(over_window.inputs[i]);
    inputs[5] = "";  // a learned sink stands in the other denominator already
    inputs[11] = near, inputs[12] = lse;
    set_attrs(add_op("sparse_attention", inputs, y), first);
  }

  // The queries as from position window + sinks - 1 at most. They are the result of the operator that rotates them.
  std::string queries_before_the_window(format::OpT& attention) {
    const std::string q = attention.inputs[0];
    const auto maker = makers_.find(q);
    if (maker == makers_.end()) refuse(attention, "takes its queries from outside of the program");
    const format::OpT& rotates = *maker->second;
    if (rotates.name != "rope") {
      if (is_rotated(q)) refuse(attention, "changes its queries behind their rotation; --sinks 0 does without");
      return q;  // no positions: distances do not matter
    }
    const std::string name = q + ".before_window";
    if (!makers_.count(name)) {
      add_value(*program_, name, value_of(*program_, q).shape);
      format::RopeAttrsT attrs;
      if (const auto* a = rotates.attrs.AsRopeAttrs()) attrs = *a;
      attrs.limit = uint32_t(imposed_.window + imposed_.sinks - 1);
      format::OpT& op = add_op("rope", rotates.inputs, name);
      set_attrs(op, attrs);
      makers_[name] = &op;
    }
    return name;
  }

  bool is_rotated(const std::string& value) const {
    const auto maker = makers_.find(value);
    if (maker == makers_.end()) return false;
    if (maker->second->name == "rope") return true;
    static const std::set<std::string> kPassOn = {"binary",  "unary",  "rms_norm", "layer_norm",
                                                  "reshape", "concat", "slice",    "transpose"};
    if (!kPassOn.count(maker->second->name)) return false;
    return std::any_of(maker->second->inputs.begin(), maker->second->inputs.end(),
                       [&](const std::string& v) { return is_rotated(v); });
  }

  // Of the first positions, beside a state of the window.
  std::string first_state(const std::string& of) {
    const std::string name = of + ".first",
                      slots = std::to_string((imposed_.sinks + kSlotTile - 1) / kSlotTile * kSlotTile);
    if (std::any_of(b_.model.states.begin(), b_.model.states.end(), [&](const auto& s) { return s->name == name; }))
      return name;
    auto s = std::make_unique<format::StateT>(state(of));
    s->name = name;
    s->kind = format::StateKind::first;
    s->window = 0;
    s->slots = slots;
    s->shape[1] = s->shape.size() == 4 ? "floordiv(" + slots + ",16)" : slots;
    b_.model.states.push_back(std::move(s));
    return name;
  }

  // A state that kept more than the window becomes a ring.
  void bound_state(const std::string& name) {
    format::StateT& s = state(name);
    s.kind = format::StateKind::ring;
    s.window = uint32_t(windows_[name]);
    s.slots = slots_of_window(int64_t(s.window));
    s.shape[1] = s.shape.size() == 4 ? "floordiv(" + s.slots + ",16)" : s.slots;
  }

  format::StateT& state(const std::string& name) {
    for (auto& s : b_.model.states)
      if (s->name == name) return *s;
    fail("state \"%s\" is not in the model", printable(name).c_str());
  }
  format::OpT& add_op(const char* name, const Names& inputs, const std::string& y) {
    program_->ops.push_back(new_op(name, inputs, {y}));
    return *program_->ops.back();
  }

  const ImposedWindow imposed_;
  ModelBuilder& b_;
  format::ProgramT* program_ = nullptr;
  std::map<std::string, format::OpT*> makers_;  // of the values so far
  std::map<std::string, int64_t> windows_;      // that states serve
  std::set<std::string> seen_;                  // states that become rings
  size_t changed_ = 0;
};

}  // namespace

std::string impose_window(const ImposedWindow& imposed, ModelBuilder& b) {
  const size_t changed = Imposer(imposed, b).run();
  if (changed == 0)
    fail("--window %lld: no attention of this model sees more than that", static_cast<long long>(imposed.window));
  std::string text = "window " + std::to_string(imposed.window);
  if (imposed.sinks > 0) text += ", sinks " + std::to_string(imposed.sinks);
  return text + ": " + std::to_string(changed) + " attentions";
}

}  // namespace runnel::convert
