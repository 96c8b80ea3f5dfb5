// A stream that is generated on, run, taken back and refused in turn: what is pending is fed once, and nobody's history
// lies.
#include <pthread.h>

#include "converter/text_test.h"
#include "kit.h"
#include "runnel/runnel.hpp"

namespace runnel::convert {
namespace {

// The tiny model of a name, without a tokenizer.
fs::path model_of(const TemporaryFolder& tmp, const std::string& golden) {
  convert_to(kGoldens / golden, tmp / (golden + ".rnl"));
  return tmp / (golden + ".rnl");
}

struct Stream {
  rnl_engine* engine = nullptr;
  rnl_model* model = nullptr;
  rnl_session* session = nullptr;
  explicit Stream(const fs::path& path, int64_t window = 0) {
    rnl_engine_options e{sizeof e, 1};
    EXPECT_EQ(rnl_engine_create(&e, &engine), RNL_OK);
    EXPECT_EQ(rnl_model_open(engine, path.c_str(), nullptr, &model), RNL_OK) << rnl_last_error();
    session = another(window);
  }
  ~Stream() {
    rnl_session_destroy(session);
    rnl_model_close(model);
    rnl_engine_destroy(engine);
  }
  rnl_session* another(int64_t window = 0) const {
    rnl_session_options o = rnl::session_options();
    o.context = 256;
    o.rollback_window = window;
    rnl_session* s = nullptr;
    EXPECT_EQ(rnl_session_create(model, &o, &s), RNL_OK) << rnl_last_error();
    return s;
  }
};

rnl_tensor ids_tensor(std::vector<int32_t>& ids) {
  rnl_tensor t{};
  t.name = "ids", t.dtype = RNL_I32, t.rank = 1, t.dims[0] = int64_t(ids.size()), t.data = ids.data(),
  t.bytes = ids.size() * 4;
  return t;
}

// Rows of logits that a call gives, by their index.
using Rows = std::map<int64_t, std::vector<float>>;
rnl_status_code run(rnl_session* s, std::vector<int32_t> ids, Rows* rows = nullptr, bool all = false,
                    std::vector<int64_t> wanted = {}) {
  rnl_tensor t[2] = {ids_tensor(ids), {}};
  t[1].name = "rows", t[1].dtype = RNL_I64, t[1].rank = 1, t[1].dims[0] = int64_t(wanted.size()),
  t[1].data = wanted.data(), t[1].bytes = wanted.size() * 8;
  Rows none;
  const auto take = [](void* user, const rnl_tensor* x, int64_t first) {
    for (int64_t r = 0; r < x->dims[0]; ++r) {
      const float* row = static_cast<const float*>(x->data) + r * x->dims[1];
      (*static_cast<Rows*>(user))[first + r].assign(row, row + x->dims[1]);
    }
    return 0;
  };
  return rnl_session_run_blocks(s, nullptr, t, wanted.empty() ? 1 : 2, all, take, rows ? rows : &none);
}

rnl_generate_options options(int64_t tokens) {
  rnl_generate_options g{};
  g.struct_size = sizeof g;
  g.max_tokens = tokens;
  return g;
}
std::vector<int32_t> generate(rnl_session* s, std::vector<int32_t> ids, const rnl_generate_options& g) {
  std::vector<int32_t> out;
  const auto take = [](void* user, int32_t id, const char*, size_t) {
    return static_cast<std::vector<int32_t>*>(user)->push_back(id), 0;
  };
  EXPECT_EQ(rnl_session_generate(s, ids.data(), ids.size(), &g, take, &out, nullptr), RNL_OK) << rnl_last_error();
  return out;
}

class TextStream : public testing::TestWithParam<const char*> {
 protected:
  TextStream() : stream_(model_of(tmp_, GetParam())) {}
  TemporaryFolder tmp_;
  Stream stream_;
};

TEST_P(TextStream, RunFeedsThePendingTokenFirst) {
  rnl_session *s = stream_.session, *fresh = stream_.another();
  const auto said = generate(s, {1, 2, 3}, options(3));
  ASSERT_EQ(said.size(), 3u);
  EXPECT_EQ(rnl_session_position(s), 5);
  Rows seen, wanted;
  ASSERT_EQ(run(s, {40, 41, 42}, &seen, true), RNL_OK) << rnl_last_error();
  EXPECT_EQ(rnl_session_position(s), 9);
  ASSERT_EQ(run(fresh, {1, 2, 3}), RNL_OK);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(run(fresh, {said[size_t(i)]}), RNL_OK);
  ASSERT_EQ(run(fresh, {said[2], 40, 41, 42}, &wanted, true), RNL_OK);
  ASSERT_EQ(seen.size(), 3u);
  for (int64_t r = 0; r < 3; ++r) EXPECT_EQ(seen[r], wanted[r + 1]) << r;
  EXPECT_EQ(generate(s, {7}, options(4)), generate(fresh, {7}, options(4)));
  rnl_session_destroy(fresh);
}

TEST_P(TextStream, RowsOfARunAreThoseOfItsOwnTokens) {
  rnl_session *s = stream_.session, *fresh = stream_.another();
  const auto said = generate(s, {1, 2, 3}, options(2));
  Rows seen, wanted;
  ASSERT_EQ(run(s, {40, 41, 42}, &seen, false, {0, 2}), RNL_OK) << rnl_last_error();
  ASSERT_EQ(run(fresh, {1, 2, 3}), RNL_OK);
  ASSERT_EQ(run(fresh, {said[0]}), RNL_OK);
  ASSERT_EQ(run(fresh, {said[1], 40, 41, 42}, &wanted, false, {1, 3}), RNL_OK);
  EXPECT_EQ(seen, wanted);
  // A row of the caller that is out of range stays out of range.
  generate(s, {5}, options(2));
  const int64_t position = rnl_session_position(s);
  EXPECT_EQ(run(s, {40, 41}, nullptr, false, {-1}), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(run(s, {40, 41}, nullptr, false, {2}), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_position(s), position);
  EXPECT_FALSE(generate(s, {}, options(1)).empty());  // the pending token is still there
  rnl_session_destroy(fresh);
}

TEST_P(TextStream, ARollbackMakesThePendingTokenVoid) {
  rnl_session *s = stream_.session, *fresh = stream_.another();
  generate(s, {1, 2, 3}, options(2));
  ASSERT_EQ(rnl_session_rollback(s, 1), RNL_OK);
  ASSERT_EQ(run(s, {40}), RNL_OK);
  EXPECT_EQ(rnl_session_position(s), 4);
  ASSERT_EQ(run(fresh, {1, 2, 3}), RNL_OK);
  ASSERT_EQ(run(fresh, {40}), RNL_OK);
  EXPECT_EQ(generate(s, {7}, options(3)), generate(fresh, {7}, options(3)));
  EXPECT_EQ(rnl_session_position(s), rnl_session_position(fresh));
  rnl_session_destroy(fresh);
}

TEST_P(TextStream, PenaltiesSeeWhatRunFed) {
  rnl_session *s = stream_.session, *fresh = stream_.another();
  ASSERT_EQ(run(s, {5, 6, 7, 8, 9, 10, 11}), RNL_OK);
  rnl_generate_options g = options(6);
  g.sampling.struct_size = sizeof g.sampling;
  g.sampling.repetition_penalty = 3;
  g.sampling.presence_penalty = 4;
  const auto penalised = generate(s, {12}, g);
  EXPECT_EQ(penalised, generate(fresh, {5, 6, 7, 8, 9, 10, 11, 12}, g));
  rnl_session_destroy(fresh);
}

TEST_P(TextStream, RefusedCallsFeedNothing) {
  rnl_session* s = stream_.session;
  generate(s, {1, 2, 3}, options(2));
  const int64_t position = rnl_session_position(s);
  rnl_session* before = nullptr;
  ASSERT_EQ(rnl_session_fork(s, &before), RNL_OK);
  const rnl_logit_bias bad_bias{-1, 1};
  const std::vector<std::function<void(rnl_generate_options&)>> changes = {
      [](auto& g) { g.sampling.top_p = 2; },
      [](auto& g) { g.sampling.temperature = NAN; },
      [](auto& g) { g.sampling.penalty_window = 5000; },
      [](auto& g) { g.logprobs_count = 5000, g.logprobs = [](void*, const rnl_logprobs*) {}; },
      [](auto& g) { g.logprobs_count = -1; },
      [&](auto& g) { g.sampling.bias = &bad_bias, g.sampling.bias_count = 1; },
      [](auto& g) { g.sampling.bias_count = 1; },
      [](auto& g) { g.stop_count = 1; },
      [](auto& g) { g.max_tokens = -1; },
      [](auto& g) { g.grammar_goes_on = 1; },
      [](auto& g) { g.sampling.struct_size = 0, g.sampling.top_k = 1; },
      [](auto& g) { g.struct_size = 0; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    rnl_generate_options g = options(2);
    g.sampling.struct_size = sizeof g.sampling;
    changes[i](g);
    const int32_t ids[] = {4, 5};
    EXPECT_EQ(rnl_session_generate(s, ids, 2, &g, nullptr, nullptr, nullptr), RNL_INVALID_ARGUMENT) << i;
    EXPECT_EQ(rnl_session_position(s), position) << i;
  }
  const int32_t bad = 1 << 30;
  const rnl_generate_options g = options(2);
  EXPECT_EQ(rnl_session_generate(s, &bad, 1, &g, nullptr, nullptr, nullptr), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(run(s, {3, bad}), RNL_INVALID_ARGUMENT);
  EXPECT_EQ(rnl_session_run(s, nullptr, nullptr, 0, nullptr, 0), RNL_INVALID_ARGUMENT);
  std::vector<int32_t> two{4, 5};
  for (int wrong = 0; wrong < 4; ++wrong) {
    rnl_tensor t = ids_tensor(two);
    if (wrong == 0) t.dims[0] = -1;
    if (wrong == 1) t.rank = 2, t.dims[1] = 1;
    if (wrong == 2) t.data = nullptr;
    if (wrong == 3) t.bytes = 4;
    EXPECT_EQ(rnl_session_run(s, nullptr, &t, 1, nullptr, 0), RNL_INVALID_ARGUMENT) << wrong;
    EXPECT_EQ(rnl_session_position(s), position) << wrong;
  }
  EXPECT_EQ(generate(s, {}, options(3)), generate(before, {}, options(3)));
  rnl_session_destroy(before);
}

INSTANTIATE_TEST_SUITE_P(All, TextStream,
                         testing::Values("tiny_llama", "tiny_gemma3", "tiny_mamba", "tiny_recurrent_gemma"),
                         [](const auto& p) { return std::string(p.param); });

// An output matrix with more rows than the vocabulary has tokens, the highest logit in one of those.
TEST(PaddedVocabulary, PaddingIsNeverChosen) {
  constexpr int64_t kPieces = 600, kRows = 40000;
  for (const Weights weights : {Weights::kF32, Weights::kQ8}) {  // the latter's output matrix is split
    TemporaryFolder tmp;
    fs::create_directories(tmp / "hf");
    Checkpoint c = load_safetensors(kGoldens / "tiny_llama/model.safetensors");
    std::vector<PlainTensor> tensors;
    for (const SourceTensor& t : c.tensors()) {
      tensors.push_back({t.name, t.shape, values_of(c, t.name)});
      if (t.name != "model.embed_tokens.weight" && t.name != "lm_head.weight") continue;
      std::vector<float>& values = tensors.back().values;
      const size_t given = values.size();
      tensors.back().shape[0] = kRows;
      values.resize(size_t(kRows) * t.shape[1]);
      // Rows of the padding are the others' made larger.
      for (size_t i = given; i < values.size(); ++i)
        values[i] = values[i % given] * (i / t.shape[1] < size_t(kPieces) ? 1.0f + float(i / given) / 16 : 8.0f);
    }
    write_file(tmp / "hf/model.safetensors", safetensors_of(tensors));
    std::ifstream in(kGoldens / "tiny_llama/config.json");
    nlohmann::json config = nlohmann::json::parse(in);
    config["vocab_size"] = kRows;
    write_file(tmp / "hf/config.json", config.dump());
    write_file(tmp / "hf/tokenizer.json", read_golden("chat/tokenizer.json"));
    convert_to(tmp / "hf", tmp / "m.rnl", weights);
    Stream stream(tmp / "m.rnl");
    rnl_model_info info{};
    info.struct_size = sizeof info;
    ASSERT_EQ(rnl_model_get_info(stream.model, &info), RNL_OK);
    ASSERT_LT(info.vocabulary, kRows);
    Rows rows;
    ASSERT_EQ(run(stream.session, {3, 4, 5}, &rows), RNL_OK);
    const std::vector<float>& logits = rows.begin()->second;
    ASSERT_GE(std::max_element(logits.begin(), logits.end()) - logits.begin(), info.vocabulary)
        << "the test is to be hard";
    for (const float temperature : {0.0f, 1.5f})
      for (const int32_t top_k : {0, 5}) {
        rnl_session_reset(stream.session);
        rnl_generate_options g = options(30);
        g.ignore_end = 1;
        g.sampling.struct_size = sizeof g.sampling;
        g.sampling.temperature = temperature;
        g.sampling.top_k = top_k;
        const auto ids = generate(stream.session, {3, 4, 5}, g);
        EXPECT_EQ(ids.size(), 30u);
        for (const int32_t id : ids) EXPECT_LT(id, info.vocabulary);
        if (temperature == 0)
          EXPECT_EQ(ids[0], std::max_element(logits.begin(), logits.begin() + info.vocabulary) - logits.begin());
      }
  }
}

// What callbacks may do.
TEST(Reentry, ACallbackCannotUseItsOwnSession) {
  TemporaryFolder tmp;
  Stream stream(model_of(tmp, "tiny_mamba"));
  struct Seen {
    rnl_session* session;
    rnl_session* other;
    int calls = 0;
  } seen{stream.session, stream.another(), 0};
  const auto take = [](void* user, int32_t, const char*, size_t) {
    Seen& k = *static_cast<Seen*>(user);
    ++k.calls;
    const int64_t position = rnl_session_position(k.session);
    EXPECT_EQ(run(k.session, {1}), RNL_INVALID_ARGUMENT);
    EXPECT_EQ(rnl_session_rollback(k.session, 1), RNL_INVALID_ARGUMENT);
    EXPECT_EQ(rnl_session_save(k.session, "/nowhere/x"), RNL_INVALID_ARGUMENT);
    rnl_session* copy = nullptr;
    EXPECT_EQ(rnl_session_fork(k.session, &copy), RNL_INVALID_ARGUMENT);
    rnl_session_reset(k.session);
    EXPECT_EQ(rnl_session_position(k.session), position);
    EXPECT_EQ(run(k.other, {1}), RNL_OK);
    if (k.calls == 3) rnl_session_destroy(k.session);
    return 0;
  };
  const int32_t ids[] = {1, 2};
  const rnl_generate_options g = options(3);
  EXPECT_EQ(rnl_session_generate(stream.session, ids, 2, &g, take, &seen, nullptr), RNL_OK) << rnl_last_error();
  stream.session = nullptr;  // destroyed when the call returned
  EXPECT_EQ(seen.calls, 3);
  rnl_session_destroy(seen.other);
}

TEST(Cancel, OneThatCameTooLateCanBeForgotten) {
  TemporaryFolder tmp;
  Stream stream(model_of(tmp, "tiny_llama"));
  rnl_session_cancel(stream.session);
  EXPECT_EQ(run(stream.session, {1}), RNL_CANCELLED);
  rnl_session_cancel(stream.session);
  rnl_session_clear_cancel(stream.session);
  EXPECT_EQ(run(stream.session, {1}), RNL_OK);
}

// Threads of some systems have 128 KiB.
TEST(Stack, GenerateAndRunNeedLittle) {
  TemporaryFolder tmp;
  const fs::path path = model_of(tmp, "tiny_recurrent_gemma");
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 128 << 10);
  pthread_t thread;
  Stream stream(path);
  ASSERT_EQ(pthread_create(
                &thread, &attributes,
                [](void* s) -> void* {
                  generate(static_cast<rnl_session*>(s), {1, 2, 3}, options(5));
                  run(static_cast<rnl_session*>(s), {4, 5});
                  return nullptr;
                },
                stream.session),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  EXPECT_EQ(rnl_session_position(stream.session), 10);
}

}  // namespace
}  // namespace runnel::convert
