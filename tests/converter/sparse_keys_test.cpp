// Attention over some of the keys, put into models by the converter.
#include "kit.h"

namespace runnel::convert {
namespace {

std::unique_ptr<Model> converted(const std::string& golden, const std::string& sparse, const fs::path& to) {
  return converted_with(golden, to, [&](ConvertOptions* o) { o->sparse = sparse; });
}

TEST(C3, AllBlocksAreTheModelItself) {
  TemporaryFolder tmp;
  const std::vector<int32_t> ids = long_ids("tiny_llama", 120);
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

// Every method with a budget or a bound that everything meets, and one that changes what is seen.
TEST(C3, MethodsThatTakeAllAreTheModelItself) {
  TemporaryFolder tmp;
  const std::vector<int32_t> ids = long_ids("tiny_llama", 120);
  const std::vector<float> plain = all_logits(*converted("tiny_llama", "", tmp / "plain.rnl"), ids, 120);
  const std::pair<std::string, const char*> methods[] = {{"minference:least=0,queries=16,count=", "64|0,lines=0"},
                                                         {"flexprefill:least=0,block=16,queries=32,threshold=",
                                                          "1,first=8|0.1,first=0"},
                                                         {"anchor:least=0,queries=16,threshold=", "1e9|-1e9"},
                                                         {"moba:least=0,block=16,count=", "64|1"},
                                                         {"hip:count=", "64|1"},
                                                         {"dhsa:count=", "64|1"},
                                                         {"sale:least=0,block=16,queries=16,threshold=", "1e9|-1e9"}};
  for (const auto& [method, values] : methods) {
    const std::string both = values;
    const size_t cut = both.find('|');
    const auto all = converted("tiny_llama", method + both.substr(0, cut), tmp / "all.rnl");
    for (const int64_t chunk : {1, 7, 64, 120})
      EXPECT_LE(largest_difference(all_logits(*all, ids, chunk), plain), 1e-4f * largest(plain))
          << method << ", chunk " << chunk;
    const auto few = converted("tiny_llama", method + both.substr(cut + 1), tmp / "few.rnl");
    EXPECT_GT(largest_difference(all_logits(*few, ids, 120), plain), 1e-2f * largest(plain)) << method;
  }
}

// Lists of one query each, or of as many as divide the calls: where a stream is cut changes nothing.
TEST(C3, CallsOfWholeListsChooseAlike) {
  TemporaryFolder tmp;
  const std::vector<int32_t> ids = long_ids("tiny_llama", 128);
  for (const char* method : {"moba:least=0,block=16,count=2", "hip:queries=16,count=2,stride=1", "dhsa:count=2",
                             "minference:least=0,queries=16,count=2,lines=1",
                             "sale:least=0,block=16,queries=16,threshold=0", "anchor:least=0,queries=16,threshold=0"}) {
    const auto model = converted("tiny_llama", method, tmp / "m.rnl");
    const std::vector<float> whole = all_logits(*model, ids, 128);
    for (const int64_t chunk : {16, 64})
      EXPECT_LE(largest_difference(all_logits(*model, ids, chunk), whole), 1e-4f * largest(whole))
          << method << ", chunk " << chunk;
  }
}

TEST(C3, TheFirstLayersStayExact) {
  TemporaryFolder tmp;
  const auto model = converted("tiny_llama", "xattention:exact=2", tmp / "m.rnl");
  EXPECT_STREQ(model->root().provenance()->passes()->c_str(), "sparse xattention:exact=2: 1 attentions");
}

// A choice that serves all layers is made once.
TEST(C4, LayersShareAChoice) {
  TemporaryFolder tmp;
  for (const int layers : {1, 2, 3}) {
    const auto model = converted("tiny_llama", "hip:count=2,layers=" + std::to_string(layers),
                                 tmp / (std::to_string(layers) + ".rnl"));
    int choices = 0;
    for (const auto* op : *model->root().programs()->Get(0)->ops()) choices += op->name()->str() == "select_blocks";
    EXPECT_EQ(choices, (3 + layers - 1) / layers);
    EXPECT_EQ(all_logits(*model, long_ids("tiny_llama", 64), 64).size() % 64, 0u);
  }
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
  expect_error("tiny_llama", "nothing", "not a method; there is xattention[:threshold=0.9");
  expect_error("tiny_llama", "xattention:size=3", "\"size=3\" is no option of it");
  expect_error("tiny_llama", "xattention:block=many", "\"many\" is no number");
  expect_error("tiny_llama", "xattention:block=32,stride=5", "not a multiple of stride");
  expect_error("tiny_llama", "xattention:threshold=0", "threshold is not above 0");
  expect_error("tiny_llama", "moba:count=2.5", "count is not a whole number");
  expect_error("tiny_llama", "dhsa:block=24", "block is not a multiple of 16");
  expect_error("tiny_llama", "xattention:exact=3", "no attention of this model sees all of a stream");
  expect_error("tiny_mamba", "xattention", "no attention of this model sees all of a stream");
}

}  // namespace
}  // namespace runnel::convert
