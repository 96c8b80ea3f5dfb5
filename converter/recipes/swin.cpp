// Swin, both versions: attention within windows of an image, which every second layer shifts by half their side; from
// stage to stage four neighbours become one token.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/vision.h"

namespace runnel::convert {
namespace {

struct Swin {
  bool is_second = false;
  int64_t window = 0;
  double eps = 1e-5;
  format::UnaryKind activation = format::UnaryKind::gelu;
  std::vector<int64_t> pretrained_windows;
};

struct Stage {
  int64_t number = 0, heads = 0;
  int64_t side = 0, shift = 0;  // of a window, and of every second layer's
};

int64_t filled(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Rows and columns begin `by` places later, those before stand at the end.
Var rolled(VisionNet& net, Var x, int64_t by) {
  if (by == 0) return x;
  for (int axis : {1, 2}) {
    const int64_t n = x.dims[size_t(axis - 1)], first = (by % n + n) % n;
    x = net.concat({net.slice(x, axis, first, n - first), net.slice(x, axis, 0, first)}, axis);
  }
  return x;
}

// [rows, columns, c] as [side * side, c] on an axis of windows, and back.
Var as_windows(VisionNet& net, const Var& x, int64_t side) {
  const int64_t down = x.dims[0] / side, right = x.dims[1] / side, width = x.dims[2];
  const Var y = net.transposed(net.reshape(x, {down, side, right, side, width}), {0, 1, 3, 2, 4, 5});
  return net.shaped(y, "batch*" + std::to_string(down * right), {side * side, width});
}
Var from_windows(VisionNet& net, const Var& x, int64_t side, int64_t rows, int64_t columns) {
  const int64_t width = x.dims[1];
  const Var y = net.shaped(x, "batch", {rows / side, columns / side, side, side, width});
  return net.reshape(net.transposed(y, {0, 1, 3, 2, 4, 5}), {rows, columns, width});
}

// Tokens of a shifted window that were not neighbours do not see each other. The second version adds this twice.
std::string mask_of(VisionNet& net, const Swin& s, const Stage& stage, int64_t rows, int64_t columns) {
  const int64_t side = stage.side, n = side * side, right = columns / side, windows = rows / side * right;
  const auto region = [&](int64_t i, int64_t all) { return int(i >= all - side) + int(i >= all - stage.shift); };
  std::vector<float> mask;
  for (int64_t w = 0; w < windows; ++w) {
    const auto of = [&](int64_t t) {
      return 3 * region(w / right * side + t / side, rows) + region(w % right * side + t % side, columns);
    };
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) mask.push_back(of(i) == of(j) ? 0.0f : s.is_second ? -200.0f : -100.0f);
  }
  return net.constant("/unseen." + std::to_string(stage.number), mask, {windows, 1, n, n});
}

// What a small network makes of each distance, [(2 side - 1)^2, heads].
std::vector<float> continuous_table(VisionNet& net, const Swin& s, const Stage& stage, const std::string& p) {
  const int64_t side = stage.side, trained = s.pretrained_windows.at(size_t(stage.number)), rows = 2 * side - 1;
  const double unit = trained > 0 ? double(trained - 1) : side > 1 ? double(side - 1) : 1;
  constexpr int64_t kHidden = 512;
  const std::string mlp = p + "continuous_position_bias_mlp.";
  const std::vector<float> in = net.values(mlp + "0.weight", {kHidden, 2}),
                           shift = net.values(mlp + "0.bias", {kHidden}),
                           out = net.values(mlp + "2.weight", {stage.heads, kHidden});
  const auto place = [&](int64_t i) {
    const double x = double(i - (side - 1)) / unit * 8;
    return std::copysign(std::log2(std::fabs(x) + 1) / 3, x);
  };
  std::vector<float> table;
  for (int64_t r = 0; r < rows * rows; ++r)
    for (int64_t h = 0; h < stage.heads; ++h) {
      double sum = 0;
      for (size_t k = 0; k < size_t(kHidden); ++k) {
        const double y =
            double(in[2 * k]) * place(r / rows) + double(in[2 * k + 1]) * place(r % rows) + double(shift[k]);
        if (y > 0) sum += double(out[size_t(h * kHidden) + k]) * y;
      }
      table.push_back(float(16 / (1 + std::exp(-sum))));
    }
  return table;
}

std::string relative_bias(VisionNet& net, const Swin& s, const Stage& stage, const std::string& p) {
  const int64_t side = stage.side, n = side * side, rows = 2 * side - 1;
  const std::vector<float> table = s.is_second
                                       ? continuous_table(net, s, stage, p)
                                       : net.values(p + "relative_position_bias_table", {rows * rows, stage.heads});
  std::vector<float> bias;
  for (int64_t h = 0; h < stage.heads; ++h)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const int64_t down = i / side - j / side + side - 1, right = i % side - j % side + side - 1;
        bias.push_back(table[size_t((down * rows + right) * stage.heads + h)]);
      }
  return net.constant(p + "relative_position_bias", bias, {stage.heads, n, n});
}

// Queries and keys of length 1; each head's queries by a factor of its own.
void normalise(VisionNet& net, const Stage& stage, const std::string& p, std::vector<Var>& qkv) {
  const double width = double(qkv[0].dims.back());
  std::vector<float> factors = net.numbers(p + "logit_scale", stage.heads);
  for (float& v : factors) v = float(std::exp(std::min(double(v), std::log(100.0))) / width);
  for (size_t i : {0, 1}) qkv[i] = net.rms_norm(qkv[i], "", 1e-24);
  qkv[0] = net.times_numbers(qkv[0], p + "logit_scale", factors, {stage.heads, 1});
}

Var attended(VisionNet& net, const Swin& s, const Stage& stage, const std::string& p, const Var& image,
             bool is_shifted) {
  const int64_t side = stage.side, rows = filled(image.dims[0], side), columns = filled(image.dims[1], side),
                width = image.dims[2], shift = is_shifted ? stage.shift : 0;
  const Var x = as_windows(net, rolled(net, net.padded(image, rows, columns), shift), side);
  const std::string self = p + "attention.self.";
  std::vector<Var> qkv = net.linears(x, {self + "query", self + "key", self + "value"});
  for (Var& part : qkv) part = net.reshape(part, {side * side, stage.heads, width / stage.heads});
  if (s.is_second) normalise(net, stage, self, qkv);
  std::vector<VisionNet::Bias> biases = {{relative_bias(net, s, stage, self)}};
  if (shift) biases.push_back({mask_of(net, s, stage, rows, columns), rows / side * (columns / side)});
  const double scale = s.is_second ? 1 : 1 / std::sqrt(double(width / stage.heads));
  Var y = net.linear(net.attend(qkv[0], qkv[1], qkv[2], scale, biases), p + "attention.output.dense");
  y = rolled(net, from_windows(net, y, side, rows, columns), -shift);
  return net.cropped(y, image.dims[0], image.dims[1]);
}

Var layer(VisionNet& net, const Swin& s, const Stage& stage, const std::string& p, const Var& x, bool is_shifted) {
  const auto norm = [&](const Var& y, const char* name) { return net.norm(y, p + name, s.eps); };
  const auto mixed = [&](const Var& y) { return attended(net, s, stage, p, y, is_shifted); };
  const auto fed = [&](const Var& y) {
    return net.linear(net.unary(s.activation, net.linear(y, p + "intermediate.dense")), p + "output.dense");
  };
  if (s.is_second) {
    const Var y = net.add(x, norm(mixed(x), "layernorm_before"));
    return net.add(y, norm(fed(y), "layernorm_after"));
  }
  const Var y = net.add(x, mixed(norm(x, "layernorm_before")));
  return net.add(y, fed(norm(y, "layernorm_after")));
}

Var merged(VisionNet& net, const Swin& s, const std::string& p, const Var& x) {
  constexpr double kEps = 1e-5;
  const int64_t rows = filled(x.dims[0], 2), columns = filled(x.dims[1], 2), width = x.dims[2];
  const Var four = net.reshape(net.padded(x, rows, columns), {rows / 2, 2, columns / 2, 2, width});
  const Var y = net.reshape(net.transposed(four, {0, 1, 3, 4, 2, 5}), {rows / 2, columns / 2, 4 * width});
  if (s.is_second) return net.norm(net.linear(y, p + "reduction"), p + "norm", kEps);
  return net.linear(net.norm(y, p + "norm", kEps), p + "reduction");
}

Var embedded(VisionNet& net, const Facts& f, const Image& image, const std::vector<int64_t>& patch) {
  const Window window = {{patch[0], patch[1]}, {patch[0], patch[1]}};
  const Var pixels = net.padded(net.pixels(image), filled(image.height, patch[0]), filled(image.width, patch[1]));
  Var x = net.norm(net.conv(pixels, "embeddings.patch_embeddings.projection", window), "embeddings.norm", 1e-5);
  if (!f.boolean("use_absolute_embeddings", false)) return x;
  const std::string table = "embeddings.position_embeddings";
  return net.plus_numbers(x, table, net.numbers(table, x.width()), x.dims);
}

void build_swin(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  Swin s;
  s.is_second = f.text("model_type", "swin") == "swinv2";
  s.window = f.integer("window_size", 1, 4096, 7);
  s.eps = f.number("layer_norm_eps", 1e-5);
  s.activation = activation_named(f, "hidden_act", "gelu");
  const Json* depths = f.find("depths");
  const size_t stages = depths && depths->is_array() ? depths->size() : 0;
  if (stages == 0 || stages > 16) f.refuse("depths", "is not a list of the stages' layers");
  const std::vector<int64_t> layers = f.integers("depths", stages, 1, 4096),
                             heads = f.integers("num_heads", stages, 1, 65536),
                             patch = f.integers("patch_size", 2, 1, 4096);
  s.pretrained_windows.assign(stages, 0);
  if (const Json* windows = f.find("pretrained_window_sizes"); windows && windows->is_array()) {
    if (windows->size() < stages) f.refuse("pretrained_window_sizes", "is shorter than depths");
    s.pretrained_windows = f.integers("pretrained_window_sizes", windows->size(), 0, 4096);  // some have more than
                                                                                             // stages
  }
  if (s.is_second) f.expect("use_absolute_embeddings", false);
  f.pass_over({"embed_dim", "hidden_size", "num_layers", "mlp_ratio", "qkv_bias", "drop_path_rate", "encoder_stride",
               "out_features", "out_indices", "stage_names"});
  const std::string name = class_of(c, s.is_second ? "Swinv2" : "Swin");
  VisionNet net(c, b, {s.is_second ? "swinv2." : "swin.", "", {}});
  const Image image = image_of(c, f);
  Var x = embedded(net, f, image, patch);
  for (size_t i = 0; i < stages; ++i) {
    // The second version takes its windows from the image's sides without what is filled up.
    const int64_t least = s.is_second ? image.height / patch[0] >> i : std::min(x.dims[0], x.dims[1]);
    Stage stage = {int64_t(i), heads[i], std::min(least, s.window), least <= s.window ? 0 : s.window / 2};
    if (least < 1 || (!s.is_second && least < s.window))
      f.refuse("window_size", "is larger than the image of stage " + std::to_string(i + 1));
    if (x.dims[2] % stage.heads) f.refuse("num_heads", "does not divide the width of stage " + std::to_string(i + 1));
    const std::string p = "encoder.layers." + std::to_string(i) + ".";
    for (int64_t k = 0; k < layers[i]; ++k)
      x = layer(net, s, stage, p + "blocks." + std::to_string(k) + ".", x, k % 2 == 1);
    if (i + 1 < stages) x = merged(net, s, p + "downsample.", x);
  }
  x = net.norm(net.reshape(x, {x.dims[0] * x.dims[1], x.dims[2]}), "layernorm", s.eps);
  if (name == "ForMaskedImageModeling") net.give_reconstruction(f, x, image.channels);
  else net.give_usual(f, name, x, net.mean(x, 1));
  for (const char* part : {"mask_token", "relative_position_index", "relative_coords_table"}) c.ignore_containing(part);
}

}  // namespace

extern const Recipe swin_recipe;
const Recipe swin_recipe = {"swin", {}, {"swin", "swinv2"}, build_swin};

}  // namespace runnel::convert
