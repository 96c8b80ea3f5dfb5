// The encoders of T5 (arXiv 1910.10683), which give the embeddings of Sentence-T5 and GTR, and of UMT5 (arXiv
// 2304.09151), whose layers each have a table of distances.
#include "converter/recipes/decoder.h"
#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

// Refuses classes that decode too.
void expect_encoder(const Checkpoint& c) {
  const Facts f = outer_facts(c);
  const Json* classes = f.find("architectures");
  if (!classes || !classes->is_array() || classes->empty() || !(*classes)[0].is_string()) return;
  const std::string name = (*classes)[0].get<std::string>();
  if (!name.ends_with("EncoderModel") && !name.ends_with("ForTokenClassification"))
    f.refuse("architectures", "names " + printable(name) + ", which is not supported; the encoder alone is");
}

void build(Checkpoint& c, const Facts& f, ModelBuilder& b, bool has_own_tables) {
  expect_encoder(c);
  Encoder e;
  e.naming = {"transformer.", "encoder.block.", {}};
  e.words = "shared";
  if (!c.has("shared.weight") && !c.has("transformer.shared.weight")) e.words = "encoder.embed_tokens";
  c.ignore_containing("encoder.embed_tokens.weight");  // the same again
  e.positions.clear(), e.types.clear(), e.embedding_norm.clear();
  e.hidden = e.embedding = f.integer("d_model", 1, 1 << 20, 512);
  e.vocab = f.integer("vocab_size");
  e.context = f.integer("n_positions", 1, 1 << 20, 512);
  e.eps = f.number("layer_norm_epsilon", 1e-6);
  e.is_rms = e.is_pre_norm = true;
  e.attn_norm = "layer.0.layer_norm", e.ffn_norm = "layer.1.layer_norm", e.last_norm = "encoder.final_layer_norm";
  Attention& a = e.attention;
  a.prefix = "layer.0.SelfAttention.";
  a.q = "q", a.k = "k", a.v = "v", a.o = "o";
  a.heads = a.kv_heads = f.integer("num_heads", 1, 65536, 8);
  a.head_dim = f.integer("d_kv", 1, 65536, 64);
  a.scale = 1;
  const std::string form = f.text("feed_forward_proj", has_own_tables ? "gated-gelu" : "relu");
  const bool is_gated = form.starts_with("gated-");
  f.expect("is_gated_act", is_gated);
  e.ffn = {"layer.1.DenseReluDense.",
           "wi_0",
           is_gated ? "wi_1" : "wi",
           "wo",
           f.integer("d_ff", 1, 1 << 20, 2048),
           activation_named(f, "dense_act_fn",
                            form == "gated-gelu" ? "gelu_new"
                            : is_gated           ? form.substr(6)
                                                 : form),
           "",
           is_gated};
  e.layers.resize(size_t(f.integer("num_layers", 1, 4096, 6)));
  for (size_t i = 0; i < e.layers.size(); ++i) e.layers[i].number = i;
  e.tokens.out = "/classifier";
  f.pass_over({"dropout_rate", "classifier_dropout", "initializer_factor", "output_past", "task_specific_params",
               "decoder_start_token_id", "is_encoder_decoder", "num_decoder_layers", "tie_word_embeddings",
               "scale_decoder_outputs", "is_decoder"});
  const int64_t buckets = f.integer("relative_attention_num_buckets", 4, 65536, 32),
                most = f.integer("relative_attention_max_distance", 2, 1 << 20, 128);
  const std::string table = "layer.0.SelfAttention.relative_attention_bias.weight";
  const auto distances = [&](Net& net, const std::string& name) {
    return bucket_bias(net, name, buckets, most, a.heads, e.context);
  };
  if (has_own_tables) {
    e.mixer = [&](Net& net, size_t, const Var& x, const Var& unseen) {
      const Var own = distances(net, table), mask = net.op("reshape", {unseen.name}, "1 1 " + unseen.axis, {});
      Attention with = a;
      with.bias = arithmetic(net, format::BinaryKind::add, own, mask, own.axis).name;
      return attention(net, with, x);
    };
  } else {
    e.score_bias = [&](Net& net) { return distances(net, "encoder.block.0." + table); };
  }
  build_encoder(c, e, b);
}

void build_umt5(Checkpoint& c, ModelBuilder& b) { build(c, outer_facts(c), b, true); }

}  // namespace

void build_t5_encoder(Checkpoint& c, const Facts& f, ModelBuilder& b) { build(c, f, b, false); }

extern const Recipe umt5_recipe;
const Recipe umt5_recipe = {"umt5", {}, {"umt5"}, build_umt5};

}  // namespace runnel::convert
