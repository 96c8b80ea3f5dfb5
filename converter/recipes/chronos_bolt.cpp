// Chronos-Bolt: pieces of a time series through the encoder of T5, one token of its decoder gives quantiles of all
// future values at once.
//
// Inputs: context [batch, T], NaN where nothing was observed; mask [batch, T], 0 where a value does not count, else 1.
#include "converter/recipes/decoder.h"
#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/series.h"
#include "converter/recipes/speech.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;
using format::ReduceKind;
using format::UnaryKind;

class Builder {
 public:
  Builder(Checkpoint& c, ModelBuilder& b, const Facts& facts, const Facts& series)
      : f(facts),
        patch(series.integer("input_patch_size", 1, 65536)),
        length(series.integer("prediction_length", 1, 1 << 20)),
        width(f.integer("d_model", 1, 1 << 20, 512)),
        ffn(f.integer("d_ff", 1, 1 << 20, 2048)),
        heads(f.integer("num_heads", 1, 65536, 8)),
        head(f.integer("d_kv", 1, 65536, 64)),
        layers(f.integer("num_layers", 1, 4096, 6)),
        eps(f.number("layer_norm_epsilon", 1e-6)),
        activation(activation_named(f, "dense_act_fn", "relu")),
        is_gated(f.boolean("is_gated_act", false)),
        net(c, b, {"", "", {}}, series.integer("context_length", 1, 1 << 24), 64) {
    series.expect("input_patch_stride", patch);
    const Json* quantiles = series.find("quantiles");
    if (!quantiles || !quantiles->is_array() || quantiles->empty()) series.refuse("quantiles", "is no list");
    net.axis("T", "min(context," + std::to_string(series.integer("context_length")) + ")");
    f.pass_over({"feed_forward_proj", "dropout_rate", "classifier_dropout", "initializer_factor", "n_positions",
                 "output_past", "task_specific_params", "vocab_size", "reg_token_id", "decoder_start_token_id",
                 "is_encoder_decoder", "num_decoder_layers", "relative_attention_max_distance",
                 "relative_attention_num_buckets", "tie_word_embeddings", "scale_decoder_outputs",
                 "chronos_pipeline_class"});
    const Var encoded = encode(series.boolean("use_reg_token", false));
    const int64_t count = int64_t(quantiles->size());
    const Var y = residual_block(decode(encoded), "output_patch_embedding", count * length);
    const Names shape = {"batch", std::to_string(count), std::to_string(length)};
    net.output(net.plus(net.by(net.view(y, shape), net.view(scale, {"batch", "1", "1"})),
                        net.view(loc, {"batch", "1", "1"})),
               "quantile_preds");
  }

 private:
  Var residual_block(const Var& x, const std::string& name, int64_t out) {
    const Var inner = net.unary(activation, net.linear(x, name + ".hidden_layer", ffn));
    return net.plus(net.linear(inner, name + ".output_layer", out), net.linear(x, name + ".residual_layer", out));
  }
  Var row(int64_t number) {
    const int64_t rows = int64_t(net.find("shared.weight").shape.at(0));
    const std::vector<float> all = net.values("shared.weight", {rows, width});
    if (number < 0 || number >= rows) f.refuse("decoder_start_token_id", "is no row of the table of tokens");
    const auto at = all.begin() + number * width;
    const Var one = net.numbers("token" + std::to_string(number), {at, at + width}, {1, 1, width});
    return net.expanded(one, {"batch", "1", std::to_string(width)});
  }
  Var encode(bool has_register) {
    const Observed given = observed(net, net.given("context", {"batch", "T"}));
    const Var mask = net.by(net.filled("mask", {"batch", "T"}, 1), given.there);
    loc = given.loc;
    const Var is_flat = net.compared(ArithmeticKind::equal, given.deviation, net.number(0));
    scale = net.chosen(is_flat, net.number(1e-5), given.deviation);
    std::string patches = "ceildiv(T," + std::to_string(patch) + ")";
    const InFront room = room_in_front(net, "T", multiple(patches, patch));
    const Var inside =
        net.of_type(net.compared(ArithmeticKind::at_most, net.number(0), room.number), format::DType::f32);
    const Names shape = {"batch", patches, std::to_string(patch)};
    const Var seen = net.view(net.by(moved(net, room, mask), inside), shape);
    const Var values = net.by(net.view(moved(net, room, net.over(given.centred, scale)), shape), seen);
    Var h = residual_block(net.joined({values, seen}, 2), "input_patch_embedding", width);
    Var visible = net.of_type(net.compared(ArithmeticKind::less, net.number(0), net.reduced(ReduceKind::sum, seen, 2)),
                              format::DType::f32);
    if (has_register) {
      h = net.joined({h, row(1)}, 1);
      const Var one = net.expanded(net.view(net.number(1), {"1", "1"}), {"batch", "1"});
      visible = net.joined({visible, one}, 1);
    }
    unseen = net.unseen(visible);
    const std::string size = Signal::sizes(h)[1];
    Attending how;
    how.unseen = unseen;
    how.bias = distance_bias(net, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                             f.integer("relative_attention_num_buckets", 4, 65536, 32),
                             f.integer("relative_attention_max_distance", 1, 1 << 16, 128), heads, size, false);
    for (int64_t i = 0; i < layers; ++i) {
      const std::string p = "encoder.block." + std::to_string(i) + ".layer.";
      h = net.plus(h, attention(how, normed(h, p + "0.layer_norm"), p + "0.SelfAttention."));
      h = net.plus(h, feed(normed(h, p + "1.layer_norm"), p + "1.DenseReluDense."));
    }
    return normed(h, "encoder.final_layer_norm");
  }
  Var decode(const Var& encoded) {
    Var x = row(f.integer("decoder_start_token_id", 0, 1 << 20, 0));
    Attending how;
    how.unseen = unseen;
    const int64_t count = f.integer("num_decoder_layers", 1, 4096, layers);
    for (int64_t i = 0; i < count; ++i) {
      const std::string p = "decoder.block." + std::to_string(i) + ".layer.";
      // One token sees itself alone.
      const Var own = net.linear(normed(x, p + "0.layer_norm"), p + "0.SelfAttention.v", heads * head);
      x = net.plus(x, net.linear(own, p + "0.SelfAttention.o", width));
      x = net.plus(x, attention(how, normed(x, p + "1.layer_norm"), p + "1.EncDecAttention.", encoded));
      x = net.plus(x, feed(normed(x, p + "2.layer_norm"), p + "2.DenseReluDense."));
    }
    return normed(x, "decoder.final_layer_norm");
  }
  Var normed(const Var& x, const std::string& name) { return net.rms(x, name, eps); }
  Var attention(const Attending& how, const Var& x, const std::string& p, const Var& other = {}) {
    const Var& keys = other.name.empty() ? x : other;
    const auto part = [&](const Var& from, const char* name) {
      Names n = Signal::sizes(from);
      n.back() = std::to_string(heads);
      n.push_back(std::to_string(head));
      return net.view(net.linear(from, p + name, heads * head), n);
    };
    return net.linear(net.attend(how, part(x, "q"), part(keys, "k"), part(keys, "v")), p + "o", width);
  }
  Var feed(const Var& x, const std::string& p) {
    if (!is_gated) return speech_mlp(net, x, p + "wi", p + "wo", ffn, activation);
    return net.linear(net.glu(activation, net.linear(x, p + "wi_0", ffn), net.linear(x, p + "wi_1", ffn)), p + "wo",
                      width);
  }

  Facts f;
  int64_t patch, length, width, ffn, heads, head, layers;
  double eps;
  UnaryKind activation;
  bool is_gated;
  Signal net;
  Var loc, scale, unseen;
};

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = outer_facts(c);
  const std::optional<Facts> series = f.inside("chronos_config");
  if (!series) return build_t5_encoder(c, f, b);
  if (class_of(f, "") != "ChronosBoltModelForForecasting")
    f.refuse("architectures", "names a T5 of time series that is not supported; ChronosBoltModelForForecasting is");
  Builder(c, b, f, *series);
  for (const char* part :
       {"embed_tokens.", "SelfAttention.q.", "SelfAttention.k.", "relative_attention_bias.", "lm_head."})
    c.ignore_containing(part);
}

}  // namespace

extern const Recipe chronos_bolt_recipe;
const Recipe chronos_bolt_recipe = {"chronos_bolt", {}, {"t5"}, build};

}  // namespace runnel::convert
