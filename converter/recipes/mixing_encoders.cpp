// Encoders that mix tokens in ways of their own: FNet by a Fourier transform over tokens and channels, MPNet by
// attention with a bias of relative positions, BigBird.
#include <cmath>

#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::BinaryKind, format::UnaryKind;

// sin or cos of x in -pi / 2 .. pi / 2: its Taylor series, of which the parts left out stay below float's precision.
Var series(Net& net, const Var& square, bool is_cosine) {
  const auto next = [&](int k) { return is_cosine ? (2.0 * k - 1) * 2 * k : 2.0 * k * (2 * k + 1); };
  Var sum = with_constant(net, BinaryKind::add, net.scale(square, -1 / next(7)), 1);
  for (int k = 6; k >= 1; --k)
    sum = with_constant(net, BinaryKind::add, net.scale(net.mul(sum, square), -1 / next(k)), 1);
  return sum;
}

// cos and sin of 2 pi i j / T for i, j < T. i j mod T is exact, so that angles are as good for long texts.
std::pair<Var, Var> tables_of_tokens(Net& net) {
  const Var p = net.float_positions();
  format::ReduceAttrsT largest;
  largest.kind = format::ReduceKind::max;
  const Var last = net.op("reshape", {net.op("reduce", {p.name}, "", {}, {}, largest).name}, "1 1", {});
  const Var count = with_constant(net, BinaryKind::add, last, 1);
  const Var rows = net.op("reshape", {p.name}, "T 1", {}), columns = net.op("reshape", {p.name}, "1 T", {});
  const Var product = arithmetic(net, BinaryKind::mul, rows, columns, "T T");
  const auto per_count = [&](const Var& x) { return arithmetic(net, BinaryKind::div, x, count, "T T"); };
  const Var whole = net.unary(UnaryKind::floor, per_count(product));  // one too many or too few does no harm
  const Var rest =
      arithmetic(net, BinaryKind::sub, product, arithmetic(net, BinaryKind::mul, whole, count, "T T"), "T T");
  // Half of the angle less pi: cos a = 1 - 2 cos^2 h, sin a = -2 sin h cos h for h = (a - pi) / 2.
  const Var half = net.scale(with_constant(net, BinaryKind::sub, per_count(rest), 0.5), M_PI);
  const Var square = net.mul(half, half), cosine = series(net, square, true),
            sine = net.mul(half, series(net, square, false));
  const Var cos = with_constant(net, BinaryKind::add, net.scale(net.mul(cosine, cosine), -2), 1);
  return {cos, net.scale(net.mul(sine, cosine), -2)};
}

// x of which one axis, the channels, is turned: [T, width] times the matrix of cosines or sines.
std::string table_of_channels(Net& net, int64_t width, bool is_cosine) {
  std::vector<float> values;
  for (int64_t i = 0; i < width * width; ++i) {
    const double angle = 2 * M_PI * double((i / width) * (i % width) % width) / double(width);
    values.push_back(float(is_cosine ? std::cos(angle) : std::sin(angle)));
  }
  return net.constant(is_cosine ? "/cosines" : "/sines", values, {width, width});
}

void build_fnet(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c).with_values({{"num_attention_heads", 1}});
  f.pass_over({"use_tpu_fourier_optimizations", "tpu_short_seq_length"});
  Encoder e = bert_like(f, "fnet.");
  e.projection = "embeddings.projection";
  e.has_mask = false;
  e.attn_norm = "fourier.output.LayerNorm";
  std::pair<Var, Var> tokens;
  e.mixer = [&](Net& net, size_t layer, const Var& x, const Var&) {
    if (layer == 0) tokens = tables_of_tokens(net);
    const auto product = [&](const std::string& left, const std::string& right) {
      return net.op("batch_matmul", {left, right}, "T", {e.hidden}, {}, format::BatchMatmulAttrsT());
    };
    const Var cos = product(x.name, table_of_channels(net, e.hidden, true)),
              sin = product(x.name, table_of_channels(net, e.hidden, false));
    return net.binary(BinaryKind::sub, product(tokens.first.name, cos.name), product(tokens.second.name, sin.name));
  };
  build_encoder(c, e, b);
}

// [heads, T, T] with table[j - i, head] where j >= i, else 0; the table has a row for each distance.
Var above_diagonal(Net& net, const std::string& table, int64_t heads) {
  const std::string h = std::to_string(heads);
  const Var by_distance = net.op("embedding", {"positions", table}, "T", {heads}, {}, format::EmbeddingAttrsT());
  format::TransposeAttrsT turn;
  turn.perm = {1, 0};
  const Var row = net.op("transpose", {by_distance.name}, h + " T", {}, {}, turn);
  format::ConcatAttrsT last;
  last.axis = 1;
  const Var padded = net.op("concat", {row.name, net.scale(row, 0).name}, h + " 2*T", {}, {}, last);
  // As many times below each other as there are tokens, and cut anew into rows that are shorter by one: each begins one
  // element earlier in its copy.
  const Var zeros = net.op("reshape", {net.scale(net.float_positions(), 0).name}, "1 T 1", {});
  const Var copies =
      arithmetic(net, BinaryKind::add, net.op("reshape", {padded.name}, h + " 1 2*T", {}), zeros, h + " T 2*T");
  const Var all = net.op("reshape", {copies.name}, h + " 2*T*T", {});
  format::SliceAttrsT first;
  first.axis = 1;
  const Var cut = net.op("slice", {all.name}, h + " (2*T-1)*T", {}, {}, first);
  first.axis = 2;
  return net.op("slice", {net.op("reshape", {cut.name}, h + " T 2*T-1", {}).name}, h + " T T", {}, {}, first);
}

// T5's rule, as its code computes it in float32: the bucket of a key `distance` away.
int64_t bucket_of(int64_t distance, int64_t buckets, int64_t most) {
  const int64_t exact = buckets / 2;
  if (distance < exact) return distance;
  const float far =
      std::log(float(distance) / float(exact)) / float(std::log(double(most) / double(exact))) * float(buckets - exact);
  return std::min(exact + int64_t(far), buckets - 1);
}

}  // namespace

Var bucket_bias(Net& net, const std::string& name, int64_t buckets, int64_t most, int64_t heads, int64_t context) {
  const std::vector<float> table = net.values(name, {buckets, heads});
  const int64_t half = buckets / 2;
  std::vector<float> later, earlier;  // a row for each distance; earlier has zeros at 0
  for (int64_t d = 0; d < context; ++d)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t bucket = bucket_of(d, half, most);
      later.push_back(table[size_t((bucket + (d > 0 ? half : 0)) * heads + h)]);
      earlier.push_back(d > 0 ? table[size_t(bucket * heads + h)] : 0);
    }
  format::TransposeAttrsT turn;
  turn.perm = {0, 2, 1};
  const Var above = above_diagonal(net, net.constant(name + ".later", later, {context, heads}), heads),
            below = above_diagonal(net, net.constant(name + ".earlier", earlier, {context, heads}), heads);
  return net.add(above, net.op("transpose", {below.name}, below.axis, {}, {}, turn));
}

namespace {

void build_mpnet(Checkpoint& c, ModelBuilder& b) {
  // Positions begin behind that of padding, whatever the configuration says.
  const Facts f = source_facts(c).with_values({{"type_vocab_size", 0}, {"pad_token_id", 1}});
  f.expect("relative_attention_num_buckets", 32);
  Encoder e = bert_like(f, "mpnet.");
  as_roberta(f, e);
  Attention& a = e.attention;
  a.prefix = "attention.attn.";
  a.q = "q", a.k = "k", a.v = "v", a.o = "o";
  e.attn_norm = "attention.LayerNorm";
  e.score_bias = [&](Net& net) {
    return bucket_bias(net, "encoder.relative_attention_bias.weight", 32, 128, e.attention.heads, e.context);
  };
  build_encoder(c, e, b);
}

// Attention to all tokens. Texts beyond what block sparse attention of so many random blocks sees whole are refused.
void build_big_bird(Checkpoint& c, ModelBuilder& b) {
  const Facts f = source_facts(c).with_defaults({{"hidden_act", "gelu_new"}});
  Encoder e = bert_like(f, "bert.");
  const std::string type = f.text("attention_type", "block_sparse");
  const int64_t whole =
      (5 + 2 * f.integer("num_random_blocks", 0, 1 << 20, 3)) * f.integer("block_size", 1, 1 << 20, 64);
  if (type == "block_sparse" && whole < e.context) {
    c.notices.push_back("texts of more than " + std::to_string(whole) +
                        " tokens, of which BigBird sees blocks, are not supported; the context is as long");
    e.context_limit = whole;
  } else if (type != "block_sparse" && type != "original_full") {
    f.refuse("attention_type", "is \"" + printable(type) + "\", which is not supported");
  }
  if (f.boolean("rescale_embeddings", false)) e.embedding_scale = float(std::sqrt(double(e.hidden)));
  f.pass_over({"use_bias"});
  e.pooler.dense = "pooler";
  e.sequence = {"/classifier.dense", "", "/classifier.out_proj", e.ffn.activation, Pool::kFirst};
  e.answers = {};
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe fnet_recipe;
const Recipe fnet_recipe = {"fnet", {}, {"fnet"}, build_fnet};
extern const Recipe mpnet_recipe;
const Recipe mpnet_recipe = {"mpnet", {}, {"mpnet"}, build_mpnet};
extern const Recipe big_bird_recipe;
const Recipe big_bird_recipe = {"big_bird", {}, {"big_bird"}, build_big_bird};

}  // namespace runnel::convert
