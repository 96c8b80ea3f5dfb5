#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, ids, y, channels, vocab, table, outside; float scale; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  uint id = heap_u[p.ids + i / p.channels];
  if (id >= p.vocab) id = p.outside;
  if (id >= p.vocab) {
    fault(kFaultIndex);
    id = 0;
  }
  heap_f[p.y + i] = heap_f[p.table + id * p.channels + i % p.channels] * p.scale;
}
