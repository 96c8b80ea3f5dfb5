#version 450
#extension GL_GOOGLE_include_directive : require
// An invocation for each number of the merged rows, and for the row's total where there is nothing else.
#include "../common/common.glsl"

layout(push_constant) uniform Push { uint n, rows, tokens, inner, x, groups, weight, y, total; } p;

void main() {
  const uint i = item(), inner = max(p.inner, 1u);
  if (i >= p.n) return;
  const uint row = i / inner, column = i % inner;
  float sum = 0.0, weights = 0.0;
  for (uint t = 0u; t < p.tokens; ++t) {
    const uint of = heap_u[p.groups + t];
    if (of >= p.rows) fault(kFaultIndex);
    if (of != row) continue;
    const float w = p.weight == kAbsent ? 1.0 : heap_f[p.weight + t];
    weights += w;
    if (p.inner > 0u) sum += w * heap_f[p.x + t * p.inner + column];
  }
  if (p.inner > 0u) heap_f[p.y + i] = weights == 0.0 ? 0.0 : sum / weights;
  if (column == 0u && p.total != kAbsent) heap_f[p.total + row] = weights;
}
