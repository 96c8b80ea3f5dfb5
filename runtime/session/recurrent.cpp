// Recurrent states cannot be run backwards, so two earlier values are kept as checkpoints, and taking tokens back means computing from the
// newest checkpoint that is old enough, with the inputs that the journal holds, by passes that begin where the first ones began.
//
// Each state has three buffers: two are marked (the checkpoints), the present value is in the third, or in a marked one that the next pass
// then leaves alone and writes elsewhere. So a checkpoint is a note of which buffer it is; nothing is ever copied.
//   A call of fewer tokens than the window marks its start once the newer mark is a window old: one mark is always old enough.
//   A longer call marks its start (a call that fails must go back to it) and then a pass a window before its end or earlier.
// From the older mark to the end of the stream there are at most max(chunk, window) + 4 windows: a long call leaves one mark less than
// max(chunk, window) + window back; the next mark follows when that is a window old, less than a window late; the older one goes when the
// newer is a window old, again less than a window late.
// Without a window there are two buffers and both marks are one: set where a call begins when it is kReplayWindow tokens old, or when the call is
// longer than that. It serves calls that fail.
#include <algorithm>
#include <cstring>

#include "session/pass.h"

namespace runnel {

// A stream of no tokens.
void Session::start_recurrent() {
  for (size_t i = 0; i < plan_.states.size(); ++i) {
    const StateInfo& s = model().states()[i];
    if (!s.is_recurrent()) continue;
    if (s.initial) std::memcpy(state_data(uint32_t(i)), s.initial->view.data, plan_.states[i].bytes);
    else std::memset(state_data(uint32_t(i)), 0, plan_.states[i].bytes);
  }
}

// Before each pass of a call that began at call_start.
void Session::mark_recurrent(const Pass& pass, int64_t call_start) {
  StateHeader* h = header();
  const bool has_window = plan_.options.rollback > 0;
  const int64_t window = has_window ? plan_.options.rollback : kReplayWindow;
  const int64_t end = call_start + pass.total;
  const auto mark = [&](int which) { h->mark[which] = h->position, h->mark_buffer[which] = h->buffer; };
  if (pass.begin == 0 && pass.total >= window) {
    mark(0), mark(1);
  } else if (pass.begin == 0) {
    if (h->position - h->mark[1] < window) return;
    h->mark[0] = h->mark[1], h->mark_buffer[0] = h->mark_buffer[1];
    mark(1);
    if (!has_window) mark(0);
  } else if (has_window && pass.total >= window && h->position - h->mark[1] >= window && h->position <= end - window) {
    mark(1);
  }
}

// The buffer that a pass may write: the present one unless it is marked.
int Session::free_buffer() const {
  const StateHeader* h = header();
  int to = h->buffer;
  for (int i = 0; to == h->mark_buffer[0] || to == h->mark_buffer[1]; ++i) to = i;
  return to;
}

// Makes the operators of this pass read buffer `from` and write buffer `to`.
void Session::point_at_buffers(const Pass& pass, int from, int to) {
  const ProgramInfo& info = *pass.program->info;
  Vec<TensorView>& views = views_[pass.program_index];
  for (uint32_t i = 0; i < pass.program->head_begin; ++i) {
    const OpInfo& op = info.ops[i];
    for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k) {
      const Operand& o = info.operands[op.first_operand + k];
      if (o.kind == Operand::Kind::kState && model().states()[o.index].is_recurrent())
        views[op.first_operand + k].data = state_data(o.index, k < op.in_count ? from : to);
    }
  }
}

// States that this program does not replace go along to the new buffer.
void Session::copy_untouched(const Pass& pass, int from, int to) {
  if (backend_) return;  // which has done so
  for (uint32_t i = 0; i < plan_.states.size(); ++i)
    if (model().states()[i].is_recurrent() && !replaces_state(*pass.program, i)) std::memcpy(state_data(i, to), state_data(i, from), plan_.states[i].bytes);
}

// The first `count` tokens of a pass.
void Session::write_log(const InputLog& log, const Pass& pass, int64_t count) {
  const PlannedProgram& p = *pass.program;
  for (int64_t t = 0; t < count; ++t) *log.at(header()->position + t) = uint8_t(t == 0 ? pass.program_index + 1 : 0);
  size_t at = 1;
  for (uint32_t i = 0; i < p.info->input_count; ++i) {
    if (!is_stream_input(model(), p, p.info->values[i])) continue;
    const TensorView v = value_view(pass, i);
    const size_t row = view_bytes(v) / size_t(pass.tokens);
    for (int64_t t = 0; t < count; ++t) std::memcpy(log.at(header()->position + t) + at, static_cast<unsigned char*>(v.data) + size_t(t) * row, row);
    at += row;
  }
}

int64_t Session::end_of_logged_pass(const InputLog& log, int64_t begin, int64_t end) {
  int64_t at = begin + 1;
  while (at < end && *log.at(at) == 0) ++at;
  return at;
}

// Tokens [begin, end) of the stream once more, without outputs.
Status Session::replay_pass(const InputLog& log, int64_t begin, int64_t end, int from, int to) {
  Pass pass;
  const uint32_t number = *log.at(begin);  // may come from a damaged file
  if (number == 0 || number > plan_.programs.size() || plan_.programs[number - 1].stream_symbol < 0)
    return Status::make(Code::kInternal, "the journal of inputs is damaged at position %lld", static_cast<long long>(begin));
  pass.program_index = number - 1;
  const PlannedProgram& p = plan_.programs[pass.program_index];
  pass.program = &p;
  pass.symbols = plan_.bounds;
  pass.tokens = pass.total = end - begin;
  pass.symbols.v[p.stream_symbol] = pass.tokens;
  if (bound_program_ != &p) body_bound_.v[0] = head_bound_.v[0] = -1;
  RNL_TRY(bind_ops(pass, 0, p.head_begin, &body_bound_));
  bound_program_ = &p;
  size_t at = 1;
  for (uint32_t i = 0; i < p.info->input_count; ++i) {
    const ValueInfo& info = p.info->values[i];
    if (info.role == format::Role::rows) continue;
    if (is_filled_in(info.role)) {
      RNL_TRY(fill_by_role(pass, i, begin));
      continue;
    }
    if (!is_stream_input(model(), p, info)) return Status::make(Code::kUnsupported, "input \"%s\" is no stream, so tokens cannot be computed again", info.name);
    const TensorView v = value_view(pass, i);
    const size_t row = view_bytes(v) / size_t(pass.tokens);
    for (int64_t t = 0; t < pass.tokens; ++t) std::memcpy(static_cast<unsigned char*>(v.data) + size_t(t) * row, log.at(begin + t) + at, row);
    at += row;
  }
  point_at_buffers(pass, from, to);
  const int64_t position = header()->position;
  header()->position = begin;
  pass.from = from, pass.to = to;
  Status s = run_ops(pass, 0, p.head_begin);
  if (s.is_ok() && backend_) s = backend_->finish();
  header()->position = position;
  if (s.is_ok() && to != from) copy_untouched(pass, from, to);
  return s;
}

// Brings recurrent states to `position`; the header's position is the caller's. On failure nothing is changed.
Status Session::rewind_recurrent(int64_t position) {
  StateHeader* h = header();
  const auto range = [&](int64_t from) {
    return Status::make(Code::kRollbackRange, "recurrent states can be computed again from position %lld on, not at %lld", static_cast<long long>(from), static_cast<long long>(position));
  };
  if (position < h->mark[0]) return range(h->mark[0]);
  const int which = h->mark[1] <= position ? 1 : 0;
  const int64_t mark = h->mark[which];
  if (mark < position && h->high_water - mark > plan_.reach) return range(std::max(mark, h->high_water - plan_.reach));
  if (which == 0) h->mark[1] = h->mark[0], h->mark_buffer[1] = h->mark_buffer[0];
  h->buffer = h->mark_buffer[which];
  for (int64_t begin = mark; begin < position;) {
    const int64_t end = end_of_logged_pass(journal_, begin, position);
    const int from = h->buffer, to = free_buffer();
    RNL_TRY(replay_pass(journal_, begin, end, from, to));
    h->buffer = uint8_t(to);
    begin = end;
  }
  return Status::ok();
}

}  // namespace runnel
