// ViT and those that differ from it in tokens, heads or the halves of a layer: DeiT, ViT-MSN, I-JEPA, DINOv2,
// DINOv3.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {
namespace {

using Classify = Var (*)(VisionNet&, const VisionEncoder&, const Var& tokens);

Var first_token(VisionNet& net, const VisionEncoder&, const Var& x) { return net.token(x, 0); }
Var mean_of_all(VisionNet& net, const VisionEncoder&, const Var& x) { return net.mean(x, 1); }

Var patches_of(VisionNet& net, const VisionEncoder& e, const Var& x) {
  const int64_t n = e.rows() * e.columns();
  return x.dims[0] == n ? x : net.slice(x, 1, x.dims[0] - n, n);
}

// What the class gives of the last layer's tokens.
void give_outputs(VisionNet& net, const VisionEncoder& e, const Facts& f, const std::string& name, const Var& x,
                  Classify pooled) {
  if (name == "Model") {
    net.give(x, "last_hidden_state");
    if (net.has("pooler.dense.weight"))
      net.give(net.unary(activation_named(f, "pooler_act", "tanh"), net.linear(net.token(x, 0), "pooler.dense")),
               "pooler_output");
  } else if (name == "ForImageClassification") {
    net.give(net.linear(pooled(net, e, x), "/classifier"), "logits");
  } else if (name == "ForMaskedImageModeling") {
    net.give_reconstruction(f, patches_of(net, e, x), e.image.channels);
  } else {
    refuse_class(f, name);
  }
}

void leave_out_mask_token(Checkpoint& c) { c.ignore_containing("mask_token"); }

void build_vit_like(Checkpoint& c, ModelBuilder& b, VisionEncoder& e, const std::string& family, Classify pooled) {
  const Facts f = config_facts(c);
  const std::string name = class_of(c, family);
  VisionNet net(c, b, e.naming);
  give_outputs(net, e, f, name, encode_image(net, e), pooled);
  f.pass_over({"pooler_act"});
  leave_out_mask_token(c);
}

void build_vit(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const std::string type = f.text("model_type", "vit");
  if (c.has("vit.embeddings.cls_token"))  // some files of ViT-MSN name the layers as if there were no head
    rename_tensors(c, {{"vit.encoder.", "encoder."}, {"encoder.", "vit.encoder."}});
  VisionEncoder e = vit_like(c, f, "vit.");
  e.tokens = {"embeddings.cls_token"};
  build_vit_like(c, b, e, type == "vit_msn" ? "ViTMSN" : "ViT", first_token);
}

void build_deit(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  VisionEncoder e = vit_like(c, f, "deit.");
  e.tokens = {"embeddings.cls_token", "embeddings.distillation_token"};
  e.tokens_with_position = 2;
  if (class_of(c, "DeiT") != "ForImageClassificationWithTeacher") return build_vit_like(c, b, e, "DeiT", first_token);
  VisionNet net(c, b, e.naming);
  const Var x = encode_image(net, e);
  const Var own = net.linear(net.token(x, 0), "/cls_classifier"),
            distilled = net.linear(net.token(x, 1), "/distillation_classifier");
  net.give(net.scale(net.add(own, distilled), 0.5), "logits");
  net.give(own, "cls_logits");
  net.give(distilled, "distillation_logits");
  f.pass_over({"pooler_act"});
}

void build_ijepa(Checkpoint& c, ModelBuilder& b) {
  VisionEncoder e = vit_like(c, config_facts(c), "ijepa.");
  e.tokens_with_position = 0;
  build_vit_like(c, b, e, "IJepa", mean_of_all);
}

// Both give the first token, normed, as what is pooled; the classifier sees the mean of the patches too.
void give_dino_outputs(VisionNet& net, const VisionEncoder& e, const Facts& f, const std::string& name, const Var& x) {
  if (name == "Model") {
    net.give(x, "last_hidden_state");
    net.give(net.token(x, 0), "pooler_output");
  } else if (name == "ForImageClassification") {
    net.give(net.linear(net.concat({net.token(x, 0), net.mean(patches_of(net, e, x), 1)}, 1), "/classifier"), "logits");
  } else {
    refuse_class(f, name);
  }
}

void build_dinov2(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const bool has_registers = f.text("model_type", "") == "dinov2_with_registers";
  VisionEncoder e = dinov2_encoder(c, f, has_registers ? "dinov2_with_registers." : "dinov2.");
  const std::string name = class_of(c, has_registers ? "Dinov2WithRegisters" : "Dinov2");
  VisionNet net(c, b, e.naming);
  give_dino_outputs(net, e, f, name, encode_image(net, e));
  leave_out_mask_token(c);
}

// Turns queries and keys by the places of patches: rows for one half of the pairs, columns for the other. Places are
// centres between -1 and 1, here as whole numbers over the count.
Var rotated(VisionNet& net, const VisionEncoder& e, const Facts& f, const Var& x) {
  const int64_t n = x.dims[0], before = n - e.rows() * e.columns(), pairs = x.dims[2] / 2;
  const double base = f.number("rope_theta", 100);
  std::vector<float> frequencies;
  format::RopeAttrsT attrs;
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t count = i < pairs / 2 ? e.rows() : e.columns(), k = i % (pairs / 2);
    // The original's exponents and powers are of float32.
    const float exponent = float(k) * float(4.0 / double(x.dims[2]));
    frequencies.push_back(float(2 * M_PI / std::pow(base, double(exponent)) / double(count)));
    attrs.sections.push_back(uint8_t(i >= pairs / 2));
  }
  const std::string places = "places", table = net.constant("/rope", frequencies, {pairs});
  if (!net.builder().has_tensor(places)) {
    std::vector<int32_t> all(size_t(2 * before));
    for (int64_t i = 0; i < e.rows(); ++i)
      for (int64_t j = 0; j < e.columns(); ++j) {
        all.push_back(int32_t(2 * i + 1 - e.rows()));
        all.push_back(int32_t(2 * j + 1 - e.columns()));
      }
    const auto* bytes = reinterpret_cast<const uint8_t*>(all.data());
    net.builder().add_bytes(format::SegmentKind::weights, places, format::DType::i32, {1, uint64_t(n), 2},
                            {bytes, bytes + all.size() * 4});
    net.graph().op("expand", {places},
                   {net.graph().value("places_of_batch", shape_of("batch", {n, 2}), format::DType::i32)});
    net.graph().op(
        "reshape", {"places_of_batch"},
        {net.graph().value("places_of_tokens", shape_of("batch*" + std::to_string(n), {2}), format::DType::i32)});
  }
  const Var flat = net.shaped(x, "batch*" + std::to_string(n), {x.dims[1], x.dims[2]});
  return net.shaped(net.op("rope", {flat.name, "places_of_tokens", table}, flat.axis, flat.dims, {}, attrs), x.axis,
                    x.dims);
}

void build_dinov3(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  rename_tensors(c, {{"model.layer.", "layer."}});
  VisionEncoder e = vit_like(c, f.with_defaults({{"layer_norm_eps", 1e-5}}), "");
  if (e.hidden / e.heads % 4) f.refuse("num_attention_heads", "gives heads whose channels are no multiple of 4");
  e.tokens = {"embeddings.cls_token", "embeddings.register_tokens"};
  if (f.integer("num_register_tokens", 0, 4096, 0) == 0) e.tokens.pop_back(), c.ignore_containing("register_tokens");
  e.patches = "embeddings.patch_embeddings", e.positions.clear();
  e.layer = "layer.", e.attn_norm = "norm1", e.ffn_norm = "norm2", e.last_norm = "norm";
  e.q = "attention.q_proj", e.k = "attention.k_proj", e.v = "attention.v_proj", e.o = "attention.o_proj";
  e.up = "mlp.up_proj", e.down = "mlp.down_proj";
  if (f.boolean("use_gated_mlp", false)) e.gate = "mlp.gate_proj";
  e.attn_scale = "layer_scale1.lambda1", e.ffn_scale = "layer_scale2.lambda1";
  e.rotate = [&](VisionNet& net, const Var& x) { return rotated(net, e, f, x); };
  f.pass_over({"query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias", "pos_embed_shift", "pos_embed_jitter",
               "pos_embed_rescale", "layerscale_value", "apply_layernorm", "reshape_hidden_states", "out_features",
               "out_indices", "stage_names"});
  const std::string name = class_of(c, "DINOv3ViT");
  VisionNet net(c, b, e.naming);
  give_dino_outputs(net, e, f, name, encode_image(net, e));
  leave_out_mask_token(c);
}

}  // namespace

VisionEncoder dinov2_encoder(const Checkpoint& c, const Facts& f, const std::string& root) {
  VisionEncoder e = vit_like(c, f.with_defaults({{"layer_norm_eps", 1e-6}, {"patch_size", 14}}), root);
  if (e.image.height != e.image.width && e.rows() * e.columns()) {
    // The table is stretched even where it has as many rows, as the original does it with sides that differ.
    f.refuse("image_size", "is not square, for which the table of positions would have to be stretched");
  }
  e.tokens = {"embeddings.cls_token"};
  e.attn_norm = "norm1", e.ffn_norm = "norm2";
  e.up = "mlp.fc1", e.down = "mlp.fc2";
  if (f.boolean("use_swiglu_ffn", false)) {
    e.gate_up = "mlp.weights_in", e.down = "mlp.weights_out";
    e.activation = format::UnaryKind::silu;
  }
  if (f.text("model_type", "") == "dinov2_with_registers") {
    f.pass_over({"num_register_tokens"});
    e.tokens.push_back("embeddings.register_tokens");
  }
  e.attn_scale = "layer_scale1.lambda1", e.ffn_scale = "layer_scale2.lambda1";
  f.pass_over({"mlp_ratio", "layerscale_value", "apply_layernorm", "reshape_hidden_states", "out_features",
               "out_indices", "stage_names", "use_mask_token"});
  return e;
}

extern const Recipe vit_recipe;
const Recipe vit_recipe = {"vit", {}, {"vit", "vit_msn"}, build_vit};
extern const Recipe deit_recipe;
const Recipe deit_recipe = {"deit", {}, {"deit"}, build_deit};
extern const Recipe ijepa_recipe;
const Recipe ijepa_recipe = {"ijepa", {}, {"ijepa"}, build_ijepa};
extern const Recipe dinov2_recipe;
const Recipe dinov2_recipe = {"dinov2", {}, {"dinov2", "dinov2_with_registers"}, build_dinov2};
extern const Recipe dinov3_vit_recipe;
const Recipe dinov3_vit_recipe = {"dinov3_vit", {}, {"dinov3_vit"}, build_dinov3};

}  // namespace runnel::convert
