// What an operator is made of. Plain data and function pointers only: this header is included by kernels that are
// compiled for other instruction sets, so it must not contain inline code that a linker could share between them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract/dtype.h"

namespace runnel {

class Status;
class ThreadPool;
struct PackedFormat;

inline constexpr int kMaxRank = 6;
inline constexpr int kMaxOpInputs = 17;
inline constexpr int kMaxOpOutputs = 8;

// A dense row-major array, or a packed matrix (dtype kPacked, dims {rows, columns}, layout in format/packed.h), or a q8
// state. dtype kNone: an optional input that is absent. data is 64-byte aligned for weights, activations and states,
// and null while a call is only checked. Not owned.
struct TensorView {
  void* data;
  const PackedFormat* packed;
  int64_t dims[kMaxRank];
  int32_t rank;
  DType dtype;
};

// Decoded attributes; each operator casts this to its own plain struct (see <op>.h), which must fit.
struct alignas(8) OpParams {
  unsigned char bytes[64];
};

struct OpCall {
  const TensorView* in;
  const TensorView* out;
  int32_t in_count;  // trailing absent inputs may be cut
  int32_t out_count;
  const OpParams* params;
  int64_t position;        // tokens that the stream held before this call; states hold exactly these
  unsigned char* scratch;  // 64-byte aligned, as many bytes as the kernel asked for
  ThreadPool* pool;
  // k > 0: of an operator with one row of output, only the k highest elements are wanted; others may be -infinity. 0:
  // all of them.
  int32_t best = 0;
  // Not null: of such an operator only these elements are wanted, ascending and within the row.
  const int32_t* wanted = nullptr;
  int32_t wanted_count = 0;
};

// One implementation. name: <op>_<dtypes>__<isa>[_<tile>].
struct Kernel {
  const char* name;
  // Whether it can compute a call of these shapes and dtypes (already accepted by OpDef::check). Null: always.
  bool (*supports)(const OpCall& call);
  // Scratch bytes at these shapes with this many workers. Null: none. Must not shrink when a dimension grows.
  size_t (*scratch_bytes)(const OpCall& call, int workers);
  void (*run)(const OpCall& call);
};

// A flatbuffer table without fields: whatever table it is taken for, every field has the schema's default.
extern const void* const kNoAttributes;

// How an operator uses states that have slots.
struct SlotUse {
  bool writes;     // the call's tokens; else it only reads what another operator wrote
  int64_t window;  // newest positions that it reads; 0: all of them
  int64_t stride;  // positions of the stream for each slot
  int64_t first;   // above 0: only positions below it have a slot
};

struct OpDef {
  const char* name;
  // Decodes the flatbuffer attribute table (kNoAttributes when the file has none) into params. Rejects values out of
  // range.
  Status (*parse)(const void* attrs, OpParams* params);
  // Proves shapes and dtypes: after it returned ok, a kernel may index without checks. Data pointers are not read.
  Status (*check)(const OpCall& call);
  // Proves what depends on data (indices), before each run. Null: nothing does.
  Status (*check_data)(const OpCall& call);
  // The formula as plain scalar code with wide accumulators. Single thread, no scratch, any supported dtype.
  void (*reference)(const OpCall& call);
  // Of an accepted call that has states with slots. Null: the operator takes no such states.
  SlotUse (*use_slots)(const OpCall& call);
  uint16_t number;
  uint16_t version;
  uint8_t min_in, max_in, min_out, max_out;
  uint8_t attrs_type;  // format::Attrs value, 0 = none
  // Output 0 is input 0 with another shape: the planner may give both the same memory and then skip the run.
  bool is_view;
};

// Registry look-ups; null when unknown.
const OpDef* find_op(uint16_t number);
const OpDef* find_op_by_name(const char* name);
// Name of the operator with this number in the registry, whether or not this library was built with it; null: no such
// number.
const char* op_name(uint16_t number);
// All rows in registry order.
const OpDef* const* all_ops(int* count);

}  // namespace runnel
