// Prompts of ids and rows of features, on models with keys of all tokens, with windows and with recurrent states; and
// positions on several axes, which go on behind the largest that was given.
#include "kit.h"
#include "text/features.h"
#include "text/stream.h"

namespace runnel::convert {
namespace {

constexpr int32_t kPlaceholder = 130;

struct Generated {
  std::vector<int32_t> ids;
  Status status;
};

class FeaturesIn : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    ConvertOptions o;
    o.input = kGoldens / GetParam();
    o.output = tmp_ / "m.rnl";
    o.weights = Weights::kF32;
    o.features = true;
    o.threads = 2;
    convert(o);
    model_ = open_model(tmp_ / "m.rnl");
    Checkpoint c = load_safetensors(kGoldens / GetParam() / "model.safetensors");
    for (const char* name : {"model.embed_tokens.weight", "model.language_model.embed_tokens.weight"})
      if (c.has(name)) table_ = values_of(c, name), width_ = int64_t(c.find(name)->shape[1]);
    if (std::string(GetParam()).find("gemma") != std::string::npos)
      for (float& v : table_) v *= float(std::sqrt(double(width_)));
    prompt_ = ids_of(kGoldens / GetParam());
    prompt_.resize(24);
    for (int32_t& id : prompt_) id %= kPlaceholder;  // none is the placeholder
  }
  std::unique_ptr<Session> make(int64_t chunk = 64) const {
    PlanOptions o = test::plan_options();
    o.context = 128, o.chunk = chunk, o.rollback = 16;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) return ADD_FAILURE() << s.take_status().message(), nullptr;
    return std::move(s.value());
  }
  // What the embedding makes of prompt[begin .. end).
  std::vector<float> rows(size_t begin, size_t end) const {
    std::vector<float> x;
    for (size_t i = begin; i < end; ++i)
      x.insert(x.end(), table_.begin() + prompt_[i] * width_, table_.begin() + (prompt_[i] + 1) * width_);
    return x;
  }
  rnl_features features_of(const std::vector<float>& x) const {
    rnl_features f{};
    f.struct_size = sizeof f;
    f.placeholder = kPlaceholder;
    f.rows = x.data();
    f.count = x.size() / size_t(width_), f.width = size_t(width_);
    return f;
  }
  // The prompt with the placeholder in the place of [begin, end).
  std::vector<int32_t> with_placeholder(size_t begin, size_t end) const {
    std::vector<int32_t> ids(prompt_.begin(), prompt_.begin() + long(begin));
    ids.push_back(kPlaceholder);
    ids.insert(ids.end(), prompt_.begin() + long(end), prompt_.end());
    return ids;
  }
  static Generated answer(Session& s, const std::vector<int32_t>& ids, std::vector<rnl_features> features = {},
                          GenerateOptions o = {}) {
    if (o.max_tokens == 0) o.max_tokens = 8;
    o.ignore_end = true;
    const Features parts(features.data(), features.size());
    if (!features.empty()) o.parts = &parts;
    Generated g;
    int64_t generated = 0;
    g.status = generate(
        s, ids.data(), ids.size(), o,
        [](void* out, int32_t id, const char*, size_t) {
          static_cast<std::vector<int32_t>*>(out)->push_back(id);
          return true;
        },
        &g.ids, &generated);
    return g;
  }
  Generated good_answer(Session& s, const std::vector<int32_t>& ids, std::vector<rnl_features> features = {}) const {
    Generated g = answer(s, ids, std::move(features));
    EXPECT_TRUE(g.status.is_ok()) << g.status.message();
    return g;
  }

  TemporaryFolder tmp_;
  std::unique_ptr<Model> model_;
  std::vector<float> table_;
  int64_t width_ = 0;
  std::vector<int32_t> prompt_;
};

INSTANTIATE_TEST_SUITE_P(All, FeaturesIn, testing::Values("tiny_llama", "tiny_gemma3", "tiny_qwen3_5"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(FeaturesIn, RowsOfTheEmbeddingAreItsIds) {
  auto plain = make();
  ASSERT_TRUE(plain);
  const std::vector<int32_t> want = good_answer(*plain, prompt_).ids;
  ASSERT_EQ(want.size(), 8u);
  for (const int64_t chunk : {3, 64})
    for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, 23}, {0, 1}, {5, 17}, {22, 23}}) {
      auto s = make(chunk);
      ASSERT_TRUE(s);
      const std::vector<float> x = rows(begin, end);
      EXPECT_EQ(good_answer(*s, with_placeholder(begin, end), {features_of(x)}).ids, want)
          << chunk << " " << begin << " " << end;
      EXPECT_EQ(s->position(), plain->position());
    }
  // Two of them, one behind the other and behind a pending token.
  auto s = make();
  ASSERT_TRUE(s);
  const std::vector<float> x = rows(4, 9), y = rows(9, 15);
  std::vector<int32_t> ids = with_placeholder(9, 15);
  ids.erase(ids.begin() + 4, ids.begin() + 9);
  ids.insert(ids.begin() + 4, kPlaceholder);
  EXPECT_EQ(good_answer(*s, ids, {features_of(x), features_of(y)}).ids, want);
  EXPECT_EQ(good_answer(*s, with_placeholder(5, 17), {features_of(rows(5, 17))}).ids, good_answer(*plain, prompt_).ids);
}

TEST_P(FeaturesIn, CountAsThePlaceholder) {
  auto s = make();
  ASSERT_TRUE(s);
  const std::vector<float> x = rows(5, 17);
  good_answer(*s, with_placeholder(5, 17), {features_of(x)});
  const SamplerState& sampler = text_state(*s).sampler;
  EXPECT_EQ(int64_t(sampler.count), s->position());
  for (size_t i = 0; i < prompt_.size(); ++i)
    EXPECT_EQ(sampler.history[i], i < 5 || i >= 17 ? prompt_[i] : kPlaceholder) << i;
}

TEST_P(FeaturesIn, AreTakenBackSavedAndForked) {
  const std::vector<float> x = rows(2, 10), other = rows(10, 18);
  auto fresh = make(), s = make(), restored = make();
  ASSERT_TRUE(fresh && s && restored);
  // A part and what stands behind it, taken back and replaced.
  GenerateOptions one;
  one.max_tokens = 1;
  for (Session* t : {fresh.get(), s.get()}) {
    std::vector<float> logits;
    ASSERT_TRUE(feed_ids(*t, {prompt_.begin(), 2}, &logits).is_ok());
    note_tokens(text_state(*t), 0, prompt_.data(), 2);
  }
  ASSERT_TRUE(answer(*s, {kPlaceholder, prompt_[11]}, {features_of(other)}, one).status.is_ok());
  EXPECT_EQ(s->position(), 11);
  ASSERT_TRUE(rollback_stream(*s, 9).is_ok());
  std::vector<int32_t> rest(prompt_.begin() + 9, prompt_.end());
  rest[0] = kPlaceholder;
  const Generated want = good_answer(*fresh, rest, {features_of(x)});
  EXPECT_EQ(good_answer(*s, rest, {features_of(x)}).ids, want.ids);
  // Saved, restored and forked it goes on in the same way.
  ASSERT_TRUE(s->save((tmp_ / "s").c_str()).is_ok());
  ASSERT_TRUE(restored->load((tmp_ / "s").c_str()).is_ok());
  auto copy = s->fork();
  ASSERT_TRUE(copy.is_ok());
  const std::vector<int32_t> more = {5, kPlaceholder, 6};
  const Generated on = good_answer(*s, more, {features_of(other)});
  EXPECT_EQ(good_answer(*restored, more, {features_of(other)}).ids, on.ids);
  EXPECT_EQ(good_answer(*copy.value(), more, {features_of(other)}).ids, on.ids);
  EXPECT_EQ(std::memcmp(&text_state(*s), &text_state(*restored), sizeof(TextState)), 0);
  // Into a part: what is left of it stays.
  auto half = make();
  ASSERT_TRUE(half);
  ASSERT_TRUE(answer(*half, {prompt_[0], prompt_[1], kPlaceholder, 7}, {features_of(x)}, one).status.is_ok());
  ASSERT_TRUE(rollback_stream(*half, 4).is_ok());
  const std::vector<float> end = rows(7, 10);
  std::vector<int32_t> behind(prompt_.begin() + 9, prompt_.end());
  behind[0] = kPlaceholder;
  auto whole = make();
  ASSERT_TRUE(whole);
  EXPECT_EQ(good_answer(*half, behind, {features_of(end)}).ids,
            good_answer(*whole, with_placeholder(2, 10), {features_of(x)}).ids);
}

TEST_P(FeaturesIn, AreCheckedBeforeAnythingIsFed) {
  auto s = make();
  ASSERT_TRUE(s);
  const std::vector<float> x = rows(5, 17);
  const std::vector<int32_t> ids = with_placeholder(5, 17);
  const auto refuses = [&](const std::vector<int32_t>& given, std::vector<rnl_features> features, Code code,
                           const char* why) {
    const Generated g = answer(*s, given, std::move(features));
    EXPECT_EQ(g.status.code(), code) << why;
    EXPECT_NE(std::string(g.status.message()).find(why), std::string::npos) << g.status.message();
    EXPECT_EQ(s->position(), 0) << why;
  };
  rnl_features f = features_of(x);
  f.width -= 1;
  refuses(ids, {f}, Code::kInvalidArgument, "features 0: input \"inputs_embeds\": axis 1 is");
  f = features_of(x), f.program = "pictures";
  refuses(ids, {f}, Code::kUnsupported, "no program pictures that takes rows of floats");
  f = features_of(x), f.program = "main";
  refuses(ids, {f}, Code::kUnsupported, "no program main that takes rows of floats");
  f = features_of(x), f.rows = nullptr;
  refuses(ids, {f}, Code::kInvalidArgument, "has no data");
  f = features_of(x), f.count = 0;
  refuses(ids, {f}, Code::kInvalidArgument, "the call has no tokens");
  f = features_of(x);
  const std::vector<int32_t> on_three(f.count * 3);
  f.positions = on_three.data(), f.axes = 3;
  refuses(ids, {f}, Code::kInvalidArgument, "input \"positions\" has 2 axes, wanted 1");
  refuses(prompt_, {features_of(x)}, Code::kInvalidArgument, "do not hold their placeholder 130");
  refuses(ids, {features_of(x), features_of(x)}, Code::kInvalidArgument, "features 1: ids do not hold");
  std::vector<int32_t> twice = ids;
  twice.insert(twice.begin(), kPlaceholder);
  refuses(twice, {features_of(x)}, Code::kInvalidArgument, "more placeholders than the 1");
  refuses({1, kPlaceholder}, {features_of(x)}, Code::kInvalidArgument, "ids are to follow");
  std::vector<float> many;
  for (int i = 0; i < 10; ++i) many.insert(many.end(), x.begin(), x.end());
  refuses(ids, {features_of(many)}, Code::kContextFull, "132 more do not fit the context of 128");
  EXPECT_TRUE(good_answer(*s, ids, {features_of(x)}).status.is_ok());
}

TEST_P(FeaturesIn, APromptThatFailsIsTakenBackAsAWhole) {
  auto s = make(), fresh = make();
  ASSERT_TRUE(s && fresh);
  const std::vector<float> x = rows(5, 17);
  good_answer(*s, prompt_), good_answer(*fresh, prompt_);
  const int64_t before = s->position();
  std::vector<float> bad = x;
  bad[bad.size() / 2] = NAN;
  const std::vector<int32_t> ids = {3, kPlaceholder, 4, kPlaceholder, 5};
  const std::vector<float> little = rows(0, 3);
  const Generated g = answer(*s, ids, {features_of(little), features_of(bad)});
  if (g.status.is_ok()) GTEST_SKIP() << "the head sees nothing of the rows";
  EXPECT_EQ(s->position(), before) << g.status.message();
  EXPECT_EQ(good_answer(*s, ids, {features_of(little), features_of(x)}).ids,
            good_answer(*fresh, ids, {features_of(little), features_of(x)}).ids);
}

TEST_P(FeaturesIn, ACancelledPromptKeepsItsWholePasses) {
  auto s = make(4), fresh = make(4);
  ASSERT_TRUE(s && fresh);
  const std::vector<float> x = rows(5, 17);
  int calls = 0;
  s->set_progress([](void* n, int64_t, int64_t) { return ++*static_cast<int*>(n) < 3; }, &calls);
  const Generated g = answer(*s, with_placeholder(5, 17), {features_of(x)});
  EXPECT_EQ(g.status.code(), Code::kCancelled);
  // 5 ids in two passes, of the rows two passes of 4.
  EXPECT_EQ(s->position(), 13);
  const SamplerState& sampler = text_state(*s).sampler;
  EXPECT_EQ(sampler.count, 13u);
  for (size_t i = 0; i < 13; ++i) EXPECT_EQ(sampler.history[i], i < 5 ? prompt_[i] : kPlaceholder);
  s->set_progress(nullptr, nullptr);
  // It goes on with the rows that are left.
  const std::vector<float> rest = rows(13, 17);
  std::vector<int32_t> ids(prompt_.begin() + 16, prompt_.end());
  ids[0] = kPlaceholder;
  EXPECT_EQ(good_answer(*s, ids, {features_of(rest)}).ids, good_answer(*fresh, prompt_).ids);
}

}  // namespace
}  // namespace runnel::convert
