// Calls that must be refused, and change nothing.
#pragma once

#include "models/streams/world.h"

namespace runnel::streams {

struct BadCall {
  const char* what;
  std::function<rnl_status_code(const World&, rnl_session*)> make;
};

// A run whose input was spoilt.
inline BadCall bad_input(const char* what, void (*spoil)(rnl_tensor&)) {
  return {what, [spoil](const World& w, rnl_session* s) {
            const Input in(w, {1, 2, 3}, false);
            rnl_tensor t = in.tensor;
            spoil(t);
            return rnl_session_run_blocks(s, nullptr, &t, 1, 0, take_block, std::make_unique<Sink>().get());
          }};
}

inline BadCall bad_rows(const char* what, std::vector<int32_t> rows, int32_t dtype = RNL_I32) {
  return {what, [rows, dtype](const World& w, rnl_session* s) {
            const Input in(w, {1, 2, 3}, false);
            rnl_tensor t[2] = {in.tensor, {}};
            t[1].name = "rows", t[1].dtype = dtype, t[1].rank = 1, t[1].dims[0] = int64_t(rows.size()),
            t[1].data = const_cast<int32_t*>(rows.data()), t[1].bytes = rows.size() * 4;
            Sink sink;
            return rnl_session_run_blocks(s, nullptr, t, 2, 0, take_block, &sink);
          }};
}

inline BadCall bad_output(const char* what, const char* program, const char* name, bool has_outputs) {
  return {what, [=](const World& w, rnl_session* s) {
            const Input in(w, {1, 2, 3}, false);
            float room[4096];
            rnl_tensor t{};
            t.name = name, t.data = room, t.bytes = sizeof room;
            return rnl_session_run(s, program, &in.tensor, 1, has_outputs ? &t : nullptr, 1);
          }};
}

inline BadCall bad_generate(const char* what, std::function<void(rnl_generate_options&)> spoil,
                            std::vector<int32_t> ids = {1, 2}) {
  return {what, [spoil, ids](const World&, rnl_session* s) {
            rnl_generate_options g{};
            g.struct_size = sizeof g, g.sampling.struct_size = sizeof g.sampling;
            g.max_tokens = 2;
            spoil(g);
            return rnl_session_generate(s, ids.data(), ids.size(), &g, nullptr, nullptr, nullptr);
          }};
}

inline BadCall bad_chat(const char* what, const char* role, const char* content, size_t count, float temperature = 0) {
  return {what, [=](const World&, rnl_session* s) {
            const rnl_chat_message m{role, content};
            rnl_chat c{};
            c.struct_size = sizeof c, c.messages = role ? &m : nullptr, c.message_count = count;
            rnl_generate_options g{};
            g.struct_size = sizeof g, g.sampling.struct_size = sizeof g.sampling, g.max_tokens = 2,
            g.sampling.temperature = temperature;
            return rnl_session_chat(s, &c, &g, nullptr, nullptr, nullptr);
          }};
}

inline std::vector<BadCall> bad_runs(bool is_graph) {
  std::vector<BadCall> all = {
      bad_input("a name that is no input", [](rnl_tensor& t) { t.name = "nothing"; }),
      bad_input("another rank", [](rnl_tensor& t) { t.rank += 1, t.dims[t.rank - 1] = 1; }),
      bad_input("rank 7", [](rnl_tensor& t) { t.rank = 7; }),
      bad_input("rank -1", [](rnl_tensor& t) { t.rank = -1; }),
      bad_input("dtype u8", [](rnl_tensor& t) { t.dtype = RNL_U8; }),
      bad_input("dtype 260", [](rnl_tensor& t) { t.dtype = 256 + t.dtype; }),
      bad_input("fewer bytes", [](rnl_tensor& t) { t.bytes -= 1; }),
      bad_input("no tokens", [](rnl_tensor& t) { t.dims[0] = 0; }),
      bad_input("-1 tokens", [](rnl_tensor& t) { t.dims[0] = -1; }),
      bad_input("2^62 tokens", [](rnl_tensor& t) { t.dims[0] = int64_t(1) << 62; }),
      bad_input("null data", [](rnl_tensor& t) { t.data = nullptr; }),
      bad_input("a null name", [](rnl_tensor& t) { t.name = nullptr; }),
      bad_output("no such program", "nothing", "logits", true),
      bad_output("no such output", nullptr, "nothing", true),
      bad_output("a null output name", nullptr, nullptr, true),
      bad_output("null outputs with a count", nullptr, "logits", false),
      {"null inputs with a count",
       [](const World&, rnl_session* s) {
         Sink sink;
         return rnl_session_run_blocks(s, nullptr, nullptr, 1, 0, take_block, &sink);
       }},
      {"no inputs",
       [](const World&, rnl_session* s) {
         Sink sink;
         return rnl_session_run_blocks(s, nullptr, nullptr, 0, 0, take_block, &sink);
       }},
      {"a null callback",
       [](const World& w, rnl_session* s) {
         const Input in(w, {1}, false);
         return rnl_session_run_blocks(s, nullptr, &in.tensor, 1, 0, nullptr, nullptr);
       }},
  };
  if (is_graph) return all;
  for (BadCall& b : std::vector<BadCall>{bad_rows("falling rows", {2, 1}), bad_rows("a row behind the call", {0, 3}),
                                         bad_rows("row -1", {-1, 1}), bad_rows("rows of floats", {0, 1}, RNL_F32)})
    all.push_back(b);
  return all;
}

// Of a second session, planned and made.
inline BadCall bad_options(const char* what, void (*spoil)(rnl_session_options&)) {
  return {what, [spoil](const World& w, rnl_session*) {
            rnl_session_options o = w.options();
            spoil(o);
            rnl_memory m{};
            m.struct_size = sizeof m;
            rnl_session* s = nullptr;
            const rnl_status_code planned = rnl_session_plan(w.model, &o, &m),
                                  made = rnl_session_create(w.model, &o, &s);
            rnl_session_destroy(s);
            return planned == RNL_OK ? planned : made;
          }};
}

inline std::vector<BadCall> bad_states() {
  return {
      {"rollback of -1", [](const World&, rnl_session* s) { return rnl_session_rollback(s, -1); }},
      {"rollback beyond the stream",
       [](const World&, rnl_session* s) { return rnl_session_rollback(s, rnl_session_position(s) + 1); }},
      {"rollback beyond the window",
       [](const World& w, rnl_session* s) { return rnl_session_rollback(s, w.window() + 1); }},
      {"rollback of 2^62", [](const World&, rnl_session* s) { return rnl_session_rollback(s, int64_t(1) << 62); }},
      {"a snapshot into too little",
       [](const World&, rnl_session* s) { return rnl_session_snapshot(s, std::vector<char>(64).data(), 64); }},
      {"a snapshot into null", [](const World&, rnl_session* s) { return rnl_session_snapshot(s, nullptr, 1 << 20); }},
      {"restoring null", [](const World&, rnl_session* s) { return rnl_session_restore_snapshot(s, nullptr, 100); }},
      {"restoring half",
       [](const World&, rnl_session* s) {
         const auto bytes = snapshot_of(s);
         return rnl_session_restore_snapshot(s, bytes.data(), bytes.size() / 2);
       }},
      {"restoring more",
       [](const World&, rnl_session* s) {
         auto bytes = snapshot_of(s);
         bytes.push_back(0);
         return rnl_session_restore_snapshot(s, bytes.data(), bytes.size());
       }},
      {"restoring a damaged one",
       [](const World&, rnl_session* s) {
         auto bytes = snapshot_of(s);
         bytes[bytes.size() * 3 / 4] ^= 4;
         return rnl_session_restore_snapshot(s, bytes.data(), bytes.size());
       }},
      {"restoring no file",
       [](const World&, rnl_session* s) { return rnl_session_restore(s, "/tmp/there/is/no/such/state"); }},
      {"restoring a null path", [](const World&, rnl_session* s) { return rnl_session_restore(s, nullptr); }},
      {"saving to nowhere",
       [](const World&, rnl_session* s) { return rnl_session_save(s, "/tmp/there/is/no/such/state"); }},
      {"saving to a null path", [](const World&, rnl_session* s) { return rnl_session_save(s, nullptr); }},
      bad_options("session options of struct_size 0", [](rnl_session_options& o) { o.struct_size = 0; }),
      bad_options("a backend that there is not", [](rnl_session_options& o) { o.backend = 7; }),
      bad_options("keys and values of u8", [](rnl_session_options& o) { o.kv = RNL_U8; }),
      bad_options("a context of -1", [](rnl_session_options& o) { o.context = -1; }),
      bad_options("a chunk of -1", [](rnl_session_options& o) { o.chunk = -1; }),
      bad_options("a rollback_window of -2", [](rnl_session_options& o) { o.rollback_window = -2; }),
      bad_options("a budget of 1 byte", [](rnl_session_options& o) { o.budget_bytes = 1; }),
      {"forking to null", [](const World&, rnl_session* s) { return rnl_session_fork(s, nullptr); }},
  };
}

inline std::vector<BadCall> bad_texts() {
  using G = rnl_generate_options;
  static const rnl_logit_bias below{-1, 1}, infinite{1, INFINITY}, not_a_number{1, NAN};
  static const char* const empty[] = {""};
  static const char* const missing[] = {nullptr};
  return {
      bad_generate("temperature NaN", [](G& g) { g.sampling.temperature = NAN; }),
      bad_generate("temperature -1", [](G& g) { g.sampling.temperature = -1; }),
      bad_generate("temperature infinite", [](G& g) { g.sampling.temperature = INFINITY; }),
      bad_generate("top_p 2", [](G& g) { g.sampling.top_p = 2; }),
      bad_generate("top_p NaN", [](G& g) { g.sampling.top_p = NAN; }),
      bad_generate("top_k -1", [](G& g) { g.sampling.top_k = -1; }),
      bad_generate("min_p NaN", [](G& g) { g.sampling.min_p = NAN; }),
      bad_generate("min_p 2", [](G& g) { g.sampling.min_p = 2; }),
      bad_generate("repetition -1", [](G& g) { g.sampling.repetition_penalty = -1; }),
      bad_generate("presence NaN", [](G& g) { g.sampling.presence_penalty = NAN; }),
      bad_generate("penalty_window 5000", [](G& g) { g.sampling.penalty_window = 5000; }),
      bad_generate("penalty_window -1", [](G& g) { g.sampling.penalty_window = -1; }),
      bad_generate("logprobs_count 5000",
                   [](G& g) { g.logprobs_count = 5000, g.logprobs = [](void*, const rnl_logprobs*) {}; }),
      bad_generate("logprobs_count -3",
                   [](G& g) { g.logprobs_count = -3, g.logprobs = [](void*, const rnl_logprobs*) {}; }),
      bad_generate("a bias for id -1", [](G& g) { g.sampling.bias = &below, g.sampling.bias_count = 1; }),
      bad_generate("an infinite bias", [](G& g) { g.sampling.bias = &infinite, g.sampling.bias_count = 1; }),
      bad_generate("a bias of NaN", [](G& g) { g.sampling.bias = &not_a_number, g.sampling.bias_count = 1; }),
      bad_generate("null biases with a count", [](G& g) { g.sampling.bias_count = 3; }),
      bad_generate("max_tokens -1", [](G& g) { g.max_tokens = -1; }),
      bad_generate("null stops with a count", [](G& g) { g.stop_count = 2; }),
      bad_generate("an empty stop", [](G& g) { g.stop = empty, g.stop_count = 1; }),
      bad_generate("a null stop", [](G& g) { g.stop = missing, g.stop_count = 1; }),
      bad_generate("going on without a grammar", [](G& g) { g.grammar_goes_on = 1; }),
      bad_generate("struct_size 0", [](G& g) { g.struct_size = 0; }),
      {"generating from null ids with a count",
       [](const World&, rnl_session* s) {
         return rnl_session_generate(s, nullptr, 3, nullptr, nullptr, nullptr, nullptr);
       }},
      {"embedding null",
       [](const World&, rnl_session* s) {
         return rnl_session_embed(s, nullptr, 2, nullptr, std::vector<float>(4096).data(), 4096);
       }},
      {"embedding nothing",
       [](const World&, rnl_session* s) {
         return rnl_session_embed(s, nullptr, 0, nullptr, std::vector<float>(4096).data(), 4096);
       }},
      {"an embedding into nothing",
       [](const World&, rnl_session* s) {
         return rnl_session_embed(s, std::vector<int32_t>(3, 1).data(), 3, nullptr, std::vector<float>(1).data(), 0);
       }},
      bad_chat("a chat without messages", nullptr, nullptr, 0),
      bad_chat("null messages with a count", nullptr, nullptr, 2),
      bad_chat("a message of null", "user", nullptr, 1),
      bad_chat("a role that is none", "<|im_start|>", "x", 1),
      bad_chat("a chat at temperature -1", "user", "x", 1, -1),
      bad_chat("a chat at temperature NaN", "user", "x", 1, NAN),
  };
}

}  // namespace runnel::streams
