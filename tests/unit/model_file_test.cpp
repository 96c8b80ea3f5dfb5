// The loader refuses every broken or hostile file with a message and never reads outside of it.
#include "format/model_file.h"

#include <gtest/gtest.h>

#include <random>

#include "plan/plan.h"
#include "unit/model_builder.h"

namespace runnel::test {
namespace {

Status open_bytes(const std::vector<unsigned char>& file) {
  AlignedBytes bytes(file);
  auto m = Model::open_memory(bytes.data(), bytes.size());
  if (!m.is_ok()) return m.take_status();
  // A file that opens must also survive planning.
  auto plan = make_plan(*m.value(), PlanOptions{});
  return plan.is_ok() ? Status::ok() : plan.take_status();
}

Status open_built(ModelBuilder& b) { return open_bytes(b.build()); }

void expect_refused(ModelBuilder& b, Code code, const char* part) {
  const Status s = open_built(b);
  EXPECT_EQ(s.code(), code) << s.message();
  EXPECT_NE(std::string(s.message()).find(part), std::string::npos) << s.message();
}

TEST(ModelFile, OpensAndVerifies) {
  AlignedBytes bytes(attention_model(2, 20).build());
  auto m = Model::open_memory(bytes.data(), bytes.size());
  ASSERT_TRUE(m.is_ok()) << m.take_status().message();
  EXPECT_TRUE(m.value()->verify_segments().is_ok());
  EXPECT_EQ(m.value()->states().size(), 4u);
  EXPECT_NE(m.value()->find_tensor("freq"), nullptr);
  bytes.data()[bytes.size() - kSealBytes - 1] ^= 1;
  const Status s = m.value()->verify_segments();
  EXPECT_EQ(s.code(), Code::kInvalidModel);
  EXPECT_NE(std::string(s.message()).find("segment 0"), std::string::npos) << s.message();
}

TEST(ModelFile, EveryTruncationIsRefused) {
  const auto file = attention_model(1, 0).build();
  for (size_t n = 0; n < file.size(); n += n < 4096 ? 1 : 97) {
    AlignedBytes bytes(std::vector<unsigned char>(file.begin(), file.begin() + long(n)));
    EXPECT_FALSE(Model::open_memory(bytes.data(), n).is_ok()) << n;
  }
}

TEST(ModelFile, EveryHeaderBitFlipIsRefused) {
  const auto file = attention_model(1, 0).build();
  Seal seal;
  std::memcpy(&seal, file.data() + file.size() - kSealBytes, kSealBytes);
  for (size_t at = 0; at < seal.header_bytes; ++at) {
    auto broken = file;
    broken[at] ^= uint8_t(1u << (at % 8));
    EXPECT_FALSE(open_bytes(broken).is_ok()) << at;
  }
  for (size_t at = file.size() - kSealBytes; at < file.size(); ++at) {
    auto broken = file;
    broken[at] ^= 0x10;
    EXPECT_FALSE(open_bytes(broken).is_ok()) << at;
  }
}

// With the checksum made right again, the verifier itself must hold.
TEST(ModelFile, ResealedDamageNeverCrashes) {
  const auto file = attention_model(2, 20).build();
  Seal seal;
  std::memcpy(&seal, file.data() + file.size() - kSealBytes, kSealBytes);
  std::mt19937 rng(1);
  int opened = 0;
  for (int round = 0; round < 4000; ++round) {
    auto broken = file;
    for (int k = 0; k < 1 + round % 4; ++k) broken[8 + rng() % (seal.header_bytes - 8)] = uint8_t(rng());
    Seal fixed = seal;
    fixed.header_checksum = xxh64(broken.data(), size_t(seal.header_bytes));
    std::memcpy(broken.data() + broken.size() - kSealBytes, &fixed, kSealBytes);
    opened += open_bytes(broken).is_ok();
  }
  EXPECT_GT(opened, 0);  // flips in names and padding are harmless, so the loop did reach the planner
}

// Flatbuffers' verifier lets them pass.
TEST(ModelFile, ListsThatAreNotAlignedAreRefused) {
  const auto file = attention_model(1, 20).build();
  Seal seal;
  std::memcpy(&seal, file.data() + file.size() - kSealBytes, kSealBytes);
  const auto* tensor = reinterpret_cast<const flatbuffers::Table*>(format::GetModel(file.data())->tensors()->Get(0));
  const size_t field = size_t(tensor->GetAddressOf(format::Tensor::VT_SHAPE) - file.data());
  bool is_named = false;
  for (const int32_t step : {-12, -4, 4, 12}) {
    auto broken = file;
    int32_t offset;
    std::memcpy(&offset, broken.data() + field, 4);
    offset += step;
    std::memcpy(broken.data() + field, &offset, 4);
    seal.header_checksum = xxh64(broken.data(), size_t(seal.header_bytes));
    std::memcpy(broken.data() + broken.size() - kSealBytes, &seal, kSealBytes);
    const auto opened = open_bytes(broken);
    ASSERT_FALSE(opened.is_ok()) << step;
    is_named = is_named || std::strstr(opened.message(), "not aligned");
  }
  EXPECT_TRUE(is_named);
}

TEST(ModelFile, VersionsFeaturesAndOperatorsAreNamed) {
  ModelBuilder b = attention_model(1, 0);
  b.root.version_major = kFormatMajor + 1;
  expect_refused(b, Code::kUnsupported, "update the runtime");
  b = attention_model(1, 0);
  b.root.version_minor = kFormatMinor + 1;
  expect_refused(b, Code::kUnsupported, "update the runtime");
  b = attention_model(1, 0);
  b.root.features.push_back("quantum");
  expect_refused(b, Code::kUnsupported, "quantum");
  b = attention_model(1, 0);
  b.program().ops[0]->code = 4711;
  b.program().ops[0]->name = "hyperattention";
  expect_refused(b, Code::kUnsupported, "hyperattention");
  b = attention_model(1, 0);
  b.program().ops[0]->version = 99;
  expect_refused(b, Code::kUnsupported, "version 99");
  b = attention_model(1, 0);
  b.root.symbols[0]->name = "moonphase";
  expect_refused(b, Code::kInvalidModel, "context");
}

TEST(ModelFile, GraphErrorsAreNamed) {
  ModelBuilder b = attention_model(1, 0);
  b.program().ops[0]->inputs[0] = "nowhere";
  expect_refused(b, Code::kInvalidModel, "nowhere");
  b = attention_model(1, 0);
  std::swap(b.program().ops[0], b.program().ops[1]);
  expect_refused(b, Code::kInvalidModel, "before it is computed");
  b = attention_model(1, 0);
  b.program().ops[1]->outputs[0] = b.program().ops[0]->outputs[0];
  expect_refused(b, Code::kInvalidModel, "computed twice");
  b = attention_model(1, 0);
  b.add_value("dangling", {"T"});
  expect_refused(b, Code::kInvalidModel, "dangling");
  b = attention_model(1, 0);
  b.add_value("x", {"T"});
  expect_refused(b, Code::kInvalidModel, "used twice");
  b = attention_model(1, 0);
  b.program().outputs = {"freq"};
  expect_refused(b, Code::kInvalidModel, "freq");
  b = attention_model(1, 0);
  b.program().ops[0]->inputs.assign(9, "x");
  expect_refused(b, Code::kInvalidModel, "9 inputs");
  b = attention_model(1, 0);
  b.program().ops[0]->attrs.Set(format::RopeAttrsT{});
  expect_refused(b, Code::kUnsupported, "attribute table");
  b = attention_model(1, 0);
  b.program().values[0]->shape[1] = "T*";
  expect_refused(b, Code::kInvalidModel, "unexpected end");
  b = attention_model(1, 0);
  b.program().values[0]->shape[1] = "47";
  expect_refused(b, Code::kInvalidArgument, "rms_norm");
  // The session fills such inputs by itself: a narrower or longer one would be written past its end.
  for (const auto role : {format::Role::positions, format::Role::rows}) {
    b = attention_model(1, 0);
    b.add_input("own", {"T"}, format::DType::u8, role);
    expect_refused(b, Code::kInvalidModel, "no vector of i32");
    b = attention_model(1, 0);
    // Positions may stand on several axes.
    if (role == format::Role::positions) b.add_input("own", {"T", "2", "2"}, format::DType::i32, role);
    else b.add_input("own", {"T", "2"}, format::DType::i32, role);
    expect_refused(b, Code::kInvalidModel, "no vector of i32");
  }
}

TEST(ModelFile, TensorsAndSegmentsAreBounded) {
  ModelBuilder b = attention_model(1, 0);
  b.root.tensors[0]->offset = 1 << 20;
  expect_refused(b, Code::kInvalidModel, "freq");
  b = attention_model(1, 0);
  b.root.tensors[0]->bytes += 4;
  expect_refused(b, Code::kInvalidModel, "freq");
  b = attention_model(1, 0);
  b.root.tensors[0]->shape = {uint64_t(1) << 62, 4};
  expect_refused(b, Code::kInvalidModel, "too large");
  b = attention_model(1, 0);
  b.root.tensors[0]->segment = 7;
  expect_refused(b, Code::kInvalidModel, "segment 7");
  b = attention_model(1, 0);
  b.root.states[0]->shape[0] = "context*context*context*context*1099511627776";
  expect_refused(b, Code::kInvalidModel, "out of range");
}

TEST(ModelFile, MemoryMustBeAligned) {
  const auto file = attention_model(1, 0).build();
  AlignedBytes bytes(file);
  EXPECT_EQ(Model::open_memory(bytes.data() + 1, bytes.size() - 1).take_status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Model::open("/nonexistent.rnl", {}).take_status().code(), Code::kNotFound);
  EXPECT_EQ(Model::open("/", {}).take_status().code(), Code::kIo);
}

}  // namespace
}  // namespace runnel::test
