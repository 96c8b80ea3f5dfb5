// Models of time series and of sound on tiny random checkpoints whose outputs were computed by transformers
// (tests/goldens/make_tiny_series.py).
#include "calls.h"
#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

struct Golden {
  explicit Golden(const std::string& name) : calls(load_safetensors(kGoldens / "series" / name / "call.safetensors")) {
    convert_to(kGoldens / "series" / name, tmp / "m.rnl", Weights::kF32);
    model = open_model(tmp / "m.rnl");
    inputs = arrays_of(calls, "in."), outputs = arrays_of(calls, "out.");
    difference = values_of(calls, "difference")[0];
  }
  Checkpoint calls;
  TemporaryFolder tmp;
  std::unique_ptr<Model> model;
  Arrays inputs, outputs;
  float difference = 0;
};

class TinySeries : public testing::TestWithParam<const char*> {};

TEST_P(TinySeries, EveryOutputIsThatOfTheOriginal) {
  Golden g(GetParam());
  const auto session = session_of(*g.model, 400);
  ASSERT_FALSE(g.outputs.empty());
  expect_like(run(*session, "main", g.inputs, g.outputs), g.outputs, g.difference);
}

INSTANTIATE_TEST_SUITE_P(All, TinySeries,
                         testing::Values("patchtst", "patchtsmixer", "timesfm", "timesfm2_5", "wav2vec2",
                                         "wav2vec2_adapter", "hubert", "wavlm", "data2vec_audio", "spectrogram",
                                         "whisper", "moonshine", "moonshine_streaming", "parakeet", "mimi",
                                         "chronos_bolt", "tirex"),
                         [](const auto& row) { return std::string(row.param); });

// Each input of a batch gives what it gives alone.
TEST(Series, InputsSideBySideAreIndependent) {
  Golden g("timesfm");
  const auto session = session_of(*g.model, 400);
  for (int64_t i = 0; i < 2; ++i) {
    Arrays inputs, outputs;
    for (const auto& [name, a] : g.inputs) inputs[name] = a.item(i);
    for (const auto& [name, a] : g.outputs) outputs[name] = a.item(i);
    expect_like(run(*session, "main", inputs, outputs), outputs, g.difference);
  }
}

// Whisper's decoder as a stream: what "encode" keeps of one sound, then ids in calls of any length.
TEST(Series, WhisperWritesTokenByToken) {
  Golden g("whisper");
  const auto session = session_of(*g.model, 400);
  const Array ids = g.inputs.at("decoder_input_ids"), logits = g.outputs.at("logits");
  const int64_t tokens = ids.dims[1], vocab = logits.dims[2];
  const Arrays wanted = {{"logits", {}}};
  for (int64_t i = 0; i < ids.dims[0]; ++i) {
    session->reset();
    run(*session, "encode", {{"input_features", g.inputs.at("input_features").item(i)}}, {});
    const Array own = ids.item(i), want = logits.item(i);
    std::vector<float> got;
    for (int64_t at = 0, n = 1; at < tokens; at += n, n = std::min<int64_t>(3, tokens - at)) {
      Array part;
      part.dtype = DType::kI32;
      part.dims = {n};
      part.integers.assign(own.integers.begin() + at, own.integers.begin() + at + n);
      Array rows = part;
      for (int64_t r = 0; r < n; ++r) rows.integers[size_t(r)] = int32_t(r);
      const Array y = run(*session, "decode", {{"ids", part}, {"rows", rows}}, wanted).at("logits");
      ASSERT_EQ(int64_t(y.floats.size()), n * vocab);
      got.insert(got.end(), y.floats.begin(), y.floats.end());
    }
    EXPECT_LE(largest_difference(got, want.floats), 1e-4f * largest(want.floats)) << i;
  }
}

// Mimi's halves: codes of a sound, and the sound of codes.
TEST(Series, MimisHalvesAreTheWhole) {
  Golden g("mimi");
  const auto session = session_of(*g.model, 400);
  const Arrays codes = {{"audio_codes", g.outputs.at("audio_codes")}};
  expect_like(run(*session, "encode", g.inputs, codes), codes, g.difference);
  const Array& want = g.outputs.at("audio_values");
  const Array got = run(*session, "decode", codes, {{"audio_values", want}}).at("audio_values");
  const int64_t length = got.dims[2], heard = want.dims[2];
  ASSERT_GE(length, heard);
  std::vector<float> cut;
  for (int64_t i = 0; i < got.dims[0] * got.dims[1]; ++i)
    cut.insert(cut.end(), got.floats.begin() + i * length, got.floats.begin() + i * length + heard);
  EXPECT_LE(largest_difference(cut, want.floats), 1e-4f * largest(want.floats));
}

TEST(Series, WhatIsNotKnownIsRefusedByName) {
  ChangedCheckpoint head("series/patchtst");
  head.config["architectures"] = {"PatchTSTForAnomalies"};
  expect_contains(head.convert_error(), "PatchTSTForAnomalies");
  ChangedCheckpoint norm("series/patchtst");
  norm.config["norm_type"] = "groupnorm";
  expect_contains(norm.convert_error(), "norm_type");
  ChangedCheckpoint plain("series/chronos_bolt");
  plain.config["architectures"] = {"T5ForConditionalGeneration"};
  expect_contains(plain.convert_error(), "ChronosBoltModelForForecasting");
}

TEST(Series, AnAxisIsBoundByName) {
  TemporaryFolder tmp;
  ConvertOptions options;
  options.input = kGoldens / "series/patchtst", options.output = tmp / "m.rnl";
  options.axes = {{"batch", 3}};
  convert(options);
  const auto model = open_model(tmp / "m.rnl");
  for (const auto& s : model->symbols())
    if (s.name == std::string("batch")) EXPECT_EQ(std::string(model->exprs().text(s.bound)), "3");
  options.axes = {{"tokens", 3}};
  expect_contains(error_of([&] { convert(options); }), "no axis is called \"tokens\"; each call gives batch");
}

}  // namespace
}  // namespace runnel::convert
