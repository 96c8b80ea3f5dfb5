#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/packed.glsl"
#include "../common/window.glsl"

layout(constant_id = 7) const uint kActivation = 0;

// Filter `lane` of the tile that begins at word `tile`, column k.
float filter_at(uint tile, uint k, uint lane) {
  if (kKind == 1u) return uintBitsToFloat(weight_u[tile + k * 16u + lane]);
  const uint word = weight_u[tile + k * 8u + (lane >> 1)];
  if (kKind == 2u) return unpackHalf2x16(word)[lane & 1u];
  return uintBitsToFloat((lane & 1u) != 0u ? word & 0xffff0000u : word << 16);
}

// One invocation a result; 16 neighbours share a tile.
void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint lane = i & 15u, tile = (i >> 4) % p.window_tiles, pixel = (i >> 4) / p.window_tiles, o = (p.first_tile + tile) * 16u + lane;
  if (o >= p.out_channels) return;
  int row, column;
  uint image;
  window_of(pixel, row, column, image);
  const uint at = p.weights + tile * p.tile_words, first = o / p.group_out * p.in_channels;
  float sum = 0.0;
  uint k = 0;
  for (int a = 0; a < p.kernel_down; ++a)
    for (int b = 0; b < p.kernel_right; ++b) {
      const int r = row + a * p.dilation_down, c = column + b * p.dilation_right;
      if (!is_inside(r, c)) {
        k += p.in_channels;
        continue;
      }
      const uint from = p.x + ((image + uint(r)) * p.width + uint(c)) * p.channels + first;
      for (uint n = 0; n < p.in_channels; ++n, ++k) sum = fma(filter_at(at, k, lane), heap_f[from + n], sum);
    }
  write_result(pixel, o, sum, kActivation);
}
