// Bytes and inner layout of states, one place for planner and kernels.
//
// Key state of attention: [kv_heads, slots / 16, key, 16]: tiles of 16 slots, transposed, so that 16 keys meet one
// query element at a time. Value state: [kv_heads, slots, value]. slots is a multiple of kSlotTile. Position p of the
// stream lives in slot p mod slots. dtype q8: the block axis (key, value) is cut into blocks of 32, the last one padded
// with 0, each int8 with one f16 scale:
//   keys    per head and tile, for each block: [32][16] int8, then [16] f16 scales
//   values  per head and slot, for each block: [32] int8, then one f16 scale (so 34 bytes a block, scales unaligned)
#pragma once

#include <cstddef>
#include <cstdint>

#include "contract/dtype.h"

namespace runnel {

inline constexpr int64_t kSlotTile = 64;
// Of keys and of values alike: the axis that q8 cuts into blocks.
inline constexpr int kBlockAxis = 2;

// Slots of a key state (rank 4) or a value state (rank 3).
inline int64_t slots_of(const int64_t* dims, int rank) { return rank == 4 ? dims[1] * 16 : dims[1]; }

// Bytes of a state; dims are bounded by the caller so that nothing overflows.
inline size_t state_bytes(DType dtype, const int64_t* dims, int rank, int block_axis) {
  uint64_t n = 1;
  for (int i = 0; i < rank; ++i)
    n *= uint64_t(dtype == DType::kQ8 && i == block_axis ? (dims[i] + 31) / 32 * 32 : dims[i]);
  n = dtype == DType::kQ8 ? n / 32 * 34 : n * dtype_bytes(dtype);
  return n < SIZE_MAX ? size_t(n) : SIZE_MAX;
}

}  // namespace runnel
