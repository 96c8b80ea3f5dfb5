#include "converter/write/layout.h"

#include <algorithm>

#include "format/model_file.h"

namespace runnel::convert {
namespace {

constexpr uint64_t kMaxSegment = uint64_t(2) << 30;

// Features that follow from what the graph holds.
void require_features(format::ModelT& model) {
  const auto require = [&](const char* feature) {
    if (std::find(model.features.begin(), model.features.end(), feature) == model.features.end())
      model.features.push_back(feature);
  };
  for (const auto& p : model.programs)
    for (const auto& v : p->inputs) {
      if (v->optional) require("optional_inputs");
      if (v->filled) require("filled_inputs");
    }
}

}  // namespace

std::vector<size_t> lay_out(ModelBuilder& b) {
  require_features(b.model);
  std::vector<size_t> order;
  b.model.segments.clear();
  for (const auto kind : {format::SegmentKind::weights, format::SegmentKind::tokenizer, format::SegmentKind::index}) {
    bool is_open = false;
    for (size_t i = 0; i < b.blobs().size(); ++i) {
      const Blob& blob = b.blobs()[i];
      if (blob.segment != kind) continue;
      if (is_open && align_up(b.model.segments.back()->bytes, kTensorAlignment) + blob.bytes > kMaxSegment)
        is_open = false;
      if (!is_open) {
        b.model.segments.push_back(std::make_unique<format::SegmentT>());
        b.model.segments.back()->kind = kind;
        is_open = true;
      }
      format::SegmentT& s = *b.model.segments.back();
      format::TensorT& t = *b.model.tensors[blob.tensor];
      t.segment = uint32_t(b.model.segments.size() - 1);
      t.offset = align_up(s.bytes, kTensorAlignment);
      s.bytes = t.offset + blob.bytes;
      order.push_back(i);
    }
  }
  return order;
}

std::vector<uint8_t> header_of(const format::ModelT& model) {
  flatbuffers::FlatBufferBuilder fbb(1 << 16);
  fbb.Finish(format::Model::Pack(fbb, &model), format::ModelIdentifier());
  return {fbb.GetBufferPointer(), fbb.GetBufferPointer() + fbb.GetSize()};
}

}  // namespace runnel::convert
