#version 450
#extension GL_GOOGLE_include_directive : require
// Rows of x to bytes in blocks of 32 columns, as in runtime/ops/matmul/matmul.h. A block of `to` is 10 words: words j of the first and of the
// second 16 bytes in pairs, the scale, the sums of the first and the last 16. Eight invocations a block, four columns each.
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, columns, blocks, x, to; } p;
shared uint largest[LOCAL];
shared int sums[LOCAL];

void main() {
  const uint lane = gl_LocalInvocationIndex, part = lane % 8u, i = group() * (LOCAL / 8u) + lane / 8u, column = i % p.blocks * 32u + part * 4u;
  const uint left = i < p.n && p.columns > column ? p.columns - column : 0u, at = p.x + i / p.blocks * p.columns + column;
  const vec4 v = vec4(left > 0u ? heap_f[at] : 0.0, left > 1u ? heap_f[at + 1u] : 0.0, left > 2u ? heap_f[at + 2u] : 0.0, left > 3u ? heap_f[at + 3u] : 0.0);
  // As integers magnitudes sort like the numbers, NaN and infinity above the rest.
  const uvec4 bits = floatBitsToUint(v) & 0x7fffffffu;
  largest[lane] = max(max(bits.x, bits.y), max(bits.z, bits.w));
  barrier();
  uint top = 0u;
  for (uint k = 0; k < 8u; ++k) top = max(top, largest[lane / 8u * 8u + k]);
  const float most = uintBitsToFloat(top);
  const bool is_finite = top < 0x7f800000u, is_zero = !is_finite || most < 2e-36;
  const ivec4 q = is_zero ? ivec4(0) : ivec4(roundEven(v * (127.0 / most)));
  sums[lane] = q.x + q.y + q.z + q.w;
  barrier();
  if (i >= p.n) return;
  const uint to = p.to + i * 10u, first = lane / 8u * 8u;
  heap_u[to + part % 4u * 2u + part / 4u] = uint(q.x & 255) | uint(q.y & 255) << 8 | uint(q.z & 255) << 16 | uint(q.w) << 24;
  if (part != 0u) return;
  // Infinity times 0 makes every product of the row NaN.
  heap_u[to + 8u] = !is_finite ? 0x7f800000u : is_zero ? 0u : floatBitsToUint(most / 127.0);
  int low = 0, high = 0;
  for (uint k = 0; k < 4u; ++k) {
    low += sums[first + k];
    high += sums[first + k + 4u];
  }
  heap_u[to + 9u] = uint(low & 0xffff) | uint(high) << 16;
}
