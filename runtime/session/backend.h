// What a session needs from a device that runs operators instead of the CPU. The host's arena and state block keep
// their layout; the backend has a copy of both, and the session says when the one or the other is the newer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/memory.h"
#include "base/status.h"
#include "plan/plan.h"

namespace runnel {

// An operator with shapes and pointers of the call at hand.
struct BoundOp {
  OpCall call;
  const Kernel* kernel;  // of the CPU
  uint32_t first_view;
};

// Operators [begin, end) of a program, bound.
struct OpRange {
  const PlannedProgram* program;
  uint32_t program_index, begin, end;
  BoundOp* ops;              // of the whole program
  CallBinding symbols;       // what they are bound to
  int from, to;              // buffers of recurrent states that are read and written
  int64_t choose_among = 0;  // n > 0: of the program's choice_value the number of the highest of the first row's first
                             // n elements is wanted, and nothing else
};

// What was done since the session began.
struct BackendStats {
  uint64_t submissions = 0, recordings = 0, dispatches = 0, barriers = 0;
  uint64_t cpu_ops = 0;       // operators that ran on the CPU in between
  uint64_t copied_bytes = 0;  // for them
  // Of the device, since it was opened: the driver's time to open it and to make pipelines, of which it found some in
  // its cache.
  uint64_t driver_ns = 0, pipeline_ns = 0, pipelines = 0, pipelines_cached = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  // Why this operator runs on the CPU, at the upper bounds of its sizes; null: it runs here. The number behind the last
  // operator's stands for the choice that a range may ask for.
  virtual const char* refuses(uint32_t program, uint32_t op) const = 0;
  // The self-check (session/self_check.cpp): whether its outcome is known, also from an earlier session like this one;
  // one operator, whose inputs are in the arena and the state block, run here at position 0 and then on the CPU, whose
  // results stay in the arena; the end. The outcome is kept for later sessions when all of it was tried. It may still
  // be unknown: then the backend has become simpler and all is checked again.
  virtual bool is_checked() const = 0;
  virtual Status check_op(const OpRange& op) = 0;
  virtual Status end_check(bool is_whole) = 0;
  // Puts operators behind those that wait already. The program's inputs are read from the arena now.
  virtual Status enqueue(const OpRange& range, int64_t position) = 0;
  // Runs what waits; then the program's outputs are in the arena. kNonFinite: a value that a later pass would read is.
  virtual Status finish() = 0;
  // Forgets what waits: the call has failed.
  virtual void drop() = 0;
  // What the last range chose, the lowest number of equal ones; after finish(), which fails where an element is not
  // finite.
  virtual int32_t choice() const = 0;
  // Copies parts of the state block. Parts that the backend does not keep are left alone. A failed to_host() has
  // changed nothing.
  virtual Status to_host(const HostRange* ranges, size_t count) = 0;
  virtual Status to_device(const HostRange* ranges, size_t count) = 0;
  // After that every call but the destructor fails with kDeviceLost.
  virtual bool is_lost() const = 0;
  virtual BackendStats stats() const = 0;
  // Of all its buffers, and those of them that are the model file's own pages.
  virtual uint64_t device_bytes() const = 0;
  virtual uint64_t imported_bytes() const = 0;
  virtual const char* device_name() const = 0;
};

struct BackendMemory {
  unsigned char* arena;
  unsigned char* states;  // as many bytes as the plan says
  ThreadPool* pool;       // may be null
};

struct BackendEntry {
  Result<std::unique_ptr<Backend>> (*create)(const Plan& plan, const BackendMemory& memory);
  // Calls line() for each device that the machine has, also for those that cannot be used.
  Status (*devices)(void (*line)(void* context, const char* text), void* context);
};
// Null: this library was built without it.
const BackendEntry* vulkan_backend();

}  // namespace runnel
