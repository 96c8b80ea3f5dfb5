// Recurrent states cannot be run backwards, so two earlier values are kept as checkpoints, and taking tokens back means
// computing from the newest checkpoint that is old enough, with the inputs that the journal holds, by passes that begin
// where the first ones began.
//
// A checkpoint is a note of the buffer that holds it; nothing is copied. Before a pass the stream's end becomes the
// newer checkpoint when that one is a window old, and the newer one becomes the older. So the older one is always at
// least a window behind the furthest position since, and from there to the stream's end there are fewer than 2 (chunk +
// window) tokens. The present value is in a buffer of its own, or in a marked one that the next pass leaves alone and
// writes elsewhere.
//   Where a call of several tokens begins, the value before it is a checkpoint too, until the next such call: when it
// fails, or is a draft that is rejected, nothing that stood before it is computed again. A single token is written
// where it was read, which takes less of the caches; undoing it computes from an older checkpoint.
//   A call of several passes may fail after it moved both checkpoints on. So it keeps another, from which a window
// before its start can be computed, and the rows of the journal since.
//   Without a window there are two buffers and both checkpoints are one: set where a call begins when it is
// kReplayWindow tokens old, or when the call is longer than that or of several passes. It serves calls that fail.
#include <algorithm>
#include <cstring>

#include "session/pass.h"

namespace runnel {

// A stream of no tokens.
void Session::start_recurrent(int buffer) {
  for (size_t i = 0; i < plan_.states.size(); ++i) {
    const StateInfo& s = model().states()[i];
    if (!s.is_recurrent()) continue;
    if (s.initial) std::memcpy(state_data(uint32_t(i), buffer), s.initial->view.data, plan_.states[i].bytes);
    else std::memset(state_data(uint32_t(i), buffer), 0, plan_.states[i].bytes);
  }
}

void Session::begin_recurrent_call(const Pass& pass) {
  StateHeader* h = header();
  const int64_t start = h->position, window = plan_.options.rollback;
  const bool has_passes = pass.total > tokens_that_fit(std::min(plan_.options.chunk, pass.total));
  kept_.buffer = -1;
  if (window == 0) {
    if (has_passes || pass.total >= kReplayWindow || start - h->mark[1] >= kReplayWindow)
      for (int i = 0; i < 2; ++i) h->mark[i] = start, h->mark_buffer[i] = h->buffer;
    return;
  }
  // The start's value need not be kept: it can be made anew.
  if (pass.total > 1) call_ = {start, start > 0 || backend_ ? h->buffer : -1};
  if (!has_passes) return;
  const int which = start - h->mark[1] >= window ? 1 : 0;
  kept_ = {h->mark[which], start, h->mark[which] == 0 && !backend_ ? kInitial : h->mark_buffer[which]};
  keep_journal(kept_.mark, start);
}

// Before each pass, also one that is computed again.
void Session::mark_recurrent() {
  StateHeader* h = header();
  const int64_t window = plan_.options.rollback;
  if (window == 0 || h->position - h->mark[1] < window) return;
  h->mark[0] = h->mark[1], h->mark_buffer[0] = h->mark_buffer[1];
  h->mark[1] = h->position, h->mark_buffer[1] = h->buffer;
}

// The buffer that a pass may write: the present one unless it is marked.
int Session::free_buffer() const {
  const StateHeader* h = header();
  int to = h->buffer;
  for (int i = 0; to == h->mark_buffer[0] || to == h->mark_buffer[1] || to == kept_.buffer || to == call_.buffer; ++i)
    to = i;
  return to;
}

// Makes operators read a pass's `from` and write its `to`. What an operator of the head reads, none before it has
// replaced.
void Session::point_at_buffers(const Pass& pass, uint32_t begin, uint32_t end) {
  const ProgramInfo& info = *pass.program->info;
  Vec<TensorView>& views = views_[pass.program_index];
  for (uint32_t i = begin; i < end; ++i) {
    const OpInfo& op = info.ops[i];
    for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k) {
      const Operand& o = info.operands[op.first_operand + k];
      if (o.kind == Operand::Kind::kState && model().states()[o.index].is_recurrent())
        views[op.first_operand + k].data = state_data(o.index, k < op.in_count ? pass.from : pass.to);
    }
  }
}

// States that this program does not replace go along to the new buffer.
void Session::copy_untouched(const Pass& pass) {
  if (backend_ || pass.to == pass.from) return;  // a device has done so
  for (uint32_t i = 0; i < plan_.states.size(); ++i)
    if (model().states()[i].is_recurrent() && !pass.program->replaces[i])
      std::memcpy(state_data(i, pass.to), state_data(i, pass.from), plan_.states[i].bytes);
}

// Tokens [begin, end) of the stream once more, without outputs.
Status Session::replay_pass(const InputLog& log, int64_t begin, int64_t end) {
  StateHeader* h = header();
  Pass pass;
  pass.tokens = pass.total = end - begin;
  RNL_TRY(bind_logged(log, pass, begin));
  const PlannedProgram& p = *pass.program;
  RNL_TRY(bind_kept(p, nullptr, &pass.symbols));
  last_tokens_ = 0;
  RNL_TRY(bind_ops(pass, 0, p.first_end(), &bound_[pass.program_index].body[0]));
  read_log(log, pass, begin);
  const int64_t position = h->position;
  h->position = begin;
  pass.from = h->buffer;
  pass.to = p.replaces_states ? free_buffer() : pass.from;
  Status s = run_body(pass);
  if (s.is_ok() && backend_) s = backend_->finish();
  h->position = position;
  if (!s.is_ok()) return s;
  copy_untouched(pass);
  h->buffer = uint8_t(pass.to);
  return s;
}

// The newest checkpoint that is not behind `position`. The last call's serves while the journal has all tokens since.
Session::Checkpoint Session::checkpoint_of(int64_t position) const {
  const StateHeader* h = header();
  const int which = h->mark[1] <= position ? 1 : 0;
  const bool is_logged = position == call_.position || h->high_water - call_.position <= plan_.reach;
  const bool has_call = call_.buffer >= 0 && call_.position <= position && call_.position > h->mark[which] &&
                        h->mark[0] <= call_.position && is_logged;
  return has_call ? call_ : Checkpoint{h->mark[which], h->mark_buffer[which]};
}

// Position of the checkpoint from which recurrent states at `position` can be computed; -1: there is none.
int64_t Session::rewind_mark(int64_t position) const {
  const int64_t mark = checkpoint_of(position).position;
  // The journal holds the last of the stream's tokens.
  const bool is_logged = mark == position || header()->position - mark <= plan_.reach;
  return mark <= position && is_logged ? mark : -1;
}

// Whether the rings still hold what tokens from `position` on look at.
bool Session::rings_reach(int64_t position) const {
  const int64_t written = header()->high_water;
  for (size_t i = 0; i < plan_.states.size(); ++i) {
    const StateInfo& s = model().states()[i];
    const int64_t slots = plan_.states[i].slots;
    if (s.kind == format::StateKind::ring && written > slots && position - int64_t(s.window) + 1 < written - slots)
      return false;
  }
  return true;
}

// Brings recurrent states to `position`, which rewind_mark() accepts; the header's position is the caller's. On failure
// the header is as before.
Status Session::rewind_recurrent(int64_t position) {
  StateHeader* h = header();
  const int64_t end = h->position, marks[2] = {h->mark[0], h->mark[1]};
  const uint8_t buffers[3] = {h->mark_buffer[0], h->mark_buffer[1], h->buffer};
  const Checkpoint from = checkpoint_of(position);
  if (h->mark[1] > from.position) h->mark[1] = from.position, h->mark_buffer[1] = uint8_t(from.buffer);
  h->buffer = uint8_t(from.buffer);
  Status s;
  for (int64_t begin = from.position; s.is_ok() && begin < position;) {
    const int64_t next = end_of_logged_pass(journal_, begin, position);
    h->position = begin;
    mark_recurrent();
    s = replay_pass(journal_, begin, next);
    begin = next;
  }
  h->position = end;
  if (s.is_ok()) {
    if (call_.position > position) forget_call();
    return s;
  }
  for (int i = 0; i < 2; ++i) h->mark[i] = marks[i], h->mark_buffer[i] = buffers[i];
  h->buffer = buffers[2];
  return s;
}

// Back to where a failed call began, as far as the rings still reach; else to its last whole pass.
Status Session::undo(const Pass& pass, int64_t start, Status cause) {
  StateHeader* h = header();
  if (h->position == start && !pass.has_started) return cause;
  const bool is_recurrent = pass.program->replaces_states, has_kept = kept_.buffer != -1;
  const int64_t mark = !is_recurrent ? start : has_kept ? kept_.mark : rewind_mark(start);
  const bool reaches = mark >= 0 && (rings_reach(mark) || (h->position == start && !is_recurrent));
  if (is_recurrent && reaches && has_kept) {
    bring_back_journal();
    const int initial = call_.buffer == 0 ? 1 : 0;
    if (kept_.buffer == kInitial) start_recurrent(initial);
    for (int i = 0; i < 2; ++i)
      h->mark[i] = kept_.mark, h->mark_buffer[i] = uint8_t(kept_.buffer == kInitial ? initial : kept_.buffer);
    h->position = start;
    // One between that checkpoint and the start is missing, and the journal would not reach over what comes next:
    // computing again sets it.
    if (start - kept_.mark >= plan_.options.chunk + plan_.options.rollback) forget_call();
  }
  kept_.buffer = -1;
  // Without a window the journal may not hold all of a long call.
  const int64_t target = reaches ? start : h->position;
  if (is_recurrent) {
    const int64_t from = rewind_mark(target);
    const bool is_logged =
        from >= 0 && (from == target || h->position + pass.tokens - from <= plan_.reach || plan_.options.rollback > 0);
    if (!is_logged || !rings_reach(from) || !rewind_recurrent(target).is_ok()) return lose_stream(std::move(cause));
  }
  h->position = target;
  seen_position_.store(target, std::memory_order_relaxed);
  if (!reaches)
    return std::move(cause).with_context("the stream now holds %lld tokens", static_cast<long long>(target));
  return cause;
}

// A call that was cancelled keeps its whole passes. Where it broke off within one, recurrent states may be those behind
// it.
Status Session::keep_whole_passes(const Pass& pass, int64_t start, Status cause) {
  const int64_t position = header()->position, mark = rewind_mark(position);
  const bool is_whole = !pass.has_started || !pass.program->replaces_states;
  // Without a window the journal may not hold all of a long call.
  if (!is_whole && (mark < 0 || position + pass.tokens - mark > plan_.reach))
    return undo(pass, start, std::move(cause));
  kept_.buffer = -1;
  if (!is_whole && (!rings_reach(mark) || !rewind_recurrent(position).is_ok())) return lose_stream(std::move(cause));
  return cause;
}

// Where a failed call can be taken back neither to its start nor to a whole pass, an empty stream is better than a
// wrong one.
Status Session::lose_stream(Status cause) {
  reset();
  return std::move(cause).with_context("the stream could not be kept and is empty now");
}

}  // namespace runnel
