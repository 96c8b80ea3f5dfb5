// scan: linear recurrences over channels, each channel by itself.
//   real     h_t = a_t h_{t-1} + b_t,  y = h                          (with log_decay the factor is e^a_t)
//   complex  the same; the last axis holds (re, im); with log_decay the factor is e^re (cos im + i sin im)
//   log_sum  weighted means with exponential weights, in a form that cannot overflow:
//            y_t = sum_{i <= t} e^{k_i + (t - i) w} v_i / sum_{i <= t} e^{k_i + (t - i) w}
//            with a bonus u: sum over i < t of e^{k_i + (t - 1 - i) w} v_i, plus e^{u + k_t} v_t, over the same sum
//            without v
//
// inputs   real, complex: a [tokens | 1, channels] (complex: [.., 2]) f32, optional (1, or with log_decay 0); b
//          [tokens, channels] (complex: [.., 2]) f32;
//          state [channels] (complex: [channels, 2]) f32 or f16, optional: h before the call; segments, optional
//          log_sum: w [heads, width] f32, optional (0); k [tokens, heads, width] f32; v [tokens, heads, value] f32,
//          width 1 or value;
//          u [heads, width] f32, optional; state [3, heads, value] f32, optional: numerator, denominator, largest
//          exponent; a denominator of
//          0 means that nothing was seen; segments, optional
//          segments [n + 1] i32, without states only
// outputs  y     the shape of b (of v), f32; shares no memory with an input
//          state optional; may be the same memory as the one that comes in
// attrs    kind, log_decay, reverse
//
// tolerance 1e-5 of the largest |y| (real, complex), 1e-5 of the largest |v| (log_sum); bits depend neither on the cut
// into calls (f32 state)
//           nor on threads
// source   HGRN (Qin et al. 2023), RG-LRU (De et al. 2024), LRU (Orvieto et al. 2023), RWKV-4's wkv (Peng et al. 2023),
//          Aaren (Feng et al. 2024)
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of ScanKind in model.fbs.
enum class ScanKind : uint8_t { kReal = 0, kComplex = 1, kLogSum = 2 };

struct ScanParams {
  ScanKind kind;
  bool log_decay, reverse;
};

}  // namespace runnel
