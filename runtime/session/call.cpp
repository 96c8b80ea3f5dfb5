// A call: what can be refused before it begins, its passes, and where its outputs go.
#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "session/pass.h"

namespace runnel {

Status Session::find_program(const char* name, uint32_t* index) const {
  for (*index = 0; *index < plan_.programs.size(); ++*index)
    if (!name || std::strcmp(plan_.programs[*index].info->name, name) == 0) return Status::ok();
  return Status::make(Code::kNotFound, "the model has no program \"%.80s\"", name);
}

// What can be told of a call before anything of it has run.
Status Session::check_call(const Pass& pass) const {
  const PlannedProgram& p = *pass.program;
  int64_t before = 0;
  for (int64_t i = 0; pass.rows && i < pass.rows->dims[0]; ++i) {
    const int64_t r = read_int(*pass.rows, i);
    RNL_CHECK_ARG(r >= before && r < pass.total, "rows[%lld] is %lld; rows must rise and stay below %lld",
                  static_cast<long long>(i), static_cast<long long>(r), static_cast<long long>(pass.total));
    before = r;
  }
  RNL_CHECK_ARG(p.stream_symbol < 0 || pass.total > 0, "the call has no tokens");
  RNL_TRY(check_kept(p));
  const int64_t one_pass = tokens_that_fit(std::min(plan_.options.chunk, pass.total));
  for (uint32_t i = 0; i < p.outputs.size(); ++i)
    RNL_CHECK_ARG(pass.total <= one_pass || !p.outputs[i].needs_whole_call || !pass.wants(i),
                  "output \"%s\" depends on all tokens of a call together, and this one has %lld, more than the %lld "
                  "of one pass (chunk)",
                  p.info->values[p.info->outputs[i]].name, static_cast<long long>(pass.total),
                  static_cast<long long>(one_pass));
  const int64_t position = header()->position;
  if (plan_.is_limited && pass.total > 0 &&
      (pass.total > plan_.options.context || position > plan_.options.context - pass.total))
    return Status::make(Code::kContextFull, "the stream holds %lld tokens, %lld more do not fit the context of %lld",
                        static_cast<long long>(position), static_cast<long long>(pass.total),
                        static_cast<long long>(plan_.options.context));
  return Status::ok();
}

Status Session::begin_call(const IoTensor* inputs, size_t input_count, const RunOptions& options, Pass* pass) {
  RNL_TRY(find_program(options.program, &pass->program_index));
  const PlannedProgram& p = plan_.programs[pass->program_index];
  pass->program = &p;
  pass->options = &options;
  pass->rows_all = options.rows_all;
  forget_positions();
  RNL_TRY(match_inputs(p, inputs, input_count));
  RNL_TRY(bind_symbols(p, &pass->symbols));
  pass->total = p.stream_symbol >= 0 ? pass->symbols.v[p.stream_symbol] : 0;
  for (uint32_t i = 0; i < p.info->input_count; ++i)
    if (p.info->values[i].role == format::Role::rows) pass->rows = matched_[i];
  RNL_TRY(check_call(*pass));
  return check_device();
}

Status Session::check_run(const IoTensor* inputs, size_t input_count, const RunOptions& options) {
  Pass pass;
  return begin_call(inputs, input_count, options, &pass);
}

Status Session::output_shapes(const IoTensor* inputs, size_t input_count, const RunOptions& options,
                              Vec<TensorView>* shapes) {
  Pass pass;
  RNL_TRY(begin_call(inputs, input_count, options, &pass));
  const PlannedProgram& p = *pass.program;
  if (p.rows_symbol >= 0)
    pass.symbols.v[p.rows_symbol] = pass.rows ? pass.rows->dims[0] : pass.rows_all ? pass.total : 1;
  RNL_TRY(shapes->assign(p.info->outputs.size()));
  for (size_t i = 0; i < shapes->size(); ++i) {
    const ValueInfo& v = p.info->values[p.info->outputs[i]];
    RNL_TRY(evaluate_shape(model(), v.shape, pass.symbols, v.name, &(*shapes)[i]));
    (*shapes)[i].dtype = v.dtype;
  }
  return Status::ok();
}

Status Session::run(const IoTensor* inputs, size_t input_count, const RunOptions& options) {
  const uint64_t t0 = now_ns();
  Pass pass;
  RNL_TRY(begin_call(inputs, input_count, options, &pass));
  const PlannedProgram& p = *pass.program;
  const bool streams = p.stream_symbol >= 0;
  if (backend_) RNL_TRY(sync_to_device());
  const int64_t start = header()->position;
  RNL_TRY(note_kept(p, nullptr));
  if (plan_.has_recurrent && streams) begin_recurrent_call(pass);
  Status status;
  do {
    pass.tokens = streams ? tokens_that_fit(std::min(plan_.options.chunk, pass.total - pass.begin)) : 0;
    if (streams) pass.symbols.v[p.stream_symbol] = pass.tokens;
    // On the CPU alone, and without recurrent states, run_ops looks between operators.
    if ((plan_.has_recurrent || backend_) && cancel_.load(std::memory_order_relaxed)) {
      status = Status::make(Code::kCancelled, "cancelled");
      break;
    }
    if (plan_.has_recurrent && streams) mark_recurrent();
    status = run_pass(pass);
    if (!status.is_ok()) break;
    pass.begin += pass.tokens;
    tokens_.fetch_add(uint64_t(pass.tokens), std::memory_order_relaxed);
    passes_.fetch_add(1, std::memory_order_relaxed);
    if (progress_ && pass.begin < pass.total && !progress_(progress_context_, pass.begin, pass.total))
      status = Status::make(Code::kCancelled, "cancelled");
  } while (status.is_ok() && pass.begin < pass.total);
  if (status.is_ok()) status = note_kept(p, &pass.symbols);
  nanoseconds_.fetch_add(now_ns() - t0, std::memory_order_relaxed);
  // One that comes while the last operators run is for what comes next: a caller such as generation, which is one call
  // of the interface, goes on to the next run, and forgets the cancel when it ends.
  if (!status.is_ok()) cancel_.store(false, std::memory_order_relaxed);
  if (backend_) status = end_call_on_device(start, !p.kept_written.empty(), std::move(status));
  if (backend_ && backend_->is_lost()) return status;
  if (status.is_ok()) {
    kept_.buffer = -1;
    return status;
  }
  return status.code() == Code::kCancelled ? keep_whole_passes(pass, start, std::move(status))
                                           : undo(pass, start, std::move(status));
}

Status Session::CopySink::deliver(void* context, uint32_t output, const TensorView& block, int64_t first_row) {
  CopySink& sink = *static_cast<CopySink*>(context);
  const char* name = sink.info->values[sink.info->outputs[output]].name;
  for (size_t i = 0; i < sink.count; ++i) {
    IoTensor& t = sink.outputs[i];
    if (std::strcmp(t.name, name) != 0) continue;
    const size_t bytes = view_bytes(block);
    const size_t row = block.rank && block.dims[0] ? bytes / size_t(block.dims[0]) : bytes;
    const size_t at = size_t(first_row) * row;
    RNL_CHECK_ARG((t.data || bytes == 0) && t.bytes >= at + bytes, "output \"%s\" has room for %zu bytes, needs %zu",
                  name, t.bytes, at + bytes);
    if (bytes) std::memcpy(static_cast<char*>(t.data) + at, block.data, bytes);
    t.dtype = block.dtype;
    t.rank = block.rank;
    for (int d = 0; d < block.rank; ++d) t.dims[d] = block.dims[d];
    if (block.rank) t.dims[0] += first_row;
  }
  return Status::ok();
}

Status Session::copy_into(const char* program, IoTensor* outputs, size_t count, CopySink* sink,
                          RunOptions* options) const {
  uint32_t index;
  RNL_TRY(find_program(program, &index));
  const ProgramInfo& info = *plan_.programs[index].info;
  uint64_t named = 0;
  bool is_optional = false;
  for (size_t i = 0; i < count; ++i) {
    uint32_t k = 0;
    while (k < info.outputs.size() && std::strcmp(info.values[info.outputs[k]].name, outputs[i].name) != 0) ++k;
    RNL_CHECK_ARG(k < info.outputs.size(), "program \"%s\" has no output \"%.80s\"", info.name, outputs[i].name);
    is_optional = is_optional || k >= info.required_outputs;
    named |= k < 64 ? uint64_t(1) << k : 0;
  }
  *sink = {outputs, count, &info};
  if (is_optional) options->wanted_outputs = named;
  options->program = program;
  options->sink = CopySink::deliver;
  options->sink_context = sink;
  options->top_logits = top_logits_;
  return Status::ok();
}

Status Session::run_into(const char* program, const IoTensor* inputs, size_t input_count, IoTensor* outputs,
                         size_t output_count) {
  CopySink sink;
  RunOptions options;
  RNL_TRY(copy_into(program, outputs, output_count, &sink, &options));
  return run(inputs, input_count, options);
}

}  // namespace runnel
