// CLIP, MetaCLIP 2 and SigLIP: a tower for images and one for texts, each on its own or both with the scores of every
// image beside every text.
//
// Of texts: input_ids [texts, T]. CLIP's tokens see those before them and its text is what stands at the end of text;
// SigLIP's see all, so texts are filled up to the length of its table, as its tokenizer does it.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind, format::BinaryKind;

VisionEncoder with_tower_names(VisionEncoder e, const std::string& prefix) {
  e.layer = prefix + "encoder.layers.";
  e.attn_norm = "layer_norm1", e.ffn_norm = "layer_norm2";
  e.q = "self_attn.q_proj", e.k = "self_attn.k_proj", e.v = "self_attn.v_proj", e.o = "self_attn.out_proj";
  e.up = "mlp.fc1", e.down = "mlp.fc2";
  return e;
}

VisionEncoder image_tower(const Checkpoint& c, const Facts& own, bool is_clip, const std::string& prefix) {
  const Facts f = own.with_defaults({{"hidden_act", is_clip ? "quick_gelu" : "gelu_pytorch_tanh"},
                                     {"layer_norm_eps", is_clip ? 1e-5 : 1e-6},
                                     {"hidden_size", 768},
                                     {"num_hidden_layers", 12},
                                     {"num_attention_heads", 12},
                                     {"image_size", 224},
                                     {"patch_size", is_clip ? 32 : 16}});
  VisionEncoder e = with_tower_names(vit_like(c, f, "vision_model."), prefix);
  e.patches = prefix + "embeddings.patch_embedding", e.positions = prefix + "embeddings.position_embedding.weight";
  e.tokens_with_position = is_clip;
  if (is_clip) e.tokens = {prefix + "embeddings.class_embedding"}, e.first_norm = prefix + "pre_layrnorm";
  e.last_norm = is_clip ? "" : prefix + "post_layernorm";
  f.pass_over({"projection_dim", "vision_use_head"});
  return e;
}

// SigLIP's pooled image: one learned query looks at all tokens.
Var looked_at(VisionNet& net, const VisionEncoder& e, const std::string& prefix, const Var& x) {
  const std::string p = prefix + "head.", weight = p + "attention.in_proj_weight", bias = p + "attention.in_proj_bias";
  const int64_t n = e.hidden, d = n / e.heads;
  const std::vector<float> probe = net.numbers(p + "probe", n), w = net.values(weight, {3 * n, n}),
                           shift = net.values(bias, {3 * n});
  std::vector<float> query;
  for (size_t i = 0; i < size_t(n); ++i) {
    double sum = double(shift[i]);
    for (size_t j = 0; j < size_t(n); ++j) sum += double(w[i * size_t(n) + j]) * double(probe[j]);
    query.push_back(float(sum));
  }
  const Var q = net.op("expand", {net.constant(p + "query", query, {1, 1, e.heads, d})}, x.axis, {1, e.heads, d});
  std::vector<Var> kv = net.parts(x, weight, bias, 3 * n, {{n, n}, {2 * n, n}});
  for (Var& part : kv) part = net.reshape(part, {x.dims[0], e.heads, d});
  const Var y = net.reshape(net.attend(q, kv[0], kv[1], 1 / std::sqrt(double(d))), {n}),
            seen = net.linear(y, p + "attention.out_proj"), normed = net.norm(seen, p + "layernorm", e.eps);
  return net.add(seen, net.linear(net.unary(e.activation, net.linear(normed, p + "mlp.fc1")), p + "mlp.fc2"));
}

struct Tower {
  Var tokens, pooled;  // without a name: none
};

Tower see(VisionNet& net, const VisionEncoder& e, bool is_clip, const std::string& prefix) {
  const Var x = encode_image(net, e);
  if (is_clip) return {x, net.norm(net.token(x, 0), prefix + "post_layernorm", e.eps)};
  return {x, net.has(prefix + "head.probe") ? looked_at(net, e, prefix, x) : Var()};
}

// 0, T, 2 T ... as bounds of the texts, for [texts * T] tokens.
std::string bounds_of_texts(VisionNet& net) {
  const Var places = net.op("index", {}, "T", {}, {}, format::IndexAttrsT());
  format::ReduceAttrsT last;
  last.kind = format::ReduceKind::max;
  const Var length =
      net.op("binary", {net.op("reduce", {places.name}, "", {}, {}, last).name, net.constant("/one", {1}, {1})}, "1",
             {}, {}, format::BinaryAttrsT());
  const Var texts = net.op("index", {}, "texts+1", {}, {}, format::IndexAttrsT());
  format::BinaryAttrsT times;
  times.kind = BinaryKind::mul;
  const Var bounds = net.op("binary", {texts.name, length.name}, "texts+1", {}, {}, times);
  net.graph().op("cast", {bounds.name}, {net.graph().value("bounds_of_texts", {"texts+1"}, format::DType::i32)});
  return "bounds_of_texts";
}

// Of each text the token whose number is largest, the first where there are several. rank: [texts, T] f32.
Var chosen(VisionNet& net, const Var& rank, const Var& tokens) {
  format::ReduceAttrsT largest;
  largest.kind = format::ReduceKind::max;
  largest.axis = 1;
  const Var most = net.op("reduce", {rank.name}, "texts", {}, {}, largest);
  const Var column = net.op("reshape", {most.name}, "texts 1", {});
  format::ArithmeticAttrsT equal;
  equal.kind = ArithmeticKind::equal;
  const Var is_it = net.make("arithmetic", "texts T", {}, false, format::DType::i32);
  net.graph().op("arithmetic", {rank.name, column.name}, {is_it.name}, equal);
  const Var weight = net.op("reshape", {net.op("cast", {is_it.name}, "texts T", {}).name}, "texts 1 T", {});
  const Var y =
      net.op("batch_matmul", {weight.name, tokens.name}, "texts 1", tokens.dims, {}, format::BatchMatmulAttrsT());
  return net.shaped(y, "texts", tokens.dims);
}

// Where CLIP's text ends: its first token of this id, or in the older releases' files (id 2) that of the largest id.
Var end_of_text(VisionNet& net, const Facts& f, const Var& ids, const Var& tokens, int64_t length) {
  const int64_t id = f.integer("eos_token_id", 0, INT32_MAX, 49407);
  Var rank = net.op("cast", {ids.name}, "texts T", {});
  double each = 1;
  while (each < double(length)) each *= 2;
  if (id == 2 && f.text("model_type", "").starts_with("clip")) {
    if (each * double(f.integer("vocab_size", 1, 1 << 30, 49408)) > double(1 << 24))
      f.refuse("vocab_size", "is too large for the search of the largest id");
  } else {
    const int32_t number = int32_t(id);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&number);
    net.builder().add_bytes(format::SegmentKind::weights, "end_of_text", format::DType::i32, {1}, {bytes, bytes + 4});
    format::ArithmeticAttrsT equal;
    equal.kind = ArithmeticKind::equal;
    const Var is_end = net.make("arithmetic", "texts T", {}, false, format::DType::i32);
    net.graph().op("arithmetic", {ids.name, "end_of_text"}, {is_end.name}, equal);
    rank = net.op("cast", {is_end.name}, "texts T", {});
  }
  // Of equal ones the first: what follows counts less, by less than one.
  format::IndexAttrsT later;
  later.step = -1;
  const Var order = net.op("index", {}, "T", {}, {}, later);
  return chosen(net, net.binary(BinaryKind::add, net.scale(rank, each), order.name), tokens);
}

Tower read(VisionNet& net, const Facts& own, bool is_clip, const std::string& prefix) {
  const Facts f = own.with_defaults({{"hidden_act", is_clip ? "quick_gelu" : "gelu_pytorch_tanh"},
                                     {"layer_norm_eps", is_clip ? 1e-5 : 1e-6},
                                     {"hidden_size", is_clip ? 512 : 768},
                                     {"num_hidden_layers", 12},
                                     {"num_attention_heads", is_clip ? 8 : 12},
                                     {"max_position_embeddings", is_clip ? 77 : 64}});
  VisionEncoder e;
  e.hidden = f.integer("hidden_size"), e.heads = f.integer("num_attention_heads", 1, 65536);
  if (e.hidden % e.heads) f.refuse("num_attention_heads", "does not divide hidden_size");
  e.eps = f.number("layer_norm_eps", 1e-5);
  e.activation = activation_named(f, "hidden_act", "gelu");
  e = with_tower_names(e, prefix);
  const int64_t length = f.integer("max_position_embeddings"), layers = f.integer("num_hidden_layers", 1, 4096),
                vocab = f.integer("vocab_size", 1, 1 << 30, is_clip ? 49408 : 32000);
  f.pass_over({"intermediate_size", "projection_dim", "projection_size"});
  net.builder().model.context = uint64_t(length);
  net.graph().add_symbol("texts", format::SymbolKind::axis, "context");
  net.graph().add_symbol("T", format::SymbolKind::axis, "min(context," + std::to_string(length) + ")");
  net.graph().add_input("input_ids", format::DType::i32, {"texts", "T"}, format::Role::none);
  const Var ids = {"input_ids", "texts T", {}};
  const std::string words = prefix + "embeddings.token_embedding.weight",
                    table = prefix + "embeddings.position_embedding.weight";
  const std::string all = net.constant(table, net.values(table, {length, e.hidden}), {length, e.hidden}),
                    bounds = bounds_of_texts(net);
  const Var places = net.op("slice", {all}, "T", {e.hidden}, {}, format::SliceAttrsT());
  Var x = net.op("embedding", {ids.name, net.matrix(words, net.take(words, {vocab, e.hidden}))}, ids.axis, {e.hidden},
                 {}, format::EmbeddingAttrsT());
  x = net.shaped(net.binary(BinaryKind::add, x, places.name), "texts*T", {e.hidden});
  e.attend = [&](VisionNet&, const std::vector<Var>& qkv, double scale) {
    format::AttentionAttrsT attrs;
    attrs.scale = float(scale);
    attrs.causal = is_clip;
    return net.op("attention", {qkv[0].name, qkv[1].name, qkv[2].name, "", "", "", "", bounds}, x.axis, {e.hidden}, {},
                  attrs);
  };
  for (int64_t i = 0; i < layers; ++i) x = encoder_layer(net, e, i, e.layer + std::to_string(i) + ".", x);
  x = net.shaped(net.norm(x, prefix + "final_layer_norm", e.eps), ids.axis, {e.hidden});
  if (is_clip) return {x, end_of_text(net, f, ids, x, length)};
  format::SliceAttrsT last;
  last.axis = 1, last.begin = -1;
  const Var y = net.op("slice", {x.name}, "texts 1", {e.hidden}, {}, last);
  return {x, net.linear(net.shaped(y, "texts", {e.hidden}), prefix + "head")};
}

// Scores of each image beside each text, by the cosine of both.
void give_scores(VisionNet& net, const Var& images, const Var& texts) {
  const Var i = net.unit(images), t = net.unit(texts);
  format::BatchMatmulAttrsT product;
  product.transpose_b = true;
  product.scale = float(std::exp(double(net.numbers("logit_scale", 1)[0])));
  Var per_image = net.op("batch_matmul", {i.name, t.name}, "batch texts", {}, {}, product),
      per_text = net.op("batch_matmul", {t.name, i.name}, "texts batch", {}, {}, product);
  if (net.has("logit_bias")) {
    const std::string bias = net.constant("logit_bias", net.numbers("logit_bias", 1), {1});
    per_image = net.binary(BinaryKind::add, per_image, bias), per_text = net.binary(BinaryKind::add, per_text, bias);
  }
  net.give(per_image, "logits_per_image");
  net.give(per_text, "logits_per_text");
  net.give(t, "text_embeds");
  net.give(i, "image_embeds");
}

void give_tower(VisionNet& net, const Tower& tower, const std::string& projection, const std::string& embeds) {
  if (projection.empty()) {
    net.give(tower.tokens, "last_hidden_state");
    if (!tower.pooled.name.empty()) net.give(tower.pooled, "pooler_output");
  } else {
    net.give(net.linear(tower.pooled, projection), embeds);
    net.give(tower.tokens, "last_hidden_state");
  }
}

void build_both(Checkpoint& c, ModelBuilder& b, const Facts& f, bool is_clip) {
  const Facts images = *f.inside("vision_config"),
              texts = f.inside("text_config")->with_values({{"model_type", f.text("model_type", "clip")}});
  VisionNet net(c, b, {"", "", {}});
  const std::string image = "vision_model.", text = "text_model.";
  const Tower seen = see(net, image_tower(c, images, is_clip, image), is_clip, image),
              told = read(net, texts, is_clip, text);
  if (seen.pooled.name.empty()) f.refuse("vision_config", "has no head, so that images have no embedding");
  if (is_clip)
    give_scores(net, net.linear(seen.pooled, "visual_projection"), net.linear(told.pooled, "text_projection"));
  else give_scores(net, seen.pooled, told.pooled);
}

void build_clip(Checkpoint& c, ModelBuilder& b) {
  const Facts f = outer_facts(c);
  const std::string type = f.text("model_type", "clip");
  const bool is_clip = !type.starts_with("siglip"), is_meta = type.starts_with("metaclip");
  std::string name = class_of(c, is_meta ? "MetaClip2" : is_clip ? "CLIP" : "Siglip");
  if (name == "Model" && type.ends_with("_vision_model")) name = "VisionModel";
  if (name == "Model" && type.ends_with("_text_model")) name = "TextModel";
  f.pass_over({"projection_dim", "logit_scale_init_value", "initializer_factor"});
  const auto facts_of = [&](const char* part) {
    return (f.has(part) ? *f.inside(part) : f).with_values({{"model_type", type}});
  };
  if (name == "Model") return build_both(c, b, f, is_clip);
  if (name.starts_with("TextModel")) {
    VisionNet net(c, b, {"text_model.", "", {}});
    const Tower told = read(net, facts_of("text_config"), is_clip, "");
    return give_tower(net, told, name == "TextModelWithProjection" ? "/text_projection" : "", "text_embeds");
  }
  const Facts images = facts_of("vision_config");
  VisionNet net(c, b, {"vision_model.", "", {}});
  const VisionEncoder e = image_tower(c, images, is_clip, "");
  if (name == "ForImageClassification") {
    const Var x = encode_image(net, e);
    net.give(net.linear(net.mean(is_clip ? net.slice(x, 1, 1, x.dims[0] - 1) : x, 1), "/classifier"), "logits");
    c.ignore_containing(is_clip ? "vision_model.post_layernorm." : "vision_model.head.");
    if (const auto texts = f.inside("text_config"))  // is not converted
      for (const auto& [key, value] : texts->tree().items()) texts->find(key);
  } else if (name == "VisionModel" || name == "VisionModelWithProjection") {
    give_tower(net, see(net, e, is_clip, ""), name == "VisionModel" ? "" : "/visual_projection", "image_embeds");
  } else {
    refuse_class(f, name);
  }
}

}  // namespace

extern const Recipe clip_recipe;
const Recipe clip_recipe = {"clip",
                            {},
                            {"clip", "clip_vision_model", "clip_text_model", "metaclip_2", "metaclip_2_vision_model",
                             "metaclip_2_text_model", "siglip", "siglip_vision_model", "siglip_text_model"},
                            build_clip};

}  // namespace runnel::convert
