#include "converter/passes/kv_policy.h"

#include <algorithm>
#include <set>

#include "converter/program/method_options.h"
#include "converter/program/graph.h"

namespace runnel::convert {
namespace {

const std::vector<MethodRow>& rows() {
  static const std::vector<MethodRow> kRows = {
      {"h2o",
       {{"budget", 1024}, {"recent", 512}, {"block", 64}, {"exact", 0}},
       "after each `block` tokens stay the `recent` newest positions and those that drew most attention so far, "
       "`budget` in all"},
      {"snapkv",
       {{"budget", 1024}, {"window", 32}, {"pool", 7}, {"block", 64}, {"exact", 0}},
       "after each `block` tokens stay the newest `window` positions and those that drew most attention of these, in "
       "means over `pool` neighbours, `budget` in all"}};
  return kRows;
}

format::BudgetAttentionAttrsT attributes(const MethodOptions& o) {
  format::BudgetAttentionAttrsT a;
  a.budget = o.whole("budget", 0, 1 << 24);
  a.block = o.whole("block", 1, 65536);
  if (o.has("recent")) a.recent = o.whole("recent", 0, 1 << 24);
  if (o.has("window")) a.recent = a.window = o.whole("window", 1, 65536);
  if (o.has("pool")) a.pool = o.whole("pool", 1, 65535);
  if (a.recent > a.budget) o.refuse("the budget does not hold the newest " + std::to_string(a.recent) + " positions");
  if (a.window > a.block) o.refuse("window is not at most block");
  if (a.pool % 2 == 0) o.refuse("pool is not odd");
  return a;
}

class Imposer {
 public:
  Imposer(const MethodOptions& options, ModelBuilder& builder)
      : o_(options), attrs_(attributes(options)), exact_(options.whole("exact", 0, 1 << 20)), b_(builder) {}

  size_t run() {
    for (auto& program : b_.model.programs) {
      size_t seen = 0;
      for (auto& op : program->ops)
        if (whole_stream_keys(b_.model, *op) && seen++ >= exact_) change(*op);
    }
    for (const auto& program : b_.model.programs)
      for (const auto& op : program->ops)
        for (const std::string& input : op->inputs)
          if (op->name != "budget_attention" && bounded_.count(input))
            o_.refuse(op->name + " \"" + printable(op->outputs[0]) + "\" reads keys that another one stores");
    return changed_;
  }

 private:
  static std::string input(const format::OpT& op, size_t i) { return i < op.inputs.size() ? op.inputs[i] : ""; }
  format::StateT* find_state(const std::string& name) const {
    for (auto& s : b_.model.states)
      if (s->name == name) return s.get();
    return nullptr;
  }
  void change(format::OpT& op) {
    format::AttentionAttrsT dense;
    if (const auto* a = op.attrs.AsAttentionAttrs()) dense = *a;
    const auto refuse = [&](const char* why) { o_.refuse("attention \"" + printable(op.outputs[0]) + "\" " + why); };
    if (input(op, 1).empty()) refuse("reads keys that another one stores");
    if (dense.softcap > 0) refuse("caps its scores");
    if (!input(op, 5).empty()) refuse("has sinks");
    if (!input(op, 6).empty()) refuse("adds a bias to each pair of positions");
    if (op.outputs.size() > 1) refuse("gives its denominators");
    const std::string keys = op.inputs[3], values = op.inputs[4], weights = keys + ".weights";
    if (!bounded_.insert(keys).second) refuse("shares its keys");
    bounded_.insert(values);
    const std::string slots = std::to_string((uint64_t(attrs_.budget) + attrs_.block + 15) / 16 * 16);
    const std::string kv_heads = find_state(keys)->shape[0];
    make_constant(keys, slots);
    make_constant(values, slots);
    auto s = std::make_unique<format::StateT>();
    s->name = weights;
    s->kind = format::StateKind::recurrent;
    s->dtype = format::DType::f32;
    s->shape = {kv_heads, slots};
    b_.model.states.push_back(std::move(s));

    format::BudgetAttentionAttrsT attrs = attrs_;
    attrs.scale = dense.scale;
    op = std::move(*new_op("budget_attention", {op.inputs[0], op.inputs[1], op.inputs[2], keys, values, weights},
                           {op.outputs[0], keys, values, weights}));
    set_attrs(op, attrs);
    ++changed_;
  }

  // A state with slots becomes one that each call replaces.
  void make_constant(const std::string& name, const std::string& slots) {
    format::StateT& s = *find_state(name);
    s.kind = format::StateKind::recurrent;
    s.slots.clear();
    s.block_axis = 0;
    s.shape[1] = s.shape.size() == 4 ? "floordiv(" + slots + ",16)" : slots;
  }

  const MethodOptions& o_;
  const format::BudgetAttentionAttrsT attrs_;
  const size_t exact_;
  ModelBuilder& b_;
  std::set<std::string> bounded_;
  size_t changed_ = 0;
};

}  // namespace

std::string kv_policies() { return list_methods(rows()) + "; the first `exact` layers keep everything"; }

std::string impose_policy(const std::string& policy, ModelBuilder& b) {
  const MethodOptions options("--kv-policy", rows(), policy);
  const size_t changed = Imposer(options, b).run();
  if (changed == 0) options.refuse("no attention of this model sees all of a stream");
  return "kv-policy " + policy + ": " + std::to_string(changed) + " attentions";
}

}  // namespace runnel::convert
