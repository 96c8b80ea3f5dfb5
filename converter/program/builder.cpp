#include "converter/program/builder.h"

#include <algorithm>
#include <cstring>

namespace runnel::convert {

format::TensorT& ModelBuilder::add_tensor(format::SegmentKind segment, const std::string& name, format::DType dtype,
                                          const std::vector<uint64_t>& shape, uint64_t bytes) {
  if (!names_.emplace(name, model.tensors.size()).second) fail("tensor \"%s\" is added twice", printable(name).c_str());
  auto t = std::make_unique<format::TensorT>();
  t->name = name;
  t->dtype = dtype;
  t->shape = shape;
  t->bytes = bytes;
  model.tensors.push_back(std::move(t));
  Blob blob{model.tensors.size() - 1, segment, bytes, std::max<uint64_t>(bytes, 1), {}};
  blobs_.push_back(std::move(blob));
  return *model.tensors.back();
}

void ModelBuilder::add_matrix(const std::string& name, const SourceTensor& source, bool is_delicate) {
  if (source.shape.size() < 2) fail("tensor \"%s\" is not a matrix", source.describe().c_str());
  const uint64_t columns = source.shape.back();
  if (columns == 0 || columns >= (uint64_t(1) << 31))
    fail("tensor \"%s\" has rows of a length that cannot be packed", source.describe().c_str());
  const uint64_t rows = source.count() / columns;
  if (rows == 0 || rows >= (uint64_t(1) << 31))
    fail("tensor \"%s\" has a number of rows that cannot be packed", source.describe().c_str());
  if (!is_float(source.type) && !is_quantised(source.type))
    fail("tensor \"%s\" is used as a matrix but holds no real numbers", source.describe().c_str());
  add_tensor(format::SegmentKind::weights, name, format::DType::packed, {rows, columns}, 0);
  blobs_.back().matrix = &source;
  pack_matrix(blobs_.size() - 1,
              choose_format(source.type, columns,
                            is_delicate && (weights_ == Weights::kQ8 || weights_ == Weights::kQ4) ? Weights::kF16
                                                                                                  : weights_));
}

// blob_index: into blobs_, which is that of the tensor unless the model has tensors that this builder does not write.
void ModelBuilder::pack_matrix(size_t blob_index, const PackedFormat& f) {
  Blob& blob = blobs_[blob_index];
  format::TensorT& t = *model.tensors[blob.tensor];
  const uint64_t rows = t.shape[0];
  const int64_t columns = int64_t(t.shape[1]);
  t.bytes = f.matrix_bytes(int64_t(rows), columns);
  t.packed = std::make_unique<format::PackedT>();
  t.packed->kind = format::PackedKind(f.kind);
  t.packed->bits = f.bits;
  t.packed->block = f.block;
  t.packed->zero_point = f.zero_point;
  t.packed->has_min = f.has_min;
  t.packed->scale = format::ScaleKind(f.scale);
  t.packed->split = f.split;
  const uint64_t piece_rows = f.split ? uint64_t(SplitLayout::kRows) : kTileRows;
  blob.bytes = t.bytes;
  blob.unit = keeps_blocks(*blob.matrix, f) ? unit_of(*blob.matrix) : 1;
  blob.piece_bytes = f.split ? SplitLayout(columns).group : f.tile_bytes(columns);
  blob.make = [&source = *blob.matrix, f, rows, piece_rows](uint64_t first, uint64_t pieces, uint8_t* out) {
    const uint64_t begin = first * piece_rows;
    pack_rows(source, f, begin, std::min<uint64_t>(pieces * piece_rows, rows - begin), out);
  };
}

const format::PackedT* ModelBuilder::format_of_matrix(const std::string& name) const {
  const auto it = names_.find(name);
  return it == names_.end() ? nullptr : model.tensors[it->second]->packed.get();
}

void ModelBuilder::split_matrix(const std::string& name) {
  const size_t tensor = names_.at(name);
  const format::PackedT& p = *model.tensors[tensor]->packed;
  PackedFormat f{PackedKind(p.kind), p.bits, p.block, p.zero_point, p.has_min, ScaleKind(p.scale), true};
  if (!f.is_valid()) fail("tensor \"%s\" cannot be split: that needs 8 bits in blocks of 32", printable(name).c_str());
  pack_matrix(tensor, f);
  if (std::find(model.features.begin(), model.features.end(), "split") == model.features.end())
    model.features.push_back("split");
}

void ModelBuilder::add_floats(const std::string& name, const SourceTensor& source, float offset) {
  const uint64_t count = source.count();
  add_tensor(format::SegmentKind::weights, name, format::DType::f32, source.shape, count * 4);
  blobs_.back().make = [&source, count, offset](uint64_t, uint64_t, uint8_t* out) {
    std::vector<float> values(static_cast<size_t>(count));
    decode_values(source, 0, count, values.data());
    if (offset != 0)
      for (float& v : values) v += offset;
    if (count) std::memcpy(out, values.data(), values.size() * 4);
  };
}

void ModelBuilder::multiply_floats(const std::string& name, float factor) {
  Blob& blob = blobs_[names_.at(name)];
  if (model.tensors[blob.tensor]->dtype != format::DType::f32)
    fail("tensor \"%s\" holds no floats that could be multiplied", printable(name).c_str());
  blob.make = [before = blob.make, factor, count = blob.bytes / 4](uint64_t first, uint64_t pieces, uint8_t* out) {
    before(first, pieces, out);
    auto* values = reinterpret_cast<float*>(out);
    for (uint64_t i = 0; i < count; ++i) values[i] *= factor;
  };
}

void ModelBuilder::add_floats(const std::string& name, const std::vector<float>& values,
                              const std::vector<uint64_t>& shape) {
  std::vector<uint8_t> bytes(values.size() * 4);
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  add_bytes(format::SegmentKind::weights, name, format::DType::f32, shape, std::move(bytes));
}

void ModelBuilder::add_bytes(format::SegmentKind segment, const std::string& name, format::DType dtype,
                             const std::vector<uint64_t>& shape, std::vector<uint8_t> bytes) {
  add_tensor(segment, name, dtype, shape, bytes.size());
  blobs_.back().make = [held = std::make_shared<std::vector<uint8_t>>(std::move(bytes))](uint64_t, uint64_t,
                                                                                         uint8_t* out) {
    if (!held->empty()) std::memcpy(out, held->data(), held->size());
  };
}

bool ModelBuilder::has_tensor(const std::string& name) const { return names_.count(name) != 0; }

}  // namespace runnel::convert
