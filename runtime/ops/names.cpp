#include "contract/op.h"

namespace runnel {

// Compiled with the whole registry, unlike the tables of a library with some operators only.
const char* op_name(uint16_t op_number) {
  switch (op_number) {
#define RNL_OP(number, version, name, ...) \
  case number:                             \
    return #name;
#include "ops/registry.inc"
#undef RNL_OP
    default: return nullptr;
  }
}

}  // namespace runnel
