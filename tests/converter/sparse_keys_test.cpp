// Attention over some of the keys, put into models by the converter.
#include "kit.h"

namespace runnel::convert {
namespace {

std::unique_ptr<Model> converted(const std::string& golden, const std::string& sparse, const fs::path& to) {
  ConvertOptions o;
  o.input = kGoldens / golden;
  o.output = to;
  o.sparse = sparse;
  convert(o);
  return open_model(to);
}

// The golden's ids, until there are `count`.
std::vector<int32_t> long_ids(size_t count) {
  const std::vector<int32_t> ids = ids_of(kGoldens / "tiny_llama");
  std::vector<int32_t> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = ids[(i * 5 + i / 11) % ids.size()];
  return out;
}

TEST(C3, AllBlocksAreTheModelItself) {
  TemporaryFolder tmp;
  const std::vector<int32_t> ids = long_ids(120);
  const std::vector<float> plain = all_logits(*converted("tiny_llama", "", tmp / "plain.rnl"), ids, 120);
  // Blocks of 16, of which one needs all up to the first one to hold the whole; and calls too short to choose.
  for (const char* method : {"xattention:threshold=1,block=16,stride=1,first=8,least=0", "xattention:least=121"}) {
    const auto model = converted("tiny_llama", method, tmp / "sparse.rnl");
    for (const int64_t chunk : {1, 7, 64, 120})
      EXPECT_LE(largest_difference(all_logits(*model, ids, chunk), plain), 1e-4f * largest(plain))
          << method << ", chunk " << chunk;
  }
  // Few blocks are another model.
  const auto few = converted("tiny_llama", "xattention:threshold=0.2,block=16,stride=4,least=0", tmp / "few.rnl");
  EXPECT_GT(largest_difference(all_logits(*few, ids, 120), plain), 1e-2f * largest(plain));
  EXPECT_STREQ(few->root().provenance()->passes()->c_str(),
               "sparse xattention:threshold=0.2,block=16,stride=4,least=0: 3 attentions");
}

TEST(C3, RefusesMethodsAndModelsByName) {
  TemporaryFolder tmp;
  const auto expect_error = [&](const char* golden, const char* method, const char* word) {
    try {
      converted(golden, method, tmp / "m.rnl");
      ADD_FAILURE() << method;
    } catch (const std::exception& e) {
      EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
    }
    EXPECT_FALSE(fs::exists(tmp / "m.rnl"));
  };
  expect_error("tiny_llama", "nothing", "not a method; there is xattention[:block=128");
  expect_error("tiny_llama", "xattention:size=3", "\"size=3\" is no option of it");
  expect_error("tiny_llama", "xattention:block=many", "\"many\" is no number");
  expect_error("tiny_llama", "xattention:block=20,stride=8", "not a multiple of stride");
  expect_error("tiny_llama", "xattention:threshold=0", "threshold is not above 0");
  expect_error("tiny_mamba", "xattention", "no attention of this model sees all of a stream");
}

}  // namespace
}  // namespace runnel::convert
