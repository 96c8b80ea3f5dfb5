// Networks of convolutions, which take images of any size.
//
// Input: pixel_values [batch, channels, height, width] f32. Height and width are symbols bound by the session's option
// `context` (the model states the size of its configuration), the batch by its option `rows`. Inside, an image has the
// axes "batch H W", H and W sizes over those symbols, and channels as its one dim.
#pragma once

#include <limits>
#include <optional>

#include "converter/program/size.h"
#include "converter/recipes/vision.h"

namespace runnel::convert {

// One of unary's, held below `most`; or a leaky relu.
struct Activation {
  format::UnaryKind kind = format::UnaryKind::none;
  float most = std::numeric_limits<float>::infinity();
  float leak = 0;
};
inline constexpr float kRelu6 = 6;
Activation image_activation(const Facts& facts, const std::string& key, const std::string& otherwise);

// "{name}.weight" says how many filters there are and how large they are.
struct Conv {
  std::string name, norm = {};  // norm: a batch norm behind it, which goes into the weights
  int64_t stride = 1;
  Activation activation = {};
  double eps = 1e-5;
  int64_t groups = 1, dilation = 1;
  int64_t before = -1, behind = -1;  // places of padding; -1: as many as keep the size at stride 1
};
struct Places {
  int64_t kernel, stride, pad = 0;
  int64_t behind = -1;  // places of padding behind; -1: pad
};

class ConvNet : public VisionNet {
 public:
  // size: of images, where the configuration states one. is_mirrored: images are read from their last corner, so that
  // TensorFlow's padding, which hangs on whether a side is even, is always (kernel - 1) / 2 on both sides.
  ConvNet(Checkpoint& checkpoint, ModelBuilder& builder, Naming naming, const Facts& facts, bool is_mirrored = false);

  // For images of one size: an image has numbers where else sizes stand. `context` binds the batch, as in VisionNet.
  ConvNet(Checkpoint& checkpoint, ModelBuilder& builder, Naming naming, const Image& image);

  Var pixels();
  Var conv(const Var& x, const Conv& conv);
  // The same with these weights [out, in / groups, height, width].
  Var conv_of(const Var& x, const Conv& conv, std::vector<float> weights, const std::vector<int64_t>& shape,
              std::vector<float> bias);
  Var act(const Var& x, const Activation& activation);
  Var pool(format::PoolKind kind, const Var& x, const Places& places, bool counts_padding = false);
  Var ringed(const Var& x);  // with zeros around it, one place wide
  // Of groups of channels over all places.
  Var group_norm(const Var& x, const std::string& name, int64_t groups, double eps = 1e-5);
  // Over all places: [batch, channels], and as an image of one place.
  Var mean_of_places(const Var& x);
  Var one_place(const Var& x) { return shaped(x, "batch 1 1", x.dims); }
  // Of two shapes that meet by numpy's rules; the result has that of x.
  Var combined(format::BinaryKind kind, const Var& x, const Var& y);
  // x times sigmoid(expand(act(reduce(mean of x)))); names of convolutions of 1 x 1.
  Var squeeze_excite(const Var& x, const std::string& reduce, const std::string& expand, const Activation& activation);
  // Each place `factor` times along both sides.
  Var repeated(const Var& x, int64_t factor);
  // All places of an image as tokens, axes "batch H*W"; and back to the places of `like`.
  Var tokens(const Var& x);
  Var image(const Var& tokens, const Var& like) { return shaped(tokens, like.axis, tokens.dims); }
  Var along(format::ReduceKind kind, const Var& x, int axis, const std::string& axis_left);
  std::string as_numbers(const std::string& name, int64_t count) {
    return constant(name, numbers(name, count), {count});
  }

  // Outputs: images as [batch, channels, height, width]; [batch, channels] as such, with this many axes of 1 behind.
  void give_image(const Var& x, const std::string& name);
  void give_pooled(const Var& x, const std::string& name, int axes = 0);
  // A product by the classifier of this name; without one, x itself.
  void classify(const Var& x, const std::string& name = "/classifier");
  Size size_of(const Var& x, int i) const;  // 0: height, 1: width

 private:
  Size keep(const Size& size);
  Var mirrored(const Var& x);
  Sizes window(const Var& x, format::WindowAttrsT* attrs);

  int64_t channels_;
  bool is_mirrored_ = false;
  std::optional<Image> image_;
  std::map<std::string, Size> sizes_;
};

}  // namespace runnel::convert
