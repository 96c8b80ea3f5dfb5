// The best few products of a split matrix (format/packed.h) with one token, without reading all of it.
//
// A row's product is sum_b s_b sx_b (16 H_b + L_b - zero_point Q_b) over its blocks b: H, L the dot products of the
// high and low nibbles with the rounded activations q, Q = sum q. 0 <= l <= 15, so L differs from 7.5 Q by at most 7.5
// sum |q|. Hence three steps:
//   1. of all rows the high nibbles: an upper bound of each product;
//   2. of the rows whose bound reaches what at least `best` rows are known to have, the low nibbles: the product but
//   for rounding;
//   3. of those that rounding leaves in question (mostly `best` of them), the very sums of the ordinary kernel.
// The outcome: all rows that are not below the best-th largest product hold it, to the bit, and all others -infinity.
// It depends neither on threads nor on the order of tasks.
#pragma once

#include "contract/op.h"

namespace runnel {

// What a block of 32 columns of the token brings: scale of q / 2, 7.5 * scale of q * sum |q|, sum q.
struct ScreenTerm {
  float half_scale, reach;
  int32_t sum;
};

// What each CPU target brings. tile: 16 rows of 4 bits as in format/packed.h; lines: 16 rows' lines.
struct ScreenKernels {
  // sums[16] = sum_b scale_b half_scale_b ((dot_b << shift) + factor * sum_b), reaches[16] = sum_b |scale_b| reach_b
  void (*nibbles)(const uint8_t* tile, int64_t units, const int8_t* q, const ScreenTerm* terms, int shift, int factor,
                  float* sums, float* reaches);
  // What `nibbles` gives for the low nibbles of a tile's own 16 rows, with shift 1 and factor -15; tile: for the
  // scales.
  void (*own_lines)(const uint8_t* tile, const uint8_t* const* lines, int64_t units, const int8_t* q,
                    const ScreenTerm* terms, float* sums, float* reaches);
  // The lines' scales and low nibbles as a tile of 4 bits.
  void (*gather)(const uint8_t* const* lines, int64_t units, uint8_t* tile);
  // The 16 products as the ordinary kernel has them, from the tile with the high nibbles.
  void (*exact)(const void* context, const uint8_t* tile, const uint8_t* const* lines, float* y);
};

struct ScreenJob {
  const ScreenKernels* kernels;
  const PackedFormat* format;
  const uint8_t* matrix;
  int64_t rows, columns;
  int best;             // how many are wanted, 1..kMaxBest
  const int8_t* q;      // [blocks][32]
  const float* scales;  // of q, scale_step floats apart
  int64_t scale_step;
  float* y;                 // [rows]
  const void* context;      // of `exact`
  uint8_t* scratch;         // screen_bytes, 64-byte aligned
  uint8_t* worker_scratch;  // each worker's tile of 4 bits
  size_t worker_bytes;
  ThreadPool* pool;
};

inline constexpr int kMaxBest = 64;

size_t screen_bytes(int64_t rows, int64_t units);
// False: the bounds do not help here (activations or scales out of range, too many equal products). y then holds
// nothing of use.
bool screen(const ScreenJob& job);
// The products of these rows alone, to the bit; -infinity in the place of all others. job.best is of no effect.
void screen_wanted(const ScreenJob& job, const int32_t* rows, int count);

}  // namespace runnel
