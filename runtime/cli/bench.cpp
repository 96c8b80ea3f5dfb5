// bench: prefill and decode speed, load, time to the first token, memory, and how near decode comes to what memory
// allows.
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/common.h"
#include "cli/inside/memory_bound.h"
#include "cli/lines.h"

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

// One session that is fed ids and goes on from them greedily, as an app has it do.
class Runner {
 public:
  explicit Runner(const rnl::Session& session) : session_(session.get()) {
    greedy_.struct_size = sizeof greedy_;
    greedy_.sampling.struct_size = sizeof greedy_.sampling;
    greedy_.ignore_end = 1;
  }
  // Feeds ids, none: the token that was chosen last; then chooses `tokens` tokens and feeds all but the last.
  void generate(const int32_t* ids, int64_t count, int64_t tokens) {
    greedy_.max_tokens = tokens;
    int64_t generated = 0;
    check(rnl_session_generate(
        session_, ids, size_t(count), &greedy_, [](void*, int32_t, const char*, size_t) { return 0; }, nullptr,
        &generated));
    if (generated != tokens) throw Failure("the model chose no token after " + std::to_string(generated));
  }
  // Feeds ids and makes no logits.
  void feed(const int32_t* ids, int64_t count) {
    int32_t none = 0;
    const rnl_tensor in[2] = {{"ids", RNL_I32, 1, {count}, const_cast<int32_t*>(ids), size_t(count) * 4},
                              {"rows", RNL_I32, 1, {0}, &none, 0}};
    check(rnl_session_run(session_, nullptr, in, 2, nullptr, 0));
  }
  // Whether logits that cannot be the highest are left out, as far as one token tells.
  bool is_screened(const int32_t* id) {
    const rnl_tensor in{"ids", RNL_I32, 1, {1}, const_cast<int32_t*>(id), 4};
    bool screened = false;
    rnl_session_set_top_logits(session_, 1);
    const rnl::Status s = rnl_session_run_blocks(
        session_, nullptr, &in, 1, 0,
        [](void* user, const rnl_tensor* t, int64_t) {
          const float* x = static_cast<const float*>(t->data);
          const size_t n = t->bytes / sizeof(float);
          if (std::strcmp(t->name, "logits") == 0) *static_cast<bool*>(user) = std::isinf(x[0]) || std::isinf(x[n - 1]);
          return 0;
        },
        &screened);
    rnl_session_set_top_logits(session_, 0);
    check(s);
    return screened;
  }

 private:
  rnl_session* session_;
  rnl_generate_options greedy_{};
};

int64_t vocabulary_of(const rnl::Model& model) {
  for (const rnl_value_info& v : model.outputs(nullptr)) {
    if (std::strcmp(v.name, "logits") != 0 || v.rank != 2) continue;
    char* end;
    const int64_t n = std::strtoll(v.sizes[1], &end, 10);
    if (*end == 0 && n > 0) return n;
  }
  throw Failure("bench needs a language model: a program with the output logits [rows, vocabulary]");
}

// Of the first state.
std::string kv_name(const rnl::Model& model, const rnl_session_options& options) {
  const auto states = model.states();
  if (states.empty()) return "none";
  const int32_t dtype = options.kv && states[0].kind != RNL_STATE_RECURRENT ? options.kv : states[0].dtype;
  return dtype == RNL_F32 ? "f32" : dtype == RNL_F16 ? "f16" : dtype == RNL_Q8 ? "q8" : std::to_string(dtype);
}

// A line's number in a file of Linux's about this process, 0 where there is none.
uint64_t bytes_of(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.compare(0, name.size(), name) == 0) return std::strtoull(line.c_str() + name.size(), nullptr, 10) * 1024;
  return 0;
}

// What no file stands behind, in memory and swapped out.
uint64_t anonymous_bytes() {
  return bytes_of("/proc/self/smaps_rollup", "Anonymous:") + bytes_of("/proc/self/smaps_rollup", "Swap:");
}

// The process's own peak: what getrusage tells goes over fork and exec, so it may be the parent's.
uint64_t peak_bytes() {
  if (const uint64_t bytes = bytes_of("/proc/self/status", "VmHWM:")) return bytes;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return uint64_t(usage.ru_maxrss) * 1024;
}

json memory_json(const rnl_memory& m) {
  return {{"weights", m.weights},     {"state", m.state}, {"arena", m.arena},        {"packed", m.packed},
          {"tokenizer", m.tokenizer}, {"fixed", m.fixed}, {"anonymous", m.anonymous}};
}

json device_of(const rnl::Session& session) {
  rnl_backend_info b{};
  b.struct_size = sizeof b;
  rnl_session_get_backend(session.get(), &b);
  return {{"name", b.device},
          {"bytes", b.device_bytes},
          {"imported_bytes", b.imported_bytes},
          {"driver_ms", double(b.driver_ns) / 1e6},
          {"pipeline_ms", double(b.pipeline_ns) / 1e6},
          {"pipelines", b.pipelines},
          {"pipelines_cached", b.pipelines_cached},
          {"submissions", b.submissions},
          {"cpu_operators", b.cpu_operators},
          {"copied_bytes", b.copied_bytes}};
}

}  // namespace

int cmd_bench(const Options& o) {
  const int64_t need = std::max(o.prompt_tokens + 1, o.depth + o.gen_tokens + 1);
  std::vector<double> load_ms, first_ms, prefill, decode;
  json planned;
  int threads = 0;
  std::string kv, head = "full";
  json device;
  int few = 0;
  uint64_t token_bytes = 0, peak = 0;
  const uint64_t anonymous_before = anonymous_bytes();
  int64_t anonymous = 0;
  double gb_per_s = 0;
  std::vector<int32_t> ids;
  for (int r = 0; r < o.repeat; ++r) {
    const uint64_t t0 = now_ns();
    Opened opened;
    open(o, &opened);
    const rnl_session_options options = session_options(o, need);
    rnl::Session session;
    check(session.create(opened.model, options));
    const uint64_t t1 = now_ns();
    load_ms.push_back(double(t1 - t0) / 1e6);
    Trace trace(o, session.get());
    if (ids.empty()) {
      const int64_t vocabulary = vocabulary_of(opened.model);
      uint64_t state = o.seed;
      for (int64_t i = 0; i < std::max<int64_t>(std::max(o.prompt_tokens, o.depth), 1); ++i)
        ids.push_back(int32_t(next_random(&state) % uint64_t(vocabulary)));
    }
    Runner runner(session);
    if (o.prompt_tokens > 0) {
      runner.generate(ids.data(), o.prompt_tokens, 1);
      first_ms.push_back(double(now_ns() - t0) / 1e6);
      // The first run also pages the weights in: it counts for the first token, a second one for the speed.
      session.reset();
      const uint64_t t2 = now_ns();
      runner.generate(ids.data(), o.prompt_tokens, 1);
      prefill.push_back(double(o.prompt_tokens) * 1e9 / double(now_ns() - t2));
    }
    if (o.gen_tokens > 0) {
      session.reset();
      head = runner.is_screened(ids.data()) ? "screened" : "full";
      session.reset();
      if (o.depth > 0) runner.feed(ids.data(), o.depth);
      token_bytes =
          bytes_read(session.get(), o.depth + 1 + o.gen_tokens / 2, [&] { runner.generate(ids.data(), 1, 1); });
      const uint64_t t5 = now_ns();
      runner.generate(nullptr, 0, o.gen_tokens);
      decode.push_back(double(o.gen_tokens) * 1e9 / double(now_ns() - t5));
    }
    trace.finish();
    few = token_threads(session.get());
    if (r + 1 == o.repeat) {
      peak = peak_bytes();  // reading all weights comes after it
      anonymous = int64_t(anonymous_bytes()) - int64_t(anonymous_before);
      if (token_bytes > 0) gb_per_s = read_gb_per_s(session.get());
    }
    rnl_memory m{};
    m.struct_size = sizeof m;
    check(rnl_session_get_memory(session.get(), &m));
    planned = memory_json(m);
    threads = opened.engine.threads();
    kv = kv_name(opened.model, options);
    if (o.backend == "vulkan") device = device_of(session);
  }
  const std::string cpu = name_of_cpu();
  const double bound_share = gb_per_s > 0 ? double(token_bytes) * median(decode) / 1e9 / gb_per_s : 0;
  if (o.json) {
    json out = {{"prefill_tokens_per_s", median(prefill)},
                {"decode_tokens_per_s", median(decode)},
                {"load_ms", median(load_ms)},
                {"first_token_ms", median(first_ms)},
                {"peak_bytes", peak},
                {"anonymous_bytes", anonymous},
                {"planned_bytes", planned},
                {"threads", threads},
                {"backend", o.backend},
                {"cpu", cpu},
                {"kv", kv},
                {"depth", o.depth},
                {"head", head},
                {"token_threads", few}};
    if (token_bytes > 0)
      out.update({{"read_gb_per_s", gb_per_s}, {"bytes_per_token", token_bytes}, {"bound_share", bound_share}});
    if (!device.is_null()) out["device"] = device;
    std::printf("%s\n", json_text(out).c_str());
    return 0;
  }
  std::printf("%s, %d threads (%d for one token), kv %s, output matrix %s\n", cpu.c_str(), threads, few, kv.c_str(),
              head.c_str());
  if (!prefill.empty())
    std::printf("prefill %lld tokens    %10.1f tokens/s\n", static_cast<long long>(o.prompt_tokens), median(prefill));
  if (!decode.empty())
    std::printf("decode %lld at depth %lld %10.1f tokens/s\n", static_cast<long long>(o.gen_tokens),
                static_cast<long long>(o.depth), median(decode));
  if (token_bytes > 0)
    std::printf("weights are read at %.1f GB/s, a token reads %.2f MB: decode reaches %.0f%% of what memory allows\n",
                gb_per_s, double(token_bytes) / 1e6, bound_share * 100);
  std::printf("load %.2f ms, first token %.1f ms, peak memory %.1f MB, of it anonymous %.1f MB (planned %.1f MB)\n",
              median(load_ms), median(first_ms), double(peak) / 1e6, double(anonymous) / 1e6,
              planned["anonymous"].get<double>() / 1e6);
  return 0;
}

}  // namespace runnel::cli
