// bench: prefill and decode speed, load, time to the first token, memory, and how near decode comes to what memory
// allows.
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "api/handles.h"
#include "base/clock.h"
#include "cli/common.h"
#include "cli/lines.h"
#include "cli/memory_bound.h"
#include "cpu/features.h"
#include "text/sampler.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

// SplitMix64: ids that are the same on every machine for the same seed.
uint64_t next_random(uint64_t* state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

struct Argmax {
  int32_t id = 0;
  bool is_screened = false;  // logits that cannot be the highest were left out
};

Status take_argmax(void* context, uint32_t, const TensorView& block, int64_t) {
  const float* x = static_cast<const float*>(block.data);
  const int64_t n = int64_t(view_bytes(block) / sizeof(float));
  auto best = argmax(x, int32_t(n));
  if (!best.is_ok()) return best.take_status();
  *static_cast<Argmax*>(context) = {best.value(), std::isinf(x[0]) || std::isinf(x[n - 1])};
  return Status::ok();
}

// One session that is fed ids.
class Runner {
 public:
  explicit Runner(Session& session) : session_(session) {}
  // Feeds ids; with want_token the greedy choice after the last one is returned.
  int32_t feed(const int32_t* ids, int64_t count, bool want_token) {
    int32_t none = 0;
    IoTensor in[2] = {{"ids", DType::kI32, 1, {count}, const_cast<int32_t*>(ids), size_t(count) * 4},
                      {"rows", DType::kI32, 1, {0}, &none, 0}};
    Argmax best;
    Session::RunOptions o;
    o.sink = take_argmax;
    o.sink_context = &best;
    o.top_logits = 1;
    o.choice = &best.id;
    o.choose_among = INT32_MAX;
    Status s = session_.run(in, want_token ? 1 : 2, o);
    if (!s.is_ok()) throw Failure(s.message());
    if (want_token && count == 1) ++(best.is_screened ? screened_ : full_);
    return best.id;
  }
  // As feed() with one id. *bytes: what it would read at a position of the stream; 0 on a device.
  int32_t feed_and_count(int32_t id, int64_t position, uint64_t* bytes) {
    struct Watch {
      const Session* session;
      int64_t position;
      uint64_t bytes;
    } watch{&session_, position, 0};
    session_.set_observer(
        [](void* context, const ObservedOp& op) -> Status {
          Watch& w = *static_cast<Watch*>(context);
          w.bytes += bytes_read(*w.session, op, w.position);
          return Status::ok();
        },
        &watch);
    const int32_t next = feed(&id, 1, true);
    session_.set_observer(nullptr, nullptr);
    *bytes = watch.bytes;
    return next;
  }
  // What most of the decoded tokens had.
  const char* head() const { return screened_ > full_ ? "screened" : "full"; }

 private:
  Session& session_;
  int64_t screened_ = 0, full_ = 0;
};

int64_t vocabulary_of(const Model& model) {
  const ProgramInfo& p = model.programs()[0];
  for (uint32_t v : p.outputs) {
    const ValueInfo& info = p.values[v];
    if (std::strcmp(info.name, "logits") != 0 || info.shape.rank != 2) continue;
    auto n = model.exprs().evaluate(info.shape.dims[1], SymbolValues{});
    if (n.is_ok() && n.value() > 0) return n.value();
  }
  throw Failure("bench needs a language model: a program with the output logits [rows, vocabulary]");
}

const char* kv_name(const Plan& plan) { return plan.states.empty() ? "none" : dtype_name(plan.states[0].dtype); }

// The process's own peak: what getrusage tells goes over fork and exec, so it may be the parent's.
uint64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.compare(0, 6, "VmHWM:") == 0) return std::strtoull(line.c_str() + 6, nullptr, 10) * 1024;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return uint64_t(usage.ru_maxrss) * 1024;
}

}  // namespace

int cmd_bench(const Options& o) {
  const int64_t need = std::max(o.prompt_tokens + 1, o.depth + o.gen_tokens + 1);
  std::vector<double> load_ms, first_ms, prefill, decode;
  json planned;
  int threads = 0;
  std::string kv, head;
  json device;
  int token_threads = 0;
  uint64_t token_bytes = 0, peak = 0;
  double gb_per_s = 0;
  std::vector<int32_t> ids;
  for (int r = 0; r < o.repeat; ++r) {
    const uint64_t t0 = now_ns();
    Opened opened;
    open(o, &opened);
    rnl::Session handle;
    check(handle.create(opened.model, session_options(o, need)));
    const uint64_t t1 = now_ns();
    load_ms.push_back(double(t1 - t0) / 1e6);
    Session& session = *handle.get()->session;
    Trace trace(o, handle.get());
    if (ids.empty()) {
      const int64_t vocabulary = vocabulary_of(session.model());
      uint64_t state = o.seed;
      for (int64_t i = 0; i < std::max<int64_t>(std::max(o.prompt_tokens, o.depth), 1); ++i)
        ids.push_back(int32_t(next_random(&state) % uint64_t(vocabulary)));
    }
    Runner runner(session);
    if (o.prompt_tokens > 0) {
      runner.feed(ids.data(), o.prompt_tokens, true);
      first_ms.push_back(double(now_ns() - t0) / 1e6);
      // The first run also pages the weights in: it counts for the first token, a second one for the speed.
      session.reset();
      const uint64_t t2 = now_ns();
      runner.feed(ids.data(), o.prompt_tokens, true);
      prefill.push_back(double(o.prompt_tokens) * 1e9 / double(now_ns() - t2));
    }
    if (o.gen_tokens > 0) {
      session.reset();
      if (o.depth > 0) runner.feed(ids.data(), o.depth, false);
      int32_t token = runner.feed_and_count(ids[0], o.depth + 1 + o.gen_tokens / 2, &token_bytes);
      const uint64_t t5 = now_ns();
      for (int64_t i = 0; i < o.gen_tokens; ++i) token = runner.feed(&token, 1, true);
      decode.push_back(double(o.gen_tokens) * 1e9 / double(now_ns() - t5));
    }
    trace.finish();
    ThreadPool* few = thread_pool_part(opened.engine.get()->pool);
    token_threads = thread_pool_size(few);
    if (r + 1 == o.repeat) {
      peak = peak_bytes();  // reading all weights comes after it
      if (token_bytes > 0) gb_per_s = read_gb_per_s(session.model(), few);
    }
    const MemoryReport m = session.memory();
    planned = {{"weights", m.weights}, {"state", m.state},         {"arena", m.arena},
               {"packed", m.packed},   {"tokenizer", m.tokenizer}, {"fixed", m.fixed}};
    threads = opened.engine.threads();
    kv = kv_name(session.plan());
    head = runner.head();
    if (const Backend* b = session.backend()) {
      const BackendStats s = b->stats();
      device = {{"name", b->device_name()},
                {"bytes", b->device_bytes()},
                {"driver_ms", double(s.driver_ns) / 1e6},
                {"pipeline_ms", double(s.pipeline_ns) / 1e6},
                {"pipelines", s.pipelines},
                {"pipelines_cached", s.pipelines_cached},
                {"submissions", s.submissions},
                {"cpu_operators", s.cpu_ops},
                {"copied_bytes", s.copied_bytes}};
    }
  }
  char cpu[96];
  cpu_name(cpu, sizeof cpu);
  const double bound_share = gb_per_s > 0 ? double(token_bytes) * median(decode) / 1e9 / gb_per_s : 0;
  if (o.json) {
    json out = {{"prefill_tokens_per_s", median(prefill)},
                {"decode_tokens_per_s", median(decode)},
                {"load_ms", median(load_ms)},
                {"first_token_ms", median(first_ms)},
                {"peak_bytes", peak},
                {"planned_bytes", planned},
                {"threads", threads},
                {"backend", o.backend},
                {"cpu", cpu},
                {"kv", kv},
                {"depth", o.depth},
                {"head", head},
                {"token_threads", token_threads}};
    if (token_bytes > 0)
      out.update({{"read_gb_per_s", gb_per_s}, {"bytes_per_token", token_bytes}, {"bound_share", bound_share}});
    if (!device.is_null()) out["device"] = device;
    std::printf("%s\n", json_text(out).c_str());
    return 0;
  }
  std::printf("%s, %d threads (%d for one token), kv %s, output matrix %s\n", cpu, threads, token_threads, kv.c_str(),
              head.c_str());
  if (!prefill.empty())
    std::printf("prefill %lld tokens    %10.1f tokens/s\n", static_cast<long long>(o.prompt_tokens), median(prefill));
  if (!decode.empty())
    std::printf("decode %lld at depth %lld %10.1f tokens/s\n", static_cast<long long>(o.gen_tokens),
                static_cast<long long>(o.depth), median(decode));
  if (token_bytes > 0)
    std::printf("weights are read at %.1f GB/s, a token reads %.2f MB: decode reaches %.0f%% of what memory allows\n",
                gb_per_s, double(token_bytes) / 1e6, bound_share * 100);
  std::printf("load %.2f ms, first token %.1f ms, peak memory %.1f MB\n", median(load_ms), median(first_ms),
              double(peak) / 1e6);
  return 0;
}

}  // namespace runnel::cli
