// A column of kSize elements over kLanes invocations side by side: each has kQuads quads of it, every kLanes-th quad is its own. It needs
// common.glsl.
layout(constant_id = 0) const uint kSize = 64;
layout(constant_id = 1) const uint kLanes = 8;    // a power of two
layout(constant_id = 2) const uint kQuads = 2;
layout(constant_id = 3) const uint kAligned = 0;  // rows of the heap are read as vectors
layout(set = 0, binding = 0, std430) buffer HeapV { vec4 heap_v[]; };

const uint kColumns = LOCAL / kLanes;

// The column that this invocation works on, whether there is one or not.
uint column_of() { return group() * kColumns + gl_LocalInvocationIndex / kLanes; }
uint lane_of() { return gl_LocalInvocationIndex % kLanes; }

// Lanes of a column are neighbours in the workgroup; kNear of them are neighbours in a subgroup too. Vulkan does not promise that, but drivers
// count so, and the self-check would find one that does not.
#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_shuffle : require
layout(constant_id = 4) const uint kNear = 8;
float near_sum(float v) {
  for (uint i = 1u; i < kNear; i *= 2u) v += subgroupShuffleXor(v, i);
  return v;
}
#else
const uint kNear = 1u;
float near_sum(float v) { return v; }
#endif
// Two halves in turn, so that no barrier is needed before a part is overwritten.
const uint kFar = kLanes / kNear, kParts = LOCAL / kNear;
shared float parts[kFar > 1u ? 2u * kParts : 1u];
uint turn = 0u;
// Sum over the lanes of a column, in each of them. All invocations must call.
float column_sum(float v) {
  v = near_sum(v);
  if (kFar == 1u) return v;
  const uint place = gl_LocalInvocationIndex;
  if (place % kNear == 0u) parts[turn + place / kNear] = v;
  barrier();
  const uint first = turn + place / kLanes * kFar;
  float sum = 0.0;
  for (uint i = 0u; i < kFar; ++i) sum += parts[first + i];
  turn = kParts - turn;
  return sum;
}

uint dim_of(uint quad) { return (quad * kLanes + lane_of()) * 4u; }
bool is_inside(uint d) { return kLanes * kQuads * 4u == kSize || d < kSize; }
// Elements of a quad of a row; 0 behind its end.
vec4 row_quad(uint row, uint quad) {
  const uint d = dim_of(quad), at = row + d;
  if (kAligned != 0u) return is_inside(d) ? heap_v[at / 4u] : vec4(0.0);
  return vec4(is_inside(d) ? heap_f[at] : 0.0, is_inside(d + 1u) ? heap_f[at + 1u] : 0.0, is_inside(d + 2u) ? heap_f[at + 2u] : 0.0, is_inside(d + 3u) ? heap_f[at + 3u] : 0.0);
}
// The same of a row of a state with a step between its elements.
vec4 state_quad(uint first, uint step, uint quad) {
  const uint d = dim_of(quad), at = first + d * step;
  return vec4(is_inside(d) ? state_f[at] : 0.0, is_inside(d + 1u) ? state_f[at + step] : 0.0, is_inside(d + 2u) ? state_f[at + 2u * step] : 0.0, is_inside(d + 3u) ? state_f[at + 3u * step] : 0.0);
}
void write_state_quad(uint first, uint step, uint quad, vec4 v) {
  for (uint j = 0u; j < 4u; ++j)
    if (is_inside(dim_of(quad) + j)) state_f[first + (dim_of(quad) + j) * step] = v[j];
}
vec4 exp_quad(vec4 v) { return vec4(exp_exact(v.x), exp_exact(v.y), exp_exact(v.z), exp_exact(v.w)); }
