// Which CPU kernels exist and which of them this machine can run.
#pragma once

#include <cstdint>

#include "contract/op.h"

namespace runnel {

struct KernelList {
  const Kernel* rows;  // preferred first
  int count;
};

struct CpuTarget {
  const char* name;
  // Kernels of the operator with this registry number; count 0 when the target has none for it.
  KernelList (*kernels)(uint16_t op_number);
  bool available;  // this machine has the instructions
};

// All compiled-in targets, best first; the last one runs on every machine that the library is built for. `available` is
// found once, at the first call.
const CpuTarget* cpu_targets(int* count);

// The best kernel for the call: first available target (from `from` on, null = all) with a kernel that supports it.
// Null: only the reference can.
const Kernel* find_kernel(uint16_t op_number, const OpCall& call, const CpuTarget* from = nullptr);

}  // namespace runnel
