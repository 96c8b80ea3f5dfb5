#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/reduce.glsl"

layout(push_constant) uniform Push { uint rows, channels, x, weight, bias, y; float eps; } p;

void main() {
  const uint row = group();
  if (row >= p.rows) return;
  const uint at = row * p.channels;
  float sum = 0.0;
  for (uint c = gl_LocalInvocationIndex; c < p.channels; c += LOCAL) sum += heap_f[p.x + at + c];
  const float mean = group_sum(sum) / float(p.channels);
  float square = 0.0;
  for (uint c = gl_LocalInvocationIndex; c < p.channels; c += LOCAL) {
    const float d = heap_f[p.x + at + c] - mean;
    square += d * d;
  }
  const float inverse = 1.0 / sqrt(group_sum(square) / float(p.channels) + p.eps);
  for (uint c = gl_LocalInvocationIndex; c < p.channels; c += LOCAL) {
    float v = (heap_f[p.x + at + c] - mean) * inverse;
    if (p.weight != kAbsent) v *= heap_f[p.weight + c];
    if (p.bias != kAbsent) v += heap_f[p.bias + c];
    heap_f[p.y + at + c] = v;
  }
}
