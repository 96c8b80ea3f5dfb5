// Files: same bytes whatever the threads, nothing left behind on failure, checksums and alignment as the format says.
#include <sys/resource.h>

#include <csignal>

#include "base/xxh64.h"
#include "converter/write/sha256.h"
#include "kit.h"

namespace runnel::convert {
namespace {

std::string sha256(const std::string& text, size_t step) {
  Sha256 h;
  for (size_t i = 0; i < text.size(); i += step) h.update(text.data() + i, std::min(step, text.size() - i));
  return h.finish();
}

TEST(Sha256, PublishedVectors) {
  EXPECT_EQ(sha256("", 1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  for (size_t step : {1, 7, 64, 65, 1000})
    EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", step),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1000000, 'a'), 999), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

std::string bytes_of(const fs::path& path) { return read_text(path, size_t(64) << 20); }

TEST(Write, SameFileForEveryNumberOfThreads) {
  TemporaryFolder tmp;
  ConvertOptions o;
  o.input = kGoldens / "tiny_gemma3/model-f32.gguf";
  o.weights = Weights::kQ4;
  std::string first;
  for (int threads : {1, 2, 5}) {
    o.threads = threads;
    o.output = tmp / ("m" + std::to_string(threads));
    convert(o);
    if (first.empty()) first = bytes_of(o.output);
    EXPECT_EQ(bytes_of(o.output), first) << threads;
  }
}

TEST(Write, LayoutAndChecksums) {
  TemporaryFolder tmp;
  const ConvertReport r = convert_to(kGoldens / "tiny_gemma3/model-f32.gguf", tmp / "m.rnl");
  EXPECT_EQ(r.written.file_bytes, fs::file_size(tmp / "m.rnl"));
  const auto model = open_model(tmp / "m.rnl");
  EXPECT_TRUE(model->verify_segments().is_ok());
  const std::string bytes = bytes_of(tmp / "m.rnl");
  for (const auto* s : *model->root().segments()) {
    EXPECT_EQ(s->offset() % kSegmentAlignment, 0u);
    EXPECT_EQ(s->checksum(), xxh64(bytes.data() + s->offset(), s->bytes()));
  }
  // The order of the file is the order of use.
  uint64_t end = 0;
  for (const auto& t : model->tensors()) {
    if (t.segment != 0) continue;
    const auto at =
        uint64_t(static_cast<const char*>(t.view.data) - static_cast<const char*>(model->tensors()[0].view.data));
    EXPECT_GE(at, end) << t.name;
    end = at + t.bytes;
  }
  EXPECT_EQ(model->root().provenance()->source_sha256()->str(), [] {
    const std::string source = bytes_of(kGoldens / "tiny_gemma3/model-f32.gguf");
    return sha256(source, source.size());
  }());
}

TEST(Write, TheEmbeddingIsStoredOnceWhenTheOutputSharesIt) {
  TemporaryFolder tmp;
  convert_to(kGoldens / "tiny_gemma3", tmp / "m.rnl");
  EXPECT_EQ(open_model(tmp / "m.rnl")->find_tensor("lm_head.weight"), nullptr);
  convert_to(kGoldens / "tiny_mistral", tmp / "m.rnl");
  EXPECT_NE(open_model(tmp / "m.rnl")->find_tensor("lm_head.weight"), nullptr);
}

TEST(Write, StatesFollowTheWeights) {
  TemporaryFolder tmp;
  const struct {
    Weights weights;
    DType state;
  } kCases[] = {{Weights::kKeep, DType::kF32},
                {Weights::kF32, DType::kF32},
                {Weights::kF16, DType::kF16},
                {Weights::kQ8, DType::kF16}};
  for (const auto& c : kCases) {
    convert_to(kGoldens / "tiny_gemma2", tmp / "m.rnl", c.weights);
    const auto model = open_model(tmp / "m.rnl");
    ASSERT_GT(model->states().size(), 0u);
    for (const StateInfo& s : model->states()) EXPECT_EQ(s.dtype, c.state) << s.name;
  }
}

TEST(Write, AFullDiskLeavesTheOldFileAndNothingElse) {
  TemporaryFolder tmp;
  write_file(tmp / "m.rnl", "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = error_of([&] { convert_to(kGoldens / "tiny_gemma2", tmp / "m.rnl"); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("cannot write"), std::string::npos) << message;
  EXPECT_EQ(bytes_of(tmp / "m.rnl"), "old");
  EXPECT_EQ(tmp.files(), 1u);
}

TEST(Write, AFolderThatIsNotThereIsNamed) {
  TemporaryFolder tmp;
  EXPECT_NE(error_of([&] { convert_to(kGoldens / "tiny_gemma2", tmp / "none/m.rnl"); }).find("none/m.rnl"),
            std::string::npos);
}

}  // namespace
}  // namespace runnel::convert
