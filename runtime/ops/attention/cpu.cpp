#include "cpu/call.h"
#include "ops/attention/attention.h"

namespace runnel::RNL_ISA {

extern constexpr KernelList attention_kernels{nullptr, 0};

}  // namespace runnel::RNL_ISA
