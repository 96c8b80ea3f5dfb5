// What the caller gives: matched with the program's inputs, held against the plan, and copied into the arena a pass at
// a time.
#include <algorithm>
#include <cstring>

#include "plan/program_io.h"
#include "session/pass.h"

namespace runnel {
namespace {

int64_t elements(const IoTensor& t, int from) {
  int64_t n = 1;
  for (int d = from; d < t.rank; ++d) n *= t.dims[d];
  return n;
}

}  // namespace

int64_t read_int(const IoTensor& t, int64_t i) {
  if (t.dtype == DType::kI64) {
    int64_t v;
    std::memcpy(&v, static_cast<const char*>(t.data) + i * 8, 8);
    return v;
  }
  int32_t v;
  std::memcpy(&v, static_cast<const char*>(t.data) + i * 4, 4);
  return v;
}

// Finds the caller's tensor for each input and checks dtype and rank.
Status Session::match_inputs(const PlannedProgram& p, const IoTensor* inputs, size_t count) {
  const ProgramInfo& info = *p.info;
  for (uint32_t i = 0; i < info.input_count; ++i) matched_[i] = nullptr;
  for (size_t k = 0; k < count; ++k) {
    const IoTensor& t = inputs[k];
    uint32_t i = 0;
    while (i < info.input_count && std::strcmp(info.values[i].name, t.name) != 0) ++i;
    RNL_CHECK_ARG(i < info.input_count, "program \"%s\" has no input \"%.80s\"", info.name, t.name);
    const ValueInfo& v = info.values[i];
    RNL_CHECK_ARG(!matched_[i], "input \"%s\" is given twice", v.name);
    const bool widened = v.dtype == DType::kI32 && t.dtype == DType::kI64;
    RNL_CHECK_ARG(t.dtype == v.dtype || widened, "input \"%s\" is %s, wanted %s", t.name, dtype_name(t.dtype),
                  dtype_name(v.dtype));
    RNL_CHECK_ARG(t.rank == v.shape.rank, "input \"%s\" has %d axes, wanted %d", t.name, t.rank, v.shape.rank);
    int64_t n = 1;
    for (int d = 0; d < t.rank; ++d)
      // An empty axis counts as one here, so that no product of some axes is too large either.
      RNL_CHECK_ARG(t.dims[d] >= 0 && !__builtin_mul_overflow(n, t.dims[d] ? t.dims[d] : 1, &n) && n <= kMaxElements,
                    "input \"%s\": axis %d is %lld", t.name, d, static_cast<long long>(t.dims[d]));
    n = elements(t, 0);
    RNL_CHECK_ARG(t.bytes >= size_t(n) * dtype_bytes(t.dtype), "input \"%s\" has %zu bytes, its shape needs %zu",
                  t.name, t.bytes, size_t(n) * dtype_bytes(t.dtype));
    RNL_CHECK_ARG(t.data || n == 0, "input \"%s\" has no data", t.name);
    matched_[i] = &t;
  }
  for (uint32_t i = 0; i < info.input_count; ++i)
    RNL_CHECK_ARG(matched_[i] || info.values[i].is_filled_in() || info.is_optional(i), "input \"%s\" is missing",
                  info.values[i].name);
  // The same positions may be wanted as i32 and as f32: whoever gives one gives both.
  const IoTensor* positions = nullptr;
  for (uint32_t i = 0; i < info.input_count; ++i)
    if (info.values[i].role == format::Role::positions && matched_[i]) positions = matched_[i];
  for (uint32_t i = 0; positions && i < info.input_count; ++i)
    RNL_CHECK_ARG(matched_[i] || info.values[i].role != format::Role::positions,
                  "input \"%s\" is missing, but \"%s\" is given", info.values[i].name, positions->name);
  return Status::ok();
}

// Binds axis symbols from the inputs' shapes (whole call) and checks every other axis.
Status Session::bind_symbols(const PlannedProgram& p, CallBinding* symbols) const {
  const ProgramInfo& info = *p.info;
  *symbols = plan_.bounds;
  bool bound[kMaxSymbols] = {};
  for (uint32_t i = 0; i < info.input_count; ++i) {
    const IoTensor* t = matched_[i];
    if (!t && info.is_optional(i)) symbols->absent |= uint64_t(1) << i;
    if (!t) continue;
    for (int d = 0; d < t->rank; ++d) {
      const int s = model().exprs().as_symbol(info.values[i].shape.dims[d]);
      if (s < 0 || model().symbols()[size_t(s)].kind != format::SymbolKind::axis) continue;
      RNL_CHECK_ARG(!bound[s] || symbols->v[s] == t->dims[d],
                    "input \"%s\": axis %d (%s) is %lld, but another input has %lld", t->name, d,
                    model().symbols()[size_t(s)].name, static_cast<long long>(t->dims[d]),
                    static_cast<long long>(symbols->v[s]));
      // The stream is cut into passes and rows into blocks; every other size must keep its bound.
      RNL_CHECK_ARG(s == p.stream_symbol || s == p.rows_symbol || t->dims[d] <= plan_.bounds.v[s],
                    "input \"%s\": axis %d (%s) is %lld, at most %lld", t->name, d, model().symbols()[size_t(s)].name,
                    static_cast<long long>(t->dims[d]), static_cast<long long>(plan_.bounds.v[s]));
      symbols->v[s] = t->dims[d];
      bound[s] = true;
    }
  }
  RNL_TRY(bind_kept(p, bound, symbols));
  for (uint32_t i = 0; i < info.input_count; ++i)
    for (int d = 0; matched_[i] && d < matched_[i]->rank; ++d) {
      RNL_ASSIGN(want, model().exprs().evaluate(info.values[i].shape.dims[d], *symbols));
      RNL_CHECK_ARG(want == matched_[i]->dims[d], "input \"%s\": axis %d is %lld, wanted %lld (%s)", matched_[i]->name,
                    d, static_cast<long long>(matched_[i]->dims[d]), static_cast<long long>(want),
                    model().exprs().text(info.values[i].shape.dims[d]));
    }
  return Status::ok();
}

// Every input fits its place in the arena, and the tokens' parts a row of the log: both are planned from the upper
// bounds of sizes, and an expression may be larger below them.
Status Session::check_input_sizes(const PlannedProgram& p, const CallBinding& symbols) const {
  for (uint32_t i = 0; i < p.info->input_count; ++i) {
    const ValueInfo& info = p.info->values[i];
    TensorView v{};
    RNL_TRY(evaluate_shape(model(), info.shape, symbols, info.name, &v));
    v.dtype = info.dtype;
    if (view_bytes(v) > p.values[i].bytes)
      return Status::make(Code::kInvalidModel,
                          "input \"%s\" is larger in this call than at the upper bounds of its sizes", info.name);
  }
  if (plan_.journal_row == 0 || p.stream_symbol < 0 || p.call_symbols.empty()) return Status::ok();
  RNL_ASSIGN(row, log_row_bytes(model(), p, symbols));
  if (row > plan_.journal_row)
    return Status::make(Code::kInvalidModel,
                        "the inputs of program \"%s\" are larger in this call than at the upper bounds of their sizes",
                        p.info->name);
  return Status::ok();
}

Status Session::fill_by_role(const Pass& pass, uint32_t value, int64_t first) {
  const TensorView v = value_view(pass, value);
  const ValueInfo& info = pass.program->info->values[value];
  const bool counts = info.role == format::Role::positions;
  if (!counts) first = info.is_filled ? info.fill : plan_.options.context;
  if (counts && v.rank == 2) {
    const GivenPositions& newest = header()->given[kGivenPositions - 1];
    RNL_CHECK_ARG(newest.next >= 0, "positions are missing: a part of a call that gave them was taken back");
    first += newest.next - newest.end;
  }
  RNL_CHECK_ARG(first + (counts ? pass.tokens : 0) <= INT32_MAX, "the stream is longer than positions can count");
  int64_t axes = 1;
  for (int d = 1; d < v.rank; ++d) axes *= v.dims[d];
  for (int64_t i = 0; i < v.dims[0] * axes; ++i) {
    const int32_t n = int32_t(counts ? first + i / axes : first);
    if (v.dtype == DType::kF32) static_cast<float*>(v.data)[i] = float(n);
    else static_cast<int32_t*>(v.data)[i] = n;
  }
  return Status::ok();
}

// Copies the part of a caller's input that this pass needs into the arena, or fills it in.
Status Session::fill_input(Pass& pass, uint32_t value) {
  const PlannedProgram& p = *pass.program;
  const ValueInfo& info = p.info->values[value];
  const TensorView v = value_view(pass, value);
  const IoTensor* t = matched_[value];
  if (!t) return fill_by_role(pass, value, header()->position);  // rows are written by run_head
  const bool streams =
      info.shape.rank > 0 && model().exprs().as_symbol(info.shape.dims[0]) == p.stream_symbol && p.stream_symbol >= 0;
  const int64_t row = elements(*t, streams ? 1 : 0);
  const int64_t count = streams ? row * pass.tokens : row;
  const int64_t first = streams ? row * pass.begin : 0;
  auto* out = static_cast<int32_t*>(v.data);
  if (t->dtype == info.dtype) {
    const size_t e = dtype_bytes(t->dtype);
    if (count) std::memcpy(v.data, static_cast<const char*>(t->data) + size_t(first) * e, size_t(count) * e);
  } else {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t x = read_int(*t, first + i);
      RNL_CHECK_ARG(x >= INT32_MIN && x <= INT32_MAX, "input \"%s\": element %lld is %lld, out of range", t->name,
                    static_cast<long long>(first + i), static_cast<long long>(x));
      out[i] = int32_t(x);
    }
  }
  if (info.role == format::Role::positions && v.rank == 2)
    for (int64_t i = 0; i < count; ++i) pass.next_position = std::max(pass.next_position, int64_t(out[i]) + 1);
  return Status::ok();
}

}  // namespace runnel
