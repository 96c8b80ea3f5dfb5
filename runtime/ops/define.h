// For runtime/ops/<name>/<name>.cpp: makes the OpDef of a row from the registry, so that arity and numbers stand in one
// place.
#pragma once

#include <cinttypes>
#include <type_traits>

#include "base/status.h"
#include "contract/op.h"
#include "contract/view.h"
#include "format/model_generated.h"

namespace runnel {

namespace registry_row {
#define RNL_OP(number, version, name, attrs, min_in, max_in, min_out, max_out, ...) \
  inline constexpr OpDef name{#name,                                                \
                              nullptr,                                              \
                              nullptr,                                              \
                              nullptr,                                              \
                              nullptr,                                              \
                              nullptr,                                              \
                              number,                                               \
                              version,                                              \
                              min_in,                                               \
                              max_in,                                               \
                              min_out,                                              \
                              max_out,                                              \
                              uint8_t(format::Attrs::attrs),                        \
                              false};
#include "ops/registry.inc"
#undef RNL_OP
}  // namespace registry_row

// The registry row with its functions filled in.
constexpr OpDef define_op(OpDef row, Status (*parse)(const void*, OpParams*), Status (*check)(const OpCall&),
                          void (*reference)(const OpCall&), Status (*check_data)(const OpCall&) = nullptr,
                          bool is_view = false, SlotUse (*use_slots)(const OpCall&) = nullptr) {
  row.parse = parse;
  row.check = check;
  row.reference = reference;
  row.check_data = check_data;
  row.is_view = is_view;
  row.use_slots = use_slots;
  return row;
}

// The operator's own parameter struct inside OpParams.
template <class P>
P* params_of(OpParams* p) {
  static_assert(sizeof(P) <= sizeof(OpParams) && std::is_trivially_copyable_v<P>);
  return reinterpret_cast<P*>(p->bytes);
}
template <class P>
const P& params_of(const OpCall& call) {
  return *reinterpret_cast<const P*>(call.params->bytes);
}

inline Status parse_nothing(const void*, OpParams*) { return Status::ok(); }

}  // namespace runnel
