#include "cli/common.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"

namespace runnel::cli {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

rnl_session_options session_options(const Options& o, int64_t need) {
  rnl_session_options s = rnl::session_options();
  s.rollback_window = -1;  // no command takes tokens back
  s.context = o.context ? o.context : need;
  s.chunk = o.chunk;
  s.backend = o.backend == "vulkan" ? RNL_BACKEND_VULKAN : RNL_BACKEND_CPU;
  s.kv = o.kv == "f32" ? RNL_F32 : o.kv == "f16" ? RNL_F16 : o.kv == "q8" ? RNL_Q8 : 0;
  return s;
}

rnl_generate_options generate_options(const Options& o) {
  rnl_generate_options g{};
  g.struct_size = sizeof g;
  g.max_tokens = o.max_tokens;
  g.sampling.struct_size = sizeof g.sampling;
  g.sampling.temperature = o.temperature;
  g.sampling.top_k = o.top_k;
  g.sampling.top_p = o.top_p;
  g.sampling.min_p = o.min_p;
  g.sampling.repetition_penalty = o.repetition_penalty;
  g.sampling.seed = o.seed;
  g.stop = o.stops.data();
  g.stop_count = o.stops.size();
  return g;
}

int64_t default_context(const rnl::Model& model) {
  const int64_t c = model.info().context;
  return c > 0 ? std::min<int64_t>(c, 4096) : 4096;
}

void open(const Options& o, Opened* opened) {
  check(opened->engine.create(o.threads));
  check(opened->model.open(opened->engine, o.model, false, o.adapter));
}

Trace::Trace(const Options& o, rnl_session* session) : path_(o.trace) {
  if (path_.empty()) return;
  rnl_session_set_trace(
      session,
      [](void* user, const char* op, const char* kernel, uint64_t begin, uint64_t end) { static_cast<Trace*>(user)->events_.push_back({op, kernel, begin, end}); }, this);
}

Trace::~Trace() {
  if (path_.empty()) return;
  std::FILE* f = std::fopen(path_.c_str(), "w");
  if (!f) {
    std::fprintf(stderr, "runnel: %s: cannot write the trace\n", path_.c_str());
    return;
  }
  std::fprintf(f, "{\"traceEvents\":[");
  const uint64_t zero = events_.empty() ? 0 : events_[0].begin;
  for (size_t i = 0; i < events_.size(); ++i) {
    const Event& e = events_[i];
    std::fprintf(f, "%s\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f}", i ? "," : "", e.kernel, e.op, double(e.begin - zero) / 1e3,
                 double(e.end - e.begin) / 1e3);
  }
  std::fprintf(f, "\n]}\n");
  std::fclose(f);
}

Progress::Progress(const char* what, int64_t total) : what_(what), total_(total), started_(now_ns()), terminal_(isatty(2)) {}

void Progress::update(int64_t done, int64_t total) {
  if (total > 0) total_ = total;
  if (!terminal_ || total_ <= 0 || now_ns() - started_ < 1000000000ull) return;
  drawn_ = true;
  const int width = 30, filled = int(done * width / total_);
  std::fprintf(stderr, "\r%s [%.*s%*s] %3d%%", what_, filled, "##############################", width - filled, "", int(done * 100 / total_));
}

Progress::~Progress() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
}

}  // namespace runnel::cli
