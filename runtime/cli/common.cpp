#include "cli/common.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>

#include "base/clock.h"
#include "text/utf8.h"

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
  g.sampling.top_p = std::max(o.top_p, std::numeric_limits<float>::min());  // where 0 is off
  g.sampling.min_p = o.min_p;
  g.sampling.repetition_penalty = o.repetition_penalty;
  g.sampling.seed = o.seed;
  g.stop = o.stops.data();
  g.stop_count = o.stops.size();
  return g;
}

std::string printable(std::string_view text) {
  constexpr size_t kName = 200, kAll = 8000;
  std::string out;
  size_t opened = text.npos, closed = 0;  // the quotation marks around what comes
  for (size_t i = 0; i < text.size() && out.size() < kAll;) {
    if (text[i] == '"' && i != closed) opened = i, closed = text.find('"', i + 1);
    else if (text[i] == '"') opened = text.npos;
    if (opened != text.npos && closed != text.npos && i > opened + kName && i < closed) {
      out += "…";
      i = closed;
      continue;
    }
    const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + i;
    const Utf8Step step = utf8_step(p, text.size() - i);
    const uint32_t code = step.kind == Utf8::kValid ? code_point_at(p, step.length).value : 0;
    const bool shows = code >= 0x20 && !(code >= 0x7F && code < 0xA0);
    for (uint32_t k = 0; k < step.length; ++k) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, p[k] == '\n' ? "\\n" : "\\x%02x", p[k]);
      if (shows) out += char(p[k]);
      else out += escaped;
    }
    i += step.length;
  }
  return out;
}

void tell(std::string_view text) { std::fprintf(stderr, "runnel: %s\n", printable(text).c_str()); }

bool is_terminal(int descriptor) { return isatty(descriptor); }

std::string reason(const rnl::Status& s, const char* more) {
  return s.message() +
         (s.code() == RNL_CONTEXT_FULL ? std::string("; ") + more + "a larger --context makes room" : std::string());
}

bool reads_context(const rnl::Model& model) {
  for (const rnl_program_info& p : model.programs())
    for (const rnl_value_info& v : model.inputs(p.name))
      if (v.role == RNL_ROLE_CONTEXT) return true;
  return false;
}

bool has_state(const rnl::Model& model, rnl_state_kind kind) {
  const auto states = model.states();
  return std::any_of(states.begin(), states.end(), [&](const rnl_state_info& s) { return s.kind == kind; });
}

Saved read_saved(const std::string& path) {
  Saved saved{0, rnl::session_options()};
  const rnl::Status s = rnl_saved_options(path.c_str(), &saved.options, &saved.position);
  // What is no saved stream is told when it is restored.
  if (!s && s.code() != RNL_STATE_MISMATCH) throw Failure(s.message());
  return saved;
}

void continue_saved(const Saved& saved, rnl_session_options* options) {
  if (!saved.options.context) return;
  if (!options->chunk) options->chunk = saved.options.chunk;
  if (!options->kv) options->kv = saved.options.kv;
  options->rollback_window = saved.options.rollback_window;
}

int64_t default_context(const rnl::Model& model) {
  const int64_t c = model.info().context;
  return c > 0 ? std::min<int64_t>(c, 4096) : 4096;
}

void open(const Options& o, Opened* opened) {
  check(opened->engine.create(o.threads));
  check(opened->model.open(opened->engine, o.model, false, o.adapter));
}

Trace::Trace(const Options& o, rnl_session* session) {
  if (o.trace.empty()) return;
  out_ = std::make_unique<TextOutput>(o.trace);
  rnl_session_set_trace(
      session,
      [](void* user, const char* op, const char* kernel, uint64_t begin, uint64_t end) {
        static_cast<Trace*>(user)->events_.push_back({op, kernel, begin, end});
      },
      this);
}

void Trace::finish() {
  if (!out_) return;
  const std::unique_ptr<TextOutput> out = std::move(out_);
  out->write("{\"traceEvents\":[");
  const uint64_t zero = events_.empty() ? 0 : events_[0].begin;
  for (size_t i = 0; i < events_.size(); ++i) {
    const Event& e = events_[i];
    char line[512];
    std::snprintf(line, sizeof line,
                  "%s\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f}",
                  i ? "," : "", e.kernel, e.op, double(e.begin - zero) / 1e3, double(e.end - e.begin) / 1e3);
    out->write(line);
  }
  out->write("\n]}\n");
  out->commit();
}

Trace::~Trace() {
  try {
    finish();
  } catch (const Failure& e) {
    tell(e.what());
  }
}

Progress::Progress(const char* what, int64_t total)
    : what_(what), total_(total), started_(now_ns()), terminal_(isatty(2)) {}

void Progress::update(int64_t done, int64_t total) {
  if (total > 0) total_ = total;
  if (!terminal_ || total_ <= 0 || now_ns() - started_ < 1000000000ull) return;
  drawn_ = true;
  const int width = 30, filled = int(done * width / total_);
  std::fprintf(stderr, "\r%s [%.*s%*s] %3d%%", what_, filled, "##############################", width - filled, "",
               int(done * 100 / total_));
}

Progress::~Progress() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
}

}  // namespace runnel::cli
