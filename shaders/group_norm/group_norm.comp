#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/reduce.glsl"

layout(push_constant) uniform Push { uint count, x, weight, bias, y, places, channels, groups; float eps; } p;

// A workgroup for each group of an image.
void main() {
  const uint g = group();
  if (g >= p.count) return;
  const uint each = p.channels / p.groups, n = p.places * each, first = g % p.groups * each, image = g / p.groups * p.places * p.channels + first;
  float sum = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < n; i += LOCAL) sum += heap_f[p.x + image + i / each * p.channels + i % each];
  const float mean = group_sum(sum) / float(n);
  float square = 0.0;
  for (uint i = gl_LocalInvocationIndex; i < n; i += LOCAL) {
    const float d = heap_f[p.x + image + i / each * p.channels + i % each] - mean;
    square += d * d;
  }
  const float inverse = 1.0 / sqrt(group_sum(square) / float(n) + p.eps);
  for (uint i = gl_LocalInvocationIndex; i < n; i += LOCAL) {
    const uint at = image + i / each * p.channels + i % each, channel = first + i % each;
    float v = (heap_f[p.x + at] - mean) * inverse;
    if (p.weight != kAbsent) v *= heap_f[p.weight + channel];
    if (p.bias != kAbsent) v += heap_f[p.bias + channel];
    heap_f[p.y + at] = v;
  }
}
