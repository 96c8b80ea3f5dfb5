// What models of images share: a program over a batch of images, whose tensors have the names of the original code.
//
// Input: pixel_values [batch, channels, height, width] f32 of the size that the configuration states. Inside, images
// are [batch, height, width, channels] and tokens [batch, n, channels]. The symbol batch is bound by the session's
// option `context`: the model's own is one image, a call of eval takes as many as its input has.
#pragma once

#include "converter/program/program.h"
#include "converter/read/facts.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/source.h"

namespace runnel::convert {

struct Image {
  int64_t height = 0, width = 0, channels = 3;
};
// num_channels, and image_size, or of models for any size what preprocessor_config.json says.
Image image_of(const Checkpoint& checkpoint, const Facts& facts);
// Class names in config.json, without what they begin with: "ForImageClassification"; "Model" where none is named.
// Refuses "Backbone", the maps of features that other models read.
std::string class_of(const Checkpoint& checkpoint, const std::string& family);
// Fails: the class of this name (class_of) is not supported.
[[noreturn]] void refuse_class(const Facts& facts, const std::string& name);
// Tensors under names that other releases give them: what the first text is in a name becomes the second.
void rename_tensors(Checkpoint& checkpoint, const std::vector<std::pair<std::string, std::string>>& names);

// A window that moves over an image; numbers of rows and columns.
struct Window {
  int64_t kernel[2], stride[2], pad = 0, groups = 1, dilation = 1;
  format::UnaryKind activation = format::UnaryKind::none;
};
// What torch's interpolation takes for each new place: bilinear. And the means of adaptive average pooling.
std::vector<float> linear_weights(int64_t to, int64_t from, bool aligns_corners);
std::vector<float> mean_weights(int64_t to, int64_t from);
Window square(int64_t kernel, int64_t stride, int64_t pad = 0, int64_t groups = 1);

// Rows of a matrix.
struct Rows {
  int64_t first = 0, count = 0;
};

class VisionNet : public Program, public Source {
 public:
  VisionNet(Checkpoint& checkpoint, ModelBuilder& builder, Naming naming = {}, const char* most_images = "context");

  Var pixels(const Image& image);
  // The same elements under another shape.
  Var shaped(const Var& x, const std::string& axis, const std::vector<int64_t>& dims);
  // Axis i of the result is axis perm[i] of x, whose first axis is one of the batch.
  Var transposed(const Var& x, const std::vector<uint8_t>& perm);

  // By "{name}.weight" and "{name}.bias", where that is there.
  Var linear(const Var& x, const std::string& name) { return linears(x, {name})[0]; }
  std::vector<Var> linears(const Var& x, const std::vector<std::string>& names);
  // The same for parts of a matrix of `all` rows; weight and bias are named in full.
  std::vector<Var> parts(const Var& x, const std::string& weight, const std::string& bias, int64_t all,
                         const std::vector<Rows>& rows);
  Var conv(const Var& x, const std::string& name, const Window& window);
  // A convolution and the batch norm behind it, folded.
  Var conv_norm(const Var& x, const std::string& name, const std::string& norm, double eps, const Window& window);
  // The same of a matrix.
  Var linear_norm(const Var& x, const std::string& name, const std::string& norm, double eps);
  Var batch_norm(const Var& x, const std::string& name, double eps);
  Var conv_with(const Var& x, const std::string& name, const std::vector<float>& weight, const std::vector<float>& bias,
                int64_t out, const Window& window);
  Var norm(const Var& x, const std::string& name, double eps);
  Var rms(const Var& x, const std::string& name, double eps);
  // x times, or plus, numbers that stand on its last axes.
  Var times_numbers(const Var& x, const std::string& name, const std::vector<float>& values,
                    const std::vector<int64_t>& shape);
  Var plus_numbers(const Var& x, const std::string& name, const std::vector<float>& values,
                   const std::vector<int64_t>& shape);
  // The same tokens [k, channels] before those of each image.
  Var with_tokens(const Var& x, const std::string& name, const std::vector<float>& values);
  Var mean(const Var& x, int axis);
  Var token(const Var& x, int64_t i);  // [batch, channels]
  // An image [height, width, channels] with zeros behind its rows and columns, or without the last of them.
  Var padded(const Var& x, int64_t rows, int64_t columns);
  Var cropped(Var x, int64_t rows, int64_t columns);
  // The same with rows and columns made of others: each matrix has a row for each new one.
  struct Mixing {
    int64_t to = 0, from = 0;
    std::vector<float> weights;
  };
  Var resampled(const Var& x, const Mixing& rows, const Mixing& columns);
  Var stretched(const Var& x, int64_t rows, int64_t columns, bool aligns_corners = false);  // bilinear
  Var hard_swish(const Var& x);
  Var unit(const Var& x);  // [batch, channels], each row of length 1

  // Softmax attention of q [n, heads, d] to k and v [m, heads, d]. biases: names of numbers [heads | 1, n, m], or
  // [windows, 1, n, m] where x's axis holds so many windows of an image, added to the scores. Gives [n, heads * d].
  struct Bias {
    std::string name;
    int64_t windows = 0;
  };
  Var attend(const Var& q, const Var& k, const Var& v, double scale, const std::vector<Bias>& biases = {});

  // An image as transformers gives it, [batch, channels, height, width].
  void give_image(const Var& x, const std::string& name) { give(transposed(x, {0, 3, 1, 2}), name); }
  void give(const Var& x, const std::string& name, bool is_optional = false);
  // What the plain model gives, or classes by a matrix over what is pooled; other classes are refused.
  void give_usual(const Facts& facts, const std::string& name, const Var& x, const Var& pooled);
  // The image that a head for masked patches makes of tokens [n, width]: a pixel shuffle.
  void give_reconstruction(const Facts& facts, const Var& tokens, int64_t channels);

 protected:
  std::string matrix_of(const std::string& name, const std::vector<float>& numbers, int64_t rows, int64_t columns,
                        bool is_delicate = false);
};

}  // namespace runnel::convert
