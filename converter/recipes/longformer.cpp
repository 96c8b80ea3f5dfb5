// Longformer: a window around each token; and global tokens, which all see and which see all through projections of
// their own. Which ones is an input, global_attention_mask [T]; where a text is classified the first token when it is
// left out, else none; questions need it, as their separators are the tokenizer's.
#include <cmath>

#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;

constexpr const char* kGlobal = "global_attention_mask";
constexpr double kUnseen = -1e30;

// 1 for global tokens, 0 for others, [T, 1].
Var global_tokens(Net& net, Task task) {
  if (task == Task::kAnswers) net.input(kGlobal, "T", {}, format::DType::i32);
  else net.graph().add_filled_input(kGlobal, "T", task == Task::kSequence ? -1 : 0);
  const Var given = numbers_of(net, {kGlobal, "T", {}}, "is_global", {0, 1, 0}, 2);
  if (task != Task::kSequence) return given;
  const Var is_left_out = numbers_of(net, {kGlobal, "T", {}}, "is_left_out", {0, 0, 1}, 2);
  const Var behind = net.op("reshape", {net.float_positions().name}, "T", {1});
  const Var first = net.unary(format::UnaryKind::relu, with_constant(net, BinaryKind::add, net.scale(behind, -1), 1));
  return net.add(given, net.mul(is_left_out, first));
}

struct Masks {
  Var is_global, is_local;   // [T, 1, 1]
  Var all, locals, globals;  // added to the scores of keys, [1, 1, T]
  Var is_seen;               // [T, 1, 1]
};

Masks masks_of(Net& net, Task task, const Var& unseen) {
  const auto of_keys = [&](const Var& x) { return net.op("reshape", {x.name}, "1 1 T", {}); };
  const auto of_queries = [&](const Var& x) { return net.reshape(x, {1, 1}); };
  const Var seen = with_constant(net, BinaryKind::add, net.scale(unseen, -1 / kUnseen), 1);
  const Var global = net.mul(global_tokens(net, task), seen),
            local = with_constant(net, BinaryKind::add, net.scale(global, -1), 1);
  return {of_queries(global),
          of_queries(local),
          of_keys(unseen),
          of_keys(net.add(unseen, net.scale(global, kUnseen))),
          of_keys(net.add(unseen, net.scale(local, kUnseen))),
          of_queries(seen)};
}

std::vector<int64_t> windows_of(const Facts& f, size_t layers) {
  std::vector<int64_t> windows = f.integers("attention_window", layers, 2);
  for (const int64_t w : windows)
    if (w % 2) f.refuse("attention_window", "holds an odd number");
  return windows;
}

Var mix(Net& net, const Attention& a, int64_t window, const Masks& m, const Var& x) {
  const auto three = [&](const std::string& end) {
    const std::vector<int64_t> dims = {a.heads, a.head_dim};
    return net.linears(x, {{a.prefix + a.q + end, dims}, {a.prefix + a.k + end, dims}, {a.prefix + a.v + end, dims}});
  };
  const std::vector<int64_t> dims = {a.heads, a.head_dim};
  const std::vector<Var> own = three(""), global = three("_global");
  format::AttentionAttrsT attrs;
  attrs.scale = float(a.scale);
  attrs.causal = false;
  attrs.window = uint32_t(window / 2 + 1);
  const Var lse = net.make("lse", "T", {a.heads});
  const Var near = net.op("attention", {own[0].name, own[1].name, own[2].name, "", "", "", m.locals.name}, "T", dims,
                          {lse.name}, attrs);
  format::SparseAttentionAttrsT sparse;
  sparse.scale = float(a.scale);
  sparse.causal = false;
  const Var local =
      net.op("sparse_attention",
             {own[0].name, own[1].name, own[2].name, "", "", "", m.globals.name, "", "", "", "", near.name, lse.name},
             "T", dims, {}, sparse);
  attrs.window = 0;
  const Var far = net.op("attention", {global[0].name, global[1].name, global[2].name, "", "", "", m.all.name}, "T",
                         dims, {}, attrs);
  const Var both = net.add(net.mul(net.mul(local, m.is_local), m.is_seen), net.mul(far, m.is_global));
  return net.linear(net.reshape(both, {a.heads * a.head_dim}), {a.prefix + a.o, {x.dims.back()}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c);
  Encoder e = bert_like(f, "longformer.");
  as_roberta(f, e);
  f.pass_over({"sep_token_id", "onnx_export"});
  const std::vector<int64_t> windows = windows_of(f, e.layers.size());
  const Task task = task_of(c);
  Masks masks;
  e.mixer = [&](Net& net, size_t layer, const Var& x, const Var& unseen) {
    if (layer == 0) masks = masks_of(net, task, unseen);
    return mix(net, e.attention, windows[layer], masks, x);
  };
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe longformer_recipe;
const Recipe longformer_recipe = {"longformer", {}, {"longformer"}, build};

}  // namespace runnel::convert
