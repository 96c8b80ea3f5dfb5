// The tiny models that random streams run on: every checkpoint of tests/goldens, some with other weights, and graphs
// whose input is rows of floats.
#pragma once

#include <runnel/runnel.h>

#include <map>
#include <set>

#include "converter/kit.h"

namespace runnel::streams {

using convert::fs::path;

constexpr int64_t kPadded = 13;  // rows of logits that no piece of the vocabulary has

struct Kind {
  std::string name;
  std::string golden;
  convert::Weights weights = convert::Weights::kF32;
  bool is_split = false;  // the output matrix
  bool is_graph = false;  // of graph JSON: takes x [T, width]
  bool has_chat = false;  // with a vocabulary and a template
  std::string adapter;    // golden of a low-rank adapter
  int64_t longest = 400;  // tokens that its stream may have
};

inline const char* weights_suffix(convert::Weights w) {
  return w == convert::Weights::kQ4    ? "_q4"
         : w == convert::Weights::kQ8  ? "_q8"
         : w == convert::Weights::kF16 ? "_f16"
                                       : "";
}

inline std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds;
  std::set<std::string> names;
  for (const auto& entry : convert::fs::directory_iterator(convert::kGoldens)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("tiny_") && !name.starts_with("tiny_lora")) names.insert(name);
  }
  for (const std::string& name : names) kinds.push_back({name, name});
  using W = convert::Weights;
  for (const char* name : {"tiny_llama", "tiny_mistral", "tiny_gemma3", "tiny_gemma3n", "tiny_mamba2", "tiny_jamba",
                           "tiny_zamba2", "tiny_qwen3_next", "tiny_rwkv7", "tiny_xlstm"})
    for (const W w : {W::kQ4, W::kQ8, W::kF16}) kinds.push_back({name + std::string(weights_suffix(w)), name, w});
  for (const char* name : {"tiny_llama", "tiny_gemma3"})
    kinds.push_back({name + std::string("_split"), name, W::kQ8, true});
  for (const char* name : {"gla", "min_gru", "lru", "ttt_linear", "titans", "sambay", "slstm", "lolcats",
                           "delta_product", "retnet", "yoco", "mom", "aaren"})
    kinds.push_back({"graph_" + std::string(name), name, W::kF32, false, true});
  for (const char* name : {"tiny_llama", "tiny_gemma3", "tiny_granite_hybrid", "tiny_mamba2"})
    kinds.push_back({"chat_" + std::string(name), name, W::kF32, false, false, true});
  // Positions are rows of a table.
  for (Kind& k : kinds)
    k.longest = k.golden == "tiny_gpt2" || k.golden == "tiny_gpt_neo" ? 80 : k.golden == "ttt_linear" ? 128 : k.longest;
  kinds.push_back({"chat_split", "tiny_llama", W::kQ8, true, false, true});
  kinds.push_back({"adapted", "tiny_llama", W::kF32, false, false, false, "tiny_lora"});
  return kinds;
}

constexpr const char* kTemplate =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if "
    "add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// The checkpoint with as many rows of its outer matrices as the small vocabulary has pieces, and some more.
inline void write_chat_checkpoint(const path& folder, const path& to) {
  using namespace convert;
  fs::create_directories(to);
  const auto read = [](const path& p) {
    std::ifstream in(p, std::ios::binary);
    return std::string{std::istreambuf_iterator<char>(in), {}};
  };
  const std::string tokenizer = read(kGoldens / "chat/tokenizer.json");
  const Json pieces = Json::parse(tokenizer);
  size_t count = pieces["model"]["vocab"].size();
  for (const Json& a : pieces["added_tokens"]) count = std::max<size_t>(count, a["id"].get<size_t>() + 1);
  Json config = Json::parse(read(folder / "config.json"));
  const size_t old_rows = config["vocab_size"].get<size_t>(), rows = count + kPadded;
  Checkpoint c = load_safetensors(folder / "model.safetensors");
  std::vector<PlainTensor> tensors;
  for (const SourceTensor& t : c.tensors()) {
    tensors.push_back({t.name, t.shape, values_of(c, t.name)});
    const bool is_outer = t.name.find("embed") != std::string::npos || t.name.find("lm_head") != std::string::npos;
    if (!is_outer || t.shape.size() != 2 || t.shape[0] != old_rows) continue;
    std::vector<float>& values = tensors.back().values;
    const size_t given = values.size();
    tensors.back().shape[0] = rows;
    values.resize(rows * t.shape[1]);
    for (size_t i = given; i < values.size(); ++i) values[i] = values[i % given] * (1 + float(i / given) / 16);
  }
  config["vocab_size"] = rows;
  write_file(to / "model.safetensors", safetensors_of(tensors));
  write_file(to / "config.json", config.dump());
  write_file(to / "tokenizer.json", tokenizer);
  write_file(to / "tokenizer_config.json", Json{{"chat_template", kTemplate}}.dump());
}

// Converts kinds when they are first asked for and keeps them open, for each number of threads.
class Models {
 public:
  ~Models() {
    for (auto& [key, model] : open_) rnl_model_close(model);
    for (auto& [threads, engine] : engines_) rnl_engine_destroy(engine);
  }
  const rnl_model* open(const Kind& kind, int threads) {
    rnl_model*& model = open_[{kind.name, threads}];
    if (model) return model;
    rnl_engine*& engine = engines_[threads];
    const rnl_engine_options eo{sizeof eo, threads};
    if (!engine && rnl_engine_create(&eo, &engine)) throw std::runtime_error(rnl_last_error());
    const path file = converted(kind);
    const std::string adapter = tmp_ / (kind.name + ".adapter.rnl");
    rnl_model_options o{};
    o.struct_size = sizeof o;
    if (!kind.adapter.empty()) o.adapter = adapter.c_str();
    if (rnl_model_open(engine, file.c_str(), &o, &model)) throw std::runtime_error(rnl_last_error());
    return model;
  }
  path file(const std::string& name) const { return tmp_ / name; }
  // Floats of a row of a graph's input.
  int64_t width(const Kind& kind) {
    int64_t& n = widths_[kind.name];
    if (n || !kind.is_graph) return n;
    convert::Checkpoint io = convert::load_safetensors(convert::kGoldens / "graphs" / kind.golden / "io.safetensors");
    return n = int64_t(io.find("x")->shape.at(1));
  }

 private:
  path converted(const Kind& kind) {
    const path to = tmp_ / (kind.name + ".rnl");
    if (convert::fs::exists(to)) return to;
    convert::ConvertOptions o;
    o.input = convert::kGoldens / kind.golden;
    o.weights = kind.weights;
    o.head = kind.is_split ? convert::Head::kSplit : convert::Head::kWhole;
    o.output = to;
    if (kind.is_graph) {
      o.input = convert::kGoldens / "graphs" / kind.golden / "graph.json";
      o.weights_file = convert::kGoldens / "graphs" / kind.golden / "weights.safetensors";
    } else if (kind.has_chat) {
      write_chat_checkpoint(convert::kGoldens / kind.golden, tmp_ / kind.name);
      o.input = tmp_ / kind.name;
    } else if (!convert::fs::exists(o.input / "config.json")) {
      o.input /= "model.safetensors";  // in its authors' tensor names
    }
    convert::convert(o);
    if (!kind.adapter.empty()) {
      o.adapter = convert::kGoldens / kind.adapter;
      o.output = tmp_ / (kind.name + ".adapter.rnl");
      convert::convert(o);
    }
    return to;
  }

  convert::TemporaryFolder tmp_;
  std::map<std::pair<std::string, int>, rnl_model*> open_;
  std::map<int, rnl_engine*> engines_;
  std::map<std::string, int64_t> widths_;
};

}  // namespace runnel::streams
