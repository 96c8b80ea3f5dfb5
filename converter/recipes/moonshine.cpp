// Moonshine (arXiv 2410.15608): an encoder of samples with rotary positions, a decoder that sees what it gives.
//
// Inputs: input_values [batch, samples]; attention_mask [batch, samples], 0 behind a sound that is shorter, else 1;
// decoder_input_ids [batch, tokens].
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/moonshine.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

constexpr double kEps = 1e-5;
constexpr int64_t kStride = 64 * 3 * 2;  // samples for a frame

Var normed(Signal& net, const Var& x, const std::string& name) { return net.norm(x, name, kEps); }

int64_t heads_of(const Facts& f, const std::string& side) {
  const int64_t heads = f.integer(side + "num_attention_heads", 1, 65536, 8);
  if (f.integer(side + "num_key_value_heads", 1, 65536, heads) != heads)
    f.refuse(side + "num_key_value_heads", "is another number than that of query heads");
  return heads;
}

Var encode(Signal& net, const Facts& f, const MoonshineText& d, Var* unseen) {
  const Var samples = net.given("input_values", {"batch", "samples"});
  const Var mask = net.filled("attention_mask", {"batch", "samples"}, 1);
  Var x = net.view(samples, {"batch", "samples", "1"});
  x = net.unary(UnaryKind::tanh, net.conv(x, "encoder.conv1", d.width, {127, 64}));
  format::GroupNormAttrsT one_group;
  x = net.apply("group_norm",
                {x.name, net.tensor("encoder.groupnorm.weight", {d.width}).name,
                 net.tensor("encoder.groupnorm.bias", {d.width}).name},
                Signal::sizes(x), one_group);
  x = net.unary(UnaryKind::gelu, net.conv(x, "encoder.conv2", 2 * d.width, {7, 3}));
  x = net.unary(UnaryKind::gelu, net.conv(x, "encoder.conv3", d.width, {3, 2}));
  const std::string frames = Signal::sizes(x)[1];
  const Var places = net.of_type(net.counted(frames, 0, float(kStride)), format::DType::i32);
  format::GatherAttrsT along;
  along.axis = 1;
  *unseen = net.unseen(net.apply("gather", {mask.name, places.name}, {"batch", frames}, along));
  const int64_t heads = heads_of(f, "encoder_"), layers = f.integer("encoder_num_hidden_layers", 1, 4096, 6);
  SpeechAttention a = turning_heads(net, f, heads, f.integer("head_dim", 2, 65536, d.width / heads), 0.9);
  a.how.unseen = *unseen;
  const UnaryKind activation = activation_named(f, "encoder_hidden_act", "gelu");
  for (int64_t i = 0; i < layers; ++i) {
    const std::string p = "encoder.layers." + std::to_string(i) + ".";
    a.prefix = p + "self_attn.";
    x = net.plus(x, speech_attention(net, a, normed(net, x, p + "input_layernorm")));
    x = net.plus(x, speech_mlp(net, normed(net, x, p + "post_attention_layernorm"), p + "mlp.fc1", p + "mlp.fc2", d.ffn,
                               activation));
  }
  return normed(net, x, "encoder.layer_norm");
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  MoonshineText d;
  d.width = f.integer("hidden_size", 1, 1 << 20, 288);
  d.ffn = f.integer("intermediate_size", 1, 1 << 20, 1152);
  d.vocab = f.integer("vocab_size", 1, 1 << 26, 32768);
  d.layers = f.integer("decoder_num_hidden_layers", 1, 4096, 6);
  d.heads = heads_of(f, "decoder_");
  d.head = f.integer("head_dim", 2, 65536, d.width / d.heads);
  d.activation = activation_named(f, "decoder_hidden_act", "silu");
  Signal net(c, b, {"model.", "", {}}, 1250, kSoundsAtOnce);
  net.axis("samples", std::to_string(kStride) + "*context");
  Var unseen;
  const Var encoded = encode(net, f, d, &unseen);
  moonshine_text(net, f, d, turning_heads(net, f, d.heads, d.head, 0.9), encoded, unseen, encoded);
}

}  // namespace

SpeechAttention turning_heads(Signal& net, const Facts& f, int64_t heads, int64_t head, double part) {
  SpeechAttention a;
  a.o = "o_proj";
  a.heads = heads, a.head = head;
  double base = f.number("rope_theta", 10000);
  part = f.number("partial_rotary_factor", part);
  if (const auto rope = f.inside("rope_parameters")) {
    rope->expect("rope_type", "default");
    base = rope->number("rope_theta", base);
    part = rope->number("partial_rotary_factor", 1);
  }
  const int64_t turned = int64_t(double(head) * part);
  const std::string table = net.constant("/rope" + std::to_string(turned), rope_frequencies(base, turned), {-1});
  a.rotate = [&net, table](const Var& x) { return net.rotated(x, table, true); };
  return a;
}

void moonshine_text(Signal& net, const Facts& f, const MoonshineText& d, const SpeechAttention& turning,
                    const Var& encoded, const Var& unseen, const Var& shown) {
  f.pass_over({"max_position_embeddings", "pad_head_dim_to_multiple_of", "decoder_start_token_id", "attention_bias",
               "attention_dropout", "initializer_range", "is_encoder_decoder", "tie_word_embeddings"});
  net.axis("tokens", "context");
  const Var ids = net.given("decoder_input_ids", {"batch", "tokens"}, format::DType::i32);
  const std::string words = "decoder.embed_tokens.weight";
  Var x = net.apply("embedding", {ids.name, net.matrix(words, net.take(words, {d.vocab, d.width}))},
                    {"batch", "tokens", std::to_string(d.width)}, format::EmbeddingAttrsT());
  SpeechAttention own = turning, cross = turning;
  own.how.causal = true;
  cross.how.unseen = unseen;
  cross.rotate = {};
  for (int64_t i = 0; i < d.layers; ++i) {
    const std::string p = "decoder.layers." + std::to_string(i) + ".";
    own.prefix = p + "self_attn.", cross.prefix = p + "encoder_attn.";
    x = net.plus(x, speech_attention(net, own, normed(net, x, p + "input_layernorm")));
    x = net.plus(x, speech_attention(net, cross, normed(net, x, p + "post_attention_layernorm"), encoded));
    const Var y = normed(net, x, p + "final_layernorm");
    const Var up = net.linear(y, p + "mlp.fc1", d.ffn, 0, 2 * d.ffn),
              gate = net.linear(y, p + "mlp.fc1", d.ffn, d.ffn, 2 * d.ffn);
    x = net.plus(x, net.linear(net.glu(d.activation, gate, up), p + "mlp.fc2", d.width));
  }
  x = normed(net, x, "decoder.norm");
  const std::string task = class_of(f, "Model");
  if (task.ends_with("ForConditionalGeneration")) {
    const std::string head = net.has("/proj_out.weight") ? "/proj_out.weight" : words;
    net.output(net.times(x, net.matrix(head, net.take(head, {d.vocab, d.width})), "", {d.vocab}), "logits");
  } else if (task.ends_with("Model")) {
    net.output(x, "last_hidden_state");
  } else {
    f.refuse("architectures", "names " + printable(task) + ", which is not supported");
  }
  net.optional_output(shown, "encoder_last_hidden_state");
}

extern const Recipe moonshine_recipe;
const Recipe moonshine_recipe = {"moonshine", {}, {"moonshine"}, build};

}  // namespace runnel::convert
