// Windows imposed on models by the converter: the numbers of the formula in doubles, for streams far longer than the
// context; roll-backs, forks and saved states as for any model.
#include <numeric>

#include "kit.h"

namespace runnel::convert {
namespace {

// A small Llama in doubles, whose attention sees the newest `window` positions and the first `sinks` ones.
class SlidingLlama {
 public:
  SlidingLlama(const fs::path& folder, int64_t window, int64_t sinks)
      : weights_(load_safetensors(folder / "model.safetensors")), window_(window), sinks_(sinks) {}

  // Logits of all tokens.
  std::vector<float> logits(const std::vector<int32_t>& ids) {
    const std::vector<double> table = weight("model.embed_tokens.weight");
    const size_t tokens = ids.size();
    std::vector<Row> x(tokens);
    for (size_t t = 0; t < tokens; ++t)
      x[t].assign(table.begin() + ids[t] * kHidden, table.begin() + (ids[t] + 1) * kHidden);
    for (int layer = 0; layer < 3; ++layer) {
      const std::string p = "model.layers." + std::to_string(layer) + ".";
      const std::vector<Row> normed = norms(x, p + "input_layernorm.weight");
      const std::vector<Row> q = products(normed, p + "self_attn.q_proj.weight"),
                             k = products(normed, p + "self_attn.k_proj.weight"),
                             v = products(normed, p + "self_attn.v_proj.weight");
      add(x, products(attend(q, k, v), p + "self_attn.o_proj.weight"));
      const std::vector<Row> second = norms(x, p + "post_attention_layernorm.weight");
      std::vector<Row> gate = products(second, p + "mlp.gate_proj.weight");
      const std::vector<Row> up = products(second, p + "mlp.up_proj.weight");
      for (size_t t = 0; t < tokens; ++t)
        for (size_t i = 0; i < gate[t].size(); ++i) gate[t][i] *= up[t][i] / (1 + std::exp(-gate[t][i]));
      add(x, products(gate, p + "mlp.down_proj.weight"));
    }
    std::vector<float> out;
    for (const Row& r : products(norms(x, "model.norm.weight"), "model.embed_tokens.weight"))
      out.insert(out.end(), r.begin(), r.end());
    return out;
  }

 private:
  using Row = std::vector<double>;
  static constexpr int kHidden = 48, kHeads = 2, kDim = 28;

  std::vector<double> weight(const std::string& name) {
    const std::vector<float> w = values_of(weights_, name);
    return {w.begin(), w.end()};
  }
  std::vector<Row> norms(const std::vector<Row>& x, const std::string& name) {
    const std::vector<double> w = weight(name);
    std::vector<Row> y = x;
    for (Row& r : y) {
      const double square = std::inner_product(r.begin(), r.end(), r.begin(), 0.0) / double(r.size());
      for (size_t i = 0; i < r.size(); ++i) r[i] *= w[i] / std::sqrt(square + 1e-6);
    }
    return y;
  }
  std::vector<Row> products(const std::vector<Row>& x, const std::string& name) {
    const std::vector<double> w = weight(name);
    std::vector<Row> y;
    for (const Row& r : x) {
      Row out(w.size() / r.size());
      for (size_t i = 0; i < out.size(); ++i)
        out[i] = std::inner_product(r.begin(), r.end(), w.begin() + int64_t(i * r.size()), 0.0);
      y.push_back(std::move(out));
    }
    return y;
  }
  static void add(std::vector<Row>& x, const std::vector<Row>& y) {
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
  }
  // The score of a query that stands `distance` behind a key: only that counts of their positions.
  static double score(const double* q, const double* k, int64_t distance) {
    double dot = 0;
    for (int i = 0; i < kDim / 2; ++i) {
      const double angle = double(distance) * std::pow(10000.0, -2.0 * i / kDim), c = std::cos(angle),
                   s = std::sin(angle), a = q[i], b = q[i + kDim / 2];
      dot += (a * c - b * s) * k[i] + (b * c + a * s) * k[i + kDim / 2];
    }
    return dot / std::sqrt(double(kDim));
  }
  std::vector<Row> attend(const std::vector<Row>& q, const std::vector<Row>& k, const std::vector<Row>& v) const {
    std::vector<Row> y(q.size(), Row(kHeads * kDim, 0.0));
    for (int64_t t = 0; t < int64_t(q.size()); ++t)
      for (int h = 0; h < kHeads; ++h) {
        double sum = 0;
        for (int64_t j = 0; j <= t; ++j) {
          const bool near = j > t - window_;
          if (!near && j >= sinks_) continue;
          const int64_t distance = near ? t - j : std::min(t, window_ + sinks_ - 1) - j;
          const double e = std::exp(score(&q[size_t(t)][size_t(h * kDim)], &k[size_t(j)][size_t(h * kDim)], distance));
          sum += e;
          for (int d = 0; d < kDim; ++d) y[size_t(t)][size_t(h * kDim + d)] += e * v[size_t(j)][size_t(h * kDim + d)];
        }
        for (int d = 0; d < kDim; ++d) y[size_t(t)][size_t(h * kDim + d)] /= sum;
      }
    return y;
  }

  Checkpoint weights_;
  int64_t window_, sinks_;
};

std::unique_ptr<Model> imposed(const std::string& golden, int64_t window, int64_t sinks, const fs::path& to) {
  return converted_with(golden, to, [&](ConvertOptions* o) { o->imposed = {window, sinks}; });
}

std::unique_ptr<Session> session_of(const Model& model, int64_t chunk, int64_t rollback = 64) {
  PlanOptions options = test::plan_options();
  options.context = 128;
  options.chunk = chunk;
  options.rows = 8;
  options.rollback = rollback;
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  return std::move(session.value());
}

// Logits of each call's last token, fed in calls of `call`.
std::vector<float> last_logits(const Model& model, const std::vector<int32_t>& ids, size_t call, int64_t chunk) {
  const auto session = session_of(model, chunk);
  std::vector<float> all, one;
  for (size_t at = 0; at < ids.size(); at += call) {
    const Status s = feed_ids(*session, std::span(ids).subspan(at, std::min(call, ids.size() - at)), &one);
    EXPECT_TRUE(s.is_ok()) << s.message();
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

TEST(B1, StreamsOfAnyLengthMatchTheFormula) {
  for (const auto& [window, sinks] : {std::pair<int64_t, int64_t>{24, 4}, {24, 0}, {1, 1}, {40, 70}}) {
    TemporaryFolder tmp;
    const auto model = imposed("tiny_llama", window, sinks, tmp / "m.rnl");
    const std::vector<int32_t> ids = long_ids("tiny_llama", 500);
    const std::vector<float> wanted = SlidingLlama(kGoldens / "tiny_llama", window, sinks).logits(ids);
    const size_t vocab = wanted.size() / ids.size();
    for (const size_t call : {1, 7, 50}) {
      std::vector<float> part;
      for (size_t at = 0; at < ids.size(); at += call) {
        const size_t last = std::min(at + call, ids.size()) - 1;
        part.insert(part.end(), wanted.begin() + int64_t(last * vocab), wanted.begin() + int64_t((last + 1) * vocab));
      }
      EXPECT_LE(largest_difference(last_logits(*model, ids, call, 64), part), 1e-4f * largest(wanted))
          << "window " << window << " sinks " << sinks << " calls of " << call;
    }
  }
}

// Far into a stream positions are millions; what is seen is the same as early on, and so are the numbers.
TEST(B1, NothingDriftsWithThePosition) {
  TemporaryFolder tmp;
  const auto model = imposed("tiny_llama", 16, 4, tmp / "m.rnl");
  const std::vector<int32_t> ids = long_ids("tiny_llama", 13 * 64);
  // The pattern of ids repeats: what a window of each of three layers reaches back to is the same.
  const auto session = session_of(*model, 64);
  std::vector<int32_t> start(ids.begin(), ids.begin() + 64), period(ids.begin() + 64, ids.begin() + 128);
  std::vector<float> early, late, ignored;
  ASSERT_TRUE(feed_ids(*session, start, &ignored).is_ok());
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(feed_ids(*session, period, &early).is_ok());
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(feed_ids(*session, period, &late).is_ok());
  EXPECT_GT(session->position(), 190000);
  EXPECT_LE(largest_difference(early, late), 2e-5f * largest(early));
}

TEST(B1, ImposedWindowsRollBackForkAndSave) {
  for (const char* golden : {"tiny_llama", "tiny_gpt_oss", "tiny_gemma3", "tiny_qwen3_next"}) {
    TemporaryFolder tmp;
    const auto model = imposed(golden, 12, 3, tmp / "m.rnl");
    const std::vector<int32_t> ids = long_ids(golden, 300);
    const auto session = session_of(*model, 32);
    std::vector<float> ignored, one, two;
    for (size_t at = 0; at < 260; at += 20)
      ASSERT_TRUE(feed_ids(*session, std::span(ids).subspan(at, 20), &ignored).is_ok());
    auto fork = session->fork();
    ASSERT_TRUE(fork.is_ok());
    std::vector<char> snapshot(session->snapshot_bytes());
    ASSERT_TRUE(session->snapshot(snapshot.data(), snapshot.size()).is_ok());
    ASSERT_TRUE(feed_ids(*session, std::span(ids).subspan(260, 30), &one).is_ok());
    ASSERT_TRUE(feed_ids(*fork.value(), std::span(ids).subspan(260, 30), &two).is_ok());
    EXPECT_EQ(one, two) << golden;
    ASSERT_TRUE(session->rollback(30).is_ok());
    ASSERT_TRUE(feed_ids(*session, std::span(ids).subspan(260, 30), &two).is_ok());
    EXPECT_EQ(one, two) << golden;
    const auto other = session_of(*model, 32);
    ASSERT_TRUE(other->restore(snapshot.data(), snapshot.size()).is_ok());
    ASSERT_TRUE(feed_ids(*other, std::span(ids).subspan(260, 30), &two).is_ok());
    EXPECT_EQ(one, two) << golden;
  }
}

TEST(B1, WhereNothingIsChangedItIsAnError) {
  TemporaryFolder tmp;
  const auto error = [&](const char* golden, int64_t window) {
    try {
      imposed(golden, window, 4, tmp / "m.rnl");
      return std::string("no error");
    } catch (const std::exception& e) {
      return std::string(e.what());
    }
  };
  EXPECT_NE(error("tiny_mamba", 16).find("no attention of this model sees more"), std::string::npos);
  EXPECT_FALSE(fs::exists(tmp / "m.rnl"));
}

TEST(B1, TheFileSaysWhatWasChanged) {
  TemporaryFolder tmp;
  const auto model = imposed("tiny_llama", 16, 4, tmp / "m.rnl");
  EXPECT_STREQ(model->root().provenance()->passes()->c_str(), "window 16, sinks 4: 3 attentions");
}

}  // namespace
}  // namespace runnel::convert
