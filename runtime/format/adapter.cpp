// A file that adapts another one (feature "adapter"): it has the whole graph and the weights that it adds; every other
// tensor stands in the base.
#include <cstring>

#include "format/model_file.h"

namespace runnel {

// Whether this file and its base belong together: both state the SHA-256 of the checkpoint that they were made from.
Status Model::check_base() const {
  const auto text = [](const Model& m, bool is_hash) {
    const format::Provenance* p = m.root_->provenance();
    const flatbuffers::String* s = !p ? nullptr : is_hash ? p->source_sha256() : p->source();
    return s ? s->c_str() : "";
  };
  const bool is_adapter = requires_feature("adapter");
  if (!base_) {
    if (!is_adapter) return Status::ok();
    return Status::make(
        Code::kInvalidModel,
        "this is an adapter and no model: open the model of \"%.80s\" and name this file as its adapter",
        text(*this, false));
  }
  if (!is_adapter) return Status::make(Code::kInvalidModel, "this is no adapter (made by runnel-convert --adapter)");
  if (base_->requires_feature("adapter")) return Status::make(Code::kInvalidModel, "an adapter of an adapter");
  if (*text(*this, true) && std::strcmp(text(*this, true), text(*base_, true)) == 0) return Status::ok();
  return Status::make(Code::kInvalidModel,
                      "the adapter is for the model \"%.80s\" with SHA-256 %.16s..., but this one was made from "
                      "\"%.80s\" with %.16s...",
                      text(*this, false), text(*this, true), text(*base_, false), text(*base_, true));
}

// Tensors mostly stand in the order of the base's: cursor is where the last one was found.
Status Model::take_from_base(const format::Tensor& t, TensorInfo& info, size_t* cursor) const {
  const Vec<TensorInfo>& all = base_->tensors_;
  for (size_t i = 0; i < all.size(); ++i) {
    const size_t at = (*cursor + i) % all.size();
    if (std::strcmp(all[at].name, info.name) != 0) continue;
    *cursor = at + 1;
    const TensorView& v = all[at].view;
    bool fits = v.rank == info.view.rank && v.dtype == DType(t.dtype());
    for (int d = 0; fits && d < v.rank; ++d) fits = v.dims[d] == info.view.dims[d];
    if (!fits)
      return Status::make(Code::kInvalidModel,
                          "tensor \"%s\" has another shape or type in the model that is adapted: convert it and the "
                          "adapter with the same version",
                          info.name);
    info.view = v;
    info.packed = all[at].packed;
    if (v.packed) info.view.packed = &info.packed;
    info.bytes = all[at].bytes;
    return Status::ok();
  }
  return Status::make(
      Code::kInvalidModel,
      "the model that is adapted has no tensor \"%.80s\": convert it and the adapter with the same version", info.name);
}

}  // namespace runnel
