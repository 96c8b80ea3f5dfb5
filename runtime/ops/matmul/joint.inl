// What matmul offers to the kernels of other operators.
#pragma once

#include "cpu/call.h"

namespace runnel::RNL_ISA {

extern const KernelList matmul_kernels;

// Up to kMaxJointMatmuls matrices, each with a row x[i] [K] of its own, in one parallel region. in[0] gives K alone;
// equal neighbours in x are rounded once. Bits and the other operands are those of matmul, scratch as for as many rows
// as x has different ones. Not for split weights.
constexpr int kMaxJointMatmuls = 32;
void matmul_joint(const OpCall& c, const float* const* x);

}  // namespace runnel::RNL_ISA
