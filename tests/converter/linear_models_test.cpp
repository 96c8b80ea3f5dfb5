// Models with linear-time layers: logits of the original code (tests/goldens/make_tiny_models.py, make_tiny_rwkv.py),
// and states that roll back, fork and are restored bit for bit. Tests of logits are named after the row of the table of
// systems that they show.
#include <random>

#include "kit.h"

namespace runnel::convert {
namespace {

std::unique_ptr<Model> converted(const std::string& folder, std::vector<int32_t>* ids) {
  TemporaryFolder tmp;
  const bool is_file = !fs::exists(kGoldens / folder / "config.json");
  convert_to(is_file ? kGoldens / folder / "model.safetensors" : kGoldens / folder, tmp / "m.rnl");
  *ids = ids_of(kGoldens / folder);
  return open_model(tmp / "m.rnl");
}

void expect_logits(const std::string& folder) {
  std::vector<int32_t> ids;
  const auto model = converted(folder, &ids);
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  const std::vector<float> wanted = values_of(c, "logits");
  const float tolerance = std::max(1e-4f * largest(wanted), 10 * values_of(c, "float32_difference")[0]);
  for (const int64_t chunk : {1, 7, 64, 256})
    EXPECT_LE(largest_difference(all_logits(*model, ids, chunk), wanted), tolerance) << folder << ", chunk " << chunk;
}

#define ROW(row, name, folder) \
  TEST(row, name) { expect_logits(folder); }
ROW(A1, Mamba, "tiny_mamba")
ROW(A1, FalconMamba, "tiny_falcon_mamba")
ROW(A1, Jamba, "tiny_jamba")
ROW(A4, Mamba2, "tiny_mamba2")
ROW(A4, Bamba, "tiny_bamba")
ROW(A4, Zamba2, "tiny_zamba2")
ROW(A4, GraniteHybrid, "tiny_granite_hybrid")
ROW(A4, FalconH1, "tiny_falcon_h1")
ROW(A4, NemotronH, "tiny_nemotron_h")
ROW(A5, MiniMax, "tiny_minimax")
ROW(A8, Rwkv4OfTransformers, "tiny_rwkv")
ROW(A8, Rwkv4, "tiny_rwkv4")
ROW(A8, Rwkv5, "tiny_rwkv5")
ROW(A8, Rwkv52, "tiny_rwkv5_2")
ROW(A8, Rwkv6, "tiny_rwkv6")
ROW(A8, Rwkv7, "tiny_rwkv7")
ROW(A9, MatrixLstm, "tiny_xlstm")
ROW(A11, RecurrentGemma, "tiny_recurrent_gemma")
ROW(A12, Qwen3Next, "tiny_qwen3_next")
ROW(A12, Qwen35, "tiny_qwen3_5")
ROW(A12, OlmoHybrid, "tiny_olmo_hybrid")
ROW(A12, KimiLinear, "tiny_kimi_linear")
ROW(A26, Lfm2, "tiny_lfm2")
ROW(A26, Lfm2Moe, "tiny_lfm2_moe")
ROW(A26, Lfm3, "tiny_lfm3")
#undef ROW

// GGUFs of linear-time architectures against llama.cpp (make_linear_ggufs.py).
class LinearGguf : public testing::TestWithParam<const char*> {};
TEST_P(LinearGguf, GivesTheLogitsOfLlamaCpp) {
  TemporaryFolder tmp;
  const fs::path folder = kGoldens / "gguf_linear";
  convert_to(folder / (std::string(GetParam()) + ".gguf"), tmp / "m.rnl");
  Checkpoint c = load_safetensors(folder / (std::string(GetParam()) + ".safetensors"));
  const std::vector<int32_t> ids = integers_of(c, "ids");
  const auto model = open_model(tmp / "m.rnl");
  const std::vector<float> wanted = values_of(c, "logits");
  for (const int64_t chunk : {1, 7, 64})
    EXPECT_LE(largest_difference(all_logits(*model, ids, chunk, DType::kF32), wanted), 1e-4f * largest(wanted))
        << "chunk " << chunk;
}
INSTANTIATE_TEST_SUITE_P(All, LinearGguf,
                         testing::Values("mamba", "mamba2", "granite", "lfm2", "qwen35", "qwen35_wide"),
                         [](const auto& info) { return std::string(info.param); });

class LinearStates : public testing::TestWithParam<const char*> {
 protected:
  LinearStates() : model_(converted(GetParam(), &ids_)) {
    // A long stream of ids that every vocabulary has.
    std::mt19937 rng(7);
    while (ids_.size() < 600) ids_.push_back(int32_t(rng() % 61));
  }
  std::unique_ptr<Session> make(int64_t rollback = 32, int64_t chunk = 16) {
    PlanOptions o = test::plan_options();
    o.context = 1024;
    o.chunk = chunk;
    o.rollback = rollback;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
    return std::move(s.value());
  }
  // Feeds ids and returns the last token's logits.
  static std::vector<float> feed(Session& s, const std::vector<int32_t>& ids) {
    std::vector<float> out;
    const Status status = feed_ids(s, ids, &out);
    EXPECT_TRUE(status.is_ok()) << status.message();
    return out;
  }
  std::vector<int32_t> part(size_t begin, size_t end) const {
    return {ids_.begin() + long(begin), ids_.begin() + long(end)};
  }

  std::vector<int32_t> ids_;
  std::unique_ptr<Model> model_;
};

TEST_P(LinearStates, RollbackIsBitForBit) {
  for (int64_t chunk : {1, 16}) {
    for (size_t n : {1, 2, 7, 31, 32}) {
      auto s = make(32, chunk);
      feed(*s, part(0, 90));
      for (size_t i = 90; i < 110; ++i) feed(*s, part(i, i + 1));
      ASSERT_TRUE(s->rollback(int64_t(n)).is_ok());
      auto fresh = make(32, chunk);
      feed(*fresh, part(0, 110 - n));
      EXPECT_EQ(feed(*s, part(200, 210)), feed(*fresh, part(200, 210))) << "n " << n << ", chunk " << chunk;
    }
  }
}

TEST_P(LinearStates, RandomRollbacks) {
  auto s = make();
  std::vector<int32_t> stream;
  int64_t furthest = 0;
  std::mt19937 rng(5);
  for (int round = 0; round < 150; ++round) {
    if (s->position() > 400) s->reset(), stream.clear(), furthest = 0;
    const size_t n = 1 + rng() % (round % 10 == 0 ? 60 : 9), from = rng() % 500;
    const std::vector<int32_t> more = part(from, from + n);
    feed(*s, more);
    stream.insert(stream.end(), more.begin(), more.end());
    furthest = std::max(furthest, s->position());
    // What was reached at the furthest less the window can always be had again.
    const int64_t most = std::min<int64_t>(s->position(), 32 - (furthest - s->position()));
    const int64_t back = most > 0 ? int64_t(rng() % uint64_t(most + 1)) : 0;
    const Status status = s->rollback(back);
    ASSERT_TRUE(status.is_ok()) << "round " << round << ": " << status.message();
    stream.resize(stream.size() - size_t(back));
    if (round % 15 || stream.empty()) continue;
    auto fresh = make();
    feed(*fresh, stream);
    auto copy = s->fork();
    ASSERT_TRUE(copy.is_ok());
    ASSERT_EQ(feed(*copy.value(), part(10, 15)), feed(*fresh, part(10, 15))) << "round " << round;
  }
}

TEST_P(LinearStates, SnapshotsForksAndSavedStates) {
  TemporaryFolder tmp;
  for (int64_t rollback : {0, 32}) {
    auto s = make(rollback);
    feed(*s, part(0, 70));
    for (size_t i = 70; i < 77; ++i) feed(*s, part(i, i + 1));
    std::vector<unsigned char> bytes(s->snapshot_bytes());
    ASSERT_TRUE(s->snapshot(bytes.data(), bytes.size()).is_ok());
    ASSERT_TRUE(s->save((tmp / "state").c_str()).is_ok());
    auto fork = s->fork();
    ASSERT_TRUE(fork.is_ok());
    const std::vector<float> wanted = feed(*s, part(77, 90));
    EXPECT_EQ(feed(*fork.value(), part(77, 90)), wanted);
    auto loaded = make(rollback);
    ASSERT_TRUE(loaded->load((tmp / "state").c_str()).is_ok());
    EXPECT_EQ(feed(*loaded, part(77, 90)), wanted);
    ASSERT_TRUE(s->restore(bytes.data(), bytes.size()).is_ok());
    EXPECT_EQ(feed(*s, part(77, 90)), wanted);
    if (rollback == 0) continue;
    // A restored state can still be rolled back.
    ASSERT_TRUE(s->restore(bytes.data(), bytes.size()).is_ok());
    ASSERT_TRUE(s->rollback(20).is_ok());
    EXPECT_EQ(feed(*s, part(57, 90)), wanted);
  }
}

TEST_P(LinearStates, AFailedCallLeavesTheStateAsItWas) {
  for (int64_t rollback : {0, 32})
    for (size_t before : {1, 40, 100}) {
      auto s = make(rollback), fresh = make(rollback);
      feed(*s, part(0, before));
      feed(*fresh, part(0, before));
      for (size_t tokens : {1, 5, 50}) {
        // An id that the vocabulary does not have, in the last pass of the call.
        std::vector<int32_t> bad = part(300, 300 + tokens);
        bad.back() = 1 << 20;
        std::vector<float> out;
        EXPECT_FALSE(feed_ids(*s, bad, &out).is_ok());
        EXPECT_EQ(s->position(), int64_t(before));
      }
      EXPECT_EQ(feed(*s, part(400, 420)), feed(*fresh, part(400, 420)))
          << "rollback " << rollback << ", " << before << " tokens before";
    }
}

// 32,768 tokens (fewer under a sanitizer) in f32, in 8 bits and with f16 states: gates, decays, norms and convolutions
// stay f32, so the distance to f32 must not grow along the stream.
TEST(LinearModels, QuantisedStreamsDoNotDrift) {
  TemporaryFolder tmp;
  for (const char* name : {"tiny_mamba2", "tiny_qwen3_5", "tiny_rwkv7"}) {
    const bool is_file = !fs::exists(kGoldens / name / "config.json");
    const fs::path source = is_file ? kGoldens / name / "model.safetensors" : kGoldens / name;
    ConvertOptions options;
    options.input = source;
    options.output = tmp / "f32.rnl";
    convert(options);
    options.output = tmp / "q8.rnl";
    options.weights = Weights::kQ8;
    convert(options);
    options.output = tmp / "half.rnl";
    options.weights = Weights::kF32;
    options.half_states = true;
    convert(options);
    const int tokens = test::kIsSlow ? 4096 : 32768, part = tokens / 128;
    std::vector<int32_t> ids(tokens);
    std::mt19937 rng(11);
    for (int32_t& id : ids) id = int32_t(rng() % 61);
    // The last token's logits of each part.
    const auto along = [&](const char* file) {
      const auto model = open_model(tmp / file);
      PlanOptions o = test::plan_options();
      o.context = tokens, o.chunk = 256, o.rollback = 0;
      auto s = Session::create(*model, nullptr, o, nullptr, nullptr);
      if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
      std::vector<std::vector<float>> rows;
      for (int at = 0; at < tokens; at += part) {
        const Status status =
            feed_ids(*s.value(), std::span(ids).subspan(size_t(at), size_t(part)), &rows.emplace_back());
        if (!status.is_ok()) throw std::runtime_error(status.message());
      }
      return rows;
    };
    const auto exact = along("f32.rnl");
    for (const char* file : {"q8.rnl", "half.rnl"}) {
      const auto rows = along(file);
      double early = 0, late = 0;
      for (size_t i = 0; i < rows.size(); ++i)
        (i < rows.size() / 2 ? early : late) +=
            double(largest_difference(rows[i], exact[i])) / double(largest(exact[i]));
      early /= double(rows.size() / 2), late /= double(rows.size() / 2);
      std::printf("%s, %s: distance to f32 %.2e in the first half, %.2e in the second\n", name, file, early, late);
      EXPECT_LE(late, 1.6 * early + 1e-6) << name << ", " << file;
      EXPECT_LE(late, 0.25) << name << ", " << file;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearStates,
                         testing::Values("tiny_mamba", "tiny_mamba2", "tiny_lfm2", "tiny_recurrent_gemma",
                                         "tiny_qwen3_5", "tiny_kimi_linear", "tiny_minimax", "tiny_rwkv4", "tiny_rwkv6",
                                         "tiny_rwkv7", "tiny_xlstm", "tiny_zamba2", "tiny_fla_mamba3",
                                         "tiny_fla_retnet", "tiny_fla_gla", "tiny_fla_linear_attn_hedgehog",
                                         "tiny_fla_hgrn", "tiny_fla_hgrn2_heads", "tiny_fla_lightnet",
                                         "tiny_fla_delta_net", "tiny_fla_gated_deltanet", "tiny_fla_gated_deltaproduct",
                                         "tiny_fla_mom", "tiny_fla_samba", "tiny_gemma3n", "tiny_gemma4"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace runnel::convert
