#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"
#include "../common/math.glsl"

layout(constant_id = 0) const uint kKind = 0;
layout(push_constant) uniform Push { uint n, x, y; float alpha, beta; } p;

float clipped(float x, float low, float high) {
  const float raised = x < low ? low : x;
  return raised > high ? high : raised;
}

float apply(float x) {
  switch (kKind) {
    case 0u: return ceil(x);
    case 1u: return abs(x) < 8388608.0 ? roundEven(x) : x;
    case 2u: return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x;
    case 3u: return normal_cdf(x * 1.41421356237) * 2.0 - 1.0;
    case 15u: return x < 0.0 ? p.alpha * (exp_exact(x) - 1.0) : x;
    case 16u: return x < 0.0 ? p.alpha * x : x;
    case 17u: return clipped(p.alpha * x + p.beta, 0.0, 1.0);
    case 18u: return x * clipped(p.alpha * x + p.beta, 0.0, 1.0);
    default: return clipped(x, p.alpha, p.beta);
  }
}

void main() {
  const uint i = item();
  if (i < p.n) heap_f[p.y + i] = apply(heap_f[p.x + i]);
}
