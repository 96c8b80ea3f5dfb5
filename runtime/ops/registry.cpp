#include <cstring>

#include "contract/op.h"

namespace runnel {

#define RNL_OP(number, version, name, ...) extern const OpDef name##_def;
#include "ops/registry.inc"
#undef RNL_OP

namespace {
constexpr const OpDef* kOps[] = {
#define RNL_OP(number, version, name, ...) &name##_def,
#include "ops/registry.inc"
#undef RNL_OP
};
constexpr int kOpCount = int(sizeof(kOps) / sizeof(kOps[0]));
}  // namespace

const OpDef* const* all_ops(int* count) {
  *count = kOpCount;
  return kOps;
}

const OpDef* find_op(uint16_t number) {
  for (const OpDef* op : kOps)
    if (op->number == number) return op;
  return nullptr;
}

const OpDef* find_op_by_name(const char* name) {
  for (const OpDef* op : kOps)
    if (std::strcmp(op->name, name) == 0) return op;
  return nullptr;
}

}  // namespace runnel
