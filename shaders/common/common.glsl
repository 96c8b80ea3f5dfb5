// What every shader starts from: the four buffers and where an invocation stands. Places and sizes are in words of 4 bytes.
#ifdef SUBGROUPS
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#ifndef LOCAL
#define LOCAL 64
#endif
layout(local_size_x = LOCAL) in;

// The heap under several types: activations, constants and, through a window of its own, states.
layout(set = 0, binding = 0, std430) buffer HeapF { float heap_f[]; };
layout(set = 0, binding = 0, std430) buffer HeapI { int heap_i[]; };
layout(set = 0, binding = 0, std430) buffer HeapU { uint heap_u[]; };
layout(set = 0, binding = 1, std430) buffer StateF { float state_f[]; };
layout(set = 0, binding = 1, std430) buffer StateU { uint state_u[]; };
layout(set = 0, binding = 2, std430) readonly buffer Weights { uint weight_u[]; };
layout(set = 0, binding = 3, std430) buffer Call { uint call_word[]; };

// Words of the call, as in runtime/vulkan/recorder.h.
const uint kPosition = 0u, kFault = 1u, kChoice = 2u;
// What a shader may report there; runtime/vulkan_session/runner.cpp has the messages.
const uint kFaultIndex = 1u, kFaultNonFinite = 2u;
const uint kAbsent = 0xffffffffu;

// The workgroup's number where the recorder may have folded x into y.
uint group() { return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; }
uint item() { return group() * LOCAL + gl_LocalInvocationIndex; }
void fault(uint what) { atomicMax(call_word[kFault], what); }

// Element i of an array of halves that begins at word `at`.
float state_half(uint at, uint i) { return unpackHalf2x16(state_u[at + (i >> 1)])[i & 1u]; }
