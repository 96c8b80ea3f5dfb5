// One stream: its state block, its arena and the loop over operators. Used by one thread at a time; cancel() and
// stats() from any.
//
// The state block is a header (position, text part) and then every state at the offset that the plan gave, last the
// journal of inputs. A call longer than `chunk` tokens runs in passes; whole passes are the unit of progress and
// cancellation.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/memory.h"
#include "base/status.h"
#include "base/vec.h"
#include "cpu/thread_pool.h"
#include "plan/plan.h"
#include "session/backend.h"

namespace runnel {

// Bytes of the block's text part: sampler and generation state (text/generate.h) lives there, so that it is saved,
// forked and restored. It may grow: what an older library saved is shorter, and the rest of it is zero.
inline constexpr size_t kTextStateBytes = 16384;
inline constexpr uint32_t kStateVersion = 6;

// Tokens [begin, end) of the stream whose positions, of several axes, were given. Those that a call leaves out count on
// from `next` at `end`, one more than the largest of them. Of a call that was cut since, nothing is known: next is -1.
struct GivenPositions {
  int64_t begin, end, next;
};
inline constexpr int kGivenPositions = 6;  // the oldest two become one when there are more

// First bytes of the state block, of a snapshot and of a saved file (followed there by the text part, the used part of
// each state and a checksum).
struct StateHeader {
  char magic[8];  // "RNLSTATE"
  uint32_t version;
  uint32_t reserved;
  uint64_t model;      // Model::fingerprint
  uint64_t layout;     // hash of the planned states
  int64_t position;    // tokens in the stream
  int64_t high_water;  // largest position that was ever written, also by calls that failed
  // Recurrent states: positions of two checkpoints, older first, the buffers that hold them and the buffer of the
  // present value.
  int64_t mark[2];
  uint8_t mark_buffer[2];
  uint8_t buffer;
  DType kv;             // the options that the plan was made with; layout follows from them
  uint32_t text_bytes;  // of the text part
  int64_t context, chunk, rollback;
  GivenPositions given[kGivenPositions];  // the newest last, behind those of no tokens
};
inline constexpr size_t kTextStateOffset = kStateHeaderBytes - kTextStateBytes;
static_assert(sizeof(StateHeader) <= kTextStateOffset && kTextStateOffset % kStateAlignment == 0);

// A tensor of the caller, row-major.
struct IoTensor {
  const char* name;
  DType dtype;
  int32_t rank;
  int64_t dims[kMaxRank];
  void* data;
  size_t bytes;  // of data; for outputs the capacity
};

struct SessionStats {
  int64_t position;
  uint64_t tokens;  // fed in all calls
  uint64_t passes;
  uint64_t nanoseconds;  // inside run
};

// Inputs of the stream's last tokens, by position; journal.cpp has the layout of a row.
struct InputLog {
  unsigned char* data = nullptr;
  int64_t capacity = 0;  // rows
  size_t row = 0;        // bytes
  unsigned char* at(int64_t position) const { return data + size_t(position % capacity) * row; }
};

// Called between passes of a long call: tokens done and in all. Returning false cancels.
using ProgressFn = bool (*)(void* context, int64_t done, int64_t total);
// One operator ran, times in nanoseconds of a steady clock.
using TraceFn = void (*)(void* context, const char* op, const char* kernel, uint64_t begin, uint64_t end);
// An operator whose outputs are in memory now; its inputs still are. Of a pass with tokens [first_token, first_token +
// tokens) of the call; in the head also for rows from first_row on, else first_row is -1.
struct ObservedOp {
  const PlannedProgram* program;
  uint32_t index;
  const OpCall* call;
  const CallBinding* symbols;
  const char* kernel;
  int64_t first_token, first_row;
};
// Sees every operator of a call on the CPU, views included. A failure ends the call.
using ObserveFn = Status (*)(void* context, const ObservedOp& op);
// A block of an output: rows first_row .. first_row + block.dims[0] - 1 of output number `output`. The data is valid
// during the call.
using OutputFn = Status (*)(void* context, uint32_t output, const TensorView& block, int64_t first_row);

// Whether a program computes with the context itself, such as rotary frequencies: states of another context are not
// what it would have computed.
bool reads_context(const Model& model);

class Session {
 public:
  // pool and model outlive the session. state_memory and arena_memory may be null (then the session allocates):
  // 256-byte aligned, as many bytes as state_block_bytes() and plan.arena_bytes.
  static Result<std::unique_ptr<Session>> create(const Model& model, ThreadPool* pool, const PlanOptions& options,
                                                 void* state_memory, void* arena_memory);
  static size_t state_block_bytes(const Plan& plan);

  // Runs a program (null: the first). Inputs by name; those with a role may be left out except tokens: rows defaults to
  // the last token, rows_all asks for every one. Every output block goes to `sink`.
  struct RunOptions {
    const char* program = nullptr;
    bool rows_all = false;
    // k > 0: of an output that a split matrix makes, one row at a time, only the k highest elements are wanted. Then
    // those not below the k-th are exact and all others -infinity, or all are exact where that is not slower. 0: all.
    int32_t top_logits = 0;
    // Not null: of the program's logits [1, n] only the number of the highest of the first choose_among elements (at
    // most: all) is wanted, of equal ones the lowest. Where a device chooses, it is written here and the sink is not
    // called; else this stays as it is.
    int32_t* choice = nullptr;
    int64_t choose_among = 0;
    // Bit i: output number i is wanted, and operators of the head that no such output needs are left out. 0: all
    // outputs that are not optional.
    uint64_t wanted_outputs = 0;
    // Not null: of an output as with top_logits only these elements are wanted, in the same way.
    const int32_t* wanted = nullptr;
    int32_t wanted_count = 0;
    OutputFn sink = nullptr;
    void* sink_context = nullptr;
  };
  Status run(const IoTensor* inputs, size_t input_count, const RunOptions& options);
  // What run() refuses before anything has run.
  Status check_run(const IoTensor* inputs, size_t input_count, const RunOptions& options);
  // The whole outputs that run() would give, by number and without data.
  Status output_shapes(const IoTensor* inputs, size_t input_count, const RunOptions& options, Vec<TensorView>* shapes);
  // Computes the outputs of the last token of the last call once more, with these options' top_logits, wanted and sink.
  // Directly after a run() that succeeded, of a program that takes rows, on the CPU.
  Status repeat_last_row(const RunOptions& options);
  // Copies whole outputs into tensors of the caller, matched by name; their dims are filled in.
  struct CopySink {
    IoTensor* outputs = nullptr;
    size_t count = 0;
    const ProgramInfo* info = nullptr;
    static Status deliver(void* context, uint32_t output, const TensorView& block, int64_t first_row);
  };
  // Options that do so. When an output is optional, those named are all that is wanted.
  Status copy_into(const char* program, IoTensor* outputs, size_t count, CopySink* sink, RunOptions* options) const;
  Status run_into(const char* program, const IoTensor* inputs, size_t input_count, IoTensor* outputs,
                  size_t output_count);
  // top_logits of run_into.
  void set_top_logits(int32_t k) { top_logits_ = k; }
  int32_t top_logits() const { return top_logits_; }

  // While a recovery has not succeeded: what it is to reach.
  int64_t position() const { return recover_to_ >= 0 ? recover_to_ : header()->position; }
  // Forgets the stream.
  void reset();
  // Takes back the last n tokens. text/stream.h has the one for a stream that is also generated on.
  enum class Reach : uint8_t {
    kWindow,  // at most the plan's window, as is promised
    kStates,  // whatever the states still allow: without recurrent ones that may be all
  };
  Status rollback(int64_t n, Reach reach = Reach::kWindow);
  // Why n tokens cannot be taken back now.
  Status check_rollback(int64_t n, Reach reach = Reach::kWindow) const;
  // Bytes of a snapshot now; they grow with the position until states are full.
  size_t snapshot_bytes() const;
  Status snapshot(void* buffer, size_t size) const;
  Status restore(const void* buffer, size_t size);
  Status save(const char* path) const;
  Status load(const char* path);
  // A second session with the same contents.
  Result<std::unique_ptr<Session>> fork() const;
  // Gives the arena's pages back until the next call touches them.
  void trim();
  // Leaves the device for the CPU. When it is lost, what the host last had is brought up to the present position with
  // the inputs fed since, at most snapshot_every tokens. May be called again when it fails. Of no effect on the CPU.
  Status recover();

  void cancel() { cancel_.store(true, std::memory_order_relaxed); }
  void clear_cancel() { cancel_.store(false, std::memory_order_relaxed); }
  SessionStats stats() const;
  void set_progress(ProgressFn fn, void* context) { progress_ = fn, progress_context_ = context; }
  void set_trace(TraceFn fn, void* context) { trace_ = fn, trace_context_ = context; }
  void set_observer(ObserveFn fn, void* context) { observe_ = fn, observe_context_ = context; }

  const Plan& plan() const { return plan_; }
  const Model& model() const { return *plan_.model; }
  // Null: the session runs on the CPU alone.
  const Backend* backend() const { return backend_.get(); }
  MemoryReport memory() const { return memory_of(plan_); }
  // The exact bytes of a session with this plan.
  static MemoryReport memory_of(const Plan& plan);
  unsigned char* text_state() const { return state_.data() + kTextStateOffset; }

 private:
  struct Pass;
  Session() = default;
  StateHeader* header() const { return reinterpret_cast<StateHeader*>(state_.data()); }
  unsigned char* state_data(uint32_t index, int buffer = 0) const;
  // Calls fn(data, bytes) for the part of each state that a stream with this header uses, in order, but for slots that
  // hold positions before `from` alone.
  using RangeFn = void (*)(void* context, unsigned char* data, size_t bytes);
  void for_each_range_since(const StateHeader& h, int64_t from, RangeFn fn, void* context) const;
  template <class Fn>
  void for_each_used_range(const StateHeader& h, Fn fn) const {
    for_each_range_since(
        h, 0, [](void* f, unsigned char* data, size_t bytes) { (*static_cast<Fn*>(f))(data, bytes); }, &fn);
  }
  Status used_ranges(int64_t from, Vec<HostRange>* ranges) const;
  // saved.cpp
  static uint64_t layout_hash(const Plan& plan);
  void describe_plan(StateHeader* h) const;
  Status check_layout(const StateHeader& saved) const;
  int64_t tokens_that_fit(int64_t tokens) const;

  // inputs.cpp
  Status match_inputs(const PlannedProgram& p, const IoTensor* inputs, size_t count);
  Status bind_symbols(const PlannedProgram& p, CallBinding* symbols) const;
  Status check_input_sizes(const PlannedProgram& p, const CallBinding& symbols) const;
  Status fill_input(Pass& pass, uint32_t value);
  Status fill_by_role(const Pass& pass, uint32_t value, int64_t first);

  // positions.cpp
  void forget_positions();
  void note_positions(const Pass& pass, int64_t begin);
  static bool are_positions(const StateHeader& h);

  // bind.cpp
  Status bind_ops(Pass& pass, uint32_t begin, uint32_t end, CallBinding* last);
  void unbind();
  Status check_op_data(const PlannedProgram& p, uint32_t op, const OpCall& call) const;
  TensorView value_view(const Pass& pass, uint32_t value) const;

  // call.cpp
  Status find_program(const char* name, uint32_t* index) const;
  Status check_call(const Pass& pass) const;
  Status begin_call(const IoTensor* inputs, size_t input_count, const RunOptions& options, Pass* pass);

  // pass.cpp
  Status run_pass(Pass& pass);
  // body.cpp
  Status run_body(Pass& pass);
  Status run_span(Pass& pass, uint32_t begin, uint32_t end, size_t region);
  Status run_straight(Pass& pass, uint32_t begin, uint32_t end);
  Status run_region(Pass& pass, size_t region);
  Status settle();
  Status read_number(const Pass& pass, const Operand& o, double* number) const;
  Status run_ops(Pass& pass, uint32_t begin, uint32_t end);
  Status enqueue_ops(Pass& pass, uint32_t begin, uint32_t end);
  Status finish_ops(Pass& pass);
  Status run_head(Pass& pass);
  uint32_t end_of_head(const Pass& pass) const;
  Status emit(Pass& pass, int64_t first_row);
  Status check_finite(const Pass& pass, uint32_t value) const;
  Status observe(const Pass& pass, uint32_t op) const;

  // recovery.cpp: the host's and the device's copies of the states.
  Status sync_to_host() const;
  Status sync_to_device();
  void host_is_newer();
  void note_host_copy() const;
  Status check_device() const;
  void log_for_recovery(const Pass& pass);
  Status end_call_on_device(int64_t start, bool writes_kept, Status status);
  // self_check.cpp
  Status check_backend();
  Status check_program(uint32_t number, int64_t most, uint64_t absent, bool* is_whole);
  bool can_check(const PlannedProgram& p, uint32_t number, const OpCall& call) const;

  // journal.cpp
  void write_log(const InputLog& log, const Pass& pass, int64_t count) const;
  void read_log(const InputLog& log, const Pass& pass, int64_t begin);
  Status bind_logged(const InputLog& log, Pass& pass, int64_t begin) const;
  static int64_t end_of_logged_pass(const InputLog& log, int64_t begin, int64_t end);
  Status check_journal(const InputLog& log, const StateHeader& h) const;
  void keep_journal(int64_t begin, int64_t end);
  void bring_back_journal();

  // kept.cpp
  int64_t* kept_sizes(uint32_t state) const;
  Status bind_kept(const PlannedProgram& p, bool* bound, CallBinding* symbols) const;
  Status check_kept(const PlannedProgram& p) const;
  Status note_kept(const PlannedProgram& p, const CallBinding* written);
  bool are_kept_sizes(const unsigned char* saved) const;

  // recurrent.cpp
  void start_recurrent(int buffer);
  void begin_recurrent_call(const Pass& pass);
  void mark_recurrent();
  void forget_call() { call_ = {}; }
  struct Checkpoint {
    int64_t position = 0;
    int buffer = -1;  // there is none
  };
  Checkpoint checkpoint_of(int64_t position) const;
  int64_t rewind_mark(int64_t position) const;
  int free_buffer() const;
  void point_at_buffers(const Pass& pass, uint32_t begin, uint32_t end);
  void copy_untouched(const Pass& pass);
  bool rings_reach(int64_t position) const;
  Status rewind_recurrent(int64_t position);
  Status replay_pass(const InputLog& log, int64_t begin, int64_t end);
  Status undo(const Pass& pass, int64_t start, Status cause);
  Status keep_whole_passes(const Pass& pass, int64_t start, Status cause);
  Status lose_stream(Status cause);

  Plan plan_;
  ThreadPool* pool_ = nullptr;
  Block state_, arena_;
  Vec<Vec<BoundOp>> ops_;         // by program
  Vec<Vec<TensorView>> views_;    // by program
  Vec<const IoTensor*> matched_;  // the caller's tensor for each program input, null when it is filled in
  // What each straight run of operators before the head (PlannedProgram::cuts), and the head, is bound to; a symbol of
  // -1: to nothing.
  struct Bound {
    Vec<CallBinding> body;
    CallBinding head;
  };
  Vec<Bound> bound_;  // by program
  uint32_t last_program_ = 0;
  int64_t last_tokens_ = 0;  // of the last pass, which was of last_program_; 0: what it computed is gone
  InputLog journal_;         // of recurrent states, in the state block
  // While a call of several passes runs: the checkpoint to which it goes back when it fails, and behind the journal the
  // rows since. buffer -1: there is none, kInitial: the checkpoint is the stream's start.
  static constexpr int kInitial = -2;
  struct {
    int64_t mark = 0, end = 0;
    int buffer = -1;
  } kept_;
  InputLog kept_log_;
  // Where the last call began, unless that is the stream's start. A note of this session alone, which no copy has.
  Checkpoint call_;
  int32_t top_logits_ = 0;
  std::unique_ptr<Backend> backend_;  // null: the CPU
  bool device_is_old_ = true;
  mutable bool host_is_old_ = false;
  // What the host's block holds while the device's is newer: the header of that moment, and the inputs fed since.
  std::unique_ptr<StateHeader> host_header_;
  Block fed_memory_;
  InputLog fed_;
  mutable int64_t same_before_ = 0;  // slots of earlier positions are the same on both sides
  int64_t recover_to_ = -1;          // position that a recovery has still to reach
  std::atomic<bool> cancel_{false};
  std::atomic<uint64_t> tokens_{0}, passes_{0}, nanoseconds_{0};
  std::atomic<int64_t> seen_position_{0};
  ProgressFn progress_ = nullptr;
  void* progress_context_ = nullptr;
  TraceFn trace_ = nullptr;
  void* trace_context_ = nullptr;
  ObserveFn observe_ = nullptr;
  void* observe_context_ = nullptr;
};

}  // namespace runnel
