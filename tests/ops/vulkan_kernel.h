// In Vulkan mode (tests/backend.h) the operator tests see the device instead of the CPU's targets: its kernel is
// presented as one more Kernel, whose run() copies the operands there and back.
#pragma once

#include "cpu/kernels.h"

namespace runnel::test {

// The kernel of the operator; null without one.
const Kernel* vulkan_kernel(const OpDef& op);
// Whether the operator's own test compares no kernels, so that run_reference() does.
bool is_compared_by_reference(const OpDef& op);

}  // namespace runnel::test
