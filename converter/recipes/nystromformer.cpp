// Nystromformer: attention by way of landmarks, the means of as many parts of the text; a convolution of the values is
// added. With landmarks the model knows texts of one length, so shorter ones are filled up with tokens that nobody
// sees. Where there are as many landmarks as tokens, attention is the usual one, over texts of any length.
#include <cmath>

#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;

struct Nystrom {
  int64_t heads, dim, tokens, landmarks, taps;  // taps 0: no convolution
  bool has_landmarks() const { return landmarks < tokens; }
  // Sizes as the program writes them: of a text, and with `more` tokens behind it.
  std::string length(int64_t more = 0) const {
    if (has_landmarks()) return std::to_string(tokens + more);
    return more > 0 ? "T+" + std::to_string(more) : "T";
  }
};

Var product(Net& net, const Var& x, const Var& y, bool is_turned = false) {
  format::BatchMatmulAttrsT attrs;
  attrs.transpose_b = is_turned;
  std::vector<int64_t> dims = x.dims;
  dims.back() = y.dims[is_turned ? 1 : 2];
  return net.op("batch_matmul", {x.name, y.name}, "", dims, {}, attrs);
}
Var softmax(Net& net, const Var& x) { return net.op("softmax", {x.name}, "", x.dims, {}, format::SoftmaxAttrsT()); }
Var reduced(Net& net, const Var& x, format::ReduceKind kind, int64_t axis) {
  format::ReduceAttrsT attrs;
  attrs.kind = kind;
  attrs.axis = uint8_t(axis);
  std::vector<int64_t> dims = x.dims;
  dims.erase(dims.begin() + axis);
  return net.op("reduce", {x.name}, "", dims, {}, attrs);
}
Var turned(Net& net, const Var& x, std::vector<uint8_t> perm) {
  format::TransposeAttrsT attrs;
  std::vector<int64_t> dims;
  for (const uint8_t p : perm) dims.push_back(x.dims[p]);
  attrs.perm = std::move(perm);
  return net.op("transpose", {x.name}, "", dims, {}, attrs);
}

// The inverse of m [heads, n, n], by six steps of an iteration of third order.
Var inverse(Net& net, const Var& m) {
  const int64_t n = m.dims[1];
  std::vector<float> ones(size_t(n * n));
  for (int64_t i = 0; i < n; ++i) ones[size_t(i * n + i)] = 1;
  const Var identity = {net.constant("/identity", ones, {1, n, n}), "", {1, n, n}};
  const auto less = [&](double times, const Var& x) {
    return net.binary(BinaryKind::sub, net.scale(identity, times), x);
  };
  Var largest = reduced(net, m, format::ReduceKind::sum, 1);
  for (int i = 0; i < 2; ++i) largest = reduced(net, largest, format::ReduceKind::max, 0);
  Var z = net.binary(BinaryKind::div, turned(net, m, {0, 2, 1}), net.reshape(largest, {1, 1, 1}));
  for (int i = 0; i < 6; ++i) {
    const Var mz = product(net, m, z);
    z = product(net, net.scale(z, 0.25), less(13, product(net, mz, less(15, product(net, mz, less(7, mz))))));
  }
  return z;
}

// q, k, v [heads, tokens, dim], q and k scaled; unseen [1, 1, tokens].
Var by_landmarks(Net& net, const Nystrom& a, const Var& q, const Var& k, const Var& v, const Var& unseen) {
  const auto means = [&](const Var& x) {
    return reduced(net, net.reshape(x, {a.heads, a.landmarks, a.tokens / a.landmarks, a.dim}), format::ReduceKind::mean,
                   2);
  };
  const auto scores = [&](const Var& x, const Var& y) { return product(net, x, y, true); };
  const Var few_q = means(q), few_k = means(k);
  const Var to_few = softmax(net, scores(q, few_k)), among = softmax(net, scores(few_q, few_k)),
            from_few = softmax(net, net.add(scores(few_q, k), unseen));
  return product(net, product(net, to_few, inverse(net, among)), product(net, from_few, v));
}

// v [tokens, heads * dim], each head's channels by the same taps, the middle one on the token itself.
Var convolved(Net& net, const Nystrom& a, const Var& v) {
  const int64_t half = a.taps / 2, width = a.heads * a.dim;
  const std::vector<float> taps = net.values("attention.self.conv.weight", {a.heads, 1, a.taps, 1});
  std::vector<float> weight;
  for (int64_t i = 0; i < width; ++i)
    weight.insert(weight.end(), taps.begin() + i / a.dim * a.taps, taps.begin() + (i / a.dim + 1) * a.taps);
  const std::string zeros = net.constant("/behind", std::vector<float>(size_t(half * width)), {half, width});
  const std::string longer = a.length(half);
  const Var padded = half > 0 ? net.op("concat", {v.name, zeros}, longer, {width}, {}, format::ConcatAttrsT()) : v;
  const Var y = net.op("causal_conv", {padded.name, net.constant("attention.self.conv.taps", weight, {width, a.taps})},
                       longer, {width}, {}, format::ConvAttrsT());
  format::SliceAttrsT from_half;
  from_half.begin = half;
  return net.op("slice", {y.name}, a.length(), {width}, {}, from_half);
}

// x [tokens, hidden], unseen [tokens, 1].
Var mix(Net& net, const Attention& names, const Nystrom& a, const Var& x, const Var& unseen) {
  const std::vector<int64_t> dims = {a.heads, a.dim};
  const std::vector<Var> all =
      net.linears(x, {{names.prefix + names.q, dims}, {names.prefix + names.k, dims}, {names.prefix + names.v, dims}});
  const int64_t width = a.heads * a.dim;
  Var sum;
  if (a.has_landmarks()) {
    const auto by_head = [&](const Var& y) {
      return turned(net, net.op("reshape", {y.name}, "", {a.tokens, a.heads, a.dim}), {1, 0, 2});
    };
    const Var mask = net.op("reshape", {unseen.name}, "", {1, 1, a.tokens});
    const double scale = 1 / std::sqrt(std::sqrt(double(a.dim)));
    const Var y = by_landmarks(net, a, net.scale(by_head(all[0]), scale), net.scale(by_head(all[1]), scale),
                               by_head(all[2]), mask);
    sum = net.op("reshape", {turned(net, y, {1, 0, 2}).name}, a.length(), {width});
  } else {
    const Var mask = net.op("reshape", {unseen.name}, "1 1 T", {});
    sum = attend(net, {1 / std::sqrt(double(a.dim)), 0, 0, 0, mask.name}, all[0], all[1], all[2], "");
  }
  if (a.taps) sum = net.add(sum, convolved(net, a, net.op("reshape", {all[2].name}, a.length(), {width})));
  return net.linear(net.op("reshape", {sum.name}, x.axis, {width}), {names.prefix + names.o, {x.dims.back()}});
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c).with_defaults({{"hidden_act", "gelu_new"}, {"layer_norm_eps", 1e-5}});
  f.expect("inv_coeff_init_option", false);
  Encoder e = bert_like(f, "nystromformer.");
  e.first_position = 2;
  Nystrom a = {e.attention.heads, e.attention.head_dim, f.integer("segment_means_seq_len", 1, e.context, 64),
               f.integer("num_landmarks", 1, e.context, 64), 0};
  if (a.tokens % a.landmarks) f.refuse("num_landmarks", "does not divide segment_means_seq_len");
  if (!f.is_null("conv_kernel_size")) a.taps = f.integer("conv_kernel_size", 1, 1 << 16, 65);
  if (a.taps % 2 == 0 && a.taps > 0) f.refuse("conv_kernel_size", "is even");
  if (a.has_landmarks()) e.padded_to = a.tokens;
  e.padding = int32_t(f.integer("pad_token_id", 0, e.vocab - 1, 1));
  e.sequence = {"/classifier.dense", "", "/classifier.out_proj", e.ffn.activation, Pool::kFirst};
  e.mixer = [&](Net& net, size_t, const Var& x, const Var& unseen) { return mix(net, e.attention, a, x, unseen); };
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe nystromformer_recipe;
const Recipe nystromformer_recipe = {"nystromformer", {}, {"nystromformer"}, build};

}  // namespace runnel::convert
