#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kKind = 0;  // constant, edge, reflect, wrap
layout(push_constant) uniform Push { uint n, x, y, value; int begin[6], from[6], to[6]; } p;

// Where place `at` of an axis comes from; below 0: the value.
int source_of(int at, int size) {
  if (at >= 0 && at < size) return at;
  if (kKind == 0u) return -1;
  if (kKind == 1u) return at < 0 ? 0 : size - 1;
  const int period = kKind == 3u ? size : size > 1 ? 2 * size - 2 : 1;
  // Rests of numbers that are not negative alone.
  const int r = at >= 0 ? at % period : (period - (-at) % period) % period;
  return r < size ? r : period - r;
}

void main() {
  const uint i = item();
  if (i >= p.n) return;
  uint rest = i, from = p.x, step = 1u;
  bool is_inside = true;
  for (int d = 5; d >= 0; --d) {
    const int at = source_of(int(rest % uint(p.to[d])) - p.begin[d], p.from[d]);
    rest /= uint(p.to[d]);
    is_inside = is_inside && at >= 0;
    from += uint(max(at, 0)) * step;
    step *= uint(p.from[d]);
  }
  heap_u[p.y + i] = is_inside ? heap_u[from] : p.value;
}
