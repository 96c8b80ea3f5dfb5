// A session as an app makes it, the calls that an app makes of it, and what they give.
#pragma once

#include <atomic>
#include <cstdlib>
#include <functional>
#include <optional>
#include <sstream>
#include <thread>

#include "api/handles.h"
#include "models/streams/kinds.h"

namespace runnel::streams {

// A promise that did not hold.
struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};
template <class... Parts>
[[noreturn]] void broken(const Parts&... parts) {
  std::ostringstream s;
  (s << ... << parts);
  throw Broken(s.str());
}

constexpr int32_t kBadId = 1 << 20;  // no model's; in a graph's input: NaN

// What a case is made of besides its steps.
struct Setup {
  Kind kind;
  int threads = 1;
  bool has_own_memory = false;
  int64_t context = 0, chunk = 0, rows = 0, window = 0;
  int32_t kv = 0;
  std::string text() const {
    std::ostringstream s;
    s << kind.name << ", context " << context << ", chunk " << chunk << ", rows " << rows << ", rollback_window "
      << window << ", kv " << kv << ", threads " << threads << (has_own_memory ? ", the caller's memory" : "");
    return s.str();
  }
};

struct SessionEnd {
  void operator()(rnl_session* s) const { rnl_session_destroy(s); }
};
using SessionPtr = std::unique_ptr<rnl_session, SessionEnd>;

// Outputs by name and first row.
using Blocks = std::map<std::pair<std::string, int64_t>, std::vector<float>>;

inline std::vector<float> row_of_id(int32_t id, int64_t width) {
  std::vector<float> row(static_cast<size_t>(width));
  uint32_t x = uint32_t(id) * 2654435761u + 12345;
  for (float& v : row) {
    x = x * 1664525u + 1013904223u;
    v = id == kBadId ? NAN : float(int32_t(x >> 8) % 2001 - 1000) / 1000.0f;
  }
  return row;
}

// How outputs of a call are asked for.
struct Wish {
  enum Mode { kLast, kAll, kPicked, kCopied, kNothing, kHidden } mode = kNothing;
  std::vector<int32_t> rows;  // kPicked
  bool is_wide = false;       // ids as i64
};
// What happens to a call on its way.
struct Trouble {
  enum Mode { kNone, kCancelBefore, kCancelFromThread, kStopProgress, kStopOutput, kReenter, kDestroy } mode = kNone;
  int64_t at = 0;  // which pass or block; microseconds
};

// Calls of a session from within a callback of its own: refused.
inline void reenter(rnl_session* s) {
  const int32_t id = 1;
  const rnl_tensor in{"ids", RNL_I32, 1, {1}, const_cast<int32_t*>(&id), 4};
  char bytes[64];
  rnl_session* copy = nullptr;
  const rnl_status_code codes[] = {rnl_session_run(s, nullptr, &in, 1, nullptr, 0),
                                   rnl_session_rollback(s, 0),
                                   rnl_session_snapshot(s, bytes, sizeof bytes),
                                   rnl_session_fork(s, &copy),
                                   rnl_session_recover(s),
                                   rnl_session_generate(s, &id, 1, nullptr, nullptr, nullptr, nullptr),
                                   rnl_session_restore_snapshot(s, bytes, sizeof bytes)};
  for (size_t i = 0; i < std::size(codes); ++i)
    if (codes[i] != RNL_INVALID_ARGUMENT) broken("call ", i, " from within a callback gives ", codes[i]);
  rnl_session_reset(s);
  rnl_session_set_top_logits(s, 3);
}

struct World {
  World(Models& models, const Setup& s) : setup(s), model(models.open(s.kind, s.threads)), width(models.width(s.kind)) {
    info.struct_size = sizeof info;
    if (rnl_model_get_info(model, &info)) broken("get_info: ", rnl_last_error());
    const char* backend = std::getenv("RUNNEL_TEST_BACKEND");
    is_vulkan = backend && std::string(backend) == "vulkan";
    fit_options();
  }
  rnl_session_options options() const {
    rnl_session_options o{};
    o.struct_size = sizeof o;
    o.context = setup.context, o.chunk = setup.chunk, o.rows = setup.rows, o.rollback_window = setup.window,
    o.kv = setup.kv;
    o.backend = is_vulkan ? RNL_BACKEND_VULKAN : RNL_BACKEND_CPU;
    return o;
  }
  SessionPtr make(const rnl_session_options& o) const {
    rnl_session* s = nullptr;
    if (rnl_session_create(model, &o, &s)) broken("session: ", rnl_last_error());
    return SessionPtr(s);
  }
  SessionPtr make() const { return make(options()); }
  int64_t window() const { return setup.window < 0 ? 0 : setup.window == 0 ? 64 : setup.window; }
  int64_t chunk() const { return std::min(setup.chunk ? setup.chunk : 256, context()); }
  int64_t context() const { return setup.context; }

  Setup setup;
  const rnl_model* model;
  rnl_model_info info{};
  int64_t width = 0;  // of a graph's input
  int32_t ids = 64;   // below which every id is one
  bool has_logits = false, has_hidden = false, is_vulkan = false;
  bool has_fixed_context = false;  // a call beyond the context is refused
  bool counts = true;              // calls are a stream; an encoder's are not
  bool has_rings = false;
  // The context is that short that rings may be shorter than they should be.
  bool is_tight() const { return context() < 64 + chunk() + window(); }

 private:
  // Key and value types that this model cannot have are left out; and what its outputs are is tried once.
  void fit_options();
};

// ---- calls ----

struct Sink {
  Blocks* blocks = nullptr;
  int64_t stop_at = -1, seen = 0;
  rnl_session *reenters = nullptr, *destroys = nullptr;
  std::string error;  // of what a callback did; it must not throw
};
inline int take_block(void* user, const rnl_tensor* t, int64_t first_row) {
  auto& sink = *static_cast<Sink*>(user);
  if (sink.stop_at >= 0 && sink.seen++ == sink.stop_at) return 1;
  if (sink.destroys) rnl_session_destroy(sink.destroys), sink.destroys = nullptr;
  try {
    if (sink.reenters) reenter(sink.reenters);
  } catch (const Broken& e) {
    sink.error = e.what();
  }
  if (sink.blocks && t->dtype == RNL_F32) {
    const int64_t rows = t->rank ? t->dims[0] : 1;
    const size_t row = rows ? t->bytes / 4 / size_t(rows) : 0;
    const auto* p = static_cast<const float*>(t->data);
    for (int64_t r = 0; r < rows; ++r)
      (*sink.blocks)[{t->name, first_row + r}].assign(p + size_t(r) * row, p + size_t(r + 1) * row);
  }
  return 0;
}

// One input tensor with its data.
struct Input {
  Input(const World& w, const std::vector<int32_t>& ids, bool is_wide) {
    tensor.dims[0] = int64_t(ids.size());
    if (w.setup.kind.is_graph) {
      for (int32_t id : ids) {
        const std::vector<float> row = row_of_id(id, w.width);
        floats.insert(floats.end(), row.begin(), row.end());
      }
      tensor.name = "x", tensor.dtype = RNL_F32, tensor.rank = 2, tensor.dims[1] = w.width;
      tensor.data = floats.data(), tensor.bytes = floats.size() * 4;
      return;
    }
    tensor.name = "ids", tensor.rank = 1;
    narrow = ids;
    wide.assign(ids.begin(), ids.end());
    for (int64_t& id : wide) id = id == kBadId ? int64_t(1) << 40 : id;
    tensor.dtype = is_wide ? RNL_I64 : RNL_I32;
    tensor.data = is_wide ? static_cast<void*>(wide.data()) : narrow.data();
    tensor.bytes = ids.size() * (is_wide ? 8 : 4);
  }
  Input(const Input&) = delete;
  rnl_tensor tensor{};
  std::vector<float> floats;
  std::vector<int32_t> narrow;
  std::vector<int64_t> wide;
};

// Feeds ids in one call.
inline rnl_status_code feed(const World& w, rnl_session* s, const std::vector<int32_t>& ids, const Wish& wish,
                            const Trouble& trouble, Blocks* blocks) {
  const Input input(w, ids, wish.is_wide);
  std::vector<int32_t> rows = wish.rows;
  rnl_tensor in[2] = {input.tensor, {}};
  in[1].name = "rows", in[1].dtype = RNL_I32, in[1].rank = 1, in[1].dims[0] = int64_t(rows.size()),
  in[1].data = rows.data(), in[1].bytes = rows.size() * 4;
  Sink sink;
  sink.blocks = blocks;
  if (trouble.mode == Trouble::kStopOutput) sink.stop_at = trouble.at;
  if (trouble.mode == Trouble::kReenter) sink.reenters = s;
  if (trouble.mode == Trouble::kDestroy) sink.destroys = s;
  int64_t passes_left = trouble.at;
  if (trouble.mode == Trouble::kStopProgress)
    rnl_session_set_progress(
        s, [](void* left, int64_t, int64_t) { return (*static_cast<int64_t*>(left))-- <= 0 ? 1 : 0; }, &passes_left);
  if (trouble.mode == Trouble::kCancelBefore) rnl_session_cancel(s);
  std::thread other;
  if (trouble.mode == Trouble::kCancelFromThread)
    other = std::thread([s, at = trouble.at] {
      std::this_thread::sleep_for(std::chrono::microseconds(at));
      rnl_stats stats{};
      stats.struct_size = sizeof stats;
      rnl_session_stats(s, &stats);
      rnl_session_cancel(s);
    });
  rnl_status_code code;
  const bool picks = wish.mode == Wish::kPicked && !w.setup.kind.is_graph;
  if (wish.mode == Wish::kNothing || wish.mode == Wish::kCopied || wish.mode == Wish::kHidden) {
    std::vector<float> room(4096 * (w.setup.kind.is_graph ? ids.size() : 1));
    rnl_tensor out{};
    out.name = w.setup.kind.is_graph ? "y" : wish.mode == Wish::kHidden ? "last_hidden_state" : "logits";
    out.data = room.data(), out.bytes = room.size() * 4;
    const bool wants = (wish.mode == Wish::kCopied && (w.has_logits || w.setup.kind.is_graph)) ||
                       (wish.mode == Wish::kHidden && w.has_hidden);
    code = rnl_session_run(s, nullptr, in, 1, wants ? &out : nullptr, wants);
    sink.reenters = sink.destroys = nullptr;
    if (code == RNL_OK && wants) take_block(&sink, &out, 0);
  } else {
    code = rnl_session_run_blocks(s, nullptr, in, picks ? 2 : 1, wish.mode == Wish::kAll, take_block, &sink);
  }
  if (other.joinable()) other.join();
  if (sink.destroys) rnl_session_destroy(sink.destroys);  // its callback was never called
  if (!sink.error.empty()) throw Broken(sink.error);
  if (trouble.mode == Trouble::kStopProgress) rnl_session_set_progress(s, nullptr, nullptr);
  return code;
}

inline void World::fit_options() {
  rnl_memory m{};
  m.struct_size = sizeof m;
  const auto is_possible = [&] {
    const rnl_session_options o = options();
    return rnl_session_plan(model, &o, &m) == RNL_OK;
  };
  if (!is_possible()) setup.kv = 0;
  if (!is_possible()) broken("plan: ", rnl_last_error());
  SessionPtr s = make();
  for (const StateInfo& state : model->model->states()) has_rings = has_rings || state.kind == format::StateKind::ring;
  if (setup.kind.is_graph) return;
  Blocks blocks;
  if (feed(*this, s.get(), {1}, {Wish::kLast, {}, false}, {}, &blocks)) broken("a first call: ", rnl_last_error());
  counts = rnl_session_position(s.get()) == 1;
  for (const auto& [key, row] : blocks)
    if (key.first == "logits") has_logits = true, ids = int32_t(row.size());
  if (info.vocabulary > 0) ids = std::min(ids, info.vocabulary);
  has_hidden = info.embedding > 0;
}

inline std::string difference(const Blocks& got, const Blocks& wanted) {
  if (got.size() != wanted.size())
    return std::to_string(got.size()) + " rows of outputs instead of " + std::to_string(wanted.size());
  for (auto a = got.begin(), b = wanted.begin(); a != got.end(); ++a, ++b) {
    if (a->first != b->first || a->second.size() != b->second.size())
      return "other rows or sizes of \"" + a->first.first + "\"";
    if (std::memcmp(a->second.data(), b->second.data(), a->second.size() * 4) == 0) continue;
    const float d = convert::largest_difference(a->second, b->second);
    return "\"" + a->first.first + "\" row " + std::to_string(a->first.second) + " differs by " +
           std::to_string(d / convert::largest(b->second)) + " of the largest";
  }
  return {};
}

inline std::vector<unsigned char> snapshot_of(const rnl_session* s) {
  std::vector<unsigned char> bytes(rnl_session_snapshot_bytes(s));
  if (rnl_session_snapshot(s, bytes.data(), bytes.size())) broken("snapshot: ", rnl_last_error());
  return bytes;
}

}  // namespace runnel::streams
