#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kKind = 0;
layout(constant_id = 1) const uint kIsFloat = 1;
layout(push_constant) uniform Push { uint n, a, b, y; uint dims[6], stride_a[6], stride_b[6]; } p;

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

float of_floats(float u, float v) {
  switch (kKind) {
    case 0u: return u + v;
    case 1u: return u - v;
    case 2u: return u * v;
    case 3u: return u / v;
    case 4u: return is_nan(u) || is_nan(v) ? u + v : max(u, v);
    default: return is_nan(u) || is_nan(v) ? u + v : min(u, v);
  }
}

// Towards zero, also where a device divides negative numbers otherwise.
int quotient(int u, int v) {
  if (v == 0) return 0;
  const uint q = uint(abs(u)) / uint(abs(v));
  return (u < 0) != (v < 0) ? -int(q) : int(q);
}

int of_integers(int u, int v) {
  switch (kKind) {
    case 0u: return u + v;
    case 1u: return u - v;
    case 2u: return u * v;
    case 3u: return quotient(u, v);
    case 4u: return max(u, v);
    case 5u: return min(u, v);
    case 6u: {
      const int r = u - quotient(u, v) * v;
      return v == 0 ? 0 : r != 0 && (r < 0) != (v < 0) ? r + v : r;
    }
    case 7u: return v == 0 ? 0 : u - quotient(u, v) * v;
    case 13u: return u & v;
    case 14u: return u | v;
    default: return u ^ v;
  }
}

bool compared(float u, float v) {
  if (is_nan(u) || is_nan(v)) return kKind == 10u;
  return kKind == 9u ? u == v : kKind == 10u ? u != v : kKind == 11u ? u < v : u <= v;
}
bool compared(int u, int v) { return kKind == 9u ? u == v : kKind == 10u ? u != v : kKind == 11u ? u < v : u <= v; }

void main() {
  const uint i = item();
  if (i >= p.n) return;
  uint a = p.a, b = p.b, rest = i;
  for (int d = 5; d >= 0; --d) {
    const uint at = rest % p.dims[d];
    rest /= p.dims[d];
    a += at * p.stride_a[d];
    b += at * p.stride_b[d];
  }
  const bool is_compared = kKind >= 9u && kKind <= 12u;
  if (kIsFloat != 0u) {
    if (is_compared) heap_i[p.y + i] = compared(heap_f[a], heap_f[b]) ? 1 : 0;
    else heap_f[p.y + i] = of_floats(heap_f[a], heap_f[b]);
  } else {
    heap_i[p.y + i] = is_compared ? (compared(heap_i[a], heap_i[b]) ? 1 : 0) : of_integers(heap_i[a], heap_i[b]);
  }
}
