// Kept states: what one program writes for others, such as an encoder's keys and values. Their sizes in this stream
// stand behind the states, kMaxRank for each; the first is -1 until a call has written the state.
#include <cstring>

#include "session/pass.h"

namespace runnel {

int64_t* Session::kept_sizes(uint32_t state) const {
  unsigned char* at = state_.data() + (state_block_bytes(plan_) - plan_.state_bytes) + plan_.kept_offset;
  return reinterpret_cast<int64_t*>(at) + size_t(state) * kMaxRank;
}

// Sizes that a program takes from the kept states that it reads. bound: those that its inputs have already; may be
// null.
Status Session::bind_kept(const PlannedProgram& p, bool* bound, CallBinding* symbols) const {
  for (const uint32_t i : p.kept_read) {
    const StateInfo& s = model().states()[i];
    const int64_t* sizes = kept_sizes(i);
    RNL_CHECK_ARG(sizes[0] >= 0, "program \"%s\" reads state \"%s\", which no call has written since the stream began",
                  p.info->name, s.name);
    for (int d = 0; d < s.shape.rank; ++d) {
      const int symbol = model().exprs().as_symbol(s.shape.dims[d]);
      if (symbol < 0 || model().symbols()[size_t(symbol)].kind != format::SymbolKind::axis) continue;
      RNL_CHECK_ARG(!bound || !bound[symbol] || symbols->v[symbol] == sizes[d],
                    "state \"%s\": axis %d (%s) is %lld, but an input or another state has %lld", s.name, d,
                    model().symbols()[size_t(symbol)].name, static_cast<long long>(sizes[d]),
                    static_cast<long long>(symbols->v[symbol]));
      symbols->v[symbol] = sizes[d];
      if (bound) bound[symbol] = true;
    }
  }
  return Status::ok();
}

// Tokens that were computed with what a state holds would not be computed so again.
Status Session::check_kept(const PlannedProgram& p) const {
  RNL_CHECK_ARG(p.kept_written.empty() || position() == 0,
                "program \"%s\" writes state \"%s\", but the stream holds %lld tokens; reset the session before",
                p.info->name, model().states()[p.kept_written[0]].name, static_cast<long long>(position()));
  return Status::ok();
}

// Before a call that writes them, and with its binding behind it.
Status Session::note_kept(const PlannedProgram& p, const CallBinding* written) {
  for (const uint32_t i : p.kept_written) {
    int64_t* sizes = kept_sizes(i);
    sizes[0] = -1;
    if (!written) continue;
    TensorView v{};
    RNL_TRY(evaluate_shape(model(), model().states()[i].shape, *written, model().states()[i].name, &v));
    for (int d = 0; d < kMaxRank; ++d) sizes[d] = v.dims[d];
  }
  return Status::ok();
}

// Of a saved state: sizes that the plan has room for.
bool Session::are_kept_sizes(const unsigned char* saved) const {
  for (uint32_t i = 0; i < plan_.states.size(); ++i) {
    if (model().states()[i].kind != format::StateKind::kept) continue;
    int64_t sizes[kMaxRank];
    std::memcpy(sizes, saved + i * sizeof sizes, sizeof sizes);
    for (int d = 0; d < kMaxRank && sizes[0] != -1; ++d)
      if (sizes[d] < 0 || sizes[d] > plan_.states[i].dims[d]) return false;
  }
  return true;
}

}  // namespace runnel
