// Mixers of state-space models: Mamba's diagonal scan and Mamba-2's matrix state, as hybrids share them.
#pragma once

#include "converter/recipes/net.h"

namespace runnel::convert {

// Depthwise causal convolution with its tail as a state: short name of the weight [channels, 1, taps] without
// ".weight"; a bias is used when the source has one. channels [first, first + width of x) of `channels` are taken.
Var short_conv(Net& net, const Var& x, const std::string& name, int64_t taps, format::UnaryKind activation,
               int64_t channels = 0, int64_t first = 0);
// The same with a weight [width, taps] (and a bias, or "") that is in the file already.
Var short_conv(Net& net, const Var& x, const std::string& weight, const std::string& bias, int64_t taps,
               format::UnaryKind activation, const std::string& name);

// Gu & Dao 2023 (arXiv 2312.00752).
struct Mamba {
  std::string prefix = "mixer.";
  int64_t inner = 0, state = 0, taps = 4, rank = 0;
  format::UnaryKind activation = format::UnaryKind::silu;  // of the convolution; gates are always silu
  // Norms of dt, B and C: none, without weights (Falcon-Mamba), or with weights of the source (Jamba).
  enum class Norms { kNone, kPlain, kWeighted } norms = Norms::kNone;
  double eps = 1e-6;
};
Var mamba(Net& net, const Mamba& m, const Var& x);
// What it reads out of its memory, and the gate in front of its output matrix.
struct MambaReading {
  Var y, gate;
};
MambaReading mamba_reading(Net& net, const Mamba& m, const Var& x);
Var mamba_output(Net& net, const Mamba& m, const MambaReading& r, int64_t hidden);

// Tensors of both mixers behind "mixer." or "mamba." -> GGUF.
extern const std::map<std::string, std::string> kGgufMamba2;

// Dao & Gu 2024 (arXiv 2405.21060).
struct Mamba2 {
  std::string prefix = "mixer.";
  int64_t heads = 0, head_dim = 0, state = 0, groups = 1, taps = 4;
  format::UnaryKind activation = format::UnaryKind::silu;  // the same
  double dt_min = 0, dt_max = INFINITY;                    // limits of the step
  // The norm behind the recurrence: each of norm_groups parts by itself; without one the gate alone is applied.
  bool has_norm = true, norm_before_gate = false;
  int64_t norm_groups = 1;
  double eps = 1e-6;
  // Factors of gate, x, B, C and dt behind the input projection (Falcon-H1).
  double factors[5] = {1, 1, 1, 1, 1};
};
Var mamba2(Net& net, const Mamba2& m, const Var& x);
// Mamba-3 (Lahoti et al. 2025), single input and output.
struct Mamba3 {
  std::string prefix = "mixer.";
  int64_t heads = 0, head_dim = 0, state = 0, groups = 1;
  int64_t angles = 0;  // pairs of state channels that are turned
  double a_floor = 1e-4, eps = 1e-5;
  bool has_norm = false;
};
Var mamba3(Net& net, const Mamba3& m, const Var& x);

// time_step_limit [low, high] of a configuration; infinity is written as "Infinity" or as {"__float__": "Infinity"}.
void read_step_limit(const Facts& f, Mamba2& m);
// Keys of a GGUF for what read_hybrid_mamba2 reads.
extern const std::map<std::string, std::string> kGgufHybridKeys;
// mamba_d_state, mamba_n_heads, mamba_n_groups ... as Bamba, Granite-4, Falcon-H1 and others name them. inner: heads *
// head size.
void read_hybrid_mamba2(const Facts& f, int64_t inner, Mamba2& m);

}  // namespace runnel::convert
