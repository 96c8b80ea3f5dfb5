// Models whose matrices are of GGUF's types with code books, small floats and ternary digits, embedding and output
// matrix included: the same logits as with all values in f32.
#include "gguf_kit.h"

namespace runnel::convert {
namespace {

struct Type {
  const char* name;
  uint32_t number;
  size_t block, bytes, scale_at;
};
constexpr Type kTypes[] = {{"IQ2_XXS", 16, 256, 66, 0}, {"IQ2_XS", 17, 256, 74, 0}, {"IQ2_S", 22, 256, 82, 0},
                           {"IQ3_XXS", 18, 256, 98, 0}, {"IQ3_S", 21, 256, 110, 0}, {"IQ4_XS", 23, 256, 136, 0},
                           {"TQ1_0", 34, 256, 54, 52},  {"TQ2_0", 35, 256, 66, 64}, {"Q8_K", 15, 256, 292, 0},
                           {"NVFP4", 40, 64, 36, 0}};

constexpr uint32_t kWidth = 256, kInner = 512, kVocabulary = 96, kExperts = 4;

class ModelWriter {
 public:
  ModelWriter(const Type& type, bool has_experts) : type_(type), has_experts_(has_experts) {}
  std::string bytes() {
    const std::string arch = has_experts_ ? "qwen2moe" : "qwen2";
    const auto key = [&](const char* name) { return arch + "." + name; };
    file_.text("general.architecture", arch)
        .u32(key("context_length"), 64)
        .u32(key("embedding_length"), kWidth)
        .u32(key("block_count"), 1)
        .u32(key("feed_forward_length"), kInner);
    file_.u32(key("attention.head_count"), 4)
        .u32(key("attention.head_count_kv"), 2)
        .f32(key("attention.layer_norm_rms_epsilon"), 1e-6f)
        .f32(key("rope.freq_base"), 10000);
    if (has_experts_)
      file_.u32(key("expert_count"), kExperts)
          .u32(key("expert_used_count"), 2)
          .u32(key("expert_feed_forward_length"), kWidth)
          .u32(key("expert_shared_feed_forward_length"), kWidth);
    matrix("token_embd", {kVocabulary, kWidth});
    matrix("output", {kVocabulary, kWidth});
    floats("output_norm.weight", kWidth, 1);
    floats("blk.0.attn_norm.weight", kWidth, 1);
    floats("blk.0.ffn_norm.weight", kWidth, 1);
    for (const auto& [name, rows] : {std::pair{"blk.0.attn_q", kWidth}, std::pair{"blk.0.attn_k", kWidth / 2},
                                     std::pair{"blk.0.attn_v", kWidth / 2}}) {
      matrix(name, {rows, kWidth});
      floats(std::string(name) + ".bias", rows, 0.2f);
    }
    matrix("blk.0.attn_output", {kWidth, kWidth});
    if (has_experts_) {
      random_floats("blk.0.ffn_gate_inp.weight", {kExperts, kWidth});
      for (const char* name : {"gate", "up"})
        matrix("blk.0.ffn_" + std::string(name) + "_exps", {kExperts, kWidth, kWidth});
      matrix("blk.0.ffn_down_exps", {kExperts, kWidth, kWidth});
      random_floats("blk.0.ffn_gate_inp_shexp.weight", {kWidth});  // older files leave the axis of 1 out
      for (const char* name : {"gate", "up", "down"})
        matrix("blk.0.ffn_" + std::string(name) + "_shexp", {kWidth, kWidth});
    } else {
      for (const char* name : {"gate", "up"}) matrix("blk.0.ffn_" + std::string(name), {kInner, kWidth});
      matrix("blk.0.ffn_down", {kWidth, kInner});
    }
    return file_.bytes();
  }

 private:
  void matrix(const std::string& name, const std::vector<uint64_t>& shape) {
    uint64_t count = 1;
    for (const uint64_t n : shape) count *= n;
    const std::string kind = type_.name;
    // 2^-13, an eighth of which lies below the normal numbers of f16; levels of IQ4_XS are the largest.
    std::string data =
        random_blocks(random_, count / type_.block, type_.bytes, type_.scale_at, kind == "IQ4_XS" ? 0x0200 : 0x0800);
    for (size_t i = 0; i < data.size(); i += type_.bytes) {
      const float scale = float(int(random_() % 200) - 100) * 1e-5f;
      if (kind == "Q8_K") std::memcpy(&data[i], &scale, 4);
      for (size_t k = 0; k < 4 && kind == "NVFP4"; ++k) data[i + k] = char(8 + random_() % 24);
    }
    file_.tensor(name + ".weight", type_.number, shape, data);
    if (kind == "NVFP4" && shape.size() == 2)
      file_.floats(name + ".scale", {1}, {0.37f}).floats(name + ".input_scale", {1}, {0.01f});
  }
  void floats(const std::string& name, uint64_t n, float middle) {
    std::vector<float> v(n);
    for (float& x : v) x = middle + float(int(random_() % 100) - 50) * 0.004f;
    file_.floats(name, {n}, v);
  }
  void random_floats(const std::string& name, const std::vector<uint64_t>& shape) {
    std::vector<float> v(shape[0] * (shape.size() > 1 ? shape[1] : 1));
    for (float& x : v) x = float(int(random_() % 100) - 50) * 0.01f;
    file_.floats(name, shape, v);
  }

  const Type type_;
  const bool has_experts_;
  GgufFile file_;
  std::mt19937 random_{11};
};

class GgufTypes : public testing::TestWithParam<std::tuple<Type, bool>> {};

TEST_P(GgufTypes, ModelsGiveWhatTheirValuesGive) {
  const auto [type, has_experts] = GetParam();
  TemporaryFolder tmp;
  write_file(tmp / "m.gguf", ModelWriter(type, has_experts).bytes());
  convert_to(tmp / "m.gguf", tmp / "keep.rnl");
  convert_to(tmp / "m.gguf", tmp / "f32.rnl", Weights::kF32);
  std::vector<int32_t> ids;
  for (int i = 0; i < 24; ++i) ids.push_back(i * 7 % int(kVocabulary));
  const std::vector<float> want = all_logits(*open_model(tmp / "f32.rnl"), ids, 8),
                           got = all_logits(*open_model(tmp / "keep.rnl"), ids, 8);
  ASSERT_EQ(got.size(), want.size());
  double error = 0, all = 0;
  for (size_t i = 0; i < want.size(); ++i)
    error += std::pow(double(got[i]) - want[i], 2), all += std::pow(double(want[i]), 2);
  // Activations are rounded to 8 bits and states to 16.
  EXPECT_LT(std::sqrt(error / all), std::string(type.name) == "Q8_K" ? 1e-3 : 3e-2);
  EXPECT_GT(largest(want), 1e-3f);
}

INSTANTIATE_TEST_SUITE_P(All, GgufTypes, testing::Combine(testing::ValuesIn(kTypes), testing::Bool()),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) +
                                  (std::get<1>(info.param) ? "_experts" : "");
                         });

}  // namespace
}  // namespace runnel::convert
