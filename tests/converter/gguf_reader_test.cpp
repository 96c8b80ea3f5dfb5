// GGUF: what a well-formed file gives, and that every broken field is refused with a message that names it.
#include "kit.h"

namespace runnel::convert {
namespace {

// A file of one key and one tensor, each field of which a test may replace.
struct TinyGguf {
  uint32_t magic = 0x46554747, version = 3;
  uint64_t tensors = 1, keys = 1;
  std::string key = "general.name";
  uint32_t value_type = 8;
  std::string value = Bytes().string("a name").text();
  std::string name = "w";
  uint32_t rank = 2;
  std::vector<uint64_t> dims = {32, 2};  // innermost first
  uint32_t type = 8;                     // Q8_0
  uint64_t offset = 0;
  std::string more_entries;
  size_t alignment = 32;
  std::string data = std::string(2 * 34, '\1');

  std::string text() const {
    Bytes b;
    b.put(magic).put(version).put(tensors).put(keys).string(key).put(value_type).raw(value);
    b.string(name).put(rank);
    for (uint64_t d : dims) b.put(d);
    return b.put(type).put(offset).raw(more_entries).pad(alignment).raw(data).text();
  }
  std::string error() const {
    const Bytes b = Bytes().raw(text());
    Checkpoint c;
    return error_of([&] { read_gguf(b.span(), "f.gguf", c); });
  }
};

void expect_error(const TinyGguf& g, const std::string& part) {
  const std::string message = g.error();
  EXPECT_NE(message.find(part), std::string::npos) << "\"" << message << "\" lacks \"" << part << "\"";
  EXPECT_EQ(message.rfind("f.gguf: ", 0), 0u) << message;
}

TEST(Gguf, VersionsTwoAndThree) {
  for (uint32_t version : {2u, 3u}) {
    TinyGguf g;
    g.version = version;
    const Bytes b = Bytes().raw(g.text());
    Checkpoint c;
    read_gguf(b.span(), "f.gguf", c);
    EXPECT_EQ(c.name, "a name");
    ASSERT_EQ(c.tensors().size(), 1u);
    EXPECT_EQ(c.tensors()[0].shape, (std::vector<uint64_t>{2, 32}));
    EXPECT_EQ(c.tensors()[0].bytes, 68u);
    EXPECT_EQ(c.tensors()[0].describe(), "w [2, 32] Q8_0");
  }
}

TEST(Gguf, AllValueTypes) {
  Bytes b;
  b.put(0x46554747u).put(3u).put(uint64_t(0)).put(uint64_t(13));
  b.string("u8")
      .put(0u)
      .put(uint8_t(200))
      .string("i8")
      .put(1u)
      .put(int8_t(-5))
      .string("u16")
      .put(2u)
      .put(uint16_t(60000))
      .string("i16")
      .put(3u)
      .put(int16_t(-6));
  b.string("u32")
      .put(4u)
      .put(uint32_t(4000000000u))
      .string("i32")
      .put(5u)
      .put(int32_t(-7))
      .string("f32")
      .put(6u)
      .put(1.5f)
      .string("bool")
      .put(7u)
      .put(uint8_t(1));
  b.string("string")
      .put(8u)
      .string("text")
      .string("u64")
      .put(10u)
      .put(uint64_t(1) << 60)
      .string("i64")
      .put(11u)
      .put(int64_t(-8))
      .string("f64")
      .put(12u)
      .put(2.5);
  b.string("array")
      .put(9u)
      .put(9u)
      .put(uint64_t(2))
      .put(5u)
      .put(uint64_t(2))
      .put(int32_t(1))
      .put(int32_t(2))
      .put(8u)
      .put(uint64_t(1))
      .string("x");
  Checkpoint c;
  read_gguf(b.span(), "f.gguf", c);
  EXPECT_EQ(
      c.meta,
      Json::parse(
          R"({"u8":200,"i8":-5,"u16":60000,"i16":-6,"u32":4000000000,"i32":-7,"f32":1.5,"bool":true,"string":"text",
                                    "u64":1152921504606846976,"i64":-8,"f64":2.5,"array":[[1,2],["x"]]})"));
}

TEST(Gguf, EveryTruncationIsRefused) {
  const std::string whole = TinyGguf().text();
  for (size_t n = 0; n < whole.size(); ++n) {
    const Bytes b = Bytes().raw(whole.substr(0, n));
    Checkpoint c;
    EXPECT_NE(error_of([&] { read_gguf(b.span(), "f.gguf", c); }), "") << n << " bytes";
  }
}

TEST(Gguf, HeaderFields) {
  TinyGguf g;
  expect_error((g = {}, g.magic = 7, g), "not a GGUF file");
  expect_error((g = {}, g.version = 1, g), "GGUF version 1");
  expect_error((g = {}, g.version = 0x03000000, g), "big-endian");
  expect_error((g = {}, g.tensors = ~uint64_t(0), g), "tensors");
  expect_error((g = {}, g.keys = uint64_t(1) << 40, g), "keys");
}

TEST(Gguf, Keys) {
  TinyGguf g;
  expect_error((g = {}, g.value_type = 13, g), "value type 13");
  expect_error((g = {}, g.value = Bytes().put(~uint64_t(0)).text(), g), "bytes, ");
  expect_error((g = {}, g.value_type = 9, g.value = Bytes().put(4u).put(uint64_t(1) << 61).text(), g),
               "more than the file holds");
  expect_error((g = {}, g.value_type = 9, g.value = Bytes().put(99u).put(uint64_t(1)).text(), g), "element type 99");
  std::string nested;
  for (int i = 0; i < 6; ++i) nested += Bytes().put(9u).put(uint64_t(1)).text();
  expect_error((g = {}, g.value_type = 9, g.value = nested, g), "too deeply");
  expect_error((g = {}, g.keys = 2, g.value += Bytes().string("general.name").put(8u).string("b").text(), g),
               "\"general.name\" occurs twice");
  for (uint32_t bad : {0u, 3u, 33u, 1u << 20})
    expect_error((g = {}, g.key = "general.alignment", g.value_type = 4, g.value = Bytes().put(bad).text(), g),
                 "general.alignment");
  expect_error((g = {}, g.key = "general.alignment", g), "general.alignment is not an unsigned number");
}

TEST(Gguf, Tensors) {
  TinyGguf g;
  expect_error((g = {}, g.name = "", g), "no name");
  expect_error((g = {}, g.name = std::string(200, 'x') + "\n", g.rank = 0, g), "axes");
  expect_error((g = {}, g.rank = 5, g), "5 axes");
  expect_error((g = {}, g.dims = {32, 0}, g), "axis of 0 elements");
  expect_error((g = {}, g.dims = {32, uint64_t(1) << 31}, g), "axis of");
  expect_error((g = {}, g.rank = 4, g.dims = {1 << 30, 1 << 30, 1 << 30, 1 << 30}, g), "which cannot be");
  expect_error((g = {}, g.dims = {33, 2}, g), "whole blocks of 32");
  expect_error((g = {}, g.type = 19, g), "IQ1_S");
  expect_error((g = {}, g.type = 29, g), "IQ1_M");
  expect_error((g = {}, g.type = 12345, g), "type 12345 (unknown)");
  expect_error((g = {}, g.offset = 1, g), "offset 1, not a multiple of 32");
  expect_error((g = {}, g.offset = 32, g), "ends behind the end of the file");
  expect_error((g = {}, g.offset = ~uint64_t(31), g), "ends behind the end of the file");
  expect_error((g = {}, g.data.pop_back(), g), "ends behind the end of the file");
}

TEST(Gguf, TensorsMayNeitherOverlapNorShareANameNorAbsurdAlignment) {
  TinyGguf g;
  const auto entry = [](const std::string& name, uint64_t offset) {
    return Bytes().string(name).put(1u).put(uint64_t(32)).put(8u).put(offset).text();
  };
  g.tensors = 2;
  g.more_entries = entry("v", 64);
  g.data = std::string(200, '\1');
  expect_error(g, "tensors \"w\" and \"v\" overlap");
  g.more_entries = entry("v", 96);
  EXPECT_EQ(g.error(), "");
  g.more_entries = entry("w", 96);
  expect_error(g, "\"w\" occurs twice");
}

TEST(Gguf, AnUnreadablePathIsNamed) {
  TemporaryFolder tmp;
  EXPECT_NE(error_of([&] { read_checkpoint(tmp / "none.gguf"); }).find("none.gguf: no such file"), std::string::npos);
  write_file(tmp / "empty.gguf", "");
  EXPECT_NE(error_of([&] { read_checkpoint(tmp / "empty.gguf"); }).find("empty.gguf"), std::string::npos);
  write_file(tmp / "other.bin", "something else");
  EXPECT_NE(error_of([&] { read_checkpoint(tmp / "other.bin"); }).find("neither a GGUF file, a safetensors file nor"),
            std::string::npos);
  EXPECT_NE(error_of([&] { read_checkpoint(tmp.path()); }).find("no config.json"), std::string::npos);
}

}  // namespace
}  // namespace runnel::convert
