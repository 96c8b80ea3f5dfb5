// Opens and verifies a .rnl file. After open() succeeded, every index, name, offset and size that the rest of the
// runtime follows has been checked; weights themselves are not read (verify_segments does that).
//
// Layout: the flatbuffer (identifier RNNL), zero bytes up to the first 16 KiB boundary, segments, then a seal of 32
// bytes: u64 file bytes (seal included), u64 flatbuffer bytes, u64 XXH64 of the flatbuffer, "RNLSEAL1".
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/vec.h"
#include "contract/dtype.h"
#include "contract/op.h"
#include "format/control.h"
#include "format/expr.h"
#include "format/model_generated.h"
#include "format/packed.h"

namespace runnel {

inline constexpr uint16_t kFormatMajor = 1;
inline constexpr uint16_t kFormatMinor = 0;
inline constexpr size_t kSegmentAlignment = 16384;
inline constexpr size_t kTensorAlignment = 64;
inline constexpr size_t kSealBytes = 32;
inline constexpr char kSealMagic[9] = "RNLSEAL1";
// Operators and values of a file, all programs together; placing them in memory takes time that grows with their
// square.
inline constexpr size_t kMaxOps = 16384, kMaxValues = 32768;
inline constexpr size_t kMaxPrograms = 254;
// Of an adapter's tensor: it stands in the file that is adapted, under the same name.
inline constexpr uint32_t kBaseSegment = UINT32_MAX;

struct Seal {
  uint64_t file_bytes;
  uint64_t header_bytes;
  uint64_t header_checksum;
  char magic[8];
};
static_assert(sizeof(Seal) == kSealBytes);

// Features that a file may require of this runtime.
extern const char* const kKnownFeatures[];
extern const int kKnownFeatureCount;

struct ShapeExpr {
  ExprId dims[kMaxRank];
  int rank = 0;
};

struct TensorInfo {
  const char* name;
  TensorView view;      // dims and data in the mapped file
  PackedFormat packed;  // view.packed points here when dtype is kPacked
  size_t bytes;
  uint32_t segment;
};

struct StateInfo {
  const char* name;
  format::StateKind kind;
  DType dtype;
  ShapeExpr shape;
  int block_axis;
  ExprId slots;
  uint32_t window;            // ring: newest positions that operators read
  const TensorInfo* initial;  // recurrent: what a stream starts with; null: zeros
  bool is_recurrent() const { return kind == format::StateKind::recurrent; }
  bool has_slots() const {
    return kind == format::StateKind::ring || kind == format::StateKind::append || kind == format::StateKind::first;
  }
};

struct ValueInfo {
  const char* name;
  DType dtype;
  ShapeExpr shape;
  format::Role role;
  bool is_filled = false;  // without a role, and each element is `fill` where a call leaves it out
  int32_t fill = 0;
  // Whether the session can write such an input by itself.
  bool is_filled_in() const {
    return is_filled || role == format::Role::positions || role == format::Role::rows || role == format::Role::context;
  }
};

struct Operand {
  enum class Kind : uint8_t { kAbsent, kValue, kTensor, kState };
  Kind kind = Kind::kAbsent;
  uint32_t index = 0;  // into the program's values, or the model's tensors or states
  bool operator==(const Operand& o) const { return kind == o.kind && index == o.index; }
};

struct OpInfo {
  const OpDef* def;
  OpParams params;
  uint32_t first_operand;  // into ProgramInfo::operands: inputs, then outputs
  uint16_t in_count, out_count;
};

// Operators [begin, end) that run under a condition. if: [begin, middle) or [middle, end). loop: all of them, in
// rounds.
struct Region {
  uint32_t begin, middle, end;
  bool is_loop;
  Operand number;            // the condition of if; how many rounds, of loop
  Operand first, condition;  // of loop: whether there is a first round, and behind a round whether there is another
  uint32_t round;            // of loop: the value that gets the round's number
};

// A size that is known behind an operator: the first element of a value.
struct ResultSize {
  uint32_t op, value;
  int symbol;
};

struct ProgramInfo {
  const char* name;
  Vec<ValueInfo> values;  // inputs first
  uint32_t input_count = 0;
  uint64_t optional_inputs = 0;  // bit i: input i, which a call may leave out
  bool is_optional(uint32_t value) const { return value < 64 && (optional_inputs >> value & 1); }
  Vec<uint32_t> outputs;  // value indices, those that every call gives first
  uint32_t required_outputs = 0;
  Vec<Operand> operands;
  Vec<OpInfo> ops;
  // The head: operators from here on compute for the rows that are wanted, what stands before them for every token
  // (format/head.cpp).
  uint32_t head_begin = 0;
  Vec<Region> regions;      // by begin, outer ones first
  Vec<ResultSize> results;  // one a symbol
  bool is_conditional(uint32_t op) const {
    for (const Region& r : regions)
      if (op >= r.begin && op < r.end) return true;
    return false;
  }
};

struct SymbolInfo {
  const char* name;
  format::SymbolKind kind;
  ExprId bound;  // axis and result symbols
};

class Model {
 public:
  struct Options {
    bool copy = false;              // read into memory instead of mapping
    const char* adapter = nullptr;  // a file that adapts the one that is opened
  };
  static Result<std::unique_ptr<Model>> open(const char* path, Options options);
  // data stays the caller's and must outlive the model. base: the model that data adapts.
  static Result<std::unique_ptr<Model>> open_memory(const void* data, size_t size,
                                                    std::unique_ptr<Model> base = nullptr);

  const format::Model& root() const { return *root_; }
  const ExprPool& exprs() const { return exprs_; }
  const Vec<SymbolInfo>& symbols() const { return symbols_; }
  const Vec<TensorInfo>& tensors() const { return tensors_; }
  const Vec<StateInfo>& states() const { return states_; }
  const Vec<ProgramInfo>& programs() const { return programs_; }
  const ProgramInfo* find_program(const char* name) const;  // null: unknown. name null: the first
  // The first axis symbol whose bound is this option alone, -1: there is none.
  int axis_bounded_by(const char* option) const;
  bool depends_on(const ShapeExpr& shape, int symbol) const;
  const TensorInfo* find_tensor(const char* name) const;
  // The model whose tensors this one uses, when this is an adapter.
  const Model* base() const { return base_.get(); }
  size_t file_bytes() const { return file_.size() + (base_ ? base_->file_bytes() : 0); }
  // The mapped file, of an adapted model that of the base; empty when the model lies in other memory.
  HostRange mapping() const {
    return base_               ? base_->mapping()
           : file_.is_mapped() ? HostRange{const_cast<unsigned char*>(file_.data()), file_.size()}
                               : HostRange{nullptr, 0};
  }
  // Bytes of all segments of a kind, the base's too.
  uint64_t segment_bytes(format::SegmentKind kind) const;
  uint64_t fingerprint() const {
    return fingerprint_;
  }  // checksum of the flatbuffer, which holds the segments' checksums; of an adapter and its base together
  size_t memory_bytes() const;  // heap that this object holds

  // Whether this name leads to the file of the model or of its base.
  bool is_at(const char* path) const { return file_.is_at(path) || (base_ && base_->is_at(path)); }
  // Reads every segment and compares checksums.
  Status verify_segments() const;

 private:
  static Result<std::unique_ptr<Model>> make(FileView file, std::unique_ptr<Model> base, const char* where);
  Status load();
  Status check_base() const;
  Status take_from_base(const format::Tensor& t, TensorInfo& info, size_t* cursor) const;
  bool requires_feature(const char* feature) const;
  Status load_symbols();
  Status load_segments();
  Status load_tensors();
  Status load_states();
  Status load_kept_state(const format::State& s, DType dtype, const ShapeExpr& shape, uint32_t index);
  Status load_recurrent_state(const format::State& s, DType dtype, const ShapeExpr& shape, uint32_t index);
  Status check_state_output(const ProgramInfo& program, const OpInfo& op, uint32_t state) const;
  Status check_states(const ProgramInfo& program) const;
  Status load_programs();
  Status load_program(const format::Program& p, uint32_t number);
  Status load_result(const format::Value& v, DType dtype, const ShapeExpr& shape, bool is_input, ProgramInfo& program);
  Status check_results(const ProgramInfo& program) const;
  Status check_count() const;
  // link.cpp
  struct Linker;
  Status load_control(const format::Op& op, uint32_t program, Vec<uint8_t>& produced);
  Status load_op(const format::Op& op, ProgramInfo& program, Vec<uint8_t>& produced);
  // An operator's input: absent where the name is empty.
  Result<Operand> read_input(const char* name, const Vec<uint8_t>& produced) const;
  Status put_head_last(ProgramInfo& program) const;
  Result<ShapeExpr> load_shape(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* dims,
                               const char* owner, bool options_only);
  Status index_name(const char* name, Operand::Kind kind, uint32_t index);
  Operand find_name(const char* name) const;

  FileView file_;
  std::unique_ptr<Model> base_;
  const format::Model* root_ = nullptr;
  size_t header_bytes_ = 0;
  uint64_t fingerprint_ = 0;
  ExprPool exprs_;
  Vec<SymbolInfo> symbols_;
  int option_count_ = 0;
  Vec<TensorInfo> tensors_;
  Vec<StateInfo> states_;
  Vec<ProgramInfo> programs_;

  // Open-addressing table from names to operands; program values are entered with a generation and forgotten after
  // their program.
  struct NameSlot {
    const char* name = nullptr;
    Operand operand;
    uint32_t generation = 0;
  };
  Vec<NameSlot> names_;
  uint32_t generation_ = 0;
};

}  // namespace runnel
