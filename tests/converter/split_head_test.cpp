// Output matrices that are stored split: the converter's choice, what the loader refuses, and the same tokens with and
// without.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/xxh64.h"
#include "converter/kit.h"
#include "text/sampler.h"

namespace runnel::convert {
namespace {

ConvertOptions options_for(const fs::path& input, const fs::path& output, Weights weights, Head head) {
  ConvertOptions o;
  o.input = input;
  o.output = output;
  o.weights = weights;
  o.head = head;
  o.threads = 2;
  return o;
}

bool is_split(const Model& m) {
  bool split = false;
  for (const TensorInfo& t : m.tensors()) split = split || t.packed.split;
  return split;
}

// Greedy tokens, and how many of them came from logits with rows left out.
std::vector<int32_t> greedy(const Model& model, int32_t top_logits, int count, int threads, int* screened) {
  ThreadPool* pool = thread_pool_create(threads);
  PlanOptions options = test::plan_options();
  options.context = count + 1;
  auto session = Session::create(model, pool, options, nullptr, nullptr);
  EXPECT_TRUE(session.is_ok());
  std::vector<int32_t> ids{2};
  struct Sink {
    int32_t id;
    bool screened;
  } sink{};
  Session::RunOptions run;
  run.top_logits = top_logits;
  run.sink_context = &sink;
  run.sink = [](void* context, uint32_t, const TensorView& block, int64_t) {
    const auto* x = static_cast<const float*>(block.data);
    const auto n = int32_t(block.dims[1]);
    auto best = argmax(x, n);
    if (!best.is_ok()) return best.take_status();
    *static_cast<Sink*>(context) = {best.value(), std::any_of(x, x + n, [](float v) { return v == -INFINITY; })};
    return Status::ok();
  };
  for (int i = 0; i < count; ++i) {
    const IoTensor in{"ids", DType::kI32, 1, {1}, &ids.back(), 4};
    const Status s = session.value()->run(&in, 1, run);
    EXPECT_TRUE(s.is_ok()) << s.message();
    ids.push_back(sink.id);
    *screened += sink.screened;
  }
  session.value().reset();
  thread_pool_destroy(pool);
  return ids;
}

TEST(SplitHead, SameTokensAndLogits) {
  TemporaryFolder tmp;
  for (const char* name : {"tiny_gemma3", "tiny_llama"}) {  // tied to the embedding, and on its own
    convert(options_for(kGoldens / name, tmp / "whole.rnl", Weights::kQ8, Head::kWhole));
    convert(options_for(kGoldens / name, tmp / "split.rnl", Weights::kQ8, Head::kSplit));
    const auto whole = open_model(tmp / "whole.rnl"), split = open_model(tmp / "split.rnl");
    EXPECT_FALSE(is_split(*whole));
    ASSERT_TRUE(is_split(*split));
    std::vector<int32_t> ids;
    for (int i = 0; i < 40; ++i) ids.push_back(i * 7 % 100);
    EXPECT_EQ(all_logits(*whole, ids, 16), all_logits(*split, ids, 16)) << name;
    int screened = 0, none = 0;
    const std::vector<int32_t> want = greedy(*whole, 1, 300, 1, &none);
    EXPECT_EQ(want, greedy(*split, 0, 300, 1, &none)) << name;
    EXPECT_EQ(none, 0);
    EXPECT_EQ(want, greedy(*split, 1, 300, 1, &screened)) << name;
    EXPECT_EQ(want, greedy(*split, 20, 300, 2, &screened)) << name;
    EXPECT_GT(screened, 500) << name;
  }
}

TEST(SplitHead, SmallMatricesStayWholeUnlessAsked) {
  TemporaryFolder tmp;
  convert(options_for(kGoldens / "tiny_gemma3", tmp / "m.rnl", Weights::kQ8, Head::kAuto));
  EXPECT_FALSE(is_split(*open_model(tmp / "m.rnl")));
}

TEST(SplitHead, LargeMatricesAreSplitWithoutAsking) {
  TemporaryFolder tmp;
  const uint64_t rows = 40000, columns = 32;
  write_file(tmp / "g.json",
             R"({"symbols": [{"name": "rows", "kind": "option"}, {"name": "R", "kind": "axis", "bound": "rows"}],
    "programs": [{"name": "main", "inputs": [{"name": "x", "shape": ["R", "32"]}], "values": [{"name": "y", "shape": ["R", "40000"]}],
    "ops": [{"name": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}], "outputs": ["y"]}]})");
  std::vector<float> values(rows * columns);
  for (uint64_t i = 0; i < values.size(); ++i) values[i] = float(int(i * 2654435761u >> 16 & 255) - 128) / 99;
  write_file(tmp / "w.safetensors", safetensors_of({{"w", {rows, columns}, values}}));
  for (const Weights weights : {Weights::kQ8, Weights::kQ4}) {
    ConvertOptions o = options_for(tmp / "g.json", tmp / "m.rnl", weights, Head::kAuto);
    o.weights_file = tmp / "w.safetensors";
    convert(o);
    EXPECT_EQ(is_split(*open_model(tmp / "m.rnl")), weights == Weights::kQ8);
  }
}

TEST(SplitHead, WhatCannotBeSplitIsSaid) {
  TemporaryFolder tmp;
  const auto refused = [&](const char* name, Weights weights) {
    return error_of([&] { convert(options_for(kGoldens / name, tmp / "m.rnl", weights, Head::kSplit)); });
  };
  EXPECT_NE(refused("tiny_gemma3", Weights::kQ4).find("8 bits"), std::string::npos);
  EXPECT_NE(refused("tiny_gemma2", Weights::kQ8).find("nothing changes"), std::string::npos)
      << "its logits go through a soft cap";
}

// The header of a converted model with one thing changed, opened.
Status open_changed(const fs::path& file, const std::function<void(format::ModelT&)>& change) {
  std::ifstream in(file, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  format::ModelT model;
  format::GetModel(bytes.data())->UnPackTo(&model);
  change(model);
  flatbuffers::FlatBufferBuilder fbb;
  fbb.Finish(format::Model::Pack(fbb, &model), format::ModelIdentifier());
  Seal seal;
  std::memcpy(&seal, bytes.data() + bytes.size() - kSealBytes, kSealBytes);
  EXPECT_LE(fbb.GetSize(), model.segments[0]->offset);
  std::memcpy(bytes.data(), fbb.GetBufferPointer(), fbb.GetSize());
  seal.header_bytes = fbb.GetSize();
  seal.header_checksum = xxh64(bytes.data(), fbb.GetSize());
  std::memcpy(bytes.data() + bytes.size() - kSealBytes, &seal, kSealBytes);
  std::vector<char> aligned(bytes.size() + 64);
  char* at = aligned.data() + (64 - reinterpret_cast<uintptr_t>(aligned.data()) % 64) % 64;
  std::memcpy(at, bytes.data(), bytes.size());
  auto opened = Model::open_memory(at, bytes.size());
  return opened.is_ok() ? Status::ok() : opened.take_status();
}

TEST(SplitHead, TheLoaderRefusesWhatTheLayoutDoesNotDefine) {
  TemporaryFolder tmp;
  convert(options_for(kGoldens / "tiny_gemma3", tmp / "m.rnl", Weights::kQ8, Head::kSplit));
  const auto packed = [](format::ModelT& m) -> format::PackedT& {
    for (auto& t : m.tensors)
      if (t->packed && t->packed->split) return *t->packed;
    throw std::runtime_error("no split matrix");
  };
  EXPECT_TRUE(open_changed(tmp / "m.rnl", [](format::ModelT&) {}).is_ok());
  const struct {
    const char* part;
    std::function<void(format::ModelT&)> change;
  } kCases[] = {
      {"does not require the feature", [](format::ModelT& m) { m.features.clear(); }},
      {"block format", [&](format::ModelT& m) { packed(m).bits = 4; }},
      {"block format", [&](format::ModelT& m) { packed(m).block = 16; }},
      {"block format", [&](format::ModelT& m) { packed(m).has_min = true; }},
      {"block format", [&](format::ModelT& m) { packed(m).scale = format::ScaleKind::i8; }},
      {"block format", [&](format::ModelT& m) { packed(m).kind = format::PackedKind::f16; }},
      {"bytes where its shape needs", [&](format::ModelT& m) { packed(m).split = false; }},
  };
  for (const auto& c : kCases) {
    const Status s = open_changed(tmp / "m.rnl", c.change);
    EXPECT_FALSE(s.is_ok()) << c.part;
    EXPECT_NE(std::string(s.message()).find(c.part), std::string::npos) << s.message();
  }
}

}  // namespace
}  // namespace runnel::convert
