#include "ops/sparse_attention/lists.inl"

namespace runnel::RNL_ISA {
namespace {

constexpr int kRanges = 9, kParents = 10, kBefore = 11, kLseBefore = 12;

size_t sparse_scratch_bytes(const OpCall& c, int workers) { return scratch_bytes(FlatAttention(c).call, workers); }

void run(const OpCall& c) {
  const auto& p = params_of<SparseAttentionParams>(c);
  const FlatAttention flat(c);
  Lists seen{};
  seen.params = &p;
  seen.before = input<float>(c, kBefore), seen.lse_before = input<float>(c, kLseBefore);
  seen.ranges = input<int32_t>(c, kRanges);
  if (seen.ranges) {
    const TensorView& r = c.in[kRanges];
    seen.range_heads = r.dims[0], seen.lists = r.dims[1], seen.range_count = r.dims[2];
  }
  seen.base = has_input(c, kKeyState) ? c.position : 0;
  seen.parents = input<int32_t>(c, kParents);
  for (int a = 0; a < p.axes; ++a) seen.sizes[a] = flat.sizes[a];
  run_attention(flat.call, seen);
}

constexpr Kernel kRows[] = {{"sparse_attention_f32__" RNL_ISA_NAME, nullptr, sparse_scratch_bytes, run}};

}  // namespace

extern constexpr KernelList sparse_attention_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
