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

const char* const kKnownFeatures[] = {"split", "adapter", "optional_inputs"};
const int kKnownFeatureCount = 3;

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
  for (const auto* p : *root_->programs()) {
    Status s = load_program(*p);
    if (!s.is_ok()) return std::move(s).with_context("program \"%.80s\"", p->name()->c_str());
  }
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
    if (s->kind() == format::SymbolKind::axis) {
      if (!s->bound()) return Status::make(Code::kInvalidModel, "symbol \"%s\" has no bound", info.name);
      RNL_ASSIGN(bound, exprs_.parse(s->bound()->c_str(), exprs_.symbol_count() - 1));
      info.bound = bound;
    } else if (s->kind() != format::SymbolKind::option) {
      return Status::make(Code::kUnsupported, "symbol \"%s\" has kind %d, unknown to this runtime", info.name,
                          int(s->kind()));
    } else if (option_count_ != int(symbols_.size())) {
      return Status::make(Code::kInvalidModel, "option symbol \"%s\" stands behind an axis symbol", info.name);
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
      info.view.packed = &info.packed;
      info.bytes = info.packed.matrix_bytes(info.view.dims[0], info.view.dims[1]);
    } else {
      const size_t element = dtype_bytes(info.view.dtype);
      if (t->dtype() > format::DType::MAX || element == 0)
        return Status::make(Code::kUnsupported, "tensor \"%s\" has dtype %d, unknown to this runtime", name,
                            int(t->dtype()));
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
    RNL_ASSIGN(shape, load_shape(s->shape(), name, true));
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

Status Model::load_program(const format::Program& p) {
  ++generation_;
  RNL_TRY(programs_.push(ProgramInfo{}));
  ProgramInfo& program = programs_.back();
  program.name = p.name()->c_str();
  for (size_t i = 0; i + 1 < programs_.size(); ++i)
    if (std::strcmp(programs_[i].name, program.name) == 0) return bad("the name is used twice");

  auto add_values = [&](const flatbuffers::Vector<flatbuffers::Offset<format::Value>>* list) -> Status {
    if (!list) return Status::ok();
    for (const auto* v : *list) {
      const char* name = v->name()->c_str();
      const DType dtype = DType(v->dtype());
      if (v->dtype() > format::DType::MAX || dtype_bytes(dtype) == 0)
        return Status::make(Code::kUnsupported, "value \"%s\" has dtype %d, unknown to this runtime", name,
                            int(v->dtype()));
      if (v->role() > format::Role::MAX)
        return Status::make(Code::kUnsupported, "value \"%s\" has role %d, unknown to this runtime", name,
                            int(v->role()));
      RNL_ASSIGN(shape, load_shape(v->shape(), name, false));
      // The session writes these by itself, as whole numbers one after the other.
      const bool can_be_float = v->role() == format::Role::positions || v->role() == format::Role::context;
      if (is_filled_in(v->role()) &&
          ((dtype != DType::kI32 && !(can_be_float && dtype == DType::kF32)) || shape.rank != 1))
        return Status::make(Code::kInvalidModel, "value \"%s\" has role %s but is no vector of i32%s", name,
                            format::EnumNameRole(v->role()), can_be_float ? " or f32" : "");
      RNL_TRY(index_name(name, Operand::Kind::kValue, uint32_t(program.values.size())));
      if (v->optional()) {
        if (list != p.inputs() || v->role() != format::Role::none)
          return Status::make(Code::kInvalidModel, "value \"%s\" is optional but no input without a role", name);
        if (!requires_feature("optional_inputs"))
          return Status::make(
              Code::kInvalidModel,
              "input \"%s\" is optional, but the model does not require the feature \"optional_inputs\"", name);
        if (program.values.size() >= 64)
          return Status::make(Code::kUnsupported, "input \"%s\" is optional, but not among the first 64", name);
        program.optional_inputs |= uint64_t(1) << program.values.size();
      }
      RNL_TRY(program.values.push(ValueInfo{name, dtype, shape, v->role()}));
    }
    return Status::ok();
  };
  RNL_TRY(add_values(p.inputs()));
  program.input_count = uint32_t(program.values.size());
  RNL_TRY(add_values(p.values()));

  Vec<uint8_t> produced;
  RNL_TRY(produced.assign(program.values.size()));
  for (uint32_t i = 0; i < program.input_count; ++i) produced[i] = 1;
  uint32_t index = 0;
  if (p.ops())
    for (const auto* op : *p.ops()) {
      Status s = load_op(*op, program, produced);
      if (!s.is_ok()) return std::move(s).with_context("operator %u (%.40s)", index, op->name()->c_str());
      ++index;
    }
  RNL_TRY(check_recurrent_states(program));
  RNL_TRY(put_head_last(program));
  for (size_t i = 0; i < program.values.size(); ++i)
    if (!produced[i])
      return Status::make(Code::kInvalidModel, "value \"%s\" is never computed", program.values[i].name);
  if (!p.outputs() || p.outputs()->size() == 0) return bad("no outputs");
  program.required_outputs = p.outputs()->size();
  for (const auto* list : {p.outputs(), p.optional_outputs()})
    for (uint32_t i = 0; list && i < list->size(); ++i) {
      const char* name = list->Get(i)->c_str();
      const Operand o = find_name(name);
      if (o.kind != Operand::Kind::kValue)
        return Status::make(Code::kInvalidModel, "output \"%.80s\" is not a value of the program", name);
      if (program.is_optional(o.index))
        return Status::make(Code::kInvalidModel, "output \"%.80s\" is an optional input", name);
      RNL_TRY(program.outputs.push(o.index));
    }
  if (program.outputs.size() > program.required_outputs && program.outputs.size() > 64)
    return bad("more than 64 outputs, some of them optional");
  return Status::ok();
}

// A state as an output: recurrent, and an input of the same operator.
Status Model::check_state_output(const ProgramInfo& program, const OpInfo& op, uint32_t state) const {
  const StateInfo& s = states_[state];
  if (!s.is_recurrent())
    return Status::make(Code::kInvalidModel, "state \"%s\" is an output but not recurrent", s.name);
  int as_input = 0, as_output = 1;
  for (uint32_t k = op.first_operand; k < program.operands.size(); ++k) {
    const Operand& o = program.operands[k];
    if (o.kind == Operand::Kind::kState && o.index == state)
      ++(k < op.first_operand + op.in_count ? as_input : as_output);
  }
  if (as_input == 1 && as_output == 1) return Status::ok();
  return Status::make(Code::kInvalidModel,
                      "recurrent state \"%s\" must be one input and one output of the same operator", s.name);
}

// Behind the operator that replaces a recurrent state no other may see it: whether it saw the old or the new one would
// be chance.
Status Model::check_recurrent_states(const ProgramInfo& program) const {
  Vec<uint8_t> replaced;
  RNL_TRY(replaced.assign(states_.size()));
  for (const OpInfo& op : program.ops)
    for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k) {
      const Operand& o = program.operands[op.first_operand + k];
      if (o.kind != Operand::Kind::kState || !states_[o.index].is_recurrent()) continue;
      if (replaced[o.index])
        return Status::make(Code::kInvalidModel, "recurrent state \"%s\" is used after an operator replaced it",
                            states_[o.index].name);
      if (k >= op.in_count) replaced[o.index] = 1;
    }
  return Status::ok();
}

Status Model::load_op(const format::Op& op, ProgramInfo& program, Vec<uint8_t>& produced) {
  const OpDef* def = find_op(op.code());
  if (const char* known = op_name(op.code()); !def && known && std::strcmp(known, op.name()->c_str()) == 0)
    return Status::make(Code::kUnsupported, "this runtime is built without operator \"%s\"", known);
  if (!def || std::strcmp(def->name, op.name()->c_str()) != 0)
    return Status::make(Code::kUnsupported,
                        "operator \"%.40s\" (number %u) is unknown to this runtime: update the runtime",
                        op.name()->c_str(), op.code());
  if (op.version() == 0 || op.version() > def->version)
    return Status::make(Code::kUnsupported,
                        "version %u of the operator; this runtime knows 1 to %u: update the runtime", op.version(),
                        def->version);
  const uint32_t ins = op.inputs() ? op.inputs()->size() : 0, outs = op.outputs() ? op.outputs()->size() : 0;
  if (ins < def->min_in || ins > def->max_in || outs < def->min_out || outs > def->max_out)
    return Status::make(Code::kInvalidModel, "%u inputs and %u outputs; it takes %u..%u and %u..%u", ins, outs,
                        def->min_in, def->max_in, def->min_out, def->max_out);
  if (uint8_t(op.attrs_type()) != 0 && uint8_t(op.attrs_type()) != def->attrs_type)
    return Status::make(Code::kUnsupported, "attribute table %d does not belong to this operator",
                        int(op.attrs_type()));
  OpInfo info{def, {}, uint32_t(program.operands.size()), uint16_t(ins), uint16_t(outs)};
  RNL_TRY(def->parse(op.attrs_type() == format::Attrs::NONE ? nullptr : op.attrs(), &info.params));
  for (uint32_t i = 0; i < ins; ++i) {
    const char* name = op.inputs()->Get(i)->c_str();
    Operand o;
    if (*name) {
      o = find_name(name);
      if (o.kind == Operand::Kind::kAbsent)
        return Status::make(Code::kInvalidModel, "input \"%.80s\" does not exist", name);
      if (o.kind == Operand::Kind::kValue && !produced[o.index])
        return Status::make(Code::kInvalidModel, "input \"%.80s\" is used before it is computed", name);
      if (i < def->min_in && o.kind == Operand::Kind::kValue && program.is_optional(o.index))
        return Status::make(Code::kInvalidModel, "input %u is not optional, but \"%.80s\" is", i, name);
    } else if (i < def->min_in) {
      return Status::make(Code::kInvalidModel, "input %u is not optional", i);
    }
    RNL_TRY(program.operands.push(o));
  }
  for (uint32_t i = 0; i < outs; ++i) {
    const char* name = op.outputs()->Get(i)->c_str();
    Operand o;
    if (*name) o = find_name(name);
    else if (i < def->min_out) return Status::make(Code::kInvalidModel, "output %u is not optional", i);
    if (i > 0 && (!*name || o.kind == Operand::Kind::kState)) {
      if (*name) RNL_TRY(check_state_output(program, info, o.index));
      RNL_TRY(program.operands.push(o));
      continue;
    }
    if (o.kind != Operand::Kind::kValue)
      return Status::make(Code::kInvalidModel, "output \"%.80s\" is not a value of the program", name);
    if (produced[o.index]) return Status::make(Code::kInvalidModel, "output \"%.80s\" is computed twice", name);
    produced[o.index] = 1;
    RNL_TRY(program.operands.push(o));
  }
  return program.ops.push(info);
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
