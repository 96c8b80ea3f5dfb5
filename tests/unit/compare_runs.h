// One stream run in several ways: passes, rows, calls, threads, kernels, forks, tokens taken back. What comes out must
// be the same.
#pragma once

#include <algorithm>
#include <cmath>

#include "unit/any_calls.h"

namespace runnel::test {

struct Way {
  int64_t chunk = 64, rows = 64, window = 8;
  int threads = 1;
  int32_t backend = RNL_BACKEND_CPU;
  int target = -1;             // which CPU target's kernels, where choose_target is there; -1: those of the machine
  std::vector<int64_t> calls;  // tokens
  size_t fork_before = SIZE_MAX, back_before = SIZE_MAX;  // calls
  int64_t back = 0;
  std::string text() const {
    std::string s = "chunk " + std::to_string(chunk) + ", rows " + std::to_string(rows) + ", rollback_window " +
                    std::to_string(window) + ", threads " + std::to_string(threads) + ", target " +
                    std::to_string(target) + (backend == RNL_BACKEND_VULKAN ? ", on Vulkan" : "") + ", calls";
    for (int64_t n : calls) s += " " + std::to_string(n);
    if (fork_before < calls.size()) s += ", fork before call " + std::to_string(fork_before);
    if (back_before < calls.size())
      s += ", " + std::to_string(back) + " tokens fed once more before call " + std::to_string(back_before);
    return s;
  }
};

struct WayResult {
  bool is_planned = false, ran = false;
  std::string error;
  Gathered out;
};

// choose_target: makes kernels of one target only to be found; null: the machine's best.
inline WayResult run_way(const std::vector<unsigned char>& file, const Way& way, int64_t context, uint64_t seed,
                         void (*choose_target)(int) = nullptr) {
  WayResult r;
  if (choose_target) choose_target(way.target);
  const OpenModel model(file, way.threads);
  if (!model) return r.error = model.error, r;
  rnl_session_options o{};
  o.context = context, o.chunk = std::min(way.chunk, context), o.rows = std::min(way.rows, o.chunk),
  o.rollback_window = way.window ? way.window : -1, o.budget_bytes = 64 << 20, o.backend = way.backend;
  Planned p = plan_session(model, o);
  r.is_planned = p.session != nullptr;
  if (!p.session) return r.error = p.error, r;
  const auto feed = [&](int64_t n, Gathered* out) {
    AnyCall call;
    call.first = rnl_session_position(p.session.get()), call.tokens = n, call.seed = seed;
    const rnl_status_code code = run_any(p.session.get(), model, o, call, true, out);
    if (code) r.error = "code " + std::to_string(code) + ": " + rnl_last_error();
    return code == RNL_OK;
  };
  for (size_t i = 0; i < way.calls.size(); ++i) {
    if (i == way.fork_before) {
      rnl_session* copy = nullptr;
      if (rnl_session_fork(p.session.get(), &copy)) return r.error = rnl_last_error(), r;
      p.session.reset(copy);
    }
    if (const int64_t n = std::min({way.back, way.window, rnl_session_position(p.session.get())});
        i == way.back_before && n > 0) {
      Gathered unused;
      if (rnl_session_rollback(p.session.get(), n)) return r.error = rnl_last_error(), r;
      if (!feed(n, &unused)) return r;
    }
    if (!feed(way.calls[i], &r.out)) return r;
  }
  return r.ran = true, r;
}

// The first difference beyond `tolerance` of an output's largest value, and beyond `noise`; empty: none.
inline std::string difference_of(const Gathered& a, const Gathered& b, float tolerance, float noise = 1e-30f) {
  if (a.rows.size() != b.rows.size()) return "other outputs";
  for (const auto& [name, rows] : a.rows) {
    const auto it = b.rows.find(name);
    if (it == b.rows.end() || it->second.size() != rows.size())
      return "\"" + name + "\" has " + std::to_string(rows.size()) + " rows and " +
             std::to_string(it == b.rows.end() ? 0 : it->second.size());
    float most = 0;
    for (const auto& [i, row] : rows)
      for (float x : row) most = std::max(most, std::fabs(x));
    for (const auto& [i, row] : rows) {
      const auto other = it->second.find(i);
      if (other == it->second.end() || other->second.size() != row.size())
        return "\"" + name + "\" lacks row " + std::to_string(i);
      for (size_t k = 0; k < row.size(); ++k) {
        const float d = std::fabs(row[k] - other->second[k]);
        if (d <= tolerance * most + noise) continue;
        char numbers[64];
        std::snprintf(numbers, sizeof numbers, "%g and %g of %g", double(row[k]), double(other->second[k]),
                      double(most));
        return "\"" + name + "\" row " + std::to_string(i) + " element " + std::to_string(k) + ": " + numbers;
      }
    }
  }
  return {};
}

}  // namespace runnel::test
