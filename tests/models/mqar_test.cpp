// Multi-query associative recall (row A27): a trained model recalls under Runnel what it recalls under transformers
// (tests/goldens/make_mqar.py).
#include "converter/kit.h"

namespace runnel::convert {
namespace {

TEST(A27, RecallOfATrainedModel) {
  TemporaryFolder tmp;
  convert_to(kGoldens / "mqar", tmp / "m.rnl", Weights::kF32);
  const auto model = open_model(tmp / "m.rnl");
  Checkpoint c = load_safetensors(kGoldens / "mqar/sequences.safetensors");
  const std::vector<int32_t> ids = integers_of(c, "ids"), answers = integers_of(c, "answers"),
                             predicted = integers_of(c, "predicted");
  const std::vector<float> wanted = values_of(c, "logits");
  const size_t tokens = size_t(c.find("ids")->shape[1]), sequences = ids.size() / tokens,
               vocab = wanted.size() / tokens;
  for (const int64_t chunk : {1, 7, 64, 256}) {
    size_t asked = 0, same = 0, right = 0;
    for (size_t s = 0; s < sequences; ++s) {
      const std::vector<float> logits =
          all_logits(*model, {ids.begin() + long(s * tokens), ids.begin() + long((s + 1) * tokens)}, chunk);
      if (s == 0) EXPECT_LE(largest_difference(logits, wanted), 1e-4f * largest(wanted)) << "chunk " << chunk;
      for (size_t t = 0; t < tokens; ++t) {
        const size_t i = s * tokens + t;
        if (answers[i] < 0) continue;
        const float* row = logits.data() + t * vocab;
        const auto answer = int32_t(std::max_element(row, row + vocab) - row);
        ++asked;
        same += answer == predicted[i];
        right += answer == answers[i];
      }
    }
    EXPECT_EQ(asked, 8 * sequences);
    EXPECT_EQ(same, asked) << "chunk " << chunk;
    EXPECT_GT(right, asked / 2) << "a trained model recalls most pairs";
  }
}

}  // namespace
}  // namespace runnel::convert
