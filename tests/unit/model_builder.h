// Builds .rnl files in memory for tests, independent of the converter.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "base/xxh64.h"
#include "contract/op.h"
#include "format/model_file.h"

namespace runnel::test {

class ModelBuilder {
 public:
  format::ModelT root;
  std::vector<unsigned char> weights;

  ModelBuilder() {
    root.version_major = kFormatMajor;
    root.version_minor = kFormatMinor;
    root.name = "test";
    root.context = 1 << 20;
    for (const char* name : {"context", "chunk", "rollback", "rows"}) add_symbol(name, format::SymbolKind::option, "");
    add_symbol("T", format::SymbolKind::axis, "chunk");
    add_symbol("R", format::SymbolKind::axis, "rows");
    root.programs.push_back(std::make_unique<format::ProgramT>());
    program().name = "main";
  }
  format::ProgramT& program() { return *root.programs[0]; }
  void add_symbol(const std::string& name, format::SymbolKind kind, const std::string& bound) {
    auto s = std::make_unique<format::SymbolT>();
    s->name = name;
    s->kind = kind;
    s->bound = bound;
    root.symbols.push_back(std::move(s));
  }
  static std::unique_ptr<format::ValueT> value(const std::string& name, std::vector<std::string> shape,
                                               format::DType dtype, format::Role role) {
    auto v = std::make_unique<format::ValueT>();
    v->name = name;
    v->shape = std::move(shape);
    v->dtype = dtype;
    v->role = role;
    return v;
  }
  void add_input(const std::string& name, std::vector<std::string> shape, format::DType dtype = format::DType::f32,
                 format::Role role = format::Role::none) {
    program().inputs.push_back(value(name, std::move(shape), dtype, role));
  }
  void add_value(const std::string& name, std::vector<std::string> shape) {
    program().values.push_back(value(name, std::move(shape), format::DType::f32, format::Role::none));
  }
  void add_state(const std::string& name, format::StateKind kind, std::vector<std::string> shape,
                 const std::string& slots, uint32_t window, format::DType dtype = format::DType::f32) {
    auto s = std::make_unique<format::StateT>();
    s->name = name;
    s->kind = kind;
    s->dtype = dtype;
    s->shape = std::move(shape);
    s->block_axis = 2;
    s->slots = slots;
    s->window = window;
    root.states.push_back(std::move(s));
  }
  void add_tensor(const std::string& name, std::vector<uint64_t> shape, const std::vector<float>& data) {
    while (weights.size() % 64) weights.push_back(0);
    auto t = std::make_unique<format::TensorT>();
    t->name = name;
    t->dtype = format::DType::f32;
    t->shape = std::move(shape);
    t->offset = weights.size();
    t->bytes = data.size() * 4;
    const auto* p = reinterpret_cast<const unsigned char*>(data.data());
    weights.insert(weights.end(), p, p + data.size() * 4);
    root.tensors.push_back(std::move(t));
  }
  format::OpT& add_op(const std::string& name, std::vector<std::string> in, std::vector<std::string> out) {
    auto op = std::make_unique<format::OpT>();
    const OpDef* def = find_op_by_name(name.c_str());
    op->name = name;
    op->code = def ? def->number : 9999;
    op->version = def ? def->version : 1;
    for (const ControlName& c : kControls)
      if (name == c.name) op->code = uint16_t(c.control);
    op->inputs = std::move(in);
    op->outputs = std::move(out);
    program().ops.push_back(std::move(op));
    return *program().ops.back();
  }

  // The whole file.
  std::vector<unsigned char> build() {
    std::vector<unsigned char> file;
    uint64_t header = 0;
    if (!weights.empty()) root.segments.clear();
    for (int pass = 0; pass < 2; ++pass) {  // the first pass finds the header's size
      if (!weights.empty()) {
        root.segments.clear();
        auto s = std::make_unique<format::SegmentT>();
        s->kind = format::SegmentKind::weights;
        s->offset = (header + kSegmentAlignment) / kSegmentAlignment * kSegmentAlignment + kSegmentAlignment;
        s->bytes = weights.size();
        s->checksum = xxh64(weights.data(), weights.size());
        root.segments.push_back(std::move(s));
      }
      flatbuffers::FlatBufferBuilder b;
      b.Finish(format::Model::Pack(b, &root), format::ModelIdentifier());
      file.assign(b.GetBufferPointer(), b.GetBufferPointer() + b.GetSize());
      header = file.size();
    }
    Seal seal{};
    seal.header_bytes = header;
    seal.header_checksum = xxh64(file.data(), file.size());
    if (!weights.empty()) {
      file.resize(root.segments[0]->offset);
      file.insert(file.end(), weights.begin(), weights.end());
    }
    seal.file_bytes = file.size() + kSealBytes;
    std::memcpy(seal.magic, kSealMagic, 8);
    const auto* p = reinterpret_cast<const unsigned char*>(&seal);
    file.insert(file.end(), p, p + sizeof seal);
    return file;
  }
};

// A file in memory at the alignment that a mapping would have.
class AlignedBytes {
 public:
  explicit AlignedBytes(const std::vector<unsigned char>& bytes) : store_(bytes.size() + 64), size_(bytes.size()) {
    if (size_) std::memcpy(data(), bytes.data(), size_);
  }
  unsigned char* data() {
    return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(store_.data()) + 63) & ~uintptr_t(63));
  }
  size_t size() const { return size_; }

 private:
  std::vector<unsigned char> store_;
  size_t size_;
};

// A stack of attention layers over an input x [T, heads * width], window layers first, with a head that gathers rows.
inline ModelBuilder attention_model(int layers, uint32_t window, int heads = 4, int kv_heads = 2, int width = 12) {
  ModelBuilder b;
  const std::string h = std::to_string(heads), kv = std::to_string(kv_heads), w = std::to_string(width),
                    d = std::to_string(heads * width);
  b.add_input("x", {"T", d});
  b.add_input("positions", {"T"}, format::DType::i32, format::Role::positions);
  b.add_input("rows", {"R"}, format::DType::i32, format::Role::rows);
  std::vector<float> freq;
  for (int i = 0; i < width / 2; ++i) freq.push_back(1.0f / float(i + 1));
  b.add_tensor("freq", {uint64_t(width / 2)}, freq);
  std::string x = "x";
  for (int l = 0; l < layers; ++l) {
    const std::string p = "l" + std::to_string(l) + ".";
    const bool ring = window && l + 1 < layers;
    const std::string slots =
        ring ? "min(ceildiv(" + std::to_string(window) + "+max(chunk,rollback),64)*64,ceildiv(context,64)*64)"
             : "ceildiv(context,64)*64";
    const auto kind = ring ? format::StateKind::ring : format::StateKind::append;
    b.add_state(p + "k", kind, {kv, "floordiv(" + slots + ",16)", w, "16"}, slots, ring ? window : 0);
    b.add_state(p + "v", kind, {kv, slots, w}, slots, ring ? window : 0);
    for (const char* v : {"n", "o", "y"}) b.add_value(p + v, {"T", d});
    b.add_value(p + "q", {"T", h, w});
    b.add_value(p + "r", {"T", h, w});
    b.add_value(p + "kk", {"T", kv, w});
    b.add_value(p + "kr", {"T", kv, w});
    b.add_value(p + "ks", {"T", std::to_string(kv_heads * width)});
    b.add_op("rms_norm", {x}, {p + "n"});
    b.add_op("reshape", {p + "n"}, {p + "q"});
    b.add_op("rope", {p + "q", "positions", "freq"}, {p + "r"}).attrs.Set(format::RopeAttrsT{});
    format::SliceAttrsT slice;
    slice.axis = 1;
    b.add_op("slice", {p + "n"}, {p + "ks"}).attrs.Set(std::move(slice));
    b.add_op("reshape", {p + "ks"}, {p + "kk"});
    b.add_op("rope", {p + "kk", "positions", "freq"}, {p + "kr"}).attrs.Set(format::RopeAttrsT{});
    format::AttentionAttrsT a;
    a.scale = 0.5f;
    a.window = ring ? window : 0;
    b.add_op("attention", {p + "r", p + "kr", p + "kk", p + "k", p + "v"}, {p + "o"}).attrs.Set(std::move(a));
    b.add_op("binary", {x, p + "o"}, {p + "y"}).attrs.Set(format::BinaryAttrsT{});
    x = p + "y";
  }
  b.add_value("gathered", {"R", d});
  b.add_value("logits", {"R", d});
  b.add_op("gather_rows", {x, "rows"}, {"gathered"});
  b.add_op("rms_norm", {"gathered"}, {"logits"});
  b.program().outputs = {"logits"};
  return b;
}

}  // namespace runnel::test
