#include "text/stream.h"

#include <cstring>

namespace runnel {
namespace {

constexpr size_t kMaxInputs = 64;

// A call with the pending token in front of its ids. Outputs that belong to that token alone are left out.
struct Joined {
  const PlannedProgram* program;
  const Session::RunOptions* options;
  bool has_rows;

  static Status deliver(void* context, uint32_t output, const TensorView& block, int64_t first) {
    const Joined& j = *static_cast<const Joined*>(context);
    const PlannedOutput& out = j.program->outputs[output];
    const bool by_rows = out.kind == PlannedOutput::Kind::kRows;
    int64_t extra = out.kind == PlannedOutput::Kind::kTokens        ? out.per_token
                    : by_rows && j.options->rows_all && !j.has_rows ? 1
                                                                    : 0;
    TensorView rest = block;
    int64_t at = first - extra;
    if (at < 0) {
      const int64_t skipped = -at;
      if (block.dims[0] <= skipped) return Status::ok();
      rest.dims[0] -= skipped;
      rest.data = static_cast<char*>(block.data) + view_bytes(block) / size_t(block.dims[0]) * size_t(skipped);
      at = 0;
    }
    return j.options->sink(j.options->sink_context, output, rest, at);
  }
};

int64_t int_at(const IoTensor& t, int64_t i) {
  int64_t wide;
  int32_t narrow;
  if (t.dtype == DType::kI64) std::memcpy(&wide, static_cast<const char*>(t.data) + i * 8, 8);
  else std::memcpy(&narrow, static_cast<const char*>(t.data) + i * 4, 4), wide = narrow;
  return wide;
}

bool is_int_vector(const IoTensor& t) {
  const size_t width = t.dtype == DType::kI64 ? 8 : t.dtype == DType::kI32 ? 4 : 0;
  return width && t.rank == 1 && t.dims[0] >= 0 && t.dims[0] < kMaxSize && t.bytes >= size_t(t.dims[0]) * width &&
         (t.data || t.dims[0] == 0);
}

Status run_joined(Session& session, const PlannedProgram& p, const IoTensor* inputs, size_t count, size_t ids_at,
                  const Session::RunOptions& options) {
  const int32_t pending = text_state(session).pending;
  IoTensor in[kMaxInputs];
  Vec<int64_t> ids, rows;
  Joined joined{&p, &options, false};
  for (size_t i = 0; i < count; ++i) {
    in[i] = inputs[i];
    const bool is_ids = i == ids_at;
    bool is_rows = false;
    for (uint32_t v = 0; v < p.info->input_count; ++v)
      is_rows = is_rows || (p.info->values[v].role == format::Role::rows &&
                            std::strcmp(p.info->values[v].name, inputs[i].name) == 0);
    if (!is_int_vector(inputs[i]) || (!is_ids && !is_rows)) continue;
    Vec<int64_t>& to = is_ids ? ids : rows;
    RNL_TRY(to.reserve(size_t(inputs[i].dims[0]) + 1));
    if (is_ids) RNL_TRY(to.push(pending));
    for (int64_t k = 0; k < inputs[i].dims[0]; ++k) {
      const int64_t x = int_at(inputs[i], k);
      // Row 0 of the joined call is the pending token's; a negative row stays one that is refused.
      RNL_TRY(to.push(is_ids ? x : x < 0 ? -1 : x + 1));
    }
    joined.has_rows = joined.has_rows || is_rows;
    in[i].dtype = DType::kI64;
    in[i].dims[0] = int64_t(to.size());
    in[i].data = to.data();
    in[i].bytes = to.size() * sizeof(int64_t);
  }
  // A call without tokens is refused, with one of them pending too.
  if (ids.size() < 2) return session.run(inputs, count, options);
  Session::RunOptions o = options;
  o.sink = Joined::deliver;
  o.sink_context = &joined;
  return session.run(in, count, o);
}

const PlannedProgram* find_program(const Session& session, const char* name) {
  for (const PlannedProgram& p : session.plan().programs)
    if (!name || std::strcmp(p.info->name, name) == 0) return &p;
  return nullptr;
}

// The caller's ids; count: there are none. alone: no other input of the caller runs along the stream.
size_t find_ids(const Session& session, const PlannedProgram& p, const IoTensor* inputs, size_t count, bool* alone) {
  size_t found = count;
  *alone = true;
  for (size_t i = 0; i < count; ++i)
    for (uint32_t v = 0; v < p.info->input_count; ++v) {
      const ValueInfo& info = p.info->values[v];
      if (std::strcmp(info.name, inputs[i].name) != 0 || !is_stream_input(session.model(), p, info)) continue;
      if (info.role == format::Role::tokens && is_int_vector(inputs[i])) found = i;
      else *alone = false;
    }
  return found;
}

}  // namespace

void note_tokens(TextState& state, int64_t begin, const int32_t* ids, int64_t end) {
  state.sampler.count = uint64_t(begin);
  for (int64_t p = begin; p < end; ++p) state.sampler.accept(ids ? ids[p - begin] : -1);
}

Status run_stream(Session& session, const IoTensor* inputs, size_t count, const Session::RunOptions& options) {
  TextState& state = text_state(session);
  const PlannedProgram* p = find_program(session, options.program);
  if (!p || p->stream_symbol < 0 || count > kMaxInputs) return session.run(inputs, count, options);
  bool alone = true;
  const size_t ids_at = find_ids(session, *p, inputs, count, &alone);
  bool has_pending = state.has_pending && state.pending_at == session.position();
  if (has_pending && (ids_at == count || !alone)) {
    RNL_TRY(session.check_run(inputs, count, options));
    const IoTensor first[2] = {{"ids", DType::kI32, 1, {1}, &state.pending, 4},
                               {"rows", DType::kI32, 1, {0}, nullptr, 0}};
    Session::RunOptions none;
    none.sink = [](void*, uint32_t, const TensorView&, int64_t) { return Status::ok(); };
    const int64_t at = session.position();
    Status s = session.run(first, 2, none);
    if (!s.is_ok()) return std::move(s).with_context("feeding the token that was chosen last");
    note_tokens(state, at, &state.pending, session.position());
    state.has_pending = 0;
    has_pending = false;
  }
  const int64_t begin = session.position();
  Status s =
      has_pending ? run_joined(session, *p, inputs, count, ids_at, options) : session.run(inputs, count, options);
  const int64_t end = session.position();
  if (end == begin) return s;
  int64_t at = begin;
  if (has_pending) note_tokens(state, at, &state.pending, at + 1), ++at;
  state.has_pending = 0;
  for (int64_t k = 0; at < end; ++k, ++at) {
    const int32_t id = ids_at < count ? int32_t(int_at(inputs[ids_at], k)) : -1;
    note_tokens(state, at, &id, at + 1);
  }
  return s;
}

Status run_stream_into(Session& session, const char* program, const IoTensor* inputs, size_t count, IoTensor* outputs,
                       size_t output_count) {
  Session::CopySink sink;
  Session::RunOptions options;
  RNL_TRY(session.copy_into(program, outputs, output_count, &sink, &options));
  return run_stream(session, inputs, count, options);
}

Status rollback_stream(Session& session, int64_t n, Session::Reach reach) {
  RNL_TRY(session.rollback(n, reach));
  if (n == 0) return Status::ok();
  TextState& state = text_state(session);
  const int64_t position = session.position();
  state.has_pending = 0;
  state.decode = DecodeState{};
  state.decode.at_start = 0;
  state.sampler.count = uint64_t(position);
  while (state.chat.count > 0 &&
         (state.chat.count > kMaxChatMarks || state.chat.marks[state.chat.count - 1].position > position))
    --state.chat.count;
  GrammarState& g = state.grammar;
  if (g.marks[1].at > position) g.marks[1] = g.marks[0];
  if (g.marks[1].at > position || g.begin > position) g.grammar = 0;
  return Status::ok();
}

}  // namespace runnel
