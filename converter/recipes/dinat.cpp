// NAT and DiNAT: each place attends to kernel_size x kernel_size places around it, `dilations` apart, those at the
// edges to the nearest ones within the image.
//
// Keys and values are looked up for each query and head, so that what attends is as large as the places that it sees.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/vision.h"

namespace runnel::convert {
namespace {

struct Dinat {
  VisionNet& net;
  const Facts& f;
  int64_t kernel;
  double eps;
  format::UnaryKind activation;

  Var attended(const Var& x, const std::string& prefix, int64_t heads, int64_t dilation) const;
  Var layer(const Var& x, const std::string& prefix, int64_t heads, int64_t dilation) const;
};

// What a place sees along one axis of n places: where it begins, in steps of the dilation, and the entry of the table
// of biases that belongs to the first of them.
struct Seen {
  int64_t first, bias;
};

Seen seen_from(int64_t place, int64_t n, int64_t kernel, int64_t dilation) {
  const int64_t rest = place % dilation, own = place / dilation, places = (n - rest + dilation - 1) / dilation,
                begin = std::max<int64_t>(std::min(own - kernel / 2, places - kernel), 0);
  return {rest + begin * dilation, begin - own + kernel - 1};
}

Var Dinat::attended(const Var& x, const std::string& p, int64_t heads, int64_t dilation) const {
  const int64_t rows = x.dims[0], columns = x.dims[1], width = x.dims[2], n = rows * columns, head = width / heads,
                square = kernel * kernel, side = 2 * kernel - 1;
  const std::vector<float> table = net.values(p + "self.rpb", {heads, side, side});
  std::vector<float> biases;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    for (int64_t h = 0; h < heads; ++h) {
      const Seen down = seen_from(i / columns, rows, kernel, dilation),
                 across = seen_from(i % columns, columns, kernel, dilation);
      for (int64_t k = 0; k < square; ++k) {
        const int64_t row = k / kernel, column = k % kernel;
        ids.push_back(
            int32_t(((down.first + row * dilation) * columns + across.first + column * dilation) * heads + h));
        biases.push_back(table[size_t((h * side + down.bias + row) * side + across.bias + column)]);
      }
    }
  const std::string seen = "seen_" + std::to_string(rows) + "_" + std::to_string(columns) + "_" +
                           std::to_string(heads) + "_" + std::to_string(dilation);
  if (!net.builder().has_tensor(seen)) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(ids.data());
    net.builder().add_bytes(format::SegmentKind::weights, seen, format::DType::i32,
                            {uint64_t(n), uint64_t(heads), uint64_t(square)}, {bytes, bytes + ids.size() * 4});
  }
  const Var tokens = net.reshape(x, {n, width});
  const std::vector<Var> qkv = net.linears(tokens, {p + "self.query", p + "self.key", p + "self.value"});
  const auto looked_up = [&](const Var& of) {
    format::GatherAttrsT attrs;
    attrs.axis = 1;
    return net.op("gather", {net.reshape(of, {n * heads, head}).name, seen}, "batch", {n, heads, square, head}, {},
                  attrs);
  };
  format::BatchMatmulAttrsT product;
  product.transpose_b = true;
  product.scale = float(1 / std::sqrt(double(head)));
  Var scores = net.op("batch_matmul", {net.reshape(qkv[0], {n, heads, 1, head}).name, looked_up(qkv[1]).name}, "batch",
                      {n, heads, 1, square}, {}, product);
  scores = net.plus_numbers(scores, p + "self.rpb", biases, {n, heads, 1, square});
  const Var weights = net.op("softmax", {scores.name}, "batch", scores.dims, {}, format::SoftmaxAttrsT());
  const Var y = net.op("batch_matmul", {weights.name, looked_up(qkv[2]).name}, "batch", {n, heads, 1, head}, {},
                       format::BatchMatmulAttrsT());
  return net.reshape(net.linear(net.reshape(y, {n, width}), p + "output.dense"), {rows, columns, width});
}

Var Dinat::layer(const Var& x, const std::string& p, int64_t heads, int64_t dilation) const {
  const int64_t rows = x.dims[0], columns = x.dims[1], width = x.dims[2], least = kernel * dilation;
  std::vector<float> scales;
  if (net.has(p + "layer_scale_parameters")) scales = net.values(p + "layer_scale_parameters", {2, width});
  const auto scaled = [&](const Var& y, int64_t half) {
    if (scales.empty()) return y;
    const auto begin = scales.begin() + half * width;
    return net.times_numbers(y, p + "layer_scale." + std::to_string(half), {begin, begin + width}, {width});
  };
  // An image smaller than what a place sees has zeros behind it, which are seen too.
  Var y = net.norm(x, p + "layernorm_before", eps);
  y = net.padded(y, std::max(rows, least), std::max(columns, least));
  y = net.cropped(attended(y, p + "attention.", heads, dilation), rows, columns);
  const Var middle = net.add(x, scaled(y, 0));
  y = net.linear(net.norm(middle, p + "layernorm_after", eps), p + "intermediate.dense");
  return net.add(middle, scaled(net.linear(net.unary(activation, y), p + "output.dense"), 1));
}

std::vector<int64_t> dilations_of(const Facts& f, size_t stage, int64_t depth) {
  const Json* all = f.find("dilations");
  if (!all && f.text("model_type", "dinat") == "nat") return std::vector<int64_t>(size_t(depth), 1);
  if (!all) f.refuse("dilations", "is missing");
  if (!all->is_array() || all->size() <= stage) f.refuse("dilations", "is no list of lists, one a stage");
  const Json own = {{"dilations", (*all)[stage]}};
  return f.with(own).integers("dilations", size_t(depth), 1, 4096);
}

Var encoded(const Dinat& d) {
  const std::string embeddings = "embeddings.patch_embeddings.projection.";
  VisionNet& net = d.net;
  Var x = net.pixels(image_of(net.checkpoint(), d.f));
  for (const char* number : {"0", "1"}) x = net.conv(x, embeddings + number, square(3, 2, 1));
  constexpr double kEps = 1e-5;  // of norms for which the configuration has no number
  x = net.norm(x, "embeddings.norm", kEps);
  const Json* listed = d.f.find("depths");
  const size_t stages = listed && listed->is_array() ? listed->size() : 4;
  const std::vector<int64_t> depths = d.f.integers("depths", stages, 1, 4096),
                             heads = d.f.integers("num_heads", stages, 1, 4096);
  for (size_t s = 0; s < stages; ++s) {
    if (x.dims[2] % heads[s]) d.f.refuse("num_heads", "does not divide the width of stage " + std::to_string(s + 1));
    const std::string p = "encoder.levels." + std::to_string(s) + ".";
    const std::vector<int64_t> dilations = dilations_of(d.f, s, depths[s]);
    for (int64_t i = 0; i < depths[s]; ++i)
      x = d.layer(x, p + "layers." + std::to_string(i) + ".", heads[s], dilations[size_t(i)]);
    if (s + 1 < stages)
      x = net.norm(net.conv(x, p + "downsample.reduction", square(3, 2, 1)), p + "downsample.norm", kEps);
  }
  return net.norm(x, "layernorm", d.eps);
}

void build_dinat(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const bool is_dilated = f.text("model_type", "dinat") == "dinat";
  const std::string name = class_of(c, is_dilated ? "Dinat" : "Nat");
  VisionNet net(c, b, {is_dilated ? "dinat." : "nat.", "", {}});
  const Dinat d = {net, f, f.integer("kernel_size", 1, 1023, 7), f.number("layer_norm_eps", 1e-5),
                   activation_named(f, "hidden_act", "gelu")};
  if (d.kernel % 2 == 0) f.refuse("kernel_size", "is even, so that no place is in its middle");
  f.expect("patch_size", 4);
  f.pass_over({"embed_dim", "hidden_size", "num_layers", "mlp_ratio", "qkv_bias", "hidden_dropout_prob",
               "attention_probs_dropout_prob", "drop_path_rate", "layer_scale_init_value", "out_features",
               "out_indices", "stage_names"});
  const Var x = encoded(d);
  const Var pooled = net.mean(net.reshape(x, {x.dims[0] * x.dims[1], x.dims[2]}), 1);
  if (name == "ForImageClassification") return net.give(net.linear(pooled, "/classifier"), "logits");
  if (name != "Model") refuse_class(f, name);
  net.give(x, "last_hidden_state");
  net.give(pooled, "pooler_output");
}

}  // namespace

extern const Recipe dinat_recipe;
const Recipe dinat_recipe = {"dinat", {}, {"dinat", "nat"}, build_dinat};

}  // namespace runnel::convert
