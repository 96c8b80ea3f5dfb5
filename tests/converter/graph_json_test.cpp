// The JSON form: any program over any symbols, weights by name from a safetensors file. The example of FORMAT.md is one
// of the inputs.
#include "kit.h"

namespace runnel::convert {
namespace {

constexpr char kTinyNet[] = R"({
  "symbols": [{"name": "N", "kind": "axis", "bound": "8"}],
  "programs": [{
    "name": "main",
    "inputs": [{"name": "x", "shape": ["N", "3"]}],
    "outputs": ["y"],
    "values": [{"name": "h", "shape": ["N", "4"]}, {"name": "s", "shape": ["N", "4"]}, {"name": "y", "shape": ["N", "4"]}],
    "ops": [
      {"name": "matmul", "inputs": ["x", "w", "b"], "outputs": ["h"]},
      {"name": "unary", "inputs": ["h"], "outputs": ["s"], "attrs_type": "UnaryAttrs", "attrs": {"kind": "relu"}},
      {"name": "binary", "inputs": ["s", "c"], "outputs": ["y"], "attrs_type": "BinaryAttrs", "attrs": {"kind": "mul"}}
    ]
  }]
})";

class GraphJson : public testing::Test {
 protected:
  std::string error(const std::string& json) {
    write_file(tmp / "g.json", json);
    write_file(tmp / "w.safetensors", safetensors_of(tensors));
    return error_of([&] { convert_to(tmp / "g.json", tmp / "m.rnl", weights, tmp / "w.safetensors"); });
  }
  void expect_error(const std::string& json, const std::string& part) {
    const std::string message = error(json);
    EXPECT_NE(message.find(part), std::string::npos) << "\"" << message << "\" lacks \"" << part << "\"";
    EXPECT_FALSE(fs::exists(tmp / "m.rnl"));
  }
  static std::string replaced(const std::string& from, const std::string& to) {
    std::string s = kTinyNet;
    const size_t at = s.find(from);
    if (at == std::string::npos) throw std::runtime_error("no " + from);
    return s.replace(at, from.size(), to);
  }

  TemporaryFolder tmp;
  Weights weights = Weights::kKeep;
  std::vector<PlainTensor> tensors = {
      {"w", {4, 3}, {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1}}, {"b", {4}, {0, 0, 0, -10}}, {"c", {4}, {1, 2, 3, 4}}};
};

TEST_F(GraphJson, RunsAsWritten) {
  ASSERT_EQ(error(kTinyNet), "");
  const auto model = open_model(tmp / "m.rnl");
  auto session = Session::create(*model, nullptr, {}, nullptr, nullptr);
  ASSERT_TRUE(session.is_ok());
  float x[] = {1, 2, 3, -4, 5, 6}, y[8] = {};
  IoTensor in{"x", DType::kF32, 2, {2, 3}, x, sizeof x}, out{"y", DType::kF32, 0, {}, y, sizeof y};
  const Status s = session.value()->run_into(nullptr, &in, 1, &out, 1);
  ASSERT_TRUE(s.is_ok()) << s.message();
  const float want[] = {1, 4, 9, 0, 0, 10, 18, 0};
  for (int i = 0; i < 8; ++i) EXPECT_FLOAT_EQ(y[i], want[i]) << i;
  EXPECT_EQ(model->find_tensor("w")->view.dtype, DType::kPacked);
  EXPECT_EQ(model->find_tensor("c")->view.dtype, DType::kF32);
  EXPECT_EQ(model->root().provenance()->architecture()->str(), "graph");
}

TEST_F(GraphJson, TheExampleOfTheFormatDocumentConverts) {
  const std::string text = read_text(fs::path(test::kSourceDir) / "runtime/format/FORMAT.md", 1 << 20);
  const size_t begin = text.find("```json\n");
  ASSERT_NE(begin, std::string::npos);
  const std::string json = text.substr(begin + 8, text.find("```", begin + 8) - begin - 8);
  tensors = {{"table", {5, 32}, std::vector<float>(160, 0.5f)},
             {"w", {7, 32}, std::vector<float>(224, 0.25f)},
             {"norm", {32}, std::vector<float>(32, 1.0f)}};
  ASSERT_EQ(error(json), "");
  const auto model = open_model(tmp / "m.rnl");
  const std::vector<float> y = all_logits(*model, {0, 1, 4}, 2);
  ASSERT_EQ(y.size(), 21u);
  for (float v : y) EXPECT_NEAR(v, 8, 1e-3);
}

TEST_F(GraphJson, MistakesAreNamed) {
  expect_error("{", "not a model in JSON");
  expect_error("{\"nonsense\": 1}", "line 1: no field of the schema is called \"nonsense\"");
  expect_error("{\n\n\"programs\": [,]}", "line 3, byte 14 of it: \",]}\" does not belong there");
  expect_error("{}", "no programs");
  expect_error(replaced("\"unary\"", "\"onary\""), "operator \"onary\"");
  expect_error(replaced("\"c\"]", "\"d\"]"), "operator binary reads \"d\"");
  expect_error(replaced("\"relu\"", "\"rely\""), "rely");
  expect_error(replaced("\"b\"]", "\"w\"]"), "used as a packed matrix and as a plain tensor");
  expect_error(replaced("\"bound\": \"8\"", "\"bound\": \"8+\""), "8+");
  expect_error(replaced("[\"N\", \"3\"]", "[\"N\", \"2\"]"), "matmul");
  expect_error(replaced("{\n", "{\"segments\": [{\"offset\": 3}],"), "segments");
  expect_error(replaced("\"name\": \"matmul\"", "\"name\": \"matmul\", \"code\": 9"), "number");
  expect_error(replaced("\"name\": \"matmul\"", "\"name\": \"matmul\", \"version\": 99"), "version 99");
  expect_error("{\"" + std::string(1 << 20, 'x') + "\": 1}", "no field of the schema is called \"xxx");
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "{\"programs\":[";
  expect_error(deep, "not a model in JSON");
}

TEST_F(GraphJson, WeightsThatNoOperatorReadsAreNamed) {
  tensors.push_back({"spare", {2}, {1, 2}});
  expect_error(kTinyNet, "spare [2] F32");
}

}  // namespace
}  // namespace runnel::convert
