// Answers under a grammar on a small model of random weights: what streams remember of them, what the sampler makes of
// them, and log-probabilities.
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <tuple>

#include "converter/text_test.h"
#include "kit.h"
#include "runnel/json_schema.hpp"
#include "runnel/runnel.hpp"

namespace runnel::convert {
namespace {

// A Llama with the pieces of a small SentencePiece vocabulary.
fs::path small_model(const TemporaryFolder& folder, Weights weights, Head head = Head::kAuto) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0, 0.3f);
  std::vector<PlainTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<uint64_t> shape) {
    size_t n = 1;
    for (const uint64_t d : shape) n *= d;
    PlainTensor t{name, std::move(shape), std::vector<float>(n)};
    for (float& v : t.values) v = t.shape.size() == 1 ? 1.0f : normal(random);
    tensors.push_back(std::move(t));
  };
  add("model.embed_tokens.weight", {600, 32});
  add("model.norm.weight", {32});
  const std::string layer = "model.layers.0.";
  add(layer + "input_layernorm.weight", {32});
  add(layer + "post_attention_layernorm.weight", {32});
  for (const char* const name : {"q", "k", "v", "o"}) add(layer + "self_attn." + name + "_proj.weight", {32, 32});
  add(layer + "mlp.gate_proj.weight", {64, 32});
  add(layer + "mlp.up_proj.weight", {64, 32});
  add(layer + "mlp.down_proj.weight", {32, 64});
  fs::create_directory(folder / "source");
  write_file(folder / "source/model.safetensors", safetensors_of(tensors));
  write_file(folder / "source/tokenizer.model", read_golden("spm_small.model"));
  write_file(
      folder / "source/config.json",
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
    "num_key_value_heads": 2, "num_hidden_layers": 1, "vocab_size": 600, "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2})");
  ConvertOptions o;
  o.input = folder / "source";
  o.output = folder / "model.rnl";
  o.weights = weights;
  o.head = head;
  convert(o);
  return o.output;
}

constexpr char kList[] = R"(
root ::= "[" item ("," item)* "]"
item ::= "\"" [a-z \xE9]{0,5} "\"" | [1-9] [0-9]{0,4} | root
)";

class Constrained : public ::testing::Test {
 protected:
  Constrained() {
    EXPECT_TRUE(bool(engine.create(1)));
    EXPECT_TRUE(bool(model.open(engine, small_model(folder, Weights::kF32).string())));
    EXPECT_TRUE(bool(list.create(model, kList)));
    EXPECT_TRUE(bool(model.tokenize("What is on the list?", 0, &prompt)));
  }
  rnl::Session session(int64_t context = 512) {
    rnl_session_options o = rnl::session_options();
    o.context = context;
    rnl::Session s;
    const rnl::Status status = s.create(model, o);
    EXPECT_TRUE(bool(status)) << status.message();
    return s;
  }
  rnl_generate_options options(const rnl::Grammar* grammar, int64_t tokens, float temperature = 1, uint64_t seed = 1) {
    rnl_generate_options g{};
    g.struct_size = sizeof g;
    g.max_tokens = tokens;
    g.sampling.struct_size = sizeof g.sampling;
    g.sampling.temperature = temperature;
    g.sampling.seed = seed;
    g.grammar = grammar ? grammar->get() : nullptr;
    return g;
  }
  struct Answer {
    std::vector<int32_t> ids;
    std::string text;
    rnl_status_code code = RNL_OK;
    std::string message;
  };
  Answer answer(rnl::Session& s, const std::vector<int32_t>& ids, const rnl_generate_options& g) {
    Answer a;
    const rnl::Status status = rnl_session_generate(
        s.get(), ids.data(), ids.size(), &g,
        [](void* user, int32_t id, const char* text, size_t size) {
          auto& out = *static_cast<Answer*>(user);
          out.ids.push_back(id);
          out.text.append(text, size);
          return 0;
        },
        &a, nullptr);
    a.code = status.code();
    a.message = status.message();
    return a;
  }
  // An answer that is long enough to be cut.
  Answer long_answer(uint64_t* seed) {
    for (*seed = 1;; ++*seed) {
      rnl::Session s = session();
      Answer a = answer(s, prompt, options(&list, 200, 1, *seed));
      EXPECT_EQ(a.code, RNL_OK) << a.message;
      if (a.ids.size() > 30 && a.ids.size() < 200) return a;
      if (*seed > 200) throw std::runtime_error("no answer of a good length");
    }
  }
  TemporaryFolder folder;
  rnl::Engine engine;
  rnl::Model model;
  rnl::Grammar list;
  std::vector<int32_t> prompt;
};

TEST_F(Constrained, AnswersFollowTheGrammar) {
  int whole = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    rnl::Session s = session();
    rnl_generate_options g = options(&list, 400, seed % 4 == 3 ? 0 : 1, seed);
    if (seed % 4 == 1) g.sampling.top_k = 5;
    if (seed % 4 == 2) g.sampling.top_p = 0.7f, g.sampling.repetition_penalty = 1.2f;
    const Answer a = answer(s, prompt, g);
    ASSERT_EQ(a.code, RNL_OK) << a.message;
    if (a.ids.size() == 400) continue;
    ++whole;
    EXPECT_EQ(a.ids.back(), 2);
    EXPECT_TRUE(nlohmann::json::accept(a.text)) << a.text;
  }
  EXPECT_GT(whole, 20);
}

// A cut answer goes on as if it had not been: in the session, in a fork, after a snapshot, a file, and in another
// session.
TEST_F(Constrained, GoesOnWhereItWasCut) {
  uint64_t seed;
  const Answer whole = long_answer(&seed);
  for (const int64_t cut : {1, 2, 7, 20}) {
    rnl::Session s = session();
    Answer first = answer(s, prompt, options(&list, cut, 1, seed));
    std::vector<unsigned char> snapshot;
    ASSERT_TRUE(bool(s.snapshot(&snapshot)));
    rnl::Session fork, other = session(), loaded = session();
    ASSERT_TRUE(bool(s.fork(&fork)));
    ASSERT_TRUE(bool(other.restore(snapshot)));
    ASSERT_TRUE(bool(s.save((folder / "state").string())));
    ASSERT_TRUE(bool(loaded.restore((folder / "state").string())));
    for (rnl::Session* each : {&fork, &other, &loaded, &s}) {
      const Answer rest = answer(*each, {}, options(&list, 300, 1, seed));
      ASSERT_EQ(rest.code, RNL_OK) << rest.message;
      EXPECT_EQ(first.text + rest.text, whole.text);
    }
    // The answer is over: what is asked for now is another.
    EXPECT_EQ(answer(s, prompt, options(&list, 1, 0)).text, "[");
  }
}

TEST_F(Constrained, RollsBack) {
  uint64_t seed;
  const Answer whole = long_answer(&seed);
  rnl::Session s = session();
  answer(s, prompt, options(&list, 25, 1, seed));
  // The stream holds 24 of them; without the last four of these, and the first of the four given back.
  ASSERT_TRUE(bool(s.rollback(4)));
  rnl_generate_options g = options(&list, 300, 1, seed);
  g.grammar_goes_on = 1;
  const Answer wrong = answer(s, {2}, g);
  EXPECT_EQ(wrong.code, RNL_INVALID_ARGUMENT);
  EXPECT_NE(wrong.message.find("does not fit"), std::string::npos) << wrong.message;
  const Answer rest = answer(s, {whole.ids[20]}, g);
  ASSERT_EQ(rest.code, RNL_OK) << rest.message;
  EXPECT_EQ(std::vector<int32_t>(whole.ids.begin() + 21, whole.ids.end()), rest.ids);
  // Nothing is under way now, nor under another grammar.
  EXPECT_EQ(answer(s, {whole.ids[20]}, g).code, RNL_INVALID_ARGUMENT);
  rnl::Grammar other;
  ASSERT_TRUE(bool(other.create(model, "root ::= [a-z]+")));
  answer(s, prompt, options(&list, 5, 1, seed));
  g.grammar = other.get();
  EXPECT_EQ(answer(s, {whole.ids[5]}, g).code, RNL_INVALID_ARGUMENT);
  g.grammar_goes_on = 0;
  g.ignore_end = 1;
  EXPECT_EQ(answer(s, prompt, g).code, RNL_INVALID_ARGUMENT);
}

// Longer than the history of tokens that the position is worked out from.
TEST_F(Constrained, LongAnswersGoOn) {
  rnl::Grammar digits;
  ASSERT_TRUE(bool(digits.create(model, "root ::= ([0-9] [0-9] [0-9] \" \" [a-z] \"; \")*")));
  rnl::Session one = session(8000), parts = session(8000);
  const rnl_logit_bias no_end{2, -INFINITY};
  const auto endless = [&](int64_t n) {
    rnl_generate_options g = options(&digits, n);
    g.sampling.bias = &no_end;
    g.sampling.bias_count = 1;
    return g;
  };
  const Answer whole = answer(one, prompt, endless(5000));
  ASSERT_EQ(whole.code, RNL_OK) << whole.message;
  ASSERT_EQ(whole.ids.size(), 5000u);
  std::string text;
  for (const int64_t n : {1, 1022, 1, 1, 1500, 900, 1575}) {
    const Answer a = answer(parts, text.empty() ? prompt : std::vector<int32_t>(), endless(n));
    ASSERT_EQ(a.code, RNL_OK) << a.message;
    text += a.text;
  }
  EXPECT_EQ(text, whole.text);
}

TEST_F(Constrained, SaysWhyItCannotGoOn) {
  rnl::Grammar g;
  EXPECT_EQ(g.create(model, "root ::= \"a").code(), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_grammar_create(nullptr, "", 0, nullptr), RNL_INVALID_ARGUMENT);
  ASSERT_TRUE(bool(g.create(model, "root ::= \"ab\"")));
  // Biases forbid all that the grammar lets through.
  std::vector<rnl_logit_bias> ban;
  for (int32_t id = 0; id < 600; ++id) {
    std::string text;
    EXPECT_TRUE(bool(model.detokenize({id}, 0, &text)));
    if (text.find('a') != std::string::npos || text.empty()) ban.push_back({id, -INFINITY});
  }
  rnl::Session s = session();
  rnl_generate_options o = options(&g, 5);
  o.sampling.bias = ban.data();
  o.sampling.bias_count = ban.size();
  const Answer a = answer(s, prompt, o);
  EXPECT_EQ(a.code, RNL_UNSUPPORTED);
  EXPECT_NE(a.message.find("lets no token follow"), std::string::npos) << a.message;
}

TEST_F(Constrained, ThreadsShareAGrammar) {
  std::vector<Answer> all(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      rnl::Session s = session();
      all[i] = answer(s, prompt, options(&list, 60, 1, i));
    });
  for (std::thread& t : threads) t.join();
  for (size_t i = 0; i < 4; ++i) {
    rnl::Session s = session();
    EXPECT_EQ(answer(s, prompt, options(&list, 60, 1, i)).ids, all[i].ids);
  }
}

// The share that each token has among those that the grammar lets through is the model's own.
TEST_F(Constrained, DrawsInProportion) {
  rnl::Grammar g;
  ASSERT_TRUE(bool(g.create(model, "root ::= [a-z] | \"1\"")));
  std::map<int32_t, double> p;
  std::vector<float> logits;
  rnl::Session base = session();
  ASSERT_TRUE(bool(base.feed(prompt.data(), prompt.size(), &logits, 600)));
  double total = 0;
  for (int32_t id = 3; id < 600; ++id) {
    std::string text;
    ASSERT_TRUE(bool(model.detokenize({260, id}, 0, &text)));
    std::string before;
    ASSERT_TRUE(bool(model.detokenize({260}, 0, &before)));
    text = text.substr(before.size());
    if (text.size() == 1 && (std::islower(text[0]) || text == "1"))
      p[id] = std::exp(double(logits[size_t(id)])), total += p[id];
  }
  ASSERT_GT(p.size(), 10u);
  std::map<int32_t, int> seen;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    rnl::Session s = session(64);
    const Answer a = answer(s, prompt, options(&g, 1, 1, uint64_t(i)));
    ASSERT_EQ(a.ids.size(), 1u);
    ASSERT_TRUE(p.count(a.ids[0])) << a.ids[0];
    ++seen[a.ids[0]];
  }
  double chi = 0;
  for (const auto& [id, weight] : p) {
    const double expected = weight / total * kDraws;
    chi += (seen[id] - expected) * (seen[id] - expected) / expected;
  }
  EXPECT_LT(chi, double(p.size()) + 5 * std::sqrt(2.0 * double(p.size())));
}

// The greedy choice is the best of those that fit, also where the output matrix makes the highest logits alone.
TEST_F(Constrained, GreedyIsTheBestThatFits) {
  for (const char* const text : {kList, "root ::= [0-9]{30}", "root ::= ([a-z] \"1\"){20}"}) {
    rnl::Grammar g;
    ASSERT_TRUE(bool(g.create(model, text)));
    rnl::Session fast = session(), slow = session();
    const Answer a = answer(fast, prompt, options(&g, 20, 0));
    ASSERT_EQ(a.code, RNL_OK) << a.message;
    // With a bias of nothing every logit is looked at.
    rnl_generate_options o = options(&g, 20, 0);
    const rnl_logit_bias nothing{0, 0};
    o.sampling.bias = &nothing;
    o.sampling.bias_count = 1;
    EXPECT_EQ(answer(slow, prompt, o).ids, a.ids);
  }
}

// A split output matrix makes a few logits alone: those that the grammar lets through, or the highest, or more of them
// when these do not do.
TEST(ConstrainedHead, FewLogitsGiveTheSameAnswers) {
  rnl::Engine engine;
  ASSERT_TRUE(bool(engine.create(1)));
  const TemporaryFolder folders[2];
  rnl::Model models[2];
  for (const bool split : {false, true})
    ASSERT_TRUE(bool(models[split].open(
        engine, small_model(folders[split], Weights::kQ8, split ? Head::kSplit : Head::kWhole).string())));
  size_t tokens = 0;
  for (const char* const text :
       {kList, "root ::= [0-9]{30}", "root ::= ([a-z] \"1\"){20}",
        "root ::= \"\\\"\" [^\"\\\\\\x00-\\x1F]{0,60} \"\\\"\"", "root ::= [^a-zA-Z]{0,40} \".\""})
    for (const auto& [temperature, k, p] : std::vector<std::tuple<float, int32_t, float>>{{0.f, 0, 1.f},
                                                                                          {1.f, 1, 1.f},
                                                                                          {1.f, 5, 1.f},
                                                                                          {1.f, 40, 0.9f},
                                                                                          {1.f, 64, 1.f},
                                                                                          {2.f, 0, 0.8f},
                                                                                          {1.f, 0, 1.f}})
      for (uint64_t seed = 1; seed < 4; ++seed) {
        std::vector<int32_t> ids[2];
        for (const bool split : {false, true}) {
          rnl::Grammar g;
          ASSERT_TRUE(bool(g.create(models[split], text)));
          std::vector<int32_t> prompt;
          ASSERT_TRUE(bool(models[split].tokenize("What is on the list?", 0, &prompt)));
          rnl_session_options so = rnl::session_options();
          so.context = 256;
          rnl::Session s;
          ASSERT_TRUE(bool(s.create(models[split], so)));
          rnl_generate_options o{};
          o.struct_size = sizeof o;
          o.max_tokens = 50;
          o.sampling.struct_size = sizeof o.sampling;
          o.sampling.temperature = temperature, o.sampling.top_k = k, o.sampling.top_p = p, o.sampling.seed = seed;
          o.grammar = g.get();
          const rnl::Status status = rnl_session_generate(
              s.get(), prompt.data(), prompt.size(), &o,
              [](void* user, int32_t id, const char*, size_t) {
                return static_cast<std::vector<int32_t>*>(user)->push_back(id), 0;
              },
              &ids[split], nullptr);
          ASSERT_TRUE(bool(status)) << status.message();
        }
        ASSERT_EQ(ids[0], ids[1]) << text << " temperature " << temperature << " top-k " << k << " top-p " << p
                                  << " seed " << seed;
        tokens += ids[0].size();
      }
  EXPECT_GT(tokens, 1000u);
}

struct Line {
  rnl_logprob chosen;
  std::vector<rnl_logprob> best;
};

TEST_F(Constrained, LogprobsAreThoseOfTheLogits) {
  for (const rnl::Grammar* grammar :
       {static_cast<const rnl::Grammar*>(nullptr), static_cast<const rnl::Grammar*>(&list)}) {
    std::vector<Line> lines;
    rnl::Session s = session(), check = session();
    rnl_generate_options g = options(grammar, 12, 1.3f, 5);
    g.sampling.top_k = 40;
    g.logprobs_count = 7;
    g.logprobs_user = &lines;
    g.logprobs = [](void* user, const rnl_logprobs* t) {
      static_cast<std::vector<Line>*>(user)->push_back({t->chosen, {t->best, t->best + t->best_count}});
    };
    const Answer a = answer(s, prompt, g);
    ASSERT_EQ(a.code, RNL_OK) << a.message;
    ASSERT_EQ(lines.size(), a.ids.size());
    std::vector<int32_t> feed = prompt;
    for (size_t i = 0; i < lines.size(); ++i) {
      std::vector<float> logits;
      ASSERT_TRUE(bool(check.feed(feed.data(), feed.size(), &logits, 600)));
      double highest = -INFINITY, sum = 0;
      for (const float x : logits) highest = std::max(highest, double(x));
      for (const float x : logits) sum += std::exp(double(x) - highest);
      const auto want = [&](int32_t id) { return double(logits[size_t(id)]) - highest - std::log(sum); };
      EXPECT_EQ(lines[i].chosen.id, a.ids[i]);
      EXPECT_NEAR(lines[i].chosen.logprob, want(a.ids[i]), 2e-6 * (1 + std::fabs(want(a.ids[i]))));
      std::vector<int32_t> order(600);
      for (int32_t id = 0; id < 600; ++id) order[size_t(id)] = id;
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t x, int32_t y) { return logits[size_t(x)] > logits[size_t(y)]; });
      ASSERT_EQ(lines[i].best.size(), 7u);
      for (size_t k = 0; k < 7; ++k) {
        EXPECT_EQ(lines[i].best[k].id, order[k]);
        EXPECT_NEAR(lines[i].best[k].logprob, want(order[k]), 2e-6 * (1 + std::fabs(want(order[k]))));
      }
      feed = {a.ids[i]};
    }
    g.logprobs_count = 257;
    EXPECT_EQ(answer(s, prompt, g).code, RNL_INVALID_ARGUMENT);
  }
}

}  // namespace
}  // namespace runnel::convert
