// runnel.h over the C++ core: engines, models, sessions. Text calls are in c_api_text.cpp.
#include <cstdio>
#include <cstring>

#include "api/handles.h"
#include "base/file.h"
#include "base/log.h"
#include "cpu/token_threads.h"
#include "session/embed.h"
#include "text/stream.h"

namespace runnel {
namespace {

constexpr size_t kMessageBytes = 1024;
thread_local char g_message[kMessageBytes];

static_assert(int(Code::kInternal) == RNL_INTERNAL && int(Code::kNonFinite) == RNL_NON_FINITE &&
              int(Code::kContextFull) == RNL_CONTEXT_FULL);
static_assert(int(DType::kI64) == RNL_I64 && int(DType::kQ8) == RNL_Q8);

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

constexpr size_t kMaxIo = 32;
// The caller's tensors as the core's.
Status to_io(const rnl_tensor* tensors, size_t count, bool is_output, IoTensor* out) {
  RNL_CHECK_ARG(tensors || count == 0, "%s is null", is_output ? "outputs" : "inputs");
  RNL_CHECK_ARG(count <= kMaxIo, "%zu tensors, at most %zu", count, kMaxIo);
  for (size_t i = 0; i < count; ++i) {
    const rnl_tensor& t = tensors[i];
    RNL_CHECK_ARG(t.name, "tensor %zu has no name", i);
    RNL_CHECK_ARG(is_output || (t.rank >= 0 && t.rank <= kMaxRank), "tensor \"%.80s\" has %d axes", t.name, t.rank);
    RNL_CHECK_ARG(is_output || (t.dtype >= RNL_F32 && t.dtype <= RNL_I8), "tensor \"%.80s\" has dtype %d", t.name,
                  t.dtype);
    if (is_output) {
      out[i] = {t.name, DType::kNone, 0, {}, t.data, t.bytes};
      continue;
    }
    out[i] = {t.name, DType(t.dtype), t.rank, {}, t.data, t.bytes};
    std::memcpy(out[i].dims, t.dims, sizeof out[i].dims);
  }
  return Status::ok();
}

// The caller's block sink as the core's.
struct BlockSink {
  const ProgramInfo* info;
  rnl_output_fn fn;
  void* user;

  static Status deliver(void* context, uint32_t index, const TensorView& block, int64_t first_row) {
    const BlockSink& k = *static_cast<BlockSink*>(context);
    rnl_tensor t{};
    t.name = k.info->values[k.info->outputs[index]].name;
    t.dtype = int32_t(block.dtype);
    t.rank = block.rank;
    std::memcpy(t.dims, block.dims, sizeof t.dims);
    t.data = block.data;
    t.bytes = view_bytes(block);
    return k.fn(k.user, &t, first_row) ? Status::make(Code::kCancelled, "cancelled by the output callback")
                                       : Status::ok();
  }
};

// Bits of the outputs of these names.
Status find_outputs(const ProgramInfo& info, const char* const* names, size_t count, uint64_t* bits) {
  RNL_CHECK_ARG(names || count == 0, "outputs is null");
  for (size_t i = 0; i < count; ++i) {
    uint32_t k = 0;
    while (k < info.outputs.size() && (!names[i] || std::strcmp(info.values[info.outputs[k]].name, names[i]) != 0)) ++k;
    RNL_CHECK_ARG(k < info.outputs.size() && k < 64, "program \"%s\" has no output \"%.80s\"", info.name,
                  names[i] ? names[i] : "");
    *bits |= uint64_t(1) << k;
  }
  return Status::ok();
}

// Before the engine's first session: what runs relies on the number.
void choose_token_threads(rnl_engine& engine) {
  std::lock_guard<std::mutex> lock(engine.mutex);
  if (!engine.has_to_choose) return;
  engine.has_to_choose = false;
  thread_pool_set_part(engine.pool, token_threads(engine.pool, engine.cores).threads);
}

}  // namespace

Status plan_options(const rnl_session_options* given, rnl_session_options* o, PlanOptions* p) {
  RNL_TRY(read_options(given, o, "session options"));
  RNL_CHECK_ARG(o->kv == 0 || o->kv == RNL_F32 || o->kv == RNL_F16 || o->kv == RNL_Q8,
                "kv is %d; RNL_F32, RNL_F16 and RNL_Q8 are possible", o->kv);
  RNL_CHECK_ARG(o->backend == RNL_BACKEND_CPU || o->backend == RNL_BACKEND_VULKAN, "backend %d is unknown", o->backend);
  p->context = o->context;
  p->chunk = o->chunk;
  p->rows = o->rows == 0 ? 1 : o->rows;
  p->rollback = o->rollback_window == 0 ? 64 : o->rollback_window == -1 ? 0 : o->rollback_window;
  RNL_CHECK_ARG(p->rollback >= 0, "rollback_window is %lld", static_cast<long long>(p->rollback));
  p->kv = DType(o->kv);
  p->budget_bytes = o->budget_bytes;
  p->backend = BackendKind(o->backend);
  if (o->snapshot_every) p->snapshot_every = o->snapshot_every;
  return Status::ok();
}

rnl_status_code report(Status status) {
  if (!status.is_ok()) std::snprintf(g_message, sizeof g_message, "%s", status.message());
  return rnl_status_code(status.code());
}

Status null_argument(const char* what) { return Status::make(Code::kInvalidArgument, "%s is null", what); }

Status copy_options(const void* given, void* out, size_t size, const char* what) {
  if (!given) return Status::ok();
  size_t own;
  std::memcpy(&own, given, sizeof own);
  RNL_CHECK_ARG(own >= sizeof own && own <= 65536, "%s: struct_size is %zu", what, own);
  const auto* bytes = static_cast<const unsigned char*>(given);
  for (size_t i = size; i < own; ++i)
    if (bytes[i])
      return Status::make(Code::kUnsupported, "%s: a field is set that this version of the library does not know",
                          what);
  std::memcpy(out, given, own < size ? own : size);
  return Status::ok();
}

}  // namespace runnel

using namespace runnel;

extern "C" {

const char* rnl_version(void) { return RNL_VERSION; }
const char* rnl_format_version(void) {
  static_assert(kFormatMajor < 10 && kFormatMinor < 10);
  static constexpr char kVersion[] = {char('0' + kFormatMajor), '.', char('0' + kFormatMinor), 0};
  return kVersion;
}
const char* rnl_last_error(void) { return g_message; }
void rnl_set_log(rnl_log_fn log, void* user) { set_log(log, user); }

rnl_status_code rnl_engine_create(const rnl_engine_options* options, rnl_engine** engine) {
  if (!engine) return report(null_argument("engine"));
  rnl_engine_options o;
  Status s = read_options(options, &o, "engine options");
  if (!s.is_ok()) return report(std::move(s));
  if (o.threads < 0 || o.threads > 256)
    return report(Status::make(Code::kInvalidArgument, "%d threads; 1 to 256 are possible, 0 chooses", o.threads));
  auto* e = new (std::nothrow) rnl_engine;
  if (e && o.threads == 0) {
    e->has_to_choose = true;
    e->cores = find_cores();
    o.threads = e->cores.threads();
  }
  if (e)
    e->pool = thread_pool_create(o.threads, e->has_to_choose && e->cores.is_mixed() ? &e->cores.fast_set : nullptr);
  if (!e || !e->pool) {
    delete e;
    return report(Status::make(Code::kOutOfMemory, "cannot start %d threads", o.threads));
  }
  *engine = e;
  return RNL_OK;
}

void rnl_engine_destroy(rnl_engine* engine) { release(engine); }
int32_t rnl_engine_threads(const rnl_engine* engine) { return engine ? thread_pool_size(engine->pool) : 0; }

rnl_status_code rnl_model_open(rnl_engine* engine, const char* path, const rnl_model_options* options,
                               rnl_model** model) {
  if (!engine || !path || !model) return report(null_argument("engine, path or model"));
  rnl_model_options o;
  Status s = read_options(options, &o, "model options");
  if (!s.is_ok()) return report(std::move(s));
  auto opened = Model::open(path, {o.copy != 0, o.adapter});
  if (!opened.is_ok()) return report(opened.take_status());
  auto* m = new (std::nothrow) rnl_model;
  if (!m) return report(Status::make(Code::kOutOfMemory, "%s: no memory for the model", path));
  m->engine = Use<rnl_engine>(engine);
  m->model = std::move(opened.value());
  *model = m;
  return RNL_OK;
}

rnl_status_code rnl_model_open_memory(rnl_engine* engine, const void* data, size_t size, rnl_model** model) {
  if (!engine || !model || !data) return report(null_argument("engine, data or model"));
  auto opened = Model::open_memory(data, size);
  if (!opened.is_ok()) return report(opened.take_status());
  auto* m = new (std::nothrow) rnl_model;
  if (!m) return report(Status::make(Code::kOutOfMemory, "no memory for the model"));
  m->engine = Use<rnl_engine>(engine);
  m->model = std::move(opened.value());
  *model = m;
  return RNL_OK;
}

void rnl_model_close(rnl_model* model) { release(model); }

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
    out.vocabulary =
        scores && scores->view.rank == 1 && scores->view.dims[0] <= INT32_MAX ? int32_t(scores->view.dims[0]) : 0;
    out.bos = t->bos();
    out.eos = t->eos();
  }
  out.has_chat = root.chat() || root.chat_program();
  auto width = embedding_width(*model->model);
  if (width.is_ok() && width.value() <= INT32_MAX) out.embedding = int32_t(width.value());
  out.format_major = root.version_major(), out.format_minor = root.version_minor();
  out.converter = p ? text(p->converter()) : "";
  out.source_sha256 = p ? text(p->source_sha256()) : "";
  out.source_bytes = p ? p->source_bytes() : 0;
  out.source_tensor_bytes = p ? p->source_tensor_bytes() : 0;
  out.file_bytes = model->model->file_bytes();
  if (const Model* base = model->model->base()) out.adapter_bytes = out.file_bytes - base->file_bytes();
  return report(write_struct(info, out, "info"));
}

rnl_status_code rnl_session_plan(const rnl_model* model, const rnl_session_options* options, rnl_memory* memory) {
  if (!model || !memory) return report(null_argument("model or memory"));
  rnl_session_options given;
  PlanOptions o;
  Status s = plan_options(options, &given, &o);
  if (!s.is_ok()) return report(std::move(s));
  o.threads = thread_pool_size(model->engine->pool);
  auto plan = make_plan(*model->model, o);
  if (!plan.is_ok()) return report(plan.take_status());
  return report(write_struct(memory, to_memory(Session::memory_of(plan.value())), "memory"));
}

rnl_status_code rnl_session_create(const rnl_model* model, const rnl_session_options* options, rnl_session** session) {
  if (!model || !session) return report(null_argument("model or session"));
  rnl_session_options o;
  PlanOptions plan;
  Status given = plan_options(options, &o, &plan);
  if (!given.is_ok()) return report(std::move(given));
  choose_token_threads(*model->engine);
  auto created = Session::create(*model->model, model->engine->pool, plan, o.state_memory, o.arena_memory);
  if (!created.is_ok()) return report(created.take_status());
  auto* s = new (std::nothrow) rnl_session;
  if (!s) return report(Status::make(Code::kOutOfMemory, "no memory for a session"));
  s->owner = Use<const rnl_model>(model);
  s->session = std::move(created.value());
  *session = s;
  return RNL_OK;
}

void rnl_session_destroy(rnl_session* session) {
  if (session && session->is_busy) session->is_doomed = true;
  else delete session;
}

rnl_status_code rnl_session_get_memory(const rnl_session* session, rnl_memory* memory) {
  if (!session) return report(null_argument("session"));
  return report(write_struct(memory, to_memory(session->session->memory()), "memory"));
}

void rnl_session_get_backend(const rnl_session* session, rnl_backend_info* info) {
  if (!session || !info) return;
  rnl_backend_info out{};
  out.device = "";
  if (const Backend* b = session->session->backend()) {
    const BackendStats s = b->stats();
    out.device = b->device_name();
    out.device_bytes = b->device_bytes(), out.imported_bytes = b->imported_bytes();
    out.submissions = s.submissions, out.recordings = s.recordings, out.cpu_operators = s.cpu_ops,
    out.copied_bytes = s.copied_bytes;
    out.driver_ns = s.driver_ns, out.pipeline_ns = s.pipeline_ns, out.pipelines = s.pipelines,
    out.pipelines_cached = s.pipelines_cached;
  }
  (void)write_struct(info, out, "info");
}

rnl_status_code rnl_vulkan_devices(void (*line)(void* user, const char* text), void* user) {
  if (!line) return report(null_argument("line"));
  const BackendEntry* entry = vulkan_backend();
  if (!entry) return report(Status::make(Code::kUnsupported, "this library was built without Vulkan"));
  return report(entry->devices(line, user));
}

rnl_status_code rnl_session_output_shapes(rnl_session* session, const char* program, const rnl_tensor* inputs,
                                          size_t input_count, int32_t all_rows, rnl_tensor* outputs,
                                          size_t output_count) {
  return call_session(session, [&](Session& s) -> Status {
    IoTensor in[kMaxIo], out[kMaxIo];
    RNL_TRY(to_io(inputs, input_count, false, in));
    RNL_TRY(to_io(outputs, output_count, true, out));
    Session::CopySink sink;
    Session::RunOptions options;
    RNL_TRY(s.copy_into(program, out, output_count, &sink, &options));
    options.rows_all = all_rows != 0;
    Vec<TensorView> shapes;
    RNL_TRY(s.output_shapes(in, input_count, options, &shapes));
    for (size_t i = 0; i < output_count; ++i)
      for (size_t k = 0; k < shapes.size(); ++k) {
        if (std::strcmp(sink.info->values[sink.info->outputs[k]].name, outputs[i].name) != 0) continue;
        outputs[i].dtype = int32_t(shapes[k].dtype);
        outputs[i].rank = shapes[k].rank;
        std::memcpy(outputs[i].dims, shapes[k].dims, sizeof outputs[i].dims);
        outputs[i].bytes = view_bytes(shapes[k]);
      }
    return Status::ok();
  });
}

rnl_status_code rnl_session_run(rnl_session* session, const char* program, const rnl_tensor* inputs, size_t input_count,
                                rnl_tensor* outputs, size_t output_count) {
  return call_session(session, [&](Session& s) {
    IoTensor in[kMaxIo], out[kMaxIo];
    RNL_TRY(to_io(inputs, input_count, false, in));
    RNL_TRY(to_io(outputs, output_count, true, out));
    RNL_TRY(run_stream_into(s, program, in, input_count, out, output_count));
    for (size_t i = 0; i < output_count; ++i) {
      outputs[i].dtype = int32_t(out[i].dtype);
      outputs[i].rank = out[i].rank;
      std::memcpy(outputs[i].dims, out[i].dims, sizeof out[i].dims);
    }
    return Status::ok();
  });
}

rnl_status_code rnl_session_run_named_blocks(rnl_session* session, const char* program, const rnl_tensor* inputs,
                                             size_t input_count, const char* const* outputs, size_t output_count,
                                             int32_t all_rows, rnl_output_fn output, void* user) {
  return call_session(session, [&](Session& s) -> Status {
    if (!output) return null_argument("output");
    IoTensor in[kMaxIo];
    RNL_TRY(to_io(inputs, input_count, false, in));
    BlockSink sink{s.model().find_program(program), output, user};
    Session::RunOptions o;
    if (sink.info) RNL_TRY(find_outputs(*sink.info, outputs, output_count, &o.wanted_outputs));
    o.program = program;
    o.rows_all = all_rows != 0;
    o.top_logits = s.top_logits();
    o.sink_context = &sink;
    o.sink = BlockSink::deliver;
    return run_stream(s, in, input_count, o);
  });
}

rnl_status_code rnl_session_run_blocks(rnl_session* session, const char* program, const rnl_tensor* inputs,
                                       size_t input_count, int32_t all_rows, rnl_output_fn output, void* user) {
  return rnl_session_run_named_blocks(session, program, inputs, input_count, nullptr, 0, all_rows, output, user);
}

rnl_status_code rnl_session_embed(rnl_session* session, const int32_t* ids, size_t count,
                                  const rnl_embed_options* options, float* embedding, size_t capacity) {
  return call_session(session, [&](Session& s) {
    if ((!ids && count) || !embedding) return null_argument("ids or embedding");
    rnl_embed_options o;
    RNL_TRY(read_options(options, &o, "embed options"));
    static_assert(int(format::Pooling::first) + 1 == RNL_POOLING_FIRST &&
                  int(format::Pooling::mean) + 1 == RNL_POOLING_MEAN);
    RNL_CHECK_ARG(o.pooling >= 0 && o.pooling <= RNL_POOLING_FIRST, "pooling %d is unknown", o.pooling);
    Status status = embed(s, ids, count,
                          {o.pooling - 1, o.normalise < 0   ? 0
                                          : o.normalise > 0 ? 1
                                                            : -1},
                          embedding, capacity);
    if (text_state(s).sampler.count == 0) note_tokens(text_state(s), 0, ids, s.position());
    return status;
  });
}

void rnl_session_set_top_logits(rnl_session* session, int32_t k) {
  if (session && !session->is_busy) session->session->set_top_logits(k);
}
int64_t rnl_session_position(const rnl_session* session) { return session ? session->session->position() : 0; }
void rnl_session_reset(rnl_session* session) {
  if (session && !session->is_busy) session->session->reset();
}
rnl_status_code rnl_session_trim(rnl_session* session) {
  return call_session(session, [](Session& s) {
    s.trim();
    return Status::ok();
  });
}
rnl_status_code rnl_session_recover(rnl_session* session) {
  return call_session(session, [](Session& s) { return s.recover(); });
}
rnl_status_code rnl_session_rollback(rnl_session* session, int64_t n) {
  return call_session(session, [&](Session& s) { return rollback_stream(s, n); });
}
size_t rnl_session_snapshot_bytes(const rnl_session* session) {
  return session ? session->session->snapshot_bytes() : 0;
}
rnl_status_code rnl_session_snapshot(const rnl_session* session, void* buffer, size_t size) {
  return read_session(session,
                      [&](const Session& s) { return buffer ? s.snapshot(buffer, size) : null_argument("buffer"); });
}
rnl_status_code rnl_session_restore_snapshot(rnl_session* session, const void* buffer, size_t size) {
  return call_session(session, [&](Session& s) { return buffer ? s.restore(buffer, size) : null_argument("buffer"); });
}
rnl_status_code rnl_session_save(const rnl_session* session, const char* path) {
  return read_session(session, [&](const Session& s) { return path ? s.save(path) : null_argument("path"); });
}
rnl_status_code rnl_session_restore(rnl_session* session, const char* path) {
  return call_session(session, [&](Session& s) { return path ? s.load(path) : null_argument("path"); });
}

rnl_status_code rnl_saved_options(const char* path, rnl_session_options* options, int64_t* position) {
  if (!path || !options || !position) return report(null_argument("path, options or position"));
  auto file = FileView::open(path, false);
  if (!file.is_ok()) return report(file.take_status());
  StateHeader h{};
  if (file.value().size() >= sizeof h) std::memcpy(&h, file.value().data(), sizeof h);
  if (std::memcmp(h.magic, "RNLSTATE", sizeof h.magic) != 0 || h.version != kStateVersion || h.position < 0 ||
      h.position > kMaxSize)
    return report(Status::make(Code::kStateMismatch, "%s: no saved state of this version", path));
  rnl_session_options out{};
  out.context = h.context, out.chunk = h.chunk, out.kv = int32_t(h.kv);
  out.rollback_window = h.rollback > 0 ? h.rollback : -1;
  Status s = write_struct(options, out, "options");
  if (s.is_ok()) *position = h.position;
  return report(std::move(s));
}

rnl_status_code rnl_session_fork(const rnl_session* session, rnl_session** copy) {
  return read_session(session, [&](const Session& original) {
    if (!copy) return null_argument("copy");
    RNL_ASSIGN(forked, original.fork());
    auto* s = new (std::nothrow) rnl_session;
    if (!s) return Status::make(Code::kOutOfMemory, "no memory for a session");
    s->owner = session->owner;
    s->session = std::move(forked);
    *copy = s;
    return Status::ok();
  });
}

void rnl_session_cancel(rnl_session* session) {
  if (session) session->session->cancel();
}
void rnl_session_clear_cancel(rnl_session* session) {
  if (session) session->session->clear_cancel();
}

void rnl_session_stats(const rnl_session* session, rnl_stats* stats) {
  if (!session || !stats) return;
  const SessionStats s = session->session->stats();
  rnl_stats out{};
  out.position = s.position;
  out.tokens = s.tokens;
  out.passes = s.passes;
  out.nanoseconds = s.nanoseconds;
  (void)write_struct(stats, out, "stats");
}

void rnl_session_set_progress(rnl_session* session, rnl_progress_fn progress, void* user) {
  if (!session) return;
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

void rnl_session_set_trace(rnl_session* session, rnl_trace_fn trace, void* user) {
  if (session) session->session->set_trace(trace, user);
}

}  // extern "C"
