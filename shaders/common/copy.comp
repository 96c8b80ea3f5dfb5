#version 450
#extension GL_GOOGLE_include_directive : require
// Pieces of `inner` words, moved from one stride to another: reshape, slice, concat, and states that go along unchanged.
#include "common.glsl"

layout(constant_id = 0) const uint kToState = 0;
layout(push_constant) uniform Push { uint n, from, to, inner, from_stride, to_stride; } p;

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint piece = i / p.inner, word = i % p.inner;
  const uint v = heap_u[p.from + piece * p.from_stride + word];
  if (kToState != 0u) state_u[p.to + piece * p.to_stride + word] = v;
  else heap_u[p.to + piece * p.to_stride + word] = v;
}
