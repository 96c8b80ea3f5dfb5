#include "format/model_file.h"

#include <cstring>

#include "base/xxh64.h"

namespace runnel {
namespace {

static_assert(int(format::DType::f32) == int(DType::kF32) && int(format::DType::q8) == int(DType::kQ8) &&
              int(format::DType::packed) == int(DType::kPacked));
static_assert(int(format::ScaleKind::u4) == int(ScaleKind::kU4) && int(format::ScaleKind::i8) == int(ScaleKind::kI8));
static_assert(int(format::PackedKind::bf16) == int(PackedKind::kBF16));

constexpr size_t kMaxHeader = size_t(256) << 20;

Status bad(const char* what) { return Status::make(Code::kInvalidModel, "%s", what); }

// Flatbuffers' verifier holds vectors to 4 bytes, whatever their elements need.
template <class T>
bool is_aligned(const flatbuffers::Vector<T>* v) {
  return !v || reinterpret_cast<uintptr_t>(v->Data()) % sizeof(T) == 0;
}
bool has_aligned_vectors(const format::Model& m) {
  bool all = !m.chat_program() || is_aligned(m.chat_program()->integers());
  if (m.tensors())
    for (const auto* t : *m.tensors()) all = all && is_aligned(t->shape());
  return all;
}

}  // namespace

const char* const kKnownFeatures[] = {"split", "adapter", "optional_inputs", "filled_inputs"};
const int kKnownFeatureCount = 4;

Result<std::unique_ptr<Model>> Model::make(FileView file, std::unique_ptr<Model> base, const char* where) {
  std::unique_ptr<Model> model(new (std::nothrow) Model);
  if (!model) return Status::make(Code::kOutOfMemory, "%s: no memory for the model", where);
  model->file_ = std::move(file);
  model->base_ = std::move(base);
  Status s = model->load();
  if (!s.is_ok()) return std::move(s).with_context("%s", where);
  return model;
}

Result<std::unique_ptr<Model>> Model::open(const char* path, Options options) {
  RNL_ASSIGN(file, FileView::open(path, options.copy));
  RNL_ASSIGN(model, make(std::move(file), nullptr, path));
  if (!options.adapter) return model;
  RNL_ASSIGN(adapter, FileView::open(options.adapter, options.copy));
  return make(std::move(adapter), std::move(model), options.adapter);
}

Result<std::unique_ptr<Model>> Model::open_memory(const void* data, size_t size, std::unique_ptr<Model> base) {
  RNL_ASSIGN(file, FileView::borrow(data, size));
  const char* where = base ? "adapter in memory" : "model in memory";
  return make(std::move(file), std::move(base), where);
}

Status Model::load() {
  const unsigned char* data = file_.data();
  const size_t size = file_.size();
  if (size < 8 + kSealBytes || std::memcmp(data + 4, format::ModelIdentifier(), 4) != 0)
    return bad("not a Runnel model (no RNNL identifier)");
  Seal seal;
  std::memcpy(&seal, data + size - kSealBytes, kSealBytes);
  if (std::memcmp(seal.magic, kSealMagic, 8) != 0)
    return bad("the file is truncated or was not written to its end (no seal)");
  if (seal.file_bytes != size)
    return Status::make(Code::kInvalidModel, "the file has %zu bytes but was written with %llu", size,
                        static_cast<unsigned long long>(seal.file_bytes));
  if (seal.header_bytes < 8 || seal.header_bytes > size - kSealBytes || seal.header_bytes > kMaxHeader)
    return bad("the header's size is out of range");
  header_bytes_ = size_t(seal.header_bytes);
  fingerprint_ = xxh64(data, header_bytes_);
  if (fingerprint_ != seal.header_checksum) return bad("the header is damaged (checksum differs)");

  flatbuffers::Verifier verifier(data, header_bytes_, 64, 4u << 20);
  if (!format::VerifyModelBuffer(verifier)) return bad("the header is not a valid flatbuffer");
  root_ = format::GetModel(data);
  if (!has_aligned_vectors(*root_)) return bad("the header has a list of 8-byte numbers that is not aligned");
  if (root_->version_major() != kFormatMajor || root_->version_minor() > kFormatMinor)
    return Status::make(Code::kUnsupported, "format version %u.%u; this runtime reads %u.0 to %u.%u: %s",
                        root_->version_major(), root_->version_minor(), kFormatMajor, kFormatMajor, kFormatMinor,
                        root_->version_major() < kFormatMajor ? "convert the model again" : "update the runtime");
  if (root_->features())
    for (const auto* f : *root_->features()) {
      bool known = false;
      for (int i = 0; i < kKnownFeatureCount; ++i) known = known || std::strcmp(f->c_str(), kKnownFeatures[i]) == 0;
      if (!known)
        return Status::make(
            Code::kUnsupported,
            "the model requires the feature \"%.80s\", which this runtime does not have: update the runtime",
            f->c_str());
    }
  RNL_TRY(check_base());
  size_t values = 0, ops = 0;
  if (!root_->programs() || root_->programs()->size() == 0) return bad("the model has no program");
  if (root_->programs()->size() > kMaxPrograms)
    return Status::make(Code::kUnsupported, "%u programs, at most %zu", root_->programs()->size(), kMaxPrograms);
  for (const auto* p : *root_->programs()) {
    values += (p->values() ? p->values()->size() : 0) + (p->inputs() ? p->inputs()->size() : 0);
    ops += p->ops() ? p->ops()->size() : 0;
  }
  if (values > kMaxValues || ops > kMaxOps)
    return Status::make(Code::kUnsupported, "%zu operators and %zu values, at most %zu and %zu", ops, values, kMaxOps,
                        kMaxValues);
  size_t names = 64 + values;
  if (root_->tensors()) names += root_->tensors()->size();
  if (root_->states()) names += root_->states()->size();
  size_t slots = 128;
  while (slots < 2 * names) slots *= 2;
  RNL_TRY(names_.assign(slots));

  RNL_TRY(load_symbols());
  RNL_TRY(load_segments());
  RNL_TRY(load_tensors());
  RNL_TRY(load_states());
  RNL_TRY(load_programs());
  names_ = {};
  if (base_) {
    const uint64_t both[2] = {fingerprint_, base_->fingerprint_};
    fingerprint_ = xxh64(both, sizeof both);
  }
  return Status::ok();
}

bool Model::requires_feature(const char* feature) const {
  if (root_->features())
    for (const auto* f : *root_->features())
      if (std::strcmp(f->c_str(), feature) == 0) return true;
  return false;
}

Status Model::load_symbols() {
  if (!root_->symbols()) return Status::ok();
  for (const auto* s : *root_->symbols()) {
    RNL_TRY(exprs_.add_symbol(s->name()->c_str()));
    SymbolInfo info{s->name()->c_str(), s->kind(), 0};
    if (s->kind() == format::SymbolKind::axis || s->kind() == format::SymbolKind::result) {
      if (!s->bound()) return Status::make(Code::kInvalidModel, "symbol \"%s\" has no bound", info.name);
      RNL_ASSIGN(bound, exprs_.parse(s->bound()->c_str(), exprs_.symbol_count() - 1));
      info.bound = bound;
    } else if (s->kind() != format::SymbolKind::option) {
      return Status::make(Code::kUnsupported, "symbol \"%s\" has kind %d, unknown to this runtime", info.name,
                          int(s->kind()));
    } else if (option_count_ != int(symbols_.size())) {
      return Status::make(Code::kInvalidModel, "option symbol \"%s\" stands behind another kind", info.name);
    } else {
      ++option_count_;
    }
    RNL_TRY(symbols_.push(info));
  }
  return Status::ok();
}

Status Model::load_segments() {
  if (!root_->segments()) return Status::ok();
  const uint64_t limit = file_.size() - kSealBytes;
  uint64_t end = header_bytes_;
  uint32_t i = 0;
  for (const auto* s : *root_->segments()) {
    if (s->offset() % kSegmentAlignment)
      return Status::make(Code::kInvalidModel, "segment %u is not aligned to %zu bytes", i, kSegmentAlignment);
    if (s->offset() < end) return Status::make(Code::kInvalidModel, "segment %u overlaps what stands before it", i);
    if (s->offset() > limit || s->bytes() > limit - s->offset())
      return Status::make(Code::kInvalidModel, "segment %u ends behind the end of the file", i);
    if (s->kind() > format::SegmentKind::MAX)
      return Status::make(Code::kUnsupported, "segment %u has kind %d, unknown to this runtime", i, int(s->kind()));
    end = s->offset() + s->bytes();
    ++i;
  }
  return Status::ok();
}

Status Model::load_tensors() {
  if (!root_->tensors()) return Status::ok();
  RNL_TRY(tensors_.assign(root_->tensors()->size()));  // views point into it: never grows
  uint32_t index = 0;
  size_t cursor = 0;
  for (const auto* t : *root_->tensors()) {
    const char* name = t->name()->c_str();
    TensorInfo& info = tensors_[index];
    info.name = name;
    info.segment = t->segment();
    const uint32_t rank = t->shape() ? t->shape()->size() : 0;
    if (rank > kMaxRank)
      return Status::make(Code::kInvalidModel, "tensor \"%s\" has %u axes, at most %d", name, rank, kMaxRank);
    uint64_t count = 1;
    for (uint32_t d = 0; d < rank; ++d) {
      const uint64_t dim = t->shape()->Get(d);
      // An empty axis counts as one here, so that no product of some axes is too large either.
      if (dim > uint64_t(kMaxSize) || __builtin_mul_overflow(count, dim ? dim : 1, &count) ||
          count > uint64_t(kMaxSize))
        return Status::make(Code::kInvalidModel, "tensor \"%s\" is too large", name);
      info.view.dims[d] = int64_t(dim);
    }
    for (uint32_t d = 0; d < rank; ++d) count = info.view.dims[d] ? count : 0;
    info.view.rank = int32_t(rank);
    info.view.dtype = DType(t->dtype());
    if (base_ && t->segment() == kBaseSegment) {
      RNL_TRY(take_from_base(*t, info, &cursor));
      RNL_TRY(index_name(name, Operand::Kind::kTensor, index++));
      continue;
    }
    if (t->dtype() == format::DType::packed) {
      const format::Packed* p = t->packed();
      if (!p || rank != 2 || info.view.dims[1] >= int64_t(1) << 31 || info.view.dims[0] >= int64_t(1) << 31)
        return Status::make(Code::kInvalidModel, "packed tensor \"%s\" is not a matrix with a format", name);
      info.packed = {PackedKind(p->kind()), p->bits(), p->block(), p->zero_point(), p->has_min(),
                     ScaleKind(p->scale()), p->split()};
      if (p->kind() > format::PackedKind::MAX || p->scale() > format::ScaleKind::MAX || !info.packed.is_valid())
        return Status::make(
            Code::kUnsupported,
            "tensor \"%s\" has a block format unknown to this runtime (kind %d, %d bits, block %d, scales %d)", name,
            int(p->kind()), p->bits(), p->block(), int(p->scale()));
      if (p->split() && !requires_feature("split"))
        return Status::make(Code::kInvalidModel,
                            "tensor \"%s\" is split, but the model does not require the feature \"split\"", name);
      // Rows and columns are filled up; a weight takes 4 bytes and its share of scales at most.
      if (kIsNarrow && (info.view.dims[0] + kTileRows) * (info.view.dims[1] + kSuperColumns) > int64_t(1) << 29)
        return Status::make(Code::kUnsupported, "tensor \"%s\" is too large for addresses of 32 bits", name);
      info.view.packed = &info.packed;
      info.bytes = info.packed.matrix_bytes(info.view.dims[0], info.view.dims[1]);
    } else {
      const size_t element = dtype_bytes(info.view.dtype);
      if (t->dtype() > format::DType::MAX || element == 0)
        return Status::make(Code::kUnsupported, "tensor \"%s\" has dtype %d, unknown to this runtime", name,
                            int(t->dtype()));
      if (count > SIZE_MAX / element)
        return Status::make(Code::kUnsupported, "tensor \"%s\" is too large for addresses of 32 bits", name);
      info.bytes = size_t(count) * element;
    }
    if (info.bytes != t->bytes())
      return Status::make(Code::kInvalidModel, "tensor \"%s\" has %llu bytes where its shape needs %zu", name,
                          static_cast<unsigned long long>(t->bytes()), info.bytes);
    if (!root_->segments() || t->segment() >= root_->segments()->size())
      return Status::make(Code::kInvalidModel, "tensor \"%s\" is in segment %u, which does not exist", name,
                          t->segment());
    const format::Segment* s = root_->segments()->Get(t->segment());
    if (t->offset() % kTensorAlignment || t->offset() > s->bytes() || t->bytes() > s->bytes() - t->offset())
      return Status::make(Code::kInvalidModel, "tensor \"%s\" is misaligned or ends behind its segment", name);
    info.view.data = const_cast<unsigned char*>(file_.data()) + s->offset() + t->offset();
    RNL_TRY(index_name(name, Operand::Kind::kTensor, index++));
  }
  return Status::ok();
}

Result<ShapeExpr> Model::load_shape(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* dims,
                                    const char* owner, bool options_only) {
  ShapeExpr shape;
  const uint32_t rank = dims ? dims->size() : 0;
  if (rank > kMaxRank)
    return Status::make(Code::kInvalidModel, "\"%s\" has %u axes, at most %d", owner, rank, kMaxRank);
  for (uint32_t i = 0; i < rank; ++i) {
    auto id = exprs_.parse(dims->Get(i)->c_str(), options_only ? option_count_ : exprs_.symbol_count());
    if (!id.is_ok()) return id.take_status().with_context("shape of \"%s\"", owner);
    shape.dims[i] = id.value();
  }
  shape.rank = int(rank);
  return shape;
}

Status Model::load_states() {
  if (!root_->states()) return Status::ok();
  uint32_t index = 0;
  for (const auto* s : *root_->states()) {
    const char* name = s->name()->c_str();
    if (s->kind() > format::StateKind::MAX)
      return Status::make(Code::kUnsupported, "state \"%s\" has kind %d, unknown to this runtime", name,
                          int(s->kind()));
    const bool is_kept = s->kind() == format::StateKind::kept;
    RNL_ASSIGN(shape, load_shape(s->shape(), name, !is_kept));
    DType dtype = DType(s->dtype());
    // The adapter may have been made with other weights than its base, from which the types of states follow.
    for (size_t i = 0; base_ && i < base_->states_.size(); ++i)
      if (std::strcmp(base_->states_[i].name, name) == 0) dtype = base_->states_[i].dtype;
    if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kQ8)
      return Status::make(Code::kUnsupported, "state \"%s\" has dtype %d; f32, f16 and q8 are known", name,
                          int(s->dtype()));
    if (s->block_axis() >= shape.rank)
      return Status::make(Code::kInvalidModel, "state \"%s\" has no axis %d", name, s->block_axis());
    if (s->kind() == format::StateKind::recurrent) {
      RNL_TRY(load_recurrent_state(*s, dtype, shape, index++));
      continue;
    }
    if (is_kept) {
      RNL_TRY(load_kept_state(*s, dtype, shape, index++));
      continue;
    }
    if (!s->slots()) return Status::make(Code::kInvalidModel, "state \"%s\" does not say its slots", name);
    RNL_ASSIGN(slots, exprs_.parse(s->slots()->c_str(), option_count_));
    if (s->kind() == format::StateKind::ring && s->window() == 0)
      return Status::make(Code::kInvalidModel, "ring state \"%s\" has no window", name);
    RNL_TRY(states_.push(StateInfo{name, s->kind(), dtype, shape, s->block_axis(), slots, s->window(), nullptr}));
    RNL_TRY(index_name(name, Operand::Kind::kState, index++));
  }
  return Status::ok();
}

Status Model::load_recurrent_state(const format::State& s, DType dtype, const ShapeExpr& shape, uint32_t index) {
  const char* name = s.name()->c_str();
  if (dtype == DType::kQ8)
    return Status::make(Code::kInvalidModel, "recurrent state \"%s\" is q8; f32 and f16 are possible", name);
  if (s.slots() || s.window())
    return Status::make(Code::kInvalidModel, "recurrent state \"%s\" has slots or a window", name);
  const TensorInfo* initial = nullptr;
  if (s.initial()) {
    initial = find_tensor(s.initial()->c_str());
    if (!initial || initial->view.dtype != DType::kF32 || dtype != DType::kF32)
      return Status::make(Code::kInvalidModel,
                          "the initial value of state \"%s\" must be an f32 tensor and the state f32", name);
  }
  RNL_TRY(states_.push(StateInfo{name, s.kind(), dtype, shape, s.block_axis(), 0, 0, initial}));
  return index_name(name, Operand::Kind::kState, index);
}

Status Model::load_kept_state(const format::State& s, DType dtype, const ShapeExpr& shape, uint32_t index) {
  const char* name = s.name()->c_str();
  if (dtype != DType::kF32 || s.slots() || s.window() || s.initial())
    return Status::make(Code::kInvalidModel, "kept state \"%s\" is not f32, or has slots, a window or an initial value",
                        name);
  for (int d = 0; d < shape.rank; ++d) {
    int symbol = exprs_.as_symbol(shape.dims[d]);
    if (symbol >= 0 && symbols_[size_t(symbol)].kind == format::SymbolKind::axis) continue;
    for (symbol = option_count_; symbol < int(symbols_.size()); ++symbol)
      if (exprs_.depends_on(shape.dims[d], symbol))
        return Status::make(Code::kInvalidModel,
                            "kept state \"%s\": axis %d is neither a size of options nor one axis symbol alone", name,
                            d);
  }
  RNL_TRY(states_.push(StateInfo{name, s.kind(), dtype, shape, 0, 0, 0, nullptr}));
  return index_name(name, Operand::Kind::kState, index);
}

Status Model::index_name(const char* name, Operand::Kind kind, uint32_t index) {
  if (!*name) return bad("a value, tensor or state has an empty name");
  const size_t mask = names_.size() - 1;
  for (size_t i = size_t(xxh64(name, std::strlen(name))) & mask;; i = (i + 1) & mask) {
    NameSlot& slot = names_[i];
    const bool live = slot.name && (slot.operand.kind != Operand::Kind::kValue || slot.generation == generation_);
    if (live) {
      if (std::strcmp(slot.name, name) == 0)
        return Status::make(Code::kInvalidModel, "the name \"%.80s\" is used twice", name);
      continue;
    }
    // Free, or left by an earlier program. Looking up walks past both kinds of taken slots, so reuse keeps every chain
    // whole; a live name of this chain cannot stand further on, because values are entered after all tensors and states
    // were.
    slot = {name, {kind, index}, generation_};
    return Status::ok();
  }
}

Operand Model::find_name(const char* name) const {
  const size_t mask = names_.size() - 1;
  for (size_t i = size_t(xxh64(name, std::strlen(name))) & mask;; i = (i + 1) & mask) {
    const NameSlot& slot = names_[i];
    if (!slot.name) return {};
    if (slot.operand.kind == Operand::Kind::kValue && slot.generation != generation_) continue;
    if (std::strcmp(slot.name, name) == 0) return slot.operand;
  }
}

const ProgramInfo* Model::find_program(const char* name) const {
  if (!name) return &programs_[0];
  for (const ProgramInfo& p : programs_)
    if (std::strcmp(p.name, name) == 0) return &p;
  return nullptr;
}

const TensorInfo* Model::find_tensor(const char* name) const {
  for (const TensorInfo& t : tensors_)
    if (std::strcmp(t.name, name) == 0) return &t;
  return nullptr;
}

uint64_t Model::segment_bytes(format::SegmentKind kind) const {
  uint64_t n = base_ ? base_->segment_bytes(kind) : 0;
  if (root_->segments())
    for (const auto* s : *root_->segments())
      if (s->kind() == kind) n += s->bytes();
  return n;
}

size_t Model::memory_bytes() const {
  size_t n = (base_ ? base_->memory_bytes() : 0) + sizeof *this + symbols_.bytes() + tensors_.bytes() +
             states_.bytes() + programs_.bytes();
  for (const ProgramInfo& p : programs_) n += p.values.bytes() + p.outputs.bytes() + p.operands.bytes() + p.ops.bytes();
  return n;
}

Status Model::verify_segments() const {
  if (base_) RNL_TRY(base_->verify_segments());
  if (!root_->segments()) return Status::ok();
  uint32_t i = 0;
  for (const auto* s : *root_->segments()) {
    const uint64_t got = xxh64(file_.data() + s->offset(), size_t(s->bytes()));
    if (got != s->checksum())
      return Status::make(Code::kInvalidModel,
                          "segment %u (%llu bytes at %llu) is damaged: checksum %016llx, expected %016llx", i,
                          static_cast<unsigned long long>(s->bytes()), static_cast<unsigned long long>(s->offset()),
                          static_cast<unsigned long long>(got), static_cast<unsigned long long>(s->checksum()));
    ++i;
  }
  return Status::ok();
}

}  // namespace runnel
