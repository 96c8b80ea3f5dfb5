#include "converter/recipes/embedding.h"

#include "converter/program/graph.h"
#include "converter/read/facts.h"
#include "converter/read/read.h"

namespace runnel::convert {
namespace fs = std::filesystem;
namespace {

constexpr const char* kProgram = "embedding";

struct Dense {
  const SourceTensor* weight;  // [out, in]
  std::vector<float> bias;
  format::UnaryKind activation = format::UnaryKind::none;
};

// The program from the pooled row to the embedding.
void add_program(const std::vector<Dense>& layers, int64_t width, const std::string& where, ModelBuilder& b) {
  GraphBuilder graph(b, kProgram);
  std::string x = "pooled";
  graph.add_input(x, format::DType::f32, {"1", std::to_string(width)}, format::Role::none);
  for (size_t i = 0; i < layers.size(); ++i) {
    const Dense& d = layers[i];
    const std::string name = "dense." + std::to_string(i);
    if (d.weight->shape.size() != 2 || d.weight->shape[1] != uint64_t(width))
      fail("%s: dense layer \"%s\" does not take the %lld values before it", where.c_str(),
           d.weight->describe().c_str(), static_cast<long long>(width));
    width = int64_t(d.weight->shape[0]);
    const Names shape = {"1", std::to_string(width)};
    b.add_matrix(name + ".weight", *d.weight, true);
    Names inputs = {x, name + ".weight"};
    if (!d.bias.empty()) {
      if (d.bias.size() != size_t(width))
        fail("%s: the bias of dense layer \"%s\" has %zu values", where.c_str(), d.weight->describe().c_str(),
             d.bias.size());
      b.add_floats(name + ".bias", d.bias, {d.bias.size()});
      inputs.push_back(name + ".bias");
    }
    x = graph.value(name, shape);
    graph.op("matmul", inputs, {x});
    if (d.activation == format::UnaryKind::none) continue;
    format::UnaryAttrsT attrs;
    attrs.kind = d.activation;
    graph.op("unary", {x}, {graph.value(name + ".activation", shape)}, attrs);
    x = name + ".activation";
  }
  graph.add_output(x);
}

// Width of the hidden states; 0: the model has none that can be pooled.
int64_t hidden_width(const ModelBuilder& b) {
  for (const auto& v : b.model.programs.at(0)->values)
    if (v->name == "last_hidden_state") return std::stoll(v->shape.back());
  return 0;
}

format::Pooling read_pooling(const Facts& f) {
  static const std::pair<const char*, format::Pooling> kModes[] = {
      {"cls", format::Pooling::first}, {"mean", format::Pooling::mean}, {"lasttoken", format::Pooling::last}};
  std::string mode = f.text("pooling_mode", "");
  if (mode.empty()) {
    static const std::pair<const char*, const char*> kFlags[] = {{"pooling_mode_cls_token", "cls"},
                                                                 {"pooling_mode_mean_tokens", "mean"},
                                                                 {"pooling_mode_lasttoken", "lasttoken"},
                                                                 {"pooling_mode_max_tokens", "max"},
                                                                 {"pooling_mode_mean_sqrt_len_tokens",
                                                                  "mean_sqrt_len_tokens"},
                                                                 {"pooling_mode_weightedmean_tokens", "weightedmean"}};
    for (const auto& [flag, name] : kFlags) {
      if (!f.boolean(flag, false)) continue;
      if (!mode.empty())
        f.refuse(flag, std::string("is true beside another pooling: several at once are not supported"));
      mode = name;
    }
    if (mode.empty()) mode = "mean";  // what the library takes when nothing is said
  }
  for (const auto& [name, pooling] : kModes)
    if (mode == name) return pooling;
  f.refuse("pooling_mode", "is \"" + printable(mode) + "\"; cls, mean and lasttoken are supported");
}

format::UnaryKind read_activation(const Facts& f) {
  const std::string name = f.text("activation_function", "torch.nn.modules.activation.Tanh"),
                    last = name.substr(name.rfind('.') + 1);
  if (last == "Identity") return format::UnaryKind::none;
  if (last == "Tanh") return format::UnaryKind::tanh;
  if (last == "ReLU") return format::UnaryKind::relu;
  if (last == "Sigmoid") return format::UnaryKind::sigmoid;
  if (last == "GELU") return format::UnaryKind::gelu;
  if (last == "SiLU") return format::UnaryKind::silu;
  f.refuse("activation_function", "is \"" + printable(name) + "\", which is not supported");
}

// A tensor of another file, kept by the checkpoint.
const SourceTensor* copied(Checkpoint& from, const char* name, Checkpoint& c) {
  const SourceTensor* t = from.find(name);
  return t ? &c.derive(*t, {t->data, t->data + t->bytes}) : nullptr;
}

Dense read_dense(const fs::path& folder, Checkpoint& c) {
  const fs::path weights = folder / "model.safetensors", config = folder / "config.json";
  if (const fs::path pickle = folder / "pytorch_model.bin"; !fs::exists(weights) && fs::exists(pickle))
    refuse_pickle(pickle);
  if (!fs::exists(weights)) fail("%s: no model.safetensors with the weights of this dense layer", folder.c_str());
  Checkpoint file;
  file.path = weights;
  read_safetensors(file.map(weights), weights.string(), file);
  const Json given = read_json(config);
  const Facts f(given, config.string());
  Dense d{copied(file, "linear.weight", c), {}, read_activation(f)};
  if (!d.weight) fail("%s: tensor \"linear.weight\" is missing", weights.c_str());
  if (f.boolean("bias", true)) {
    const SourceTensor* bias = file.find("linear.bias");
    if (!bias) fail("%s: tensor \"linear.bias\" is missing", weights.c_str());
    d.bias.resize(size_t(bias->count()));
    decode_values(*bias, 0, bias->count(), d.bias.data());
  }
  file.refuse_unused();
  c.weight_files.push_back(weights);
  return d;
}

// Module kinds in the order in which they are applied.
void read_modules(Checkpoint& c, format::EmbeddingT& e, std::vector<Dense>& layers, std::vector<std::string>& notices) {
  const std::string where = c.path.string() + "/modules.json";
  const Json& list = c.meta["modules"];
  if (!list.is_array()) fail("%s: is no list", where.c_str());
  bool has_pooling = false;
  for (const Json& module : list) {
    if (!module.is_object()) fail("%s: an entry is no object", where.c_str());
    const Facts f(module, where);
    const std::string type = f.text("type", ""), kind = type.substr(type.rfind('.') + 1), path = f.text("path", "");
    if (path.size() > 255 || path.find("..") != std::string::npos || fs::path(path).is_absolute())
      fail("%s: path \"%s\" is too long or leaves the folder", where.c_str(), printable(path).c_str());
    const fs::path folder = c.path / path;
    if (kind == "Transformer") continue;
    if (e.normalise)
      fail("%s: \"%s\" stands behind the normalisation, which is not supported", where.c_str(),
           printable(type).c_str());
    if (kind == "Pooling" && !has_pooling && layers.empty()) {
      const Json config = read_json(folder / "config.json");
      const Facts p(config, (folder / "config.json").string());
      e.pooling = read_pooling(p);
      has_pooling = true;
      if (!p.boolean("include_prompt", true))
        notices.push_back("the source pools without the prompt's tokens; here all tokens of a text are pooled");
    } else if (kind == "Dense" && has_pooling) {
      layers.push_back(read_dense(folder, c));
    } else if (kind == "Normalize" && has_pooling) {
      e.normalise = true;
    } else {
      fail("%s: the module \"%s\" is not supported here", where.c_str(), printable(type).c_str());
    }
  }
  if (!has_pooling) fail("%s: no pooling", where.c_str());
}

// Whether a GGUF says how it pools.
bool read_pooling_type(Checkpoint& c, format::EmbeddingT& e, std::vector<Dense>& layers) {
  const Facts f = source_facts(c, {{{"gguf.pooling", "pooling_type"}}});
  const int64_t pooling = f.integer("gguf.pooling", 0, 4, 0);
  if (pooling == 4) f.refuse("gguf.pooling", "is 4: models that rank texts are not supported");
  for (const char* name : {"dense_2.weight", "dense_3.weight"})
    if (const SourceTensor* t = c.find(name)) layers.push_back({t, {}});
  if (pooling == 0 && layers.empty()) return false;
  e.pooling = pooling == 1 ? format::Pooling::mean : pooling == 2 ? format::Pooling::first : format::Pooling::last;
  e.normalise = true;
  return true;
}

}  // namespace

std::vector<std::string> add_embedding(Checkpoint& c, ModelBuilder& b) {
  std::vector<std::string> notices;
  std::vector<Dense> layers;
  auto e = std::make_unique<format::EmbeddingT>();
  if (c.meta.contains("modules")) read_modules(c, *e, layers, notices);
  else if (!read_pooling_type(c, *e, layers)) return notices;
  const int64_t width = hidden_width(b);
  if (width == 0) fail("%s: the source says how hidden states are pooled, but this recipe gives none", c.path.c_str());
  if (!layers.empty()) {
    e->program = kProgram;
    add_program(layers, width, c.path.string(), b);
  }
  b.model.embedding = std::move(e);
  return notices;
}

}  // namespace runnel::convert
