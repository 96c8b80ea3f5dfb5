// Models of time series and of sound on tiny random checkpoints whose outputs were computed by transformers
// (tests/goldens/make_tiny_series.py).
#include <cstring>
#include <map>

#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

struct Array {
  DType dtype = DType::kF32;
  std::vector<int64_t> dims;
  std::vector<float> floats;
  std::vector<int32_t> integers;
  IoTensor as_input(const std::string& name) const {
    IoTensor t{name.c_str(), dtype, int32_t(dims.size()), {}, nullptr, 0};
    for (size_t i = 0; i < dims.size(); ++i) t.dims[i] = dims[i];
    if (dtype == DType::kI32) t.data = const_cast<int32_t*>(integers.data()), t.bytes = integers.size() * 4;
    else t.data = const_cast<float*>(floats.data()), t.bytes = floats.size() * 4;
    return t;
  }
  // Of item i on the first axis.
  Array item(int64_t i) const {
    Array a = *this;
    a.dims[0] = 1;
    const auto part = [&](auto& all) {
      const size_t n = all.size() / size_t(dims[0]);
      all = {all.begin() + long(n) * i, all.begin() + long(n) * (i + 1)};
    };
    part(a.floats), part(a.integers);
    return a;
  }
};
using Arrays = std::map<std::string, Array>;

// The tensors whose names begin with prefix, without it.
Arrays arrays_of(Checkpoint& c, const std::string& prefix) {
  Arrays out;
  for (const SourceTensor& t : c.tensors()) {
    if (!t.name.starts_with(prefix)) continue;
    Array& a = out[t.name.substr(prefix.size())];
    a.dims.assign(t.shape.begin(), t.shape.end());
    a.dtype = t.type == SourceType::kI32 ? DType::kI32 : DType::kF32;
    if (a.dtype == DType::kI32) a.integers = integers_of(c, t.name);
    else a.floats.resize(t.bytes / 4), std::memcpy(a.floats.data(), t.data, t.bytes);  // NaN among them
  }
  return out;
}

std::unique_ptr<Session> session_of(const Model& model) {
  PlanOptions options = test::plan_options();
  options.context = 400;
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  return std::move(session.value());
}

// Outputs of these names.
Arrays run(Session& session, const char* name, const Arrays& inputs, const Arrays& wanted) {
  const ProgramInfo* program = session.model().find_program(name);
  if (!program) throw std::runtime_error("no such program");
  std::vector<IoTensor> in;
  for (const auto& [input, a] : inputs) in.push_back(a.as_input(input));
  struct Sink {
    const ProgramInfo* program;
    Arrays out;
  } sink{program, {}};
  Session::RunOptions options;
  options.program = name;
  options.wanted_outputs = 0;
  for (size_t k = 0; k < program->outputs.size(); ++k)
    if (wanted.count(program->values[program->outputs[k]].name)) options.wanted_outputs |= uint64_t(1) << k;
  options.sink_context = &sink;
  options.sink = [](void* context, uint32_t number, const TensorView& block, int64_t) {
    auto& s = *static_cast<Sink*>(context);
    Array& a = s.out[s.program->values[s.program->outputs[number]].name];
    int64_t n = 1;
    for (int d = 0; d < block.rank; ++d) n *= block.dims[d];
    a.dims.assign(block.dims, block.dims + block.rank);
    a.dtype = block.dtype;
    if (block.dtype == DType::kI32) {
      const auto* p = static_cast<const int32_t*>(block.data);
      a.integers.insert(a.integers.end(), p, p + n);
    } else {
      const auto* p = static_cast<const float*>(block.data);
      a.floats.insert(a.floats.end(), p, p + n);
    }
    return Status::ok();
  };
  const Status s = session.run(in.data(), in.size(), options);
  if (!s.is_ok()) throw std::runtime_error(s.message());
  return sink.out;
}

void expect_like(const Arrays& got, const Arrays& wanted, float difference) {
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [name, want] : wanted) {
    const Array& a = got.at(name);
    EXPECT_EQ(a.dims, want.dims) << name;
    EXPECT_EQ(a.integers, want.integers) << name;
    EXPECT_LE(largest_difference(a.floats, want.floats), std::max(1e-4f, 10 * difference) * largest(want.floats))
        << name;
  }
}

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
  const auto session = session_of(*g.model);
  ASSERT_FALSE(g.outputs.empty());
  expect_like(run(*session, "main", g.inputs, g.outputs), g.outputs, g.difference);
}

INSTANTIATE_TEST_SUITE_P(All, TinySeries,
                         testing::Values("patchtst", "patchtsmixer", "timesfm", "timesfm2_5", "wav2vec2",
                                         "wav2vec2_adapter", "hubert", "wavlm", "data2vec_audio", "whisper",
                                         "moonshine", "moonshine_streaming", "parakeet", "mimi", "chronos_bolt",
                                         "tirex"),
                         [](const auto& row) { return std::string(row.param); });

// Each input of a batch gives what it gives alone.
TEST(Series, InputsSideBySideAreIndependent) {
  Golden g("timesfm");
  const auto session = session_of(*g.model);
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
  const auto session = session_of(*g.model);
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
  const auto session = session_of(*g.model);
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
