// CvT: stages of attention whose queries, keys and values come from convolutions over the stage's image.
#include <cmath>

#include "converter/recipes/vision.h"

namespace runnel::convert {
namespace {

constexpr double kEps = 1e-5;

struct CvtStage {
  int64_t heads = 0, kernel = 0, stride_q = 0, stride_kv = 0, pad_q = 0, pad_kv = 0;
  bool has_token = false;
};

// Tokens of an image that a convolution makes of [rows * columns, width], behind the first token where there is one.
Var from_conv(VisionNet& net, const CvtStage& s, const std::string& p, const Var& tokens, int64_t rows, int64_t columns,
              bool is_query) {
  const int64_t width = tokens.dims[1], first = s.has_token;
  const Var image = net.reshape(first ? net.slice(tokens, 1, 1, rows * columns) : tokens, {rows, columns, width});
  const Window w = square(s.kernel, is_query ? s.stride_q : s.stride_kv, is_query ? s.pad_q : s.pad_kv, width);
  const std::string conv = p + ".convolution_projection.";
  const Var y = net.conv_norm(image, conv + "convolution", conv + "normalization", kEps, w);
  const Var flat = net.reshape(y, {y.dims[0] * y.dims[1], width});
  return first ? net.concat({net.slice(tokens, 1, 0, 1), flat}, 1) : flat;
}

Var layer(VisionNet& net, const CvtStage& s, const std::string& p, const Var& x, int64_t rows, int64_t columns) {
  const int64_t width = x.dims[1];
  const Var normed = net.norm(x, p + "layernorm_before", kEps);
  std::vector<Var> qkv;
  for (const char* part : {"query", "key", "value"}) {
    const std::string a = p + "attention.attention.";
    const Var y =
        net.linear(from_conv(net, s, a + "convolution_projection_" + part, normed, rows, columns, *part == 'q'),
                   a + "projection_" + part);
    qkv.push_back(net.reshape(y, {y.dims[0], s.heads, width / s.heads}));
  }
  const Var seen = net.attend(qkv[0], qkv[1], qkv[2], 1 / std::sqrt(double(width)));
  const Var y = net.add(x, net.linear(seen, p + "attention.output.dense"));
  const Var z = net.linear(net.norm(y, p + "layernorm_after", kEps), p + "intermediate.dense");
  return net.add(y, net.linear(net.unary(format::UnaryKind::gelu, z), p + "output.dense"));
}

std::vector<bool> booleans(const Facts& f, const char* key, size_t count, bool otherwise) {
  std::vector<bool> out(count, otherwise);
  const Json* v = f.find(key);
  if (!v) return out;
  if (!v->is_array() || v->size() != count) f.refuse(key, "is not a list with a switch for each stage");
  for (size_t i = 0; i < count; ++i) {
    if (!(*v)[i].is_boolean()) f.refuse(key, "is not a list with a switch for each stage");
    out[i] = (*v)[i].get<bool>();
  }
  return out;
}

void build_cvt(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Json* depths = f.find("depth");
  const size_t stages = depths && depths->is_array() ? depths->size() : 0;
  if (stages == 0 || stages > 16) f.refuse("depth", "is not a list of the stages' layers");
  const auto list = [&](const char* key, int64_t least = 1) { return f.integers(key, stages, least, 65536); };
  const std::vector<int64_t> layers = list("depth"), heads = list("num_heads"), kernels = list("patch_sizes"),
                             steps = list("patch_stride"), pads = list("patch_padding", 0), inner = list("kernel_qkv"),
                             pad_q = list("padding_q", 0), pad_kv = list("padding_kv", 0), stride_q = list("stride_q"),
                             stride_kv = list("stride_kv");
  const std::vector<bool> tokens = booleans(f, "cls_token", stages, false);
  f.expect("qkv_projection_method", Json(std::vector<std::string>(stages, "dw_bn")));
  f.pass_over(
      {"embed_dim", "mlp_ratio", "attention_drop_rate", "drop_rate", "drop_path_rate", "qkv_bias", "layer_norm_eps"});
  const std::string name = class_of(c, "Cvt");
  VisionNet net(c, b, {"cvt.", "", {}});
  Var x = net.pixels(image_of(c, f)), token;
  for (size_t i = 0; i < stages; ++i) {
    const std::string p = "encoder.stages." + std::to_string(i) + ".", e = p + "embedding.convolution_embeddings.";
    x = net.norm(net.conv(x, e + "projection", square(kernels[i], steps[i], pads[i])), e + "normalization", kEps);
    const int64_t rows = x.dims[0], columns = x.dims[1], width = x.dims[2];
    if (width % heads[i]) f.refuse("num_heads", "does not divide the width of stage " + std::to_string(i + 1));
    const CvtStage s = {heads[i], inner[i], stride_q[i], stride_kv[i], pad_q[i], pad_kv[i], tokens[i]};
    Var y = net.reshape(x, {rows * columns, width});
    if (s.has_token) y = net.with_tokens(y, p + "cls_token", net.numbers(p + "cls_token", width));
    for (int64_t k = 0; k < layers[i]; ++k)
      y = layer(net, s, p + "layers." + std::to_string(k) + ".", y, rows, columns);
    token = s.has_token ? net.slice(y, 1, 0, 1) : Var();
    x = net.reshape(s.has_token ? net.slice(y, 1, 1, rows * columns) : y, {rows, columns, width});
  }
  if (name == "Model") {
    net.give_image(x, "last_hidden_state");
    if (!token.name.empty()) net.give(token, "cls_token_value");
  } else if (name == "ForImageClassification") {
    const Var all = token.name.empty() ? net.reshape(x, {x.dims[0] * x.dims[1], x.dims[2]}) : token;
    net.give(net.linear(net.mean(net.norm(all, "/layernorm", kEps), 1), "/classifier"), "logits");
  } else {
    refuse_class(f, name);
  }
}

}  // namespace

extern const Recipe cvt_recipe;
const Recipe cvt_recipe = {"cvt", {}, {"cvt"}, build_cvt};

}  // namespace runnel::convert
