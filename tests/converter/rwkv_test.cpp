// RWKV from every kind of source: the same weights under other names give the same logits
// (tests/goldens/make_tiny_rwkv.py).
#include "kit.h"

namespace runnel::convert {
namespace {

struct Case {
  std::vector<int32_t> ids, greedy;
  std::vector<float> logits;
  float tolerance;
};

Case golden(const std::string& folder) {
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  Case g{ids_of(kGoldens / folder), integers_of(c, "greedy"), values_of(c, "logits"), 0};
  g.tolerance = std::max(1e-4f * largest(g.logits), 10 * values_of(c, "float32_difference")[0]);
  return g;
}

std::vector<PlainTensor> tensors_of(const std::string& folder) {
  Checkpoint c = load_safetensors(kGoldens / folder / "model.safetensors");
  std::vector<PlainTensor> out;
  for (const SourceTensor& t : c.tensors()) out.push_back({t.name, t.shape, values_of(c, t.name)});
  return out;
}

std::vector<float> logits_of(const fs::path& source, const std::vector<int32_t>& ids, Weights weights = Weights::kKeep,
                             int64_t chunk = 7) {
  TemporaryFolder tmp;
  convert_to(source, tmp / "m.rnl", weights);
  return all_logits(*open_model(tmp / "m.rnl"), ids, chunk);
}

std::string replaced(std::string text, const std::vector<std::pair<std::string, std::string>>& pairs) {
  for (const auto& [from, to] : pairs)
    if (const size_t at = text.find(from); at != text.npos) text.replace(at, from.size(), to);
  return text;
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

class RwkvFiles : public testing::TestWithParam<const char*> {};

TEST_P(RwkvFiles, GreedyContinuationIsTheOriginals) {
  const Case g = golden(GetParam());
  TemporaryFolder tmp;
  convert_to(kGoldens / GetParam() / "model.safetensors", tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  std::vector<int32_t> ids = g.ids;
  ids.insert(ids.end(), g.greedy.begin(), g.greedy.end() - 1);
  const std::vector<float> logits = all_logits(*model, ids, 16);
  const size_t vocab = logits.size() / ids.size();
  for (size_t i = 0; i < g.greedy.size(); ++i) {
    const float* row = logits.data() + (g.ids.size() - 1 + i) * vocab;
    EXPECT_EQ(std::max_element(row, row + vocab) - row, g.greedy[i]) << "token " << i;
  }
}

TEST_P(RwkvFiles, NarrowWeightsStayClose) {
  const Case g = golden(GetParam());
  const std::pair<Weights, double> cases[] = {{Weights::kF16, 0.004}, {Weights::kQ8, 0.09}, {Weights::kQ4, 0.9}};
  for (const auto& [weights, limit] : cases) {
    const std::vector<float> got = logits_of(kGoldens / GetParam() / "model.safetensors", g.ids, weights);
    ASSERT_EQ(got.size(), g.logits.size());
    double error = 0, energy = 0;
    for (size_t i = 0; i < got.size(); ++i)
      error += std::pow(double(got[i]) - g.logits[i], 2), energy += std::pow(double(g.logits[i]), 2);
    EXPECT_LE(std::sqrt(error / energy), limit) << weights_name(weights);
    EXPECT_GT(error, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, RwkvFiles,
                         testing::Values("tiny_rwkv4", "tiny_rwkv5", "tiny_rwkv5_2", "tiny_rwkv6", "tiny_rwkv7"),
                         [](const auto& info) { return std::string(info.param); });

// The GGUF of version 6 halves its stream, which the norms' eps notices a little.
TEST(Rwkv, Gguf) {
  for (const char* folder : {"tiny_rwkv6", "tiny_rwkv7"}) {
    const Case g = golden(folder);
    for (const int64_t chunk : {1, 80})
      EXPECT_LE(largest_difference(logits_of(kGoldens / folder / "model-f32.gguf", g.ids, Weights::kKeep, chunk),
                                   g.logits),
                g.tolerance)
          << folder;
  }
}

fs::path written(const TemporaryFolder& tmp, const Json& config, const std::vector<PlainTensor>& tensors) {
  fs::create_directories(tmp / "in");
  write_file(tmp / "in/config.json", config.dump());
  write_file(tmp / "in/model.safetensors", safetensors_of(tensors));
  return tmp / "in";
}

TEST(Rwkv, DirectoriesOfVersions5And6) {
  for (const bool six : {false, true}) {
    const std::string folder = six ? "tiny_rwkv6" : "tiny_rwkv5_2";
    const Case g = golden(folder);
    std::vector<PlainTensor> tensors = tensors_of(folder);
    for (PlainTensor& t : tensors) {
      const bool is_ffn = t.name.find(".ffn.") != t.name.npos;
      t.name = replaced(t.name, {{".att.", ".attention."},
                                 {".ffn.", ".feed_forward."},
                                 {"emb.", "embeddings."},
                                 {".ln0.", ".pre_ln."},
                                 {"time_mix_k", "time_mix_key"},
                                 {"time_mix_v", "time_mix_value"},
                                 {"time_mix_r", "time_mix_receptance"},
                                 {"time_mix_g", "time_mix_gate"}});
      EXPECT_TRUE(!is_ffn || t.name.find("feed_forward") != t.name.npos);
      if (t.name != "head.weight") t.name = "rwkv." + t.name;
    }
    TemporaryFolder tmp;
    const Json config = {{"model_type", six ? "rwkv6" : "rwkv5"},
                         {"layer_norm_epsilon", 1e-5},
                         {"head_size_divisor", 8},
                         {"rescale_every", 0}};
    EXPECT_LE(largest_difference(logits_of(written(tmp, config, tensors), g.ids), g.logits), g.tolerance) << folder;
  }
}

TEST(Rwkv, Version7OfFlashLinearAttention) {
  const Case g = golden("tiny_rwkv7");
  std::vector<PlainTensor> tensors = tensors_of("tiny_rwkv7");
  for (PlainTensor& t : tensors) {
    const std::string own = t.name.substr(t.name.rfind("att.") == t.name.npos ? 0 : t.name.rfind("att.") + 4);
    if (own.size() == 2 && std::strchr("wavg", own[0]) && std::strchr("012", own[1])) {
      t.name = replaced(t.name, {{".att." + own, std::string(".attn.") + own[0] + "_lora.lora." +
                                                     (own[1] == '1'   ? "0.weight"
                                                      : own[1] == '2' ? "2.weight"
                                                                      : "2.bias")}});
      if (own[1] != '0') {  // from [in, out] to [out, in]
        const std::vector<float> from = t.values;
        const uint64_t rows = t.shape[0], columns = t.shape[1];
        for (uint64_t r = 0; r < rows; ++r)
          for (uint64_t c = 0; c < columns; ++c) t.values[c * rows + r] = from[r * columns + c];
        t.shape = {columns, rows};
      } else {
        t.shape = {t.values.size()};
      }
    }
    t.name = replaced(t.name, {{"blocks.", "model.layers."},
                               {"att.receptance", "att.r_proj"},
                               {"att.key", "att.k_proj"},
                               {"att.value", "att.v_proj"},
                               {"att.output", "att.o_proj"},
                               {"att.ln_x", "att.g_norm"},
                               {".att.", ".attn."},
                               {".ln0.", ".pre_norm."},
                               {".ln1.", ".attn_norm."},
                               {".ln2.", ".ffn_norm."},
                               {"emb.", "model.embeddings."},
                               {"ln_out.", "model.norm."},
                               {"head.", "lm_head."}});
  }
  TemporaryFolder tmp;
  // The heads have 8 channels; 64 stands here because it also makes the eps of their norm, and the golden was made with
  // 64e-5.
  const Json config = {{"model_type", "rwkv7"}, {"head_dim", 64}, {"norm_eps", 1e-5}, {"hidden_act", "sqrelu"}};
  EXPECT_LE(largest_difference(logits_of(written(tmp, config, tensors), g.ids), g.logits), g.tolerance);
  Json other = config;
  other["attn"] = {{"layers", {1}}};
  expect_contains(error_of([&] { logits_of(written(tmp, other, tensors), g.ids); }), "layers of attention");
}

TEST(Rwkv, RescalingIsSeen) {
  const Case g = golden("tiny_rwkv");
  Json config = read_json(kGoldens / "tiny_rwkv/config.json");
  config["rescale_every"] = 0;
  TemporaryFolder tmp;
  const float without = largest_difference(logits_of(written(tmp, config, tensors_of("tiny_rwkv")), g.ids), g.logits);
  const float with = largest_difference(logits_of(kGoldens / "tiny_rwkv", g.ids), g.logits);
  EXPECT_GT(without, 4 * with);
}

TEST(Rwkv, FilesThatAreNoneAreRefused) {
  TemporaryFolder tmp;
  std::vector<PlainTensor> tensors = tensors_of("tiny_rwkv7");
  const auto error = [&] {
    write_file(tmp / "m.safetensors", safetensors_of(tensors));
    return error_of([&] { logits_of(tmp / "m.safetensors", {1}); });
  };
  EXPECT_EQ(error(), "");
  tensors.push_back({"blocks.1.ffn.s_emb.weight", {2}, {1, 2}});
  expect_contains(error(), "blocks.1.ffn.s_emb.weight [2] F32");
  tensors.pop_back();
  for (PlainTensor& t : tensors)
    if (t.name == "blocks.1.att.w2") std::swap(t.shape[0], t.shape[1]);
  expect_contains(error(), "blocks.1.att.w2");
  tensors = {{"some.weight", {2, 2}, {1, 2, 3, 4}}};
  expect_contains(error(), "no architecture that is known by its tensors");
}

}  // namespace
}  // namespace runnel::convert
