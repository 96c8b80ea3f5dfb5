#include "kit.h"

namespace runnel::convert {
namespace {

std::string error_with(const std::string& header, const std::string& data) {
  const Bytes b = Bytes().put(uint64_t(header.size())).raw(header).raw(data);
  Checkpoint c;
  return error_of([&] { read_safetensors(b.span(), "w.safetensors", c); });
}

void expect_error(const std::string& header, const std::string& part, const std::string& data = std::string(8, '\0')) {
  const std::string message = error_with(header, data);
  EXPECT_NE(message.find(part), std::string::npos) << "\"" << message << "\" lacks \"" << part << "\"";
}

TEST(Safetensors, TypesShapesAndEmptyTensors) {
  const std::string header = R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]},
    "a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"none":{"dtype":"I64","shape":[0,3],"data_offsets":[12,12]},"f8":{"dtype":"F8_E4M3","shape":[],"data_offsets":[12,13]}})";
  const Bytes b = Bytes()
                      .put(uint64_t(header.size()))
                      .raw(header)
                      .put(1.5f)
                      .put(-2.0f)
                      .put(uint16_t(0x3f80))
                      .put(uint16_t(0xc000))
                      .put(uint8_t(0x38));
  Checkpoint c;
  read_safetensors(b.span(), "w.safetensors", c);
  ASSERT_EQ(c.tensors().size(), 4u);
  EXPECT_EQ(values_of(c, "a"), (std::vector<float>{1.5f, -2}));
  EXPECT_EQ(values_of(c, "b"), (std::vector<float>{1, -2}));
  EXPECT_EQ(values_of(c, "f8"), (std::vector<float>{1}));
  EXPECT_EQ(c.find("none")->count(), 0u);
}

TEST(Safetensors, BrokenHeaders) {
  for (size_t n = 0; n < 8; ++n) {
    const Bytes b = Bytes().raw(std::string(n, '\0'));
    Checkpoint c;
    EXPECT_NE(error_of([&] { read_safetensors(b.span(), "w.safetensors", c); }), "");
  }
  const Bytes huge = Bytes().put(~uint64_t(0)).raw("{}");
  Checkpoint c;
  EXPECT_NE(error_of([&] {
              read_safetensors(huge.span(), "w.safetensors", c);
            }).find("says its header has 18446744073709551615 bytes"),
            std::string::npos);
  expect_error("{", "not valid JSON");
  expect_error("[]", "not a JSON object");
  expect_error(std::string(100000, '['), "nested too deeply");
  expect_error("{\"a\":\"\xff\"}", "not valid JSON");
}

TEST(Safetensors, BrokenEntries) {
  expect_error(R"({"a":3})", "\"a\" lacks");
  expect_error(R"({"a":{"dtype":"F32","shape":[2]}})", "\"a\" lacks");
  expect_error(R"({"a":{"dtype":4,"shape":[2],"data_offsets":[0,8]}})", "dtype is not a string");
  expect_error(R"({"a":{"dtype":"F12","shape":[2],"data_offsets":[0,8]}})", "\"F12\"");
  expect_error(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", "shape is not an array");
  expect_error(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "shape is not a natural number");
  expect_error(R"({"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}})", "shape is not a natural number");
  expect_error(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", "too large");
  expect_error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "not two numbers");
  expect_error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "lie outside");
  expect_error(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", "lie outside");
  expect_error(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "has 8 bytes where [3] F32 needs 12");
  expect_error(R"({"":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "no name");
}

TEST(Safetensors, GapsOverlapsAndDuplicates) {
  expect_error(
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[3],"data_offsets":[5,8]}})",
      "\"b\" begins at 5 where the one before it ends at 4");
  expect_error(
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}})",
      "\"b\" begins at 3");
  expect_error(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "4 bytes behind the last tensor");
  expect_error(
      R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
      "\"a\" occurs twice");
}

}  // namespace
}  // namespace runnel::convert
