#include "ops/attention/attention.inl"

namespace runnel::RNL_ISA {
namespace {

void run(const OpCall& c) { run_attention(c, Everything{}); }

constexpr Kernel kRows[] = {{"attention_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList attention_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
