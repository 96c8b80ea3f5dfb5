#include "session/session.h"

#include <algorithm>
#include <cstring>

namespace runnel {

size_t Session::state_block_bytes(const Plan& plan) { return kStateHeaderBytes + plan.state_bytes; }

unsigned char* Session::state_data(uint32_t index, int buffer) const {
  const PlannedState& s = plan_.states[index];
  return state_.data() + (state_block_bytes(plan_) - plan_.state_bytes) + s.offset + size_t(buffer) * s.stride;
}

Result<std::unique_ptr<Session>> Session::create(const Model& model, ThreadPool* pool, const PlanOptions& options,
                                                 void* state_memory, void* arena_memory) {
  std::unique_ptr<Session> s(new (std::nothrow) Session);
  if (!s) return Status::make(Code::kOutOfMemory, "no memory for a session");
  PlanOptions o = options;
  o.threads = pool ? thread_pool_size(pool) : 1;
  auto plan = make_plan(model, o);
  if (!plan.is_ok()) return plan.take_status();
  s->plan_ = std::move(plan.value());
  s->pool_ = pool;
  const size_t block = state_block_bytes(s->plan_);
  auto state =
      state_memory ? Block::borrow(state_memory, block, kStateAlignment, "state") : Block::allocate(block, "state");
  if (!state.is_ok()) return state.take_status();
  s->state_ = std::move(state.value());
  auto arena = arena_memory ? Block::borrow(arena_memory, s->plan_.arena_bytes, kStateAlignment, "arena")
                            : Block::allocate(s->plan_.arena_bytes, "arena");
  if (!arena.is_ok()) return arena.take_status();
  s->arena_ = std::move(arena.value());

  RNL_TRY(s->ops_.assign(s->plan_.programs.size()));
  RNL_TRY(s->views_.assign(s->plan_.programs.size()));
  RNL_TRY(s->bound_.assign(s->plan_.programs.size()));
  size_t inputs = 0;
  for (size_t i = 0; i < s->plan_.programs.size(); ++i) {
    const ProgramInfo& info = *s->plan_.programs[i].info;
    RNL_TRY(s->bound_[i].body.assign(s->plan_.programs[i].cuts.size()));
    RNL_TRY(s->ops_[i].assign(info.ops.size()));
    RNL_TRY(s->views_[i].assign(info.operands.size()));
    inputs = std::max<size_t>(inputs, info.input_count);
  }
  s->unbind();
  RNL_TRY(s->matched_.assign(inputs));
  if (s->plan_.reach > 0) {
    s->journal_ = {s->state_.data() + (block - s->plan_.state_bytes) + s->plan_.journal_offset, s->plan_.reach,
                   s->plan_.journal_row};
    s->kept_log_ = s->journal_;
    s->kept_log_.data = s->state_.data() + block - (s->plan_.state_bytes - s->plan_.journal_offset) / 2;
  }
  if (o.backend == BackendKind::kVulkan) {
    const BackendEntry* entry = vulkan_backend();
    if (!entry) return Status::make(Code::kUnsupported, "this library was built without Vulkan");
    auto backend = entry->create(s->plan_, {s->arena_.data(), s->state_.data() + (block - s->plan_.state_bytes), pool});
    if (!backend.is_ok()) return backend.take_status();
    s->backend_ = std::move(backend.value());
    s->host_header_.reset(new (std::nothrow) StateHeader);
    if (!s->host_header_) return Status::make(Code::kOutOfMemory, "no memory for a session");
    RNL_ASSIGN(fed, Block::allocate(size_t(o.snapshot_every) * s->plan_.journal_row, "log of inputs"));
    s->fed_memory_ = std::move(fed);
    s->fed_ = {s->fed_memory_.data(), o.snapshot_every, s->plan_.journal_row};
    s->reset();
    RNL_TRY(s->check_backend());
  }
  s->reset();
  return s;
}

void Session::reset() {
  StateHeader* h = header();
  std::memset(h, 0, sizeof *h);
  std::memset(text_state(), 0, kTextStateBytes);
  std::memcpy(h->magic, "RNLSTATE", 8);
  h->version = kStateVersion;
  h->model = model().fingerprint();
  describe_plan(h);
  start_recurrent(0);
  forget_call();
  for (uint32_t i = 0; plan_.kept_bytes && i < plan_.states.size(); ++i) kept_sizes(i)[0] = -1;
  host_is_newer();
  seen_position_.store(0, std::memory_order_relaxed);
}

void Session::trim() {
  arena_.give_back();
  last_tokens_ = 0;
}

MemoryReport Session::memory_of(const Plan& plan) {
  MemoryReport m = plan.memory;
  m.fixed += sizeof(Session);
  if (plan.options.backend != BackendKind::kCpu)
    m.fixed += sizeof(StateHeader) + size_t(plan.options.snapshot_every) * plan.journal_row;
  for (const PlannedProgram& p : plan.programs)
    m.fixed += sizeof(Bound) + p.cuts.size() * sizeof(CallBinding) + p.info->ops.size() * sizeof(BoundOp) +
               p.info->operands.size() * sizeof(TensorView);
  return m;
}

SessionStats Session::stats() const {
  return {seen_position_.load(std::memory_order_relaxed), tokens_.load(std::memory_order_relaxed),
          passes_.load(std::memory_order_relaxed), nanoseconds_.load(std::memory_order_relaxed)};
}

}  // namespace runnel
