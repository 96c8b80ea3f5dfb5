// What an operator brings for Vulkan: runtime/ops/<op>/vulkan.cpp with its shaders in shaders/<op>.
#pragma once

#include "contract/view.h"
#include "format/packed.h"
#include "vulkan/recorder.h"

// Names a row of shaders/variants.txt that the file uses.
#define RNL_SHADER(name) extern const ShaderCode shader_##name;

namespace runnel::vulkan {

struct Kernel {
  // Why a call of these shapes and types cannot run; null: it can.
  const char* (*refuses)(const OpCall& call);
  // Bytes of scratch on the device. Null: none. Must not shrink when a dimension grows.
  uint64_t (*scratch_bytes)(const OpCall& call);
  void (*record)(Recorder& r, const OpCall& call);
  uint32_t written_inputs = 0;  // bits of inputs that it writes
  // Its states are floats: those of f16 are copied to and from scratch around it.
  bool wants_wide_states = false;
  // Rounds of an invocation's loops, about; null: few. Must not shrink when a dimension grows.
  uint64_t (*rounds)(const OpCall& call) = nullptr;
};
// Why a call cannot run on a device, its limits for bindings and workgroups aside; null: it can.
const char* refusal(const Device& device, const Kernel& kernel, const OpCall& call);
// Records an operator with all that belongs to it; bytes of scratch that this takes.
void record_op(Recorder& r, const Kernel& kernel, const OpCall& call);
uint64_t op_scratch_bytes(const Kernel& kernel, const OpCall& call);

// The kernel of the operator with this registry number; null when it has none.
const Kernel* find_vulkan_kernel(uint16_t op_number);

inline uint32_t elements(const TensorView& v) { return uint32_t(element_count(v)); }
inline uint64_t rounds_of(int64_t n, int64_t each = 64) { return uint64_t((n + each - 1) / each); }
inline uint32_t last_axis(const TensorView& v) { return uint32_t(v.dims[v.rank - 1]); }
inline bool has_output(const OpCall& c, int i) { return i < c.out_count && c.out[i].dtype != DType::kNone; }
// Independent sequences of a call with segments, else 1.
inline uint32_t segments_of(const OpCall& c, int i) { return has_input(c, i) ? uint32_t(c.in[i].dims[0] - 1) : 1; }

// Refusals that several operators share.
inline const char* refuse_nothing(const OpCall&) { return nullptr; }
// Data is moved in words.
inline const char* refuse_small_elements(const OpCall& c) {
  return dtype_bytes(c.in[0].dtype) == 4 ? nullptr : "elements are not of 4 bytes";
}

// Rows of a packed matrix that one binding reaches; a matrix larger than the device binds is used in several.
struct WeightWindow {
  uint32_t at, first_tile, tiles, tile_words;
};
template <class Fn>
void for_each_window(Recorder& r, const TensorView& w, Fn fn) {
  const uint32_t tiles = uint32_t((w.dims[0] + kTileRows - 1) / kTileRows);
  const uint64_t tile_bytes = w.packed->tile_bytes(w.dims[1]);
  if (tile_bytes == 0) return fn(WeightWindow{0, 0, tiles, 0});  // sums of nothing
  // What is not cut: a tile, or a group of a split matrix.
  const uint32_t piece = w.packed->split ? uint32_t(kSplitTiles) : 1;
  const uint64_t piece_bytes = w.packed->split ? SplitLayout(w.dims[1]).group : tile_bytes,
                 pieces = r.weight_window() / piece_bytes, most = (pieces ? pieces : 1) * piece;
  for (uint32_t first = 0; first < tiles; first += uint32_t(most)) {
    const uint32_t n = tiles - first < most ? tiles - first : uint32_t(most);
    fn(WeightWindow{r.weights(w, first / piece * piece_bytes, (n + piece - 1) / piece * piece_bytes), first, n,
                    uint32_t(tile_bytes / 4)});
  }
}
inline Constants format_constants(const TensorView& w) {
  const PackedFormat& f = *w.packed;
  const uint32_t split = !f.split ? 0 : f.units(w.dims[1]) % 2 ? 2 : 1;
  return {uint32_t(f.kind), f.bits, f.block, f.zero_point, f.has_min, uint32_t(f.scale), split};
}

}  // namespace runnel::vulkan
