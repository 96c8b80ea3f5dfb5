// Logs of inputs, from which tokens of the stream can be computed again: the journal of recurrent states, and what was
// fed since the host last had a device's states.
//
// A row belongs to one position. Its first byte is the program's number + 1 where a pass began, else 0. Behind it
// stand, in a pass's first row, the sizes that the call bound call_symbols to and, where some are optional, which
// inputs it left out; then the token's part of each stream input; then, in a pass's first row, every other input.
#include <cstring>

#include "plan/program_io.h"
#include "session/pass.h"

namespace runnel {
namespace {

// Calls fn(number, view, row bytes, offset in a row, whether it is a stream) for every input that a log keeps.
template <class View, class Fn>
void for_each_logged(const Model& model, const PlannedProgram& p, int64_t tokens, View view, Fn fn) {
  size_t at = log_header_bytes(p);
  for (const bool streams : {true, false})
    for (uint32_t i = 0; i < p.info->input_count; ++i) {
      const ValueInfo& input = p.info->values[i];
      if (input.role == format::Role::rows || is_stream_input(model, p, input) != streams) continue;
      const TensorView v = view(i);
      const size_t row = view_bytes(v) / size_t(streams ? tokens : 1);
      fn(v, row, at, streams);
      at += row;
    }
}

Status damaged(int64_t position) {
  return Status::make(Code::kInternal, "the journal of inputs is damaged at position %lld",
                      static_cast<long long>(position));
}

}  // namespace

// The first `count` tokens of a pass.
void Session::write_log(const InputLog& log, const Pass& pass, int64_t count) const {
  if (count <= 0) return;
  const PlannedProgram& p = *pass.program;
  const int64_t position = header()->position;
  for (int64_t t = 0; t < count; ++t) *log.at(position + t) = uint8_t(t == 0 ? pass.program_index + 1 : 0);
  unsigned char* first = log.at(position);
  for (size_t k = 0; k < p.call_symbols.size(); ++k)
    std::memcpy(first + 1 + k * sizeof(int64_t), &pass.symbols.v[p.call_symbols[k]], sizeof(int64_t));
  if (p.info->optional_inputs)
    std::memcpy(first + 1 + p.call_symbols.size() * sizeof(int64_t), &pass.symbols.absent, sizeof pass.symbols.absent);
  for_each_logged(
      model(), p, pass.tokens, [&](uint32_t i) { return value_view(pass, i); },
      [&](const TensorView& v, size_t row, size_t at, bool streams) {
        for (int64_t t = 0; t < (streams ? count : 1) && row; ++t)
          std::memcpy(log.at(position + t) + at, static_cast<unsigned char*>(v.data) + size_t(t) * row, row);
      });
}

// Program and sizes of the pass that the log has from `begin` on; pass.tokens is set. The log may come from a damaged
// file.
Status Session::bind_logged(const InputLog& log, Pass& pass, int64_t begin) const {
  const uint32_t number = *log.at(begin);
  if (number == 0 || number > plan_.programs.size() || plan_.programs[number - 1].stream_symbol < 0)
    return damaged(begin);
  pass.program_index = number - 1;
  pass.program = &plan_.programs[pass.program_index];
  const PlannedProgram& p = *pass.program;
  pass.symbols = plan_.bounds;
  pass.symbols.v[p.stream_symbol] = pass.tokens;
  for (size_t k = 0; k < p.call_symbols.size(); ++k) {
    int64_t& size = pass.symbols.v[p.call_symbols[k]];
    const int64_t bound = size;
    std::memcpy(&size, log.at(begin) + 1 + k * sizeof(int64_t), sizeof size);
    if (size < 0 || size > bound) return damaged(begin);
  }
  if (p.info->optional_inputs)
    std::memcpy(&pass.symbols.absent, log.at(begin) + 1 + p.call_symbols.size() * sizeof(int64_t),
                sizeof pass.symbols.absent);
  if (pass.symbols.absent & ~p.info->optional_inputs) return damaged(begin);
  if (p.rows_symbol >= 0) pass.symbols.v[p.rows_symbol] = plan_.options.rows;
  return Status::ok();
}

// The inputs of a bound pass.
void Session::read_log(const InputLog& log, const Pass& pass, int64_t begin) {
  for_each_logged(
      model(), *pass.program, pass.tokens, [&](uint32_t i) { return value_view(pass, i); },
      [&](const TensorView& v, size_t row, size_t at, bool streams) {
        for (int64_t t = 0; t < (streams ? pass.tokens : 1) && row; ++t)
          std::memcpy(static_cast<unsigned char*>(v.data) + size_t(t) * row, log.at(begin + t) + at, row);
      });
}

int64_t Session::end_of_logged_pass(const InputLog& log, int64_t begin, int64_t end) {
  int64_t at = begin + 1;
  while (at < end && *log.at(at) == 0) ++at;
  return at;
}

// Of a saved state: the passes from the older checkpoint on are there, and each checkpoint lies where one begins.
Status Session::check_journal(const InputLog& log, const StateHeader& h) const {
  if (h.position - h.mark[0] > plan_.reach)
    return Status::make(Code::kStateMismatch, "not restored: its checkpoints are out of range");
  for (int64_t at = h.mark[0]; at < h.position;) {
    Pass pass;
    const int64_t end = end_of_logged_pass(log, at, h.position);
    pass.tokens = end - at;
    const bool skips_mark = at < h.mark[1] && h.mark[1] < end;
    if (skips_mark || pass.tokens > plan_.options.chunk || !bind_logged(log, pass, at).is_ok())
      return Status::make(Code::kStateMismatch, "not restored: its journal of inputs is damaged");
    at = end;
  }
  return Status::ok();
}

// Rows of [begin, end) aside, before a call of several passes writes over them.
void Session::keep_journal(int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; ++p) std::memcpy(kept_log_.at(p), journal_.at(p), journal_.row);
}

void Session::bring_back_journal() {
  for (int64_t p = kept_.mark; p < kept_.end; ++p) std::memcpy(journal_.at(p), kept_log_.at(p), journal_.row);
}

}  // namespace runnel
