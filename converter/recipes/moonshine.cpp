// Moonshine (arXiv 2410.15608): an encoder of samples with rotary positions, a decoder that sees what it gives.
//
// Inputs: input_values [batch, samples]; attention_mask [batch, samples], 0 behind a sound that is shorter, else 1;
// decoder_input_ids [batch, tokens].
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/speech.h"

namespace runnel::convert {
namespace {

using format::UnaryKind;

constexpr double kEps = 1e-5;
constexpr int64_t kStride = 64 * 3 * 2;  // samples for a frame

class Builder {
 public:
  Builder(Checkpoint& c, ModelBuilder& b, const Facts& facts)
      : f(facts),
        width(f.integer("hidden_size", 1, 1 << 20, 288)),
        ffn(f.integer("intermediate_size", 1, 1 << 20, 1152)),
        vocab(f.integer("vocab_size", 1, 1 << 26, 32768)),
        net(c, b, {"model.", "", {}}, 1250, kSoundsAtOnce) {
    f.pass_over({"max_position_embeddings", "pad_head_dim_to_multiple_of", "decoder_start_token_id", "attention_bias",
                 "attention_dropout", "initializer_range", "is_encoder_decoder", "tie_word_embeddings",
                 "rope_parameters", "rope_theta", "partial_rotary_factor", "head_dim"});
    net.axis("samples", std::to_string(kStride) + "*context");
    net.axis("tokens", "context");
    const Var encoded = encode();
    const Var x = decode(encoded);
    if (class_of(f, "MoonshineModel") == "MoonshineModel") {
      net.output(x, "last_hidden_state");
    } else {
      const std::string head = net.has("/proj_out.weight") ? "/proj_out.weight" : "decoder.embed_tokens.weight";
      net.output(net.times(x, net.matrix(head, net.take(head, {vocab, width})), "", {vocab}), "logits");
    }
    net.optional_output(encoded, "encoder_last_hidden_state");
  }

 private:
  // Attention in heads of one side, with the rotation of its own.
  SpeechAttention side(const std::string& prefix, bool turns) {
    SpeechAttention a{prefix};
    a.o = "o_proj";
    a.heads = f.integer(prefix + "num_attention_heads", 1, 65536, 8);
    if (f.integer(prefix + "num_key_value_heads", 1, 65536, a.heads) != a.heads)
      f.refuse(prefix + "num_key_value_heads", "is another number than that of query heads");
    a.head = f.integer("head_dim", 2, 65536, width / a.heads);
    if (!turns) return a;
    double base = f.number("rope_theta", 10000), part = f.number("partial_rotary_factor", 0.9);
    if (const auto rope = f.inside("rope_parameters")) {
      rope->expect("rope_type", "default");
      base = rope->number("rope_theta", base);
      part = rope->number("partial_rotary_factor", 1);
    }
    const std::string table =
        net.constant("/" + prefix + "rope", rope_frequencies(base, int64_t(double(a.head) * part)), {-1});
    a.rotate = [this, table](const Var& x) { return net.rotated(x, table, true); };
    return a;
  }
  Var normed(const Var& x, const std::string& name) { return net.norm(x, name, kEps); }

  Var encode() {
    const Var samples = net.given("input_values", {"batch", "samples"});
    const Var mask = net.filled("attention_mask", {"batch", "samples"}, 1);
    Var x = net.view(samples, {"batch", "samples", "1"});
    x = net.unary(UnaryKind::tanh, net.conv(x, "encoder.conv1", width, {127, 64}));
    format::GroupNormAttrsT one_group;
    x = net.apply("group_norm",
                  {x.name, net.tensor("encoder.groupnorm.weight", {width}).name,
                   net.tensor("encoder.groupnorm.bias", {width}).name},
                  Signal::sizes(x), one_group);
    x = net.unary(UnaryKind::gelu, net.conv(x, "encoder.conv2", 2 * width, {7, 3}));
    x = net.unary(UnaryKind::gelu, net.conv(x, "encoder.conv3", width, {3, 2}));
    const std::string frames = Signal::sizes(x)[1];
    const Var places = net.of_type(net.counted(frames, 0, float(kStride)), format::DType::i32);
    format::GatherAttrsT along;
    along.axis = 1;
    unseen = net.unseen(net.apply("gather", {mask.name, places.name}, {"batch", frames}, along));
    SpeechAttention a = side("encoder_", true);
    a.how.unseen = unseen;
    const UnaryKind activation = activation_named(f, "encoder_hidden_act", "gelu");
    const int64_t layers = f.integer("encoder_num_hidden_layers", 1, 4096, 6);
    for (int64_t i = 0; i < layers; ++i) {
      const std::string p = "encoder.layers." + std::to_string(i) + ".";
      a.prefix = p + "self_attn.";
      x = net.plus(x, speech_attention(net, a, normed(x, p + "input_layernorm")));
      x = net.plus(x, speech_mlp(net, normed(x, p + "post_attention_layernorm"), p + "mlp.fc1", p + "mlp.fc2", ffn,
                                 activation));
    }
    return normed(x, "encoder.layer_norm");
  }

  Var decode(const Var& encoded) {
    const Var ids = net.given("decoder_input_ids", {"batch", "tokens"}, format::DType::i32);
    const std::string words = "decoder.embed_tokens.weight";
    Var x = net.apply("embedding", {ids.name, net.matrix(words, net.take(words, {vocab, width}))},
                      {"batch", "tokens", std::to_string(width)}, format::EmbeddingAttrsT());
    SpeechAttention own = side("decoder_", true), cross = side("decoder_", false);
    own.how.causal = true;
    cross.how.unseen = unseen;
    const UnaryKind activation = activation_named(f, "decoder_hidden_act", "silu");
    const int64_t layers = f.integer("decoder_num_hidden_layers", 1, 4096, 6);
    for (int64_t i = 0; i < layers; ++i) {
      const std::string p = "decoder.layers." + std::to_string(i) + ".";
      own.prefix = p + "self_attn.", cross.prefix = p + "encoder_attn.";
      x = net.plus(x, speech_attention(net, own, normed(x, p + "input_layernorm")));
      x = net.plus(x, speech_attention(net, cross, normed(x, p + "post_attention_layernorm"), encoded));
      const Var y = normed(x, p + "final_layernorm");
      const Var up = net.linear(y, p + "mlp.fc1", ffn, 0, 2 * ffn),
                gate = net.linear(y, p + "mlp.fc1", ffn, ffn, 2 * ffn);
      x = net.plus(x, net.linear(net.glu(activation, gate, up), p + "mlp.fc2", width));
    }
    return normed(x, "decoder.norm");
  }

  Facts f;
  int64_t width, ffn, vocab;
  Signal net;
  Var unseen;
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const std::string task = class_of(f, "MoonshineModel");
  if (task != "MoonshineModel" && task != "MoonshineForConditionalGeneration")
    f.refuse("architectures", "names " + printable(task) + ", which is not supported");
  Builder(c, b, f);
}

}  // namespace

extern const Recipe moonshine_recipe;
const Recipe moonshine_recipe = {"moonshine", {}, {"moonshine"}, build};

}  // namespace runnel::convert
