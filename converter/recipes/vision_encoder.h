// Plain vision transformers: patches of an image are tokens, all layers are alike. A recipe fills in the description.
#pragma once

#include <functional>

#include "converter/recipes/vision.h"

namespace runnel::convert {

struct VisionEncoder {
  Naming naming;
  Image image;
  int64_t patch[2] = {0, 0}, hidden = 0, heads = 0, layers = 0;
  int64_t stride[2] = {0, 0};  // between patches; 0: they stand side by side
  double eps = 1e-12;
  format::UnaryKind activation = format::UnaryKind::gelu;
  // Tensors of tokens that stand before the patches, [.., hidden] each. The first of them have rows of the table of
  // positions; empty: no table.
  std::vector<std::string> tokens;
  std::string patches = "embeddings.patch_embeddings.projection", positions = "embeddings.position_embeddings";
  int64_t tokens_with_position = 1;
  bool adds_first_position = false;  // to all patches: the row of a token that is not there
  int64_t patch_pad = 0;
  std::vector<float> places;  // the table where the file holds none, [patches, hidden]
  bool is_rms = false;
  std::string patch_norm;  // before positions are added; empty: none
  std::string first_norm, last_norm = "layernorm";
  std::string layer = "encoder.layer.", attn_norm = "layernorm_before", ffn_norm = "layernorm_after";
  std::string q = "attention.attention.query", k = "attention.attention.key", v = "attention.attention.value",
              o = "attention.output.dense";
  std::string up = "intermediate.dense", down = "output.dense", gate;
  std::string gate_up;                // one matrix with the rows of gate and up
  std::string attn_scale, ffn_scale;  // factors of what the halves add; empty: none
  // Names of what is added to a layer's scores.
  std::function<std::vector<VisionNet::Bias>(VisionNet&, int64_t layer)> biases;
  // In the place of pixel_values: [batch, height, width, channels].
  std::function<Var(VisionNet&)> picture;
  // Which patches go in, of those with their positions.
  std::function<Var(const Var& patches)> choose;
  // In the place of attention among the tokens of an image: of queries, keys and values.
  std::function<Var(VisionNet&, const std::vector<Var>& qkv, double scale)> attend;
  std::function<Var(VisionNet&, const Var& heads)> rotate;  // queries and keys [n, heads, d]
  // Tokens behind a layer's attention, of which fewer go on.
  std::function<Var(int64_t layer, const std::vector<Var>& qkv, double scale, const Var& x)> thin;

  int64_t step(int axis) const { return stride[axis] ? stride[axis] : patch[axis]; }
  int64_t rows() const { return (image.height - patch[0] + step(0)) / step(0); }
  int64_t columns() const { return (image.width - patch[1] + step(1)) / step(1); }
};

// A norm as the encoder has it.
Var encoder_norm(VisionNet& net, const VisionEncoder& encoder, const Var& x, const std::string& name);
// Sizes and names as ViT has them.
VisionEncoder vit_like(const Checkpoint& checkpoint, const Facts& facts, const std::string& root);
// DINOv2, with registers or without.
VisionEncoder dinov2_encoder(const Checkpoint& checkpoint, const Facts& facts, const std::string& root);
// The last layer's tokens [n, hidden]; taps: those behind these layers' numbers, counted from 1, before any norm.
Var encode_image(VisionNet& net, const VisionEncoder& encoder, const std::vector<int64_t>& taps = {},
                 std::vector<Var>* tapped = nullptr);
// One layer over tokens, with what the description says of it; prefix: what its tensors' names begin with.
Var encoder_layer(VisionNet& net, const VisionEncoder& encoder, int64_t number, const std::string& prefix,
                  const Var& x);

}  // namespace runnel::convert
