// MoM (arXiv 2502.13685): every token is sent to some of M memories, each a gated delta rule over just the tokens that
// it was sent, short convolutions included; reads are mixed by the router, a shared memory sees all tokens.
//
// All memories run side by side over all tokens. For a memory that a token was not sent to, decay 0 (in logarithms) and
// beta 0 leave the matrix as it is, and a scan with the factors 1 and 0 holds the convolution's inputs.
#include "converter/recipes/decoder.h"
#include "converter/recipes/delta.h"
#include "converter/recipes/fla.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {

using format::BinaryKind;
using format::UnaryKind;

namespace {

struct Routing {
  Var sent;  // [M, 1]: 1 for the memories that get the token, else 0
  Var kept;  // 1 - sent
  Var mix;   // [M, 1]: what a memory's read counts
};

Routing route(Net& net, int64_t memories, int64_t chosen, const Var& x) {
  const Var logits = net.linear(x, {"attn.gate", {memories}});
  format::RouteAttrsT attrs;
  attrs.renormalise = true;
  const Var ids = net.make("attn.memories", "T", {chosen}, true, format::DType::i32);
  const Var weights = net.op("route", {logits.name}, "T", {chosen}, {ids.name}, attrs);
  std::vector<float> identity(size_t(memories * memories), 0.0f);
  for (int64_t i = 0; i < memories; ++i) identity[size_t(i * memories + i)] = 1;
  const std::string rows = "T*" + std::to_string(chosen);
  const Var flat = net.make("attn.memories_in_a_row", rows, {}, true, format::DType::i32);
  net.graph().op("reshape", {ids.name}, {flat.name});
  const Var hot = net.op("embedding", {flat.name, net.constant("attn.identity", identity, {memories, memories})}, rows,
                         {memories}, {}, format::EmbeddingAttrsT{});
  const Var each = net.op("reshape", {hot.name}, "T", {chosen, memories});
  format::ReduceAttrsT sum;
  sum.kind = format::ReduceKind::sum;
  sum.axis = 1;
  const auto over_chosen = [&](const Var& v) {
    return net.reshape(net.op("reduce", {v.name}, "T", {memories}, {}, sum), {memories, 1});
  };
  Routing r{over_chosen(each), {}, over_chosen(net.mul(each, net.reshape(weights, {chosen, 1})))};
  r.kept = net.binary(BinaryKind::add, net.unary(UnaryKind::neg, r.sent), net.constant("attn.one", {1}, {1}));
  return r;
}

// x [M, channels] through a convolution over the tokens that each memory was sent, and silu.
Var held_conv(Net& net, const Routing& r, const Var& x, const std::string& name) {
  const int64_t channels = x.dims[1], taps = int64_t(net.find(name + ".weight").shape.back()), all = x.width();
  const std::vector<float> w = net.values(name + ".weight", {channels, 1, taps});
  const auto tap = [&](int64_t j) {
    std::vector<float> column;
    for (int64_t c = 0; c < channels; ++c) column.push_back(w[size_t(c * taps + j)]);
    return net.constant(name + "[" + std::to_string(j) + "]", column, {channels});
  };
  const Var ones = net.unary(UnaryKind::exp, net.scale(x, 0));
  const Var keep = net.reshape(net.mul(ones, r.kept), {all});
  Var y = net.binary(BinaryKind::mul, x, tap(taps - 1)), before = x;
  std::vector<float> earlier;
  for (int64_t c = 0; c < all; ++c) earlier.insert(earlier.end(), {1, 0});
  for (int64_t j = taps - 2; j >= 0; --j) {
    // The memory's newest value up to this token, and one token later: its value before this token.
    const std::string nth = name + ".held" + std::to_string(j), state = net.state(nth, {all});
    const Var held = net.op("scan", {keep.name, net.reshape(net.mul(before, r.sent), {all}).name, state}, "T", {all},
                            {state}, format::ScanAttrsT{});
    before = net.reshape(short_conv(net, held, net.constant(name + ".earlier", earlier, {all, 2}), "", 2,
                                    UnaryKind::none, nth + ".earlier"),
                         x.dims);
    y = net.add(y, net.binary(BinaryKind::mul, before, tap(j)));
  }
  return net.unary(UnaryKind::silu, y);
}

}  // namespace

Var fla_mom(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  const int64_t memories = f.integer("num_memories", 1, 4096), chosen = f.integer("topk", 1, memories),
                heads = f.integer("num_heads", 1, 65536);
  const bool is_single = f.boolean("single_kv_proj", false);
  const auto weight = [&](const std::string& what, int64_t m) {
    return is_single || m < 0 ? "attn.shared_" + what : "attn." + what + "_proj." + std::to_string(m);
  };
  const int64_t key = f.integer("head_dim", 1, 65536), value = fla_rows(net, weight("v", 0) + ".weight") / heads;
  DeltaSizes s{memories * heads, memories * heads, key, value};
  const Routing r = route(net, memories, chosen, x);
  const Var q = net.linear(x, {"attn.q_proj", {heads * key}});
  // Of memory m, -1: the shared one. Four products and what becomes of the gates.
  struct Inputs {
    Var k, v, beta, decay;
  };
  const auto inputs = [&](int64_t m) {
    const std::vector<Var> in = net.linears(x, {{weight("k", m), {heads * key}},
                                                {weight("v", m), {heads * value}},
                                                {weight("b", m), {heads}},
                                                {weight("a", m), {heads}}});
    return Inputs{in[0], in[1], net.unary(UnaryKind::sigmoid, in[2]), delta_decay(net, in[3], "attn.", {heads})};
  };
  std::vector<Inputs> each;
  for (int64_t m = 0; m < (is_single ? 1 : memories); ++m) each.push_back(inputs(m));
  const auto of_all = [&](Var Inputs::*member) {
    std::vector<Var> parts;
    for (int64_t m = 0; m < memories; ++m) parts.push_back(each[is_single ? 0 : size_t(m)].*member);
    return net.reshape(net.concat(parts, 1), {memories, parts[0].dims[0]});
  };
  const auto split = [&](const Var& v, int64_t n, int64_t dim) { return net.reshape(v, {n, dim}); };
  const auto unit = [&](const Var& v, int64_t n) { return unit_length(net, split(v, n, key)); };
  const auto conv = [&](const Var& v, const char* name) { return held_conv(net, r, v, name); };
  const DeltaInput qkv{
      unit(conv(net.reshape(net.concat(std::vector<Var>(size_t(memories), q), 1), {memories, heads * key}),
                "attn.q_conv1d"),
           s.key_heads),
      unit(conv(of_all(&Inputs::k), "attn.k_conv1d"), s.key_heads),
      split(conv(of_all(&Inputs::v), "attn.v_conv1d"), s.key_heads, value)};
  const auto masked = [&](const Var& v) { return net.reshape(net.mul(v, r.sent), {memories * heads}); };
  const Var reads = delta_rule(net, s, qkv, masked(of_all(&Inputs::decay)), masked(of_all(&Inputs::beta)), "attn.");
  format::ReduceAttrsT sum;
  sum.kind = format::ReduceKind::sum;
  sum.axis = 1;
  Var y = split(net.op("reduce", {net.mul(net.reshape(reads, {memories, heads * value}), r.mix).name}, "T",
                       {heads * value}, {}, sum),
                heads, value);
  if (f.boolean("shared_mem", true)) {
    const Inputs own = inputs(-1);
    const auto shared = [&](const Var& v, const char* name) {
      const int64_t taps = int64_t(net.find(name + std::string(".weight")).shape.back());
      return short_conv(net, v, net.plain_as(name + std::string(".weight"), {v.dims[0], 1, taps}, {v.dims[0], taps}),
                        "", taps, UnaryKind::silu, name + std::string(".shared"));
    };
    const DeltaInput all{unit(shared(q, "attn.q_conv1d"), heads), unit(shared(own.k, "attn.k_conv1d"), heads),
                         split(shared(own.v, "attn.v_conv1d"), heads, value)};
    s.key_heads = s.value_heads = heads;
    y = net.add(y, delta_rule(net, s, all, own.decay, own.beta, "attn.shared_"));
  }
  return fla_output(net, layer, y, fla_gate(net, x), "o_norm");
}

}  // namespace runnel::convert
