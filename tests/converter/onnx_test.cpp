// ONNX files against onnxruntime's answers (tests/goldens/onnx), and files that cannot be converted.
#include <deque>
#include <map>
#include <set>

#include "contract/view.h"
#include "kit.h"

namespace runnel::convert {
namespace {

struct Output {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

std::vector<double> numbers_of(const SourceTensor& t) {
  std::vector<double> out;
  for (uint64_t i = 0; i < t.count(); ++i) {
    if (t.type == SourceType::kI64) out.push_back(double(reinterpret_cast<const int64_t*>(t.data)[i]));
    else if (t.type == SourceType::kI32) out.push_back(double(reinterpret_cast<const int32_t*>(t.data)[i]));
    else out.push_back(double(reinterpret_cast<const float*>(t.data)[i]));
  }
  return out;
}

// The outputs of a call with the golden's inputs, by name.
std::map<std::string, Output> run(const Model& model, const Checkpoint& golden) {
  PlanOptions options = test::plan_options();
  options.context = 1;
  std::deque<std::string> names;
  std::vector<IoTensor> inputs;
  for (const SourceTensor& t : golden.tensors()) {
    if (t.name.rfind("in.", 0) != 0) continue;
    IoTensor in{names.emplace_back(t.name.substr(3)).c_str(),
                t.type == SourceType::kI64 ? DType::kI64 : DType::kF32,
                int32_t(t.shape.size()),
                {},
                const_cast<uint8_t*>(t.data),
                size_t(t.bytes)};
    for (size_t i = 0; i < t.shape.size(); ++i) {
      in.dims[i] = int64_t(t.shape[i]);
      options.context = std::max(options.context, in.dims[i]);
    }
    inputs.push_back(in);
  }
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  struct Sink {
    const ProgramInfo* program;
    std::map<std::string, Output> outputs;
  } sink{&model.programs()[0], {}};
  Session::RunOptions o;
  o.sink_context = &sink;
  o.sink = [](void* context, uint32_t index, const TensorView& block, int64_t) {
    auto& s = *static_cast<Sink*>(context);
    Output& out = s.outputs[s.program->values[s.program->outputs[index]].name];
    out.shape.assign(block.dims, block.dims + block.rank);
    for (int64_t i = 0; i < element_count(block); ++i)
      out.values.push_back(block.dtype == DType::kF32 ? double(static_cast<const float*>(block.data)[i])
                                                      : double(static_cast<const int32_t*>(block.data)[i]));
    return Status::ok();
  };
  const Status s = session.value()->run(inputs.data(), inputs.size(), o);
  if (!s.is_ok()) throw std::runtime_error(s.message());
  return sink.outputs;
}

void compare(const fs::path& file) {
  SCOPED_TRACE(file.filename().string());
  TemporaryFolder tmp;
  const Checkpoint golden = load_safetensors(fs::path(file).replace_extension(".safetensors"));
  std::map<std::string, Output> got;
  ASSERT_EQ(error_of([&] {
              convert_to(file, tmp / "m.rnl");
              got = run(*open_model(tmp / "m.rnl"), golden);
            }),
            "");
  for (const SourceTensor& t : golden.tensors()) {
    if (t.name.rfind("out.", 0) != 0) continue;
    const Output& out = got[t.name.substr(4)];
    ASSERT_EQ(out.shape, std::vector<int64_t>(t.shape.begin(), t.shape.end())) << t.name;
    const std::vector<double> want = numbers_of(t);
    double most = 0;
    for (double v : want) most = std::max(most, std::fabs(v));
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(out.values[i], want[i], 1e-4 * most) << t.name << " element " << i;
  }
}

void compare_folder(const char* name, int least) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(kGoldens / "onnx" / name))
    if (entry.path().extension() == ".onnx") compare(entry.path()), ++count;
  EXPECT_GE(count, least);
}

TEST(Onnx, OperatorsGiveTheirAnswers) { compare_folder("operators", 115); }
TEST(Onnx, RecurrentLayersGraphsAndChoicesGiveTheirAnswers) { compare_folder("sequences", 50); }
TEST(Onnx, OperatorsOfImagesGiveTheirAnswers) { compare_folder("images", 50); }
TEST(Onnx, QuantisedGraphsGiveTheirAnswers) { compare_folder("quantised", 47); }
TEST(Onnx, LettersPatternsSoundAttentionAndRegionsGiveTheirAnswers) { compare_folder("more", 144); }
TEST(Onnx, ExportedNetworksGiveTheirAnswers) { compare_folder("models", 8); }

// Messages of a protobuf file.
std::string varint(uint64_t n) {
  std::string out;
  for (; n >= 128; n >>= 7) out += char(n | 128);
  return out + char(n);
}
std::string number(int field, uint64_t n) { return varint(uint64_t(field) << 3) + varint(n); }
std::string bytes(int field, const std::string& s) { return varint(uint64_t(field) << 3 | 2) + varint(s.size()) + s; }

std::string node(const std::string& op, const std::vector<std::string>& in, const std::vector<std::string>& out) {
  std::string n;
  for (const auto& i : in) n += bytes(1, i);
  for (const auto& o : out) n += bytes(2, o);
  return bytes(1, n + bytes(4, op));
}
std::string value(int field, const std::string& name) {
  return bytes(field, bytes(1, name) + bytes(2, bytes(1, number(1, 1) + bytes(2, bytes(1, number(1, 2))))));
}
std::string model(const std::string& graph, int opset = 17) {
  return number(1, 8) + bytes(7, graph) + bytes(8, number(2, uint64_t(opset)));
}

std::string refusal(const std::string& text) {
  TemporaryFolder tmp;
  write_file(tmp / "m.onnx", text);
  return error_of([&] { convert_to(tmp / "m.onnx", tmp / "m.rnl"); });
}

TEST(Onnx, EveryUnsupportedNodeIsNamed) {
  const std::string why =
      refusal(model(node("Relu", {"x"}, {"a"}) + node("Foo", {"a"}, {"b"}) + node("Relu", {"b"}, {"c"}) +
                    node("Bar", {"c"}, {"y"}) + value(11, "x") + value(12, "y")));
  EXPECT_NE(why.find("2 nodes cannot be converted"), std::string::npos) << why;
  EXPECT_NE(why.find("Foo (opset 17), node \"Foo of b\": is not supported"), std::string::npos) << why;
  EXPECT_NE(why.find("Bar (opset 17), node \"Bar of y\""), std::string::npos) << why;
}

TEST(Onnx, BrokenGraphsAreRefused) {
  const std::string good = model(node("Relu", {"x"}, {"y"}) + value(11, "x") + value(12, "y"));
  EXPECT_EQ(refusal(good), "");
  EXPECT_NE(refusal(good.substr(0, good.size() / 2)).find("not an ONNX model, or cut off"), std::string::npos);
  EXPECT_NE(refusal("").find("the file is empty"), std::string::npos);
  EXPECT_NE(refusal(model(node("Relu", {"y"}, {"y"}) + value(11, "x") + value(12, "y")))
                .find("\"y\", which nothing before it makes"),
            std::string::npos);
  EXPECT_NE(refusal(model(node("Relu", {"b"}, {"a"}) + node("Relu", {"a"}, {"b"}) + value(11, "x") + value(12, "b")))
                .find("which nothing before it makes"),
            std::string::npos);
  EXPECT_NE(refusal(model(node("Relu", {"x"}, {"y"}) + node("Relu", {"x"}, {"y"}) + value(11, "x") + value(12, "y")))
                .find("made twice"),
            std::string::npos);
  EXPECT_NE(
      refusal(model(node("Identity", {"x"}, {"x"}) + node("Relu", {"x"}, {"y"}) + value(11, "x") + value(12, "y")))
          .find("value \"x\" is made twice"),
      std::string::npos);
  EXPECT_NE(refusal(model(node("Identity", {"x"}, {"a"}) + node("Identity", {"a"}, {"x"}) + node("Relu", {"a"}, {"y"}) +
                          value(11, "x") + value(12, "y")))
                .find("value \"x\" is made twice"),
            std::string::npos);
  EXPECT_NE(
      refusal(model(node("Relu", {"x"}, {"y"}) + value(11, "x") + value(12, "z"))).find("\"z\" is made by no node"),
      std::string::npos);
  EXPECT_NE(refusal(model(value(11, "x"), 3)).find("opset 3"), std::string::npos);
}

TEST(Onnx, NodesWithoutOutputsAreRefused) {
  const std::string rest = node("Relu", {"x"}, {"y"}) + value(11, "x") + value(12, "y");
  for (const char* op : {"MatMul", "Conv", "MatMulInteger", "Relu"}) {
    const std::string why = refusal(model(node(op, {"x", "x"}, {}) + rest));
    EXPECT_NE(why.find("it has no outputs"), std::string::npos) << op << ": " << why;
  }
}

TEST(Onnx, SequencesThatDoNotFoldAwayAreRefused) {
  const auto why = [](const std::string& nodes) { return refusal(model(nodes + value(11, "x") + value(12, "y"))); };
  const std::string made = node("SequenceConstruct", {"x", "x"}, {"s"});
  const auto expect = [&](const std::string& nodes, const char* part) {
    const std::string text = why(nodes);
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  EXPECT_EQ(why(made + node("ConcatFromSequence", {"s"}, {"z"}) + node("Relu", {"x"}, {"y"})), "");
  expect(node("SequenceConstruct", {"x"}, {"y"}), "a sequence stands where a value belongs");
  expect(made + node("Relu", {"s"}, {"y"}), "input 0 is a sequence");
  expect(made + node("SequenceConstruct", {"s"}, {"y"}), "input 0 is a sequence");
  expect(node("SequenceAt", {"x", "x"}, {"y"}), "input 0 is no sequence");
  expect(made + node("SequenceAt", {"s", "x"}, {"y"}), "hang on what the graph computes");
  expect(node("SequenceEmpty", {}, {"s"}) + node("SequenceErase", {"s"}, {"y"}), "of an empty sequence");
  expect(node("SequenceEmpty", {}, {"s"}) + node("ConcatFromSequence", {"s"}, {"y"}), "of an empty sequence");
}

TEST(Onnx, RegionsOfOtherShapesAreRefused) {
  const auto why = [](const std::string& op, const std::vector<std::string>& in) {
    return refusal(model(node(op, in, {"y"}) + value(11, "x") + value(12, "y")));
  };
  EXPECT_NE(why("RoiAlign", {"x", "x", "x"}).find("regions [2] of images [2]"), std::string::npos);
  EXPECT_NE(why("DeformConv", {"x", "x", "x"}).find("[2] with weights [2] and offsets [2]"), std::string::npos);
  EXPECT_NE(why("NonMaxSuppression", {"x", "x"}).find("boxes [2] with scores [2]"), std::string::npos);
  // How many places are read hangs on the region, unless the node says.
  const auto axis = [](uint64_t n) { return bytes(1, number(1, n)); };
  const auto input = [&](const char* name, const std::string& axes) {
    return bytes(11, bytes(1, name) + bytes(2, bytes(1, number(1, 1) + bytes(2, axes))));
  };
  const std::string given =
      input("x", axis(1) + axis(2) + axis(4) + axis(4)) + input("r", axis(3) + axis(4)) + input("i", axis(3));
  EXPECT_NE(refusal(model(node("RoiAlign", {"x", "r", "i"}, {"y"}) + given + value(12, "y"))).find("sampling_ratio 0"),
            std::string::npos);
}

TEST(Onnx, TensorsHoldWhatTheySay) {
  const auto with = [](const std::string& tensor) {
    return model(node("Add", {"x", "w"}, {"y"}) + bytes(5, tensor + bytes(8, "w")) + value(11, "x") + value(12, "y"));
  };
  EXPECT_EQ(refusal(with(number(1, 2) + number(2, 1) + bytes(9, std::string(8, '\0')))), "");
  EXPECT_NE(refusal(with(number(1, 2) + number(2, 1) + bytes(9, "1234567"))).find("has 7 bytes, want 8"),
            std::string::npos);
  EXPECT_NE(refusal(with(number(1, uint64_t(-1)) + number(2, 1))).find("has an axis of -1"), std::string::npos);
  for (const char* place : {"../w.bin", "/etc/hostname", "a/../../w.bin", ""}) {
    const std::string external =
        number(1, 2) + number(2, 1) + bytes(13, bytes(1, "location") + bytes(2, place)) + number(14, 1);
    EXPECT_NE(refusal(with(external)).find("lies outside of the model's folder"), std::string::npos) << place;
  }
}

TEST(Onnx, MoreGroupsThanOutputsAreRefused) {
  const auto axis = [](uint64_t n) { return bytes(1, number(1, n)); };
  const std::string x =
      bytes(11, bytes(1, "x") + bytes(2, bytes(1, number(1, 1) + bytes(2, axis(1) + axis(3) + axis(4)))));
  const std::string w = bytes(5, number(1, 1) + number(1, 3) + number(1, 1) + number(2, 1) + bytes(8, "w") +
                                     bytes(9, std::string(12, '\0')));
  for (const uint64_t groups : {uint64_t(2), uint64_t(INT64_MAX)}) {
    const std::string conv = bytes(1, bytes(1, "x") + bytes(1, "w") + bytes(2, "y") + bytes(4, "Conv") +
                                          bytes(5, bytes(1, "group") + number(3, groups) + number(20, 2)));
    EXPECT_NE(refusal(model(conv + w + x + value(12, "y"))).find("groups"), std::string::npos) << groups;
  }
}

TEST(Onnx, AxesAndNumbersThatTheGraphDoesNotHaveAreRefused) {
  TemporaryFolder tmp;
  const auto tensor_of = [](uint64_t type, const std::string& axes) {
    return bytes(2, bytes(1, number(1, type) + bytes(2, axes)));
  };
  const std::string x = bytes(11, bytes(1, "x") + tensor_of(1, bytes(1, bytes(2, "N")))),
                    k = bytes(11, bytes(1, "k") + tensor_of(7, ""));
  const std::string cast = bytes(1, bytes(1, "k") + bytes(2, "f") + bytes(4, "Cast") +
                                        bytes(5, bytes(1, "to") + number(3, 1) + number(20, 2)));
  write_file(tmp / "m.onnx", model(cast + node("Mul", {"x", "f"}, {"y"}) + x + k + value(12, "y")));
  const auto with = [&](std::map<std::string, int64_t> axes, std::map<std::string, double> known) {
    ConvertOptions options;
    options.input = tmp / "m.onnx", options.output = tmp / "m.rnl";
    options.axes = std::move(axes), options.known = std::move(known);
    return error_of([&] { convert(options); });
  };
  EXPECT_EQ(with({{"N", 8}}, {{"k", 2}}), "");
  EXPECT_EQ(with({}, {{"N", 8}}), "");
  const auto expect = [](const std::string& why, const char* part) {
    EXPECT_NE(why.find(part), std::string::npos) << why;
  };
  expect(with({{"M", 8}}, {}), "--axis M: the graph's inputs have no axis of this name");
  expect(with({}, {{"z", 1}}), "--set z: the graph has no input and no axis of this name");
  expect(with({}, {{"x", 1}}), "--set x: the input holds more than a number");
  expect(with({}, {{"k", 0.5}}), "--set k: the input holds an integer");
  expect(with({}, {{"N", 0}}), "--set N: 0 is no size of an axis");
}

TEST(Onnx, ExternalDataIsRead) {
  TemporaryFolder tmp;
  const std::string external = number(1, 2) + number(2, 1) + bytes(8, "w") +
                               bytes(13, bytes(1, "location") + bytes(2, "w.bin")) +
                               bytes(13, bytes(1, "offset") + bytes(2, "4")) + number(14, 1);
  write_file(tmp / "m.onnx",
             model(node("Add", {"x", "w"}, {"y"}) + bytes(5, external) + value(11, "x") + value(12, "y")));
  write_file(tmp / "w.bin", std::string(12, '\0'));
  EXPECT_EQ(error_of([&] { convert_to(tmp / "m.onnx", tmp / "m.rnl"); }), "");
  write_file(tmp / "w.bin", std::string(11, '\0'));
  EXPECT_NE(error_of([&] {
              convert_to(tmp / "m.onnx", tmp / "m.rnl");
            }).find("lies outside of \"w.bin\", which has 11 bytes"),
            std::string::npos);
  fs::remove(tmp / "w.bin");
  fs::create_symlink("/etc/hostname", tmp / "w.bin");
  EXPECT_NE(error_of([&] { convert_to(tmp / "m.onnx", tmp / "m.rnl"); }).find("lies outside of the model's folder"),
            std::string::npos);
}

TEST(Onnx, VolumesFewBitsDecodersAndPoolsGiveTheirAnswers) { compare_folder("further", 45); }
TEST(Onnx, WhatIsSpeltOutGivesTheirAnswers) { compare_folder("fusions", 36); }

// Kinds of the operators that a file becomes.
std::set<std::string> operators_of(const std::string& name) {
  TemporaryFolder tmp;
  convert_to(kGoldens / "onnx/fusions" / (name + ".onnx"), tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  std::set<std::string> out;
  for (const auto* op : *model->root().programs()->Get(0)->ops()) {
    out.insert(op->name()->str());
    if (const auto* attrs = op->attrs_as_UnaryAttrs()) out.insert(format::EnumNameUnaryKind(attrs->kind()));
  }
  return out;
}

TEST(Onnx, WhatIsSpeltOutBecomesOneOperator) {
  for (const char* mask : {"", "_divided", "_scaled_before", "_not_a_number", "_mask_row", "_mask_table", "_mask_heads",
                           "_mask_queries", "_two_masks", "_crossed", "_crossed_mask", "_shared", "_many", "_flat"}) {
    const auto got = operators_of(std::string("attention") + mask);
    EXPECT_TRUE(got.count("attention") && !got.count("softmax") && !got.count("batch_matmul")) << mask;
  }
  for (const char* name : {"products_of_many", "products_and_weights", "products_of_queries"})
    EXPECT_TRUE(operators_of(name).count("softmax")) << name;
  const auto expect_alone = [](const std::string& name, const std::set<std::string>& wanted) {
    EXPECT_EQ(operators_of(name), wanted) << name;
  };
  for (const char* form : {"", "_half_first", "_half_of_gate"})
    expect_alone(std::string("gelu") + form, {"unary", "gelu"});
  for (const char* form : {"", "_squares"}) expect_alone(std::string("gelu_tanh") + form, {"unary", "gelu_tanh"});
  expect_alone("gelu_quick", {"unary", "gelu_quick"});
  expect_alone("silu", {"unary", "silu"});
  for (const char* form : {"", "_turned", "_scale", "_plain", "_twice"})
    expect_alone(std::string("layer_norm") + form, {"layer_norm"});
  for (const char* form : {"", "_divided", "_inverse"}) expect_alone(std::string("rms_norm") + form, {"rms_norm"});
  EXPECT_FALSE(operators_of("no_gelu").count("gelu"));
  EXPECT_FALSE(operators_of("no_silu").count("silu"));
  for (const char* name : {"no_norm", "no_norm_of_rows"}) EXPECT_FALSE(operators_of(name).count("rms_norm")) << name;
}

}  // namespace
}  // namespace runnel::convert
