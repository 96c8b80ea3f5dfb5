// Saved states whose header, text part, journal and states are changed and whose checksum is right again, of models
// with recurrent states, windows, several programs and pending tokens. They are refused, or the stream goes on with
// whatever numbers. Input: which model and options, what the stream held, then changes of 5 bytes, then steps.
#include <cstddef>
#include <cstdio>

#include "base/xxh64.h"
#include "fuzz/bytes.h"
#include "unit/any_calls.h"
#include "unit/kept_graphs.h"

using namespace runnel;
using namespace runnel::test;

namespace {

struct World {
  std::unique_ptr<OpenModel> model;
  rnl_session_options options{};
  Planned planned;
};

// A language model of a window and a recurrence, with logits by rows.
void talker(GraphBuilder& b) {
  b.add_ids(), b.add_rows(), b.add_matrix("t", 32, 16, ramp(512)), b.add_recurrent("s", {"16"}),
      b.add_kv("", StateKind::ring, "1", "16", ring_slots(8), 8);
  for (const char* v : {"x", "h", "o2", "y"}) b.add_value(v, {"T", "16"});
  b.add_value("q", {"T", "1", "16"}), b.add_value("o", {"T", "1", "16"}), b.add_value("g", {"R", "16"}),
      b.add_value("logits", {"R", "32"});
  b.add_tensor("a", {1, 16}, std::vector<float>(16, 0.5f));
  b.embedding("ids", "t", "x"), b.scan("a", "x", "s", "h"), b.add_op("reshape", {"x"}, {"q"}),
      b.attention("q", "o", "k", "v", 8);
  b.add_op("reshape", {"o"}, {"o2"}), b.binary("h", "o2", "y"), b.add_op("gather_rows", {"y", "rows"}, {"g"}),
      b.add_op("matmul", {"g", "t"}, {"logits"});
  b.program().outputs = {"logits"};
}

// Every model with every rollback window, planned when it is first asked for.
World& world_of(uint8_t n) {
  static std::vector<World> all;
  if (all.empty()) {
    auto states = kept_states();
    for (const KeptGraph& g : kept_operators()) states.push_back(g);
    for (const int64_t window : {-1, 1, 8, 64})
      for (size_t i = 0; i <= states.size(); ++i) {
        GraphBuilder b;
        i < states.size() ? states[i].build(b) : talker(b);
        World w;
        w.model = std::make_unique<OpenModel>(b.build(), 1);
        w.options.context = 100, w.options.chunk = 8, w.options.rows = 2, w.options.rollback_window = window;
        if (fuzzes_vulkan()) w.options.backend = RNL_BACKEND_VULKAN;
        if (*w.model) w.planned = plan_session(*w.model, w.options);
        if (w.planned.session) all.push_back(std::move(w));
      }
  }
  return all[n % all.size()];
}

void put(std::vector<unsigned char>& state, size_t at, uint64_t value, size_t bytes) {
  if (at + bytes <= state.size()) std::memcpy(state.data() + at, &value, bytes);
}

void change(std::vector<unsigned char>& state, Bytes& in) {
  const uint8_t what = in.byte(), a = in.byte(), b = in.byte(), c = in.byte();
  const int64_t small = int64_t(a) - 8;
  switch (what % 12) {
    case 0: put(state, offsetof(StateHeader, position), uint64_t(small), 8); break;
    case 1: put(state, offsetof(StateHeader, high_water), uint64_t(small), 8); break;
    case 2: put(state, offsetof(StateHeader, mark) + 8 * (b % 2), uint64_t(small), 8); break;
    case 3: put(state, offsetof(StateHeader, mark_buffer) + b % 2, a % 6, 1); break;
    case 4: put(state, offsetof(StateHeader, buffer), a % 6, 1); break;
    case 5: put(state, offsetof(StateHeader, text_bytes) + b % 4, a, 1); break;
    case 6: put(state, sizeof(StateHeader) + b % 64 * 4, uint64_t(small), 4); break;
    case 7: put(state, sizeof(StateHeader) + (size_t(b) << 8 | c) * 4 % kTextStateBytes, uint64_t(small), 4); break;
    case 8: put(state, offsetof(StateHeader, position) + 8 * (b % 4), uint64_t(a) << (c % 57), 8); break;
    default:
      put(state, sizeof(StateHeader) + (size_t(a) << 16 | size_t(b) << 8 | c) % (state.size() - sizeof(StateHeader)),
          what, 1);
      break;
  }
}

void step(World& w, Bytes& in) {
  rnl_session* s = w.planned.session.get();
  const uint8_t what = in.byte();
  AnyCall call;
  call.program = in.byte() % uint32_t(w.model->info().programs().size());
  call.tokens = 1 + what / 8 % 20, call.first = rnl_session_position(s);
  Gathered out;
  switch (what % 6) {
    case 0: (void)rnl_session_rollback(s, what / 8 % 10); break;
    case 1: {
      rnl_session* copy = nullptr;
      if (rnl_session_fork(s, &copy) == RNL_OK) (void)run_any(copy, *w.model, w.options, call, true, &out);
      rnl_session_destroy(copy);
      break;
    }
    case 2: {
      const int32_t ids[] = {1, 2};
      rnl_generate_options g{};
      g.struct_size = sizeof g, g.max_tokens = 3, g.sampling.struct_size = sizeof g.sampling;
      g.sampling.temperature = what / 8 % 2 ? 0.8f : 0, g.sampling.repetition_penalty = 1.2f,
      g.sampling.penalty_window = 1000;
      (void)rnl_session_generate(s, ids, what / 16 % 3, &g, nullptr, nullptr, nullptr);
      break;
    }
    default: (void)run_any(s, *w.model, w.options, call, what & 64, &out); break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in{data, size};
  World& w = world_of(in.byte());
  rnl_session* s = w.planned.session.get();
  rnl_session_reset(s);
  const uint8_t held = in.byte();
  for (int n = 0; n < held % 6; ++n) {
    Bytes steps{data + (size > 4 ? size - 4 : 0), size < 4 ? size : 4};
    for (int k = 0; k < n; ++k) steps.byte();
    step(w, steps);
  }
  std::vector<unsigned char> state(rnl_session_snapshot_bytes(s));
  if (rnl_session_snapshot(s, state.data(), state.size())) return 0;
  const uint8_t changes = in.byte();
  for (int n = 1 + changes % 5; n > 0; --n) change(state, in);
  // How many bytes there must be follows from the header, and the message tells it.
  for (int tries = 0; tries < 2; ++tries) {
    const uint64_t sum = xxh64(state.data(), state.size() - 8);
    std::memcpy(state.data() + state.size() - 8, &sum, 8);
    const MemoryPtr exact = exact_memory(state.size(), 8);
    std::memcpy(exact.get(), state.data(), state.size());
    size_t has = 0, needs = 0;
    if (rnl_session_restore_snapshot(s, exact.get(), state.size()) == RNL_OK) break;
    if (std::sscanf(rnl_last_error(), "not restored: %zu bytes where its position needs %zu", &has, &needs) != 2 ||
        needs > (1u << 22))
      break;
    state.resize(needs);
  }
  for (int n = 0; n < 6; ++n) step(w, in);
  return 0;
}
