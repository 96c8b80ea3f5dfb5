// The operators before the head: straight runs of them, and between these what the session decides from numbers that
// operators computed: sizes, branches, rounds of loops.
#include <algorithm>

#include "session/pass.h"

namespace runnel {

// Waits for a device, so that numbers can be read.
Status Session::settle() { return backend_ ? backend_->finish() : Status::ok(); }

// The first element of a value or tensor.
Status Session::read_number(const Pass& pass, const Operand& o, double* number) const {
  const bool is_value = o.kind == Operand::Kind::kValue;
  const TensorView v = is_value ? value_view(pass, o.index) : model().tensors()[o.index].view;
  if (view_bytes(v) == 0)
    return Status::make(Code::kInvalidModel, "program \"%s\": \"%s\", which decides what follows, is empty",
                        pass.program->info->name,
                        is_value ? pass.program->info->values[o.index].name : model().tensors()[o.index].name);
  *number = v.dtype == DType::kF32 ? double(*static_cast<const float*>(v.data)) : *static_cast<const int32_t*>(v.data);
  return Status::ok();
}

// With sizes that are results at their bounds.
Status Session::run_body(Pass& pass) { return run_span(pass, 0, pass.program->head_begin, 0); }

// Operators [begin, end); the regions among them are not before number `region`.
Status Session::run_span(Pass& pass, uint32_t begin, uint32_t end, size_t region) {
  const Vec<Region>& regions = pass.program->info->regions;
  for (;;) {
    while (region < regions.size() && regions[region].begin < begin) ++region;
    const bool has_region = region < regions.size() && regions[region].begin < end;
    RNL_TRY(run_straight(pass, begin, has_region ? regions[region].begin : end));
    if (!has_region) return Status::ok();
    RNL_TRY(run_region(pass, region));
    begin = regions[region].end;
  }
}

Status Session::run_region(Pass& pass, size_t number) {
  const Region& r = pass.program->info->regions[number];
  double n = 0;
  RNL_TRY(settle());
  if (!r.is_loop) {
    RNL_TRY(read_number(pass, r.number, &n));
    return n != 0 ? run_span(pass, r.begin, r.middle, number + 1) : run_span(pass, r.middle, r.end, number + 1);
  }
  const bool is_counted = r.number.kind != Operand::Kind::kAbsent;
  if (is_counted) RNL_TRY(read_number(pass, r.number, &n));
  const TensorView round = value_view(pass, r.round);
  for (int32_t i = 0; !is_counted || i < n; ++i) {
    const Operand& condition = i == 0 ? r.first : r.condition;
    double goes_on = 1;
    RNL_TRY(settle());
    if (condition.kind != Operand::Kind::kAbsent) RNL_TRY(read_number(pass, condition, &goes_on));
    if (goes_on == 0) break;
    if (cancel_.load(std::memory_order_relaxed)) return Status::make(Code::kCancelled, "cancelled");
    if (i == INT32_MAX) return Status::make(Code::kInvalidArgument, "a loop of more rounds than its number can count");
    std::fill_n(static_cast<int32_t*>(round.data), view_bytes(round) / sizeof i, i);
    RNL_TRY(run_span(pass, r.begin, r.end, number + 1));
  }
  return Status::ok();
}

// Operators without conditions. Behind one that binds a size the next ones are bound anew.
Status Session::run_straight(Pass& pass, uint32_t begin, uint32_t end) {
  const PlannedProgram& p = *pass.program;
  Bound& bound = bound_[pass.program_index];
  const auto run_to = [&](uint32_t stop) -> Status {
    if (begin == stop && stop > 0) return Status::ok();
    const size_t cut = size_t(std::lower_bound(p.cuts.begin(), p.cuts.end(), begin) - p.cuts.begin());
    RNL_TRY(bind_ops(pass, begin, stop, &bound.body[cut]));
    return run_ops(pass, begin, stop);
  };
  for (;;) {
    const ResultSize* next = nullptr;
    for (const ResultSize& r : p.info->results)
      if (r.op >= begin && r.op < end && (!next || r.op < next->op)) next = &r;
    if (!next) return run_to(end);
    const ResultSize& r = *next;
    RNL_TRY(run_to(r.op + 1));
    RNL_TRY(settle());
    double n;
    RNL_TRY(read_number(pass, {Operand::Kind::kValue, r.value}, &n));
    if (!(n >= 0 && n <= double(plan_.bounds.v[r.symbol])))
      return Status::make(Code::kInvalidArgument, "program \"%s\": size \"%s\" is %.0f, at most %lld are possible",
                          p.info->name, model().symbols()[size_t(r.symbol)].name, n,
                          static_cast<long long>(plan_.bounds.v[r.symbol]));
    pass.symbols.v[r.symbol] = int64_t(n);
    begin = r.op + 1;
  }
}

}  // namespace runnel
