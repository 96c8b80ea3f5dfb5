// Hiera: tokens stand so that those of a window lie a fixed step apart; between stages the largest of neighbours stay
// as queries.
#include <algorithm>
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/vision.h"

namespace runnel::convert {
namespace {

struct Hiera {
  std::vector<int64_t> depths, heads, stride, unit;
  std::vector<bool> is_by_unit;
  int64_t pools = 0;
  double eps = 1e-6, growth = 2;
  format::UnaryKind activation = format::UnaryKind::gelu;
};

struct Layer {
  int64_t heads = 0, width = 0, pooled = 1;  // how many tokens become one
  int64_t window = 0;                        // tokens behind pooling; 0: all
};

Hiera hiera_of(const Facts& f) {
  Hiera h;
  const Json* depths = f.find("depths");
  const size_t stages = depths && depths->is_array() ? depths->size() : 0;
  if (stages < 1 || stages > 16) f.refuse("depths", "is no list of 1 to 16 stages");
  h.depths = f.integers("depths", stages, 1, 4096);
  h.heads = f.integers("num_heads", stages, 1, 65536);
  h.stride = f.integers("query_stride", 2, 1, 64);
  h.unit = f.integers("masked_unit_size", 2, 1, 4096);
  const Json* by_unit = f.find("masked_unit_attention");
  if (!by_unit || !by_unit->is_array() || by_unit->size() != stages)
    f.refuse("masked_unit_attention", "is no list with an entry for each stage");
  for (const Json& one : *by_unit) h.is_by_unit.push_back(one == true);
  h.pools = f.integer("num_query_pool", 0, int64_t(stages) - 1, 3);
  h.eps = f.number("layer_norm_eps", 1e-6);
  h.growth = f.number("embed_dim_multiplier", 2);
  h.activation = activation_named(f, "hidden_act", "gelu");
  f.pass_over({"mlp_ratio", "drop_path_rate", "layer_norm_init", "decoder_hidden_size", "decoder_depth",
               "decoder_num_heads", "normalize_pixel_loss", "mask_ratio", "hidden_size", "out_features", "out_indices",
               "stage_names", "num_layers", "embed_dim"});
  return h;
}

// Patches in the order of windows: what lies within a step comes before what lies beyond it, once for each stage.
Var unrolled(VisionNet& net, const Facts& f, const Hiera& h, Var x) {
  const int64_t n = x.dims[0] * x.dims[1], width = x.dims[2], down = h.stride[0], right = h.stride[1];
  int64_t parts = 1;
  for (size_t i = 1; i < h.depths.size(); ++i) {
    if (x.dims[0] % down || x.dims[1] % right)
      f.refuse("image_size", "gives patches that query_stride does not divide");
    const int64_t rows = x.dims[0] / down, columns = x.dims[1] / right;
    x = net.transposed(net.reshape(x, {rows, down, columns, right, width}), {0, 2, 4, 1, 3, 5});
    parts *= down * right;
    x = net.shaped(x, "batch*" + std::to_string(parts), {rows, columns, width});
  }
  return net.shaped(x, "batch", {n, width});
}

Var largest(VisionNet& net, const Var& x, int64_t of) {
  if (of == 1) return x;
  format::ReduceAttrsT attrs;
  attrs.kind = format::ReduceKind::max;
  attrs.axis = 1;
  const std::vector<int64_t> dims = {x.dims[0] / of, x.dims[1]};
  return net.op("reduce", {net.reshape(x, {of, dims[0], dims[1]}).name}, x.axis, dims, {}, attrs);
}

Var attended(VisionNet& net, const Layer& l, const std::string& p, const Var& x) {
  const int64_t n = x.dims[0], each = l.window ? l.pooled * l.window : n, windows = n / each, head = l.width / l.heads;
  std::vector<Var> qkv = net.parts(x, p + "qkv.weight", p + "qkv.bias", 3 * l.width,
                                   {{0, l.width}, {l.width, l.width}, {2 * l.width, l.width}});
  for (Var& y : qkv)
    if (windows > 1)
      y = net.shaped(net.transposed(net.reshape(y, {each, windows, l.width}), {0, 2, 1, 3}),
                     "batch*" + std::to_string(windows), {each, l.width});
  qkv[0] = largest(net, qkv[0], l.pooled);
  for (Var& y : qkv) y = net.reshape(y, {y.dims[0], l.heads, head});
  Var y = net.attend(qkv[0], qkv[1], qkv[2], 1 / std::sqrt(double(head)));
  if (windows > 1) y = net.transposed(net.shaped(y, "batch", {windows, each / l.pooled, l.width}), {0, 2, 1, 3});
  return net.linear(net.reshape(y, {n / l.pooled, l.width}), p + "proj");
}

Var layer(VisionNet& net, const Hiera& h, const Layer& l, const std::string& p, const Var& x) {
  const Var normed = net.norm(x, p + "layernorm_before", h.eps);
  const Var kept = x.dims[1] == l.width ? x : largest(net, net.linear(normed, p + "proj"), l.pooled);
  const Var middle = net.add(kept, attended(net, l, p + "attn.", normed));
  const Var up = net.linear(net.norm(middle, p + "layernorm_after", h.eps), p + "mlp.fc1");
  return net.add(middle, net.linear(net.unary(h.activation, up), p + "mlp.fc2"));
}

Var encoded(VisionNet& net, const Facts& f, const Hiera& h, const Image& image) {
  const std::vector<int64_t> kernel = f.integers("patch_size", 2, 1, 4096),
                             step = f.integers("patch_stride", 2, 1, 4096),
                             pad = f.integers("patch_padding", 2, 0, 4096);
  if (pad[0] != pad[1]) f.refuse("patch_padding", "differs between rows and columns, which is not supported");
  const std::string patches = "embeddings.patch_embeddings.projection", positions = "embeddings.position_embeddings";
  Var x = net.conv(net.pixels(image), patches, {{kernel[0], kernel[1]}, {step[0], step[1]}, pad[0]});
  const int64_t n = x.dims[0] * x.dims[1];
  if (x.dims[0] != image.height / step[0] || x.dims[1] != image.width / step[1])
    f.refuse("image_size", "gives more or fewer patches than there are positions");
  const std::vector<int64_t> shape = x.dims;
  x = net.plus_numbers(x, positions, net.numbers(positions, n * x.dims[2]), shape);
  const double first = double(x.dims[2]);
  x = unrolled(net, f, h, x);
  for (size_t i = 0; i < h.depths.size(); ++i)
    for (int64_t k = 0; k < h.depths[i]; ++k) {
      Layer l;
      l.heads = h.heads[i], l.width = int64_t(first * std::pow(h.growth, double(i)));
      if (l.width % l.heads) f.refuse("num_heads", "does not divide the width of stage " + std::to_string(i + 1));
      if (k == 0 && i > 0 && int64_t(i) <= h.pools) l.pooled = h.stride[0] * h.stride[1];
      if (h.is_by_unit[i] || (k == 0 && h.is_by_unit[i > 0 ? i - 1 : 0]))
        l.window = int64_t(double(h.unit[0] * h.unit[1]) * std::pow(double(h.stride[0] * h.stride[1]), -double(i)));
      if (x.dims[0] % (l.pooled * std::max<int64_t>(l.window, 1)))
        f.refuse("masked_unit_size", "does not divide the patches of stage " + std::to_string(i + 1));
      x = layer(net, h, l, "encoder.stages." + std::to_string(i) + ".layers." + std::to_string(k) + ".", x);
    }
  return x;
}

void build_hiera(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Hiera h = hiera_of(f);
  const std::string name = class_of(c, "Hiera");
  VisionNet net(c, b, {"hiera.", "", {}});
  const Var x = encoded(net, f, h, image_of(c, f));
  const Var pooled = net.norm(net.mean(x, 1), "pooler.layernorm", h.eps);
  net.give_usual(f, name, x, pooled);
}

}  // namespace

extern const Recipe hiera_recipe;
const Recipe hiera_recipe = {"hiera", {}, {"hiera"}, build_hiera};

}  // namespace runnel::convert
