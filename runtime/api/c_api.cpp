// runnel.h over the C++ core: engines, models, sessions. Text calls are in c_api_text.cpp.
#include <cstdio>
#include <cstring>

#include "api/handles.h"
#include "base/log.h"
#include "cpu/features.h"
#include "session/embed.h"

namespace runnel {
namespace {

constexpr size_t kMessageBytes = 1024;
thread_local char g_message[kMessageBytes];

static_assert(int(Code::kInternal) == RNL_INTERNAL && int(Code::kNonFinite) == RNL_NON_FINITE && int(Code::kContextFull) == RNL_CONTEXT_FULL);
static_assert(int(DType::kI64) == RNL_I64 && int(DType::kQ8) == RNL_Q8);

PlanOptions plan_options(const rnl_session_options* given) {
  const rnl_session_options o = read_options(given);
  PlanOptions p;
  p.context = o.context;
  p.chunk = o.chunk;
  p.rows = o.rows == 0 ? 1 : o.rows;
  p.rollback = o.rollback_window == 0 ? 64 : o.rollback_window == -1 ? 0 : o.rollback_window;
  p.kv = DType(o.kv);
  p.budget_bytes = o.budget_bytes;
  p.backend = BackendKind(o.backend);
  if (o.snapshot_every) p.snapshot_every = o.snapshot_every;
  return p;
}

rnl_memory to_memory(const MemoryReport& m) {
  rnl_memory out{};
  out.weights = m.weights;
  out.state = m.state;
  out.arena = m.arena;
  out.packed = m.packed;
  out.tokenizer = m.tokenizer;
  out.fixed = m.fixed;
  return out;
}

Status null_argument(const char* what) { return Status::make(Code::kInvalidArgument, "%s is null", what); }

constexpr size_t kMaxIo = 32;
// The caller's tensors as the core's.
Status to_io(const rnl_tensor* tensors, size_t count, IoTensor* out) {
  RNL_CHECK_ARG(count <= kMaxIo, "%zu tensors, at most %zu", count, kMaxIo);
  for (size_t i = 0; i < count; ++i) {
    const rnl_tensor& t = tensors[i];
    RNL_CHECK_ARG(t.name, "tensor %zu has no name", i);
    RNL_CHECK_ARG(t.rank >= 0 && t.rank <= kMaxRank, "tensor \"%s\" has %d axes", t.name, t.rank);
    out[i] = {t.name, DType(t.dtype), t.rank, {}, t.data, t.bytes};
    std::memcpy(out[i].dims, t.dims, sizeof out[i].dims);
  }
  return Status::ok();
}

}  // namespace

rnl_status_code report(Status status) {
  if (!status.is_ok()) std::snprintf(g_message, sizeof g_message, "%s", status.message());
  return rnl_status_code(status.code());
}

}  // namespace runnel

using namespace runnel;

extern "C" {

const char* rnl_version(void) { return RNL_VERSION; }
const char* rnl_format_version(void) { return "1.0"; }
const char* rnl_last_error(void) { return g_message; }
void rnl_set_log(rnl_log_fn log, void* user) { set_log(log, user); }

rnl_status_code rnl_engine_create(const rnl_engine_options* options, rnl_engine** engine) {
  if (!engine) return report(null_argument("engine"));
  const rnl_engine_options o = read_options(options);
  if (o.threads < 0 || o.threads > 256) return report(Status::make(Code::kInvalidArgument, "%d threads; 1 to 256 are possible, 0 chooses", o.threads));
  auto* e = new (std::nothrow) rnl_engine;
  if (e) e->pool = thread_pool_create(o.threads ? o.threads : cpu_default_threads());
  if (!e || !e->pool) {
    delete e;
    return report(Status::make(Code::kOutOfMemory, "cannot start %d threads", o.threads));
  }
  *engine = e;
  return RNL_OK;
}

void rnl_engine_destroy(rnl_engine* engine) { delete engine; }
int32_t rnl_engine_threads(const rnl_engine* engine) { return thread_pool_size(engine->pool); }

rnl_status_code rnl_model_open(rnl_engine* engine, const char* path, const rnl_model_options* options, rnl_model** model) {
  if (!engine || !path || !model) return report(null_argument("engine, path or model"));
  const rnl_model_options o = read_options(options);
  auto opened = Model::open(path, {o.copy != 0, o.adapter});
  if (!opened.is_ok()) return report(opened.take_status());
  auto* m = new (std::nothrow) rnl_model;
  if (!m) return report(Status::make(Code::kOutOfMemory, "%s: no memory for the model", path));
  m->engine = engine;
  m->model = std::move(opened.value());
  *model = m;
  return RNL_OK;
}

rnl_status_code rnl_model_open_memory(rnl_engine* engine, const void* data, size_t size, rnl_model** model) {
  if (!engine || !model) return report(null_argument("engine or model"));
  auto opened = Model::open_memory(data, size);
  if (!opened.is_ok()) return report(opened.take_status());
  auto* m = new (std::nothrow) rnl_model;
  if (!m) return report(Status::make(Code::kOutOfMemory, "no memory for the model"));
  m->engine = engine;
  m->model = std::move(opened.value());
  *model = m;
  return RNL_OK;
}

void rnl_model_close(rnl_model* model) { delete model; }

rnl_status_code rnl_model_verify(const rnl_model* model) {
  return report(model ? model->model->verify_segments() : null_argument("model"));
}

rnl_status_code rnl_model_get_info(const rnl_model* model, rnl_model_info* info) {
  if (!model || !info) return report(null_argument("model or info"));
  const format::Model& root = model->model->root();
  auto text = [](const flatbuffers::String* s) { return s ? s->c_str() : ""; };
  rnl_model_info out{};
  out.name = text(root.name());
  const format::Provenance* p = root.provenance();
  out.architecture = p ? text(p->architecture()) : "";
  out.licence = p ? text(p->licence()) : "";
  out.source = p ? text(p->source()) : "";
  out.context = root.context() > uint64_t(INT64_MAX) ? INT64_MAX : int64_t(root.context());
  out.bos = out.eos = -1;
  if (const format::Tokenizer* t = root.tokenizer()) {
    const TensorInfo* scores = t->scores() ? model->model->find_tensor(t->scores()->c_str()) : nullptr;
    out.vocabulary = scores && scores->view.rank == 1 && scores->view.dims[0] <= INT32_MAX ? int32_t(scores->view.dims[0]) : 0;
    out.bos = t->bos();
    out.eos = t->eos();
  }
  out.has_chat = root.chat() || root.chat_program();
  auto width = embedding_width(*model->model);
  if (width.is_ok() && width.value() <= INT32_MAX) out.embedding = int32_t(width.value());
  write_struct(info, out);
  return RNL_OK;
}

rnl_status_code rnl_session_plan(const rnl_model* model, const rnl_session_options* options, rnl_memory* memory) {
  if (!model || !memory) return report(null_argument("model or memory"));
  PlanOptions o = plan_options(options);
  o.threads = thread_pool_size(model->engine->pool);
  auto plan = make_plan(*model->model, o);
  if (!plan.is_ok()) return report(plan.take_status());
  write_struct(memory, to_memory(Session::memory_of(plan.value())));
  return RNL_OK;
}

rnl_status_code rnl_session_create(const rnl_model* model, const rnl_session_options* options, rnl_session** session) {
  if (!model || !session) return report(null_argument("model or session"));
  const rnl_session_options o = read_options(options);
  auto created = Session::create(*model->model, model->engine->pool, plan_options(options), o.state_memory, o.arena_memory);
  if (!created.is_ok()) return report(created.take_status());
  auto* s = new (std::nothrow) rnl_session;
  if (!s) return report(Status::make(Code::kOutOfMemory, "no memory for a session"));
  s->owner = model;
  s->session = std::move(created.value());
  *session = s;
  return RNL_OK;
}

void rnl_session_destroy(rnl_session* session) { delete session; }

rnl_status_code rnl_session_get_memory(const rnl_session* session, rnl_memory* memory) {
  if (!session || !memory) return report(null_argument("session or memory"));
  write_struct(memory, to_memory(session->session->memory()));
  return RNL_OK;
}

void rnl_session_get_backend(const rnl_session* session, rnl_backend_info* info) {
  if (!session || !info) return;
  rnl_backend_info out{};
  out.device = "";
  if (const Backend* b = session->session->backend()) {
    const BackendStats s = b->stats();
    out.device = b->device_name();
    out.device_bytes = b->device_bytes();
    out.submissions = s.submissions, out.recordings = s.recordings, out.cpu_operators = s.cpu_ops, out.copied_bytes = s.copied_bytes;
    out.driver_ns = s.driver_ns, out.pipeline_ns = s.pipeline_ns, out.pipelines = s.pipelines, out.pipelines_cached = s.pipelines_cached;
  }
  write_struct(info, out);
}

rnl_status_code rnl_vulkan_devices(void (*line)(void* user, const char* text), void* user) {
  if (!line) return report(null_argument("line"));
  const BackendEntry* entry = vulkan_backend();
  if (!entry) return report(Status::make(Code::kUnsupported, "this library was built without Vulkan"));
  return report(entry->devices(line, user));
}

rnl_status_code rnl_session_run(rnl_session* session, const char* program, const rnl_tensor* inputs, size_t input_count, rnl_tensor* outputs, size_t output_count) {
  if (!session || (!inputs && input_count) || (!outputs && output_count)) return report(null_argument("session, inputs or outputs"));
  IoTensor in[kMaxIo], out[kMaxIo];
  Status s = to_io(inputs, input_count, in);
  if (s.is_ok()) s = to_io(outputs, output_count, out);
  if (s.is_ok()) s = session->session->run_into(program, in, input_count, out, output_count);
  if (!s.is_ok()) return report(std::move(s));
  for (size_t i = 0; i < output_count; ++i) {
    outputs[i].dtype = int32_t(out[i].dtype);
    outputs[i].rank = out[i].rank;
    std::memcpy(outputs[i].dims, out[i].dims, sizeof out[i].dims);
  }
  return RNL_OK;
}

rnl_status_code rnl_session_run_blocks(rnl_session* session, const char* program, const rnl_tensor* inputs, size_t input_count, int32_t all_rows, rnl_output_fn output,
                                       void* user) {
  if (!session || (!inputs && input_count) || !output) return report(null_argument("session, inputs or output"));
  IoTensor in[kMaxIo];
  Status s = to_io(inputs, input_count, in);
  if (!s.is_ok()) return report(std::move(s));
  struct Sink {
    const ProgramInfo* info;
    rnl_output_fn fn;
    void* user;
  } sink{session->session->model().find_program(program), output, user};
  Session::RunOptions o;
  o.program = program;
  o.rows_all = all_rows != 0;
  o.top_logits = session->session->top_logits();
  o.sink_context = &sink;
  o.sink = [](void* context, uint32_t index, const TensorView& block, int64_t first_row) -> Status {
    const Sink& k = *static_cast<Sink*>(context);
    rnl_tensor t{};
    t.name = k.info->values[k.info->outputs[index]].name;
    t.dtype = int32_t(block.dtype);
    t.rank = block.rank;
    std::memcpy(t.dims, block.dims, sizeof t.dims);
    t.data = block.data;
    t.bytes = view_bytes(block);
    return k.fn(k.user, &t, first_row) ? Status::make(Code::kCancelled, "cancelled by the output callback") : Status::ok();
  };
  return report(session->session->run(in, input_count, o));
}

rnl_status_code rnl_session_embed(rnl_session* session, const int32_t* ids, size_t count, const rnl_embed_options* options, float* embedding, size_t capacity) {
  if (!session || (!ids && count) || !embedding) return report(null_argument("session, ids or embedding"));
  const rnl_embed_options o = read_options(options);
  static_assert(int(format::Pooling::first) + 1 == RNL_POOLING_FIRST && int(format::Pooling::mean) + 1 == RNL_POOLING_MEAN);
  if (o.pooling < 0) return report(Status::make(Code::kInvalidArgument, "pooling %d is unknown", o.pooling));
  return report(embed(*session->session, ids, count, {o.pooling - 1, o.normalise < 0 ? 0 : o.normalise > 0 ? 1 : -1}, embedding, capacity));
}

void rnl_session_set_top_logits(rnl_session* session, int32_t k) { session->session->set_top_logits(k); }
int64_t rnl_session_position(const rnl_session* session) { return session->session->position(); }
void rnl_session_reset(rnl_session* session) { session->session->reset(); }
rnl_status_code rnl_session_recover(rnl_session* session) { return report(session ? session->session->recover() : null_argument("session")); }
rnl_status_code rnl_session_rollback(rnl_session* session, int64_t n) { return report(session ? session->session->rollback(n) : null_argument("session")); }
size_t rnl_session_snapshot_bytes(const rnl_session* session) { return session->session->snapshot_bytes(); }
rnl_status_code rnl_session_snapshot(const rnl_session* session, void* buffer, size_t size) {
  return report(session && buffer ? session->session->snapshot(buffer, size) : null_argument("session or buffer"));
}
rnl_status_code rnl_session_restore_snapshot(rnl_session* session, const void* buffer, size_t size) {
  return report(session && buffer ? session->session->restore(buffer, size) : null_argument("session or buffer"));
}
rnl_status_code rnl_session_save(const rnl_session* session, const char* path) {
  return report(session && path ? session->session->save(path) : null_argument("session or path"));
}
rnl_status_code rnl_session_restore(rnl_session* session, const char* path) {
  return report(session && path ? session->session->load(path) : null_argument("session or path"));
}

rnl_status_code rnl_session_fork(const rnl_session* session, rnl_session** copy) {
  if (!session || !copy) return report(null_argument("session or copy"));
  auto forked = session->session->fork();
  if (!forked.is_ok()) return report(forked.take_status());
  auto* s = new (std::nothrow) rnl_session;
  if (!s) return report(Status::make(Code::kOutOfMemory, "no memory for a session"));
  s->owner = session->owner;
  s->session = std::move(forked.value());
  *copy = s;
  return RNL_OK;
}

void rnl_session_cancel(rnl_session* session) { session->session->cancel(); }

void rnl_session_stats(const rnl_session* session, rnl_stats* stats) {
  const SessionStats s = session->session->stats();
  rnl_stats out{};
  out.position = s.position;
  out.tokens = s.tokens;
  out.passes = s.passes;
  out.nanoseconds = s.nanoseconds;
  write_struct(stats, out);
}

void rnl_session_set_progress(rnl_session* session, rnl_progress_fn progress, void* user) {
  session->progress = progress;
  session->progress_user = user;
  session->session->set_progress(
      progress ? +[](void* context, int64_t done, int64_t total) {
        const auto* s = static_cast<rnl_session*>(context);
        return s->progress(s->progress_user, done, total) == 0;
      }
               : nullptr,
      session);
}

void rnl_session_set_trace(rnl_session* session, rnl_trace_fn trace, void* user) { session->session->set_trace(trace, user); }

}  // extern "C"
