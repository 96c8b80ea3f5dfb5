// Products of a packed matrix with tokens, which matmul and routed_matmul share.
#pragma once

#include "vulkan/kernel.h"

namespace runnel::vulkan {

// Push constants of shaders/matmul/matmul.comp; record_products() fills in blocks, part_blocks, shares and the window.
struct MatmulPush {
  uint32_t x, y, bias, columns;
  uint32_t blocks;                                                   // of 32 columns
  uint32_t rows;                                                     // of the matrix or, with experts, of one of them
  uint32_t pairs;                                                    // tokens times slots
  uint32_t part_blocks;                                              // blocks of a part of a sum
  uint32_t shares;                                                   // lanes of a workgroup with the same rows
  uint32_t at, tile_place, window_first, window_tiles, tile_offset;  // at, tile_place: in pieces of 4 words
  uint32_t ids;                     // place of [tokens, slots] numbers of experts; absent: a slot's own number
  uint32_t slots, x_token, x_slot;  // words from a token to the next in x, from a slot to the next; 0: they share it
  uint32_t expert_tiles, experts;   // 0: w is one matrix
};
// rounded: what record_rounding() gave.
void record_products(Recorder& r, const TensorView& w, MatmulPush push, uint32_t rounded);
// Input 0 as bytes for integer kinds of the weights from input first_weight on, where the device multiplies those:
// their place, else kAbsent. scratch: place of rounding_scratch() words, which do not depend on the device.
uint32_t record_rounding(Recorder& r, const OpCall& c, int first_weight, uint32_t scratch);
uint64_t rounding_scratch(const OpCall& c, int first_weight);

}  // namespace runnel::vulkan
