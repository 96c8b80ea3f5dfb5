#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/packed.glsl"

// Rows [first, end) of the table are in the window; `final` is set for the window that reports ids out of range.
layout(push_constant) uniform Push { uint n, ids, y, channels, first, end, vocab, outside; float scale; uint table, tile_words; } p;

// An item is four channels of a token.
void main() {
  const uint i = item(), quads = (p.channels + 3u) / 4u;
  if (i >= p.n) return;
  const uint quad = i % quads;
  uint id = heap_u[p.ids + i / quads];
  if (id >= p.vocab) id = p.outside;
  if (id >= p.vocab) fault(kFaultIndex);
  if (id < p.first || id >= p.end) return;
  const uint row = id - p.first;
  const vec4 v = read_weights(p.table + place_of_tile(row / 16u) * p.tile_words, (p.channels + 31u) / 32u, row % 16u, quad / 8u, quad % 8u) * p.scale;
  const uint y = p.y + i / quads * p.channels + quad * 4u;
  for (uint k = 0; k < 4u && quad * 4u + k < p.channels; ++k) heap_f[y + k] = v[k];
}
