// The audio spectrogram transformer (arXiv 2104.01778): a vision transformer over overlapping patches of a sound's mel
// bands.
//
// Input: input_values [batch, max_length, num_mel_bins].
#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {
namespace {

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts own = config_facts(c);
  const int64_t bands = own.integer("num_mel_bins", 1, 1 << 14, 128),
                frames = own.integer("max_length", 1, 1 << 20, 1024);
  const Facts f =
      own.with_values({{"image_size", {bands, frames}}, {"num_channels", 1}}).with_defaults({{"patch_size", 16}});
  VisionEncoder e = vit_like(c, f, "audio_spectrogram_transformer.");
  e.tokens = {"embeddings.cls_token", "embeddings.distillation_token"};
  e.tokens_with_position = 2;
  e.stride[0] = f.integer("frequency_stride", 1, 1 << 14, 10), e.stride[1] = f.integer("time_stride", 1, 1 << 14, 10);
  e.picture = [&](VisionNet& net) {
    const Var x = net.input("input_values", "batch", {frames, bands});
    return net.reshape(net.transposed(x, {0, 2, 1}), {bands, frames, 1});
  };
  const std::string name = class_of(c, "AST");
  VisionNet net(c, b, e.naming);
  const Var x = encode_image(net, e), pooled = net.scale(net.add(net.token(x, 0), net.token(x, 1)), 0.5);
  if (name == "Model") {
    net.give(x, "last_hidden_state");
    net.give(pooled, "pooler_output");
  } else if (name == "ForAudioClassification") {
    net.give(net.linear(net.norm(pooled, "/classifier.layernorm", e.eps), "/classifier.dense"), "logits");
  } else {
    refuse_class(f, name);
  }
}

}  // namespace

extern const Recipe spectrogram_recipe;
const Recipe spectrogram_recipe = {"audio-spectrogram-transformer", {}, {"audio-spectrogram-transformer"}, build};

}  // namespace runnel::convert
