// From a model and options to every size, offset and kernel: nothing is allocated or chosen after this.
//
// Memory: each activation of a program (inputs and outputs too) gets an offset in one arena, found by best fit over
// lifetimes, largest first; programs share the arena because one runs at a time. States get offsets in one block. A
// value's place is sized from the upper bounds of the symbols; a call with smaller sizes uses the front of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"
#include "cpu/kernels.h"
#include "format/model_file.h"

namespace runnel {

inline constexpr size_t kArenaAlignment = 64;
inline constexpr size_t kStateAlignment = 256;
inline constexpr int64_t kDefaultContext = 4096;
inline constexpr int64_t kDefaultChunk = 256;
inline constexpr int kMaxOptionalOperands = 4;
// Without a rollback window recurrent states keep one checkpoint at most so old, to which a call that fails can go
// back.
inline constexpr int64_t kReplayWindow = 64;
// Buffers of a recurrent state. With a rollback window: two checkpoints, the one that a call of several passes goes
// back to when it fails, the value before the last call, and the present one; without: one checkpoint and the present
// one.
constexpr int recurrent_copies(int64_t rollback) { return rollback > 0 ? 5 : 2; }

enum class BackendKind : uint8_t { kCpu = 0, kVulkan = 1 };

struct PlanOptions {
  int64_t context = 0;      // tokens of a stream; 0: min(the model's, 4096)
  int64_t chunk = 0;        // tokens of one internal pass; 0: 256, at most the context
  int64_t rows = 1;         // rows of outputs that one pass of the head computes
  int64_t rollback = 64;    // tokens that can be taken back at any time
  DType kv = DType::kNone;  // kNone: as the file says
  int threads = 1;
  uint64_t budget_bytes = 0;  // 0: no limit; else state + arena must fit
  BackendKind backend = BackendKind::kCpu;
  int64_t snapshot_every = 256;  // tokens that a session on a device may have to compute again on the CPU when the
                                 // device is lost
};

struct MemoryReport {
  uint64_t weights = 0;    // mapped weight segments
  uint64_t tokenizer = 0;  // mapped vocabulary and index segments
  uint64_t state = 0;      // state block
  uint64_t arena = 0;      // activations and scratch
  uint64_t packed = 0;     // copies of weights made for a library
  uint64_t fixed = 0;      // tables of model, plan and session
  uint64_t total() const { return weights + tokenizer + state + arena + packed + fixed; }
};

// What a call binds: sizes, and the optional inputs that it leaves out (bit i: input i of the program).
struct CallBinding : SymbolValues {
  uint64_t absent = 0;
};

struct PlannedValue {
  uint32_t storage = 0;  // the value whose memory it uses: itself unless a view shares its input's
  size_t offset = 0;     // in the arena, of the storage
  size_t bytes = 0;      // at the upper bounds
};

struct PlannedOp {
  const Kernel* kernel = nullptr;  // at the upper bounds; null: the reference
  size_t scratch_offset = 0, scratch_bytes = 0;
  bool is_skipped_view = false;  // output shares its input's memory, nothing to run
};

// How the blocks of an output that a call delivers follow each other.
struct PlannedOutput {
  enum class Kind : uint8_t {
    kRows,    // axis 0 is the rows symbol
    kTokens,  // axis 0 is a multiple of the stream's tokens, the first axis alone
    kCall     // one block a pass, of the pass as a whole
  } kind = Kind::kCall;
  int64_t per_token = 0;  // kTokens: indices of axis 0 for each token
  // Depends on the tokens of a pass together, so that it would change with `chunk`: refused for calls of more tokens
  // than that.
  bool needs_whole_call = false;
};

struct PlannedProgram {
  const ProgramInfo* info = nullptr;
  // Where straight runs of operators begin, ascending, the first at 0: each is bound on its own, when its sizes are
  // known.
  Vec<uint32_t> cuts;
  // Behind the first of them.
  uint32_t first_end() const {
    const bool decides_first = !info->regions.empty() && info->regions[0].begin == 0;
    return decides_first ? 0 : cuts.size() > 1 ? cuts[1] : head_begin;
  }
  // Values whose first element the session reads or writes between operators.
  Vec<uint32_t> numbers_read, numbers_written;
  // Kept states that it writes, and those that it reads but does not write.
  Vec<uint32_t> kept_written, kept_read;
  Vec<PlannedValue> values;
  Vec<PlannedOp> ops;
  uint32_t head_begin = 0;  // ProgramInfo's: the session runs the head once a block of rows
  int stream_symbol = -1;   // axis symbol bounded by `chunk` alone that an input has: the session cuts longer inputs
                            // along it
  int rows_symbol = -1;     // axis symbol bounded by `rows` alone, of a program with an input of role rows
  Vec<uint8_t> replaces;    // by state: whether an operator gives it, a recurrent one, a new value
  bool replaces_states = false, head_reads_states = false;  // recurrent ones
  Vec<PlannedOutput> outputs;
  // Values of f32 that the head reads and operators before it computed.
  Vec<uint32_t> head_inputs;
  // Axis symbols of its inputs other than stream and rows: a log of inputs keeps what a call bound them to.
  Vec<int> call_symbols;
  size_t log_row = 0;  // bytes of one token's inputs in a log at the upper bounds, see session/journal.cpp
  // The product with a split matrix whose result is an output of the program and nothing else; -1: there is none.
  int screened_op = -1, screened_value = -1;
  // The output [rows, n] of f32 from which a next token is chosen: the one called logits, else the only one of those
  // that are not optional. -1: there is none.
  int logits_value = -1;
  // The same, if no other output that is not optional is made by rows: a highest element may be chosen where it was
  // made. -1: there is none.
  int choice_value = -1;
};

struct PlannedState {
  size_t offset = 0;  // in the state block, 256-byte aligned
  size_t bytes = 0;
  int copies = 1;  // recurrent: buffers of `stride` bytes one after the other
  size_t stride = 0;
  int64_t dims[kMaxRank] = {};
  int64_t slots = 0;
  int64_t tokens_per_slot = 1;
  DType dtype = DType::kF32;
};

struct Plan {
  const Model* model = nullptr;
  PlanOptions options;   // defaults filled in
  CallBinding bounds{};  // options as chosen, axis symbols at their upper bound, no input absent
  Vec<PlannedProgram> programs;
  Vec<PlannedState> states;
  bool has_recurrent = false;
  bool is_limited = false;  // the stream, to `context` tokens: some state keeps every token, or `context` makes some
                            // ring smaller than its window
  // Tokens that may lie between the older checkpoint of recurrent states and the stream's end (session/recurrent.cpp);
  // 0 without them.
  int64_t reach = 0;
  size_t journal_row = 0;  // bytes of one token's inputs in a log, of the program with most of them
  size_t kept_offset = 0;  // in the state block: sizes of kept states, kMaxRank int64 each; the first -1: not written
  size_t kept_bytes = 0;
  size_t journal_offset = 0;  // two logs of `reach` rows: the journal, and what a call of several passes must not lose
                              // of it
  size_t state_bytes = 0;     // of all states and the journal, without the session's header
  size_t arena_bytes = 0;
  MemoryReport memory;  // state and fixed are completed by the session

  size_t table_bytes() const;  // heap that this plan holds
};

// Bytes in front of a session's states, whose layout is the session's (session/session.h).
inline constexpr size_t kStateHeaderBytes = 16640;
// Fails with kBudgetExceeded (naming the need), kInvalidArgument, kUnsupported, kInvalidModel or kOutOfMemory.
Result<Plan> make_plan(const Model& model, const PlanOptions& options);

// Fills rank and dims of a view; every axis must be >= 0 and the element count below 2^40.
Status evaluate_shape(const Model& model, const ShapeExpr& shape, const SymbolValues& values, const char* owner,
                      TensorView* view);
// Whether axis 0 of a program's input is the stream.
bool is_stream_input(const Model& model, const PlannedProgram& program, const ValueInfo& input);
// Bytes of a dense view.
size_t view_bytes(const TensorView& view);

// The operands of an operator as views in such a call; data is set for tensors only. views holds in_count + out_count
// entries.
Status operand_views(const Plan& plan, const PlannedProgram& program, const OpInfo& op, const CallBinding& binding,
                     TensorView* views);
// Optional inputs among an operator's operands, at most kMaxOptionalOperands of a planned one. An operator is planned
// for every part of them: for_each_absence calls fn(binding) with the sizes of `bounds`, first with all inputs there,
// until one fails.
uint64_t optional_operands(const ProgramInfo& program, const OpInfo& op);
template <class Fn>
Status for_each_absence(const ProgramInfo& program, const OpInfo& op, CallBinding bounds, Fn fn) {
  const uint64_t all = optional_operands(program, op);
  uint64_t part = 0;
  do {
    bounds.absent = part;
    RNL_TRY(fn(bounds));
    part = (part - all) & all;
  } while (part);
  return Status::ok();
}

}  // namespace runnel
