// Whether a saved stream fits a session: one that was planned alike, or with another context as long as every slot in
// use is at the same place.
#include <cstdio>
#include <cstring>

#include "base/xxh64.h"
#include "format/states.h"
#include "session/session.h"

namespace runnel {
namespace {

bool is_same_state(const StateInfo& info, const PlannedState& saved, const PlannedState& ours, int64_t high_water) {
  if (saved.dtype != ours.dtype || saved.copies != ours.copies) return false;
  if (info.is_recurrent() || saved.slots == ours.slots)
    return saved.bytes == ours.bytes && std::memcmp(saved.dims, ours.dims, sizeof saved.dims) == 0;
  // More or fewer slots, none of which was written twice, in whole tiles: positions stand where they stood, and heads
  // alone are further apart.
  const int64_t written = (high_water + ours.tokens_per_slot - 1) / ours.tokens_per_slot,
                used = (written + kSlotTile - 1) / kSlotTile * kSlotTile;
  if (saved.tokens_per_slot != ours.tokens_per_slot || used > saved.slots || used > ours.slots ||
      saved.dims[0] != ours.dims[0])
    return false;
  return saved.bytes / size_t(saved.slots) == ours.bytes / size_t(ours.slots) &&
         saved.bytes % size_t(saved.slots) == 0 && ours.bytes % size_t(ours.slots) == 0;
}

}  // namespace

bool reads_context(const Model& model) {
  for (const ProgramInfo& p : model.programs())
    for (uint32_t i = 0; i < p.input_count; ++i)
      if (p.values[i].role == format::Role::context) return true;
  return false;
}

uint64_t Session::layout_hash(const Plan& plan) {
  Xxh64 h;
  for (const PlannedState& s : plan.states) {
    h.update(s.dims, sizeof s.dims);
    h.update(&s.bytes, sizeof s.bytes);
    h.update(&s.dtype, sizeof s.dtype);
    h.update(&s.copies, sizeof s.copies);
  }
  h.update(&plan.reach, sizeof plan.reach);
  return h.digest();
}

void Session::describe_plan(StateHeader* h) const {
  const PlanOptions& o = plan_.options;
  h->layout = layout_hash(plan_);
  h->text_bytes = kTextStateBytes;
  h->context = o.context, h->chunk = o.chunk, h->rollback = o.rollback, h->kv = o.kv;
}

Status Session::check_layout(const StateHeader& saved) const {
  const PlanOptions& ours = plan_.options;
  const bool same_context = saved.context == ours.context || !reads_context(model());
  if (saved.layout == layout_hash(plan_) && same_context) return Status::ok();
  PlanOptions o = ours;
  o.context = saved.context, o.chunk = saved.chunk, o.rollback = saved.rollback, o.kv = saved.kv;
  o.backend = BackendKind::kCpu;
  auto plan = make_plan(model(), o);
  bool fits =
      plan.is_ok() && layout_hash(plan.value()) == saved.layout && plan.value().reach == plan_.reach && same_context;
  for (size_t i = 0; fits && i < plan_.states.size(); ++i)
    fits = is_same_state(model().states()[i], plan.value().states[i], plan_.states[i], saved.high_water);
  if (fits) return Status::ok();
  char what[200];
  int n = 0;
  const struct {
    const char* name;
    int64_t saved, ours;
  } rows[] = {{"context", saved.context, ours.context},
              {"chunk", saved.chunk, ours.chunk},
              {"rollback window", saved.rollback, ours.rollback}};
  for (const auto& row : rows)
    if (row.saved != row.ours)
      n += std::snprintf(what + n, sizeof what - size_t(n), "%s %s %lld (here %lld)", n ? "," : "", row.name,
                         static_cast<long long>(row.saved), static_cast<long long>(row.ours));
  const auto kv = [](DType t) { return t == DType::kNone ? "as the model says" : dtype_name(t); };
  if (saved.kv != ours.kv)
    n += std::snprintf(what + n, sizeof what - size_t(n), "%s KV type %s (here %s)", n ? "," : "", kv(saved.kv),
                       kv(ours.kv));
  return Status::make(Code::kStateMismatch, "not restored: it was saved with%s",
                      n ? what : " another layout of states");
}

}  // namespace runnel
