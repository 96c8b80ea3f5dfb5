// One workgroup a token and head: online softmax over tiles of 64 keys at absolute positions, so that a query's bits do not depend on how
// the stream is cut. An invocation scores one key of a tile, then gathers its own dims of the values.
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/reduce.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kSource = 0;  // of keys: 0 the call's own, 1 f32 states, 2 f16 states, 3 q8 states
layout(constant_id = 1) const uint kCausal = 1;
layout(constant_id = 2) const uint kKey = 64;
layout(constant_id = 3) const uint kDims = 1;  // dims of the values an invocation has: value / 64, rounded up
layout(constant_id = 4) const uint kSoftcap = 0;
layout(push_constant) uniform Push {
  uint tokens, heads, kv_heads, value, keys, slots, window, stride;
  uint q, k, v, k_state, v_state, sinks, bias, bias_head, bias_token, bounds, segments, rows, y, lse;
  float scale, softcap;
#ifdef LISTS
  uint size_1, size_2;  // of the axes behind the first
  uint ranges, lists, range_count, parents, before, lse_before;
#endif
} p;
#ifdef LISTS
#include "../sparse_attention/lists.glsl"
#endif

#define kMinusInfinity uintBitsToFloat(0xff800000u)
shared float query[kKey];
shared float weight[LOCAL];

// Element of a q8 state: the byte and its block's scale, both at bytes of the state.
float state_q8(uint state, uint element, uint scale) {
  const int q = bitfieldExtract(int(state_u[state + element / 4u]), int(element % 4u * 8u), 8);
  return float(q) * state_half(state, scale / 2u);
}

float key_at(uint begin, uint j, uint head, uint d) {
  if (kSource == 0u) return heap_f[p.k + ((begin + j) * p.kv_heads + head) * kKey + d];
  const uint s = j % p.slots;
  if (kSource == 3u) {
    const uint block = ((head * (p.slots / 16u) + s / 16u) * ((kKey + 31u) / 32u) + d / 32u) * 544u;
    return state_q8(p.k_state, block + d % 32u * 16u + s % 16u, block + 512u + s % 16u * 2u);
  }
  const uint i = ((head * (p.slots / 16u) + s / 16u) * kKey + d) * 16u + s % 16u;
  return kSource == 1u ? state_f[p.k_state + i] : state_half(p.k_state, i);
}
float value_at(uint begin, uint j, uint head, uint d) {
  if (kSource == 0u) return heap_f[p.v + ((begin + j) * p.kv_heads + head) * p.value + d];
  if (kSource == 3u) {
    const uint block = ((head * p.slots + j % p.slots) * ((p.value + 31u) / 32u) + d / 32u) * 34u;
    return state_q8(p.v_state, block + d % 32u, block + 32u);
  }
  const uint i = (head * p.slots + j % p.slots) * p.value + d;
  return kSource == 1u ? state_f[p.v_state + i] : state_half(p.v_state, i);
}

void main() {
  const uint t = group() / p.heads, head = group() % p.heads, kv = head / (p.heads / p.kv_heads), lane = gl_LocalInvocationIndex;
  if (t >= p.tokens) return;
  uint begin = 0, position = t, end = p.keys;
  if (kSource != 0u) position = call_word[kPosition] + (p.rows != kAbsent ? heap_u[p.rows + t] : t);
  if (p.bounds != kAbsent)
    for (uint s = 0; s < p.segments; ++s) {
      const uvec2 own = segment(p.bounds, s, p.tokens);
      if (t >= own.x && t < own.x + own.y) {
        begin = own.x;
        position = t - own.x;
        end = own.y;
      }
    }
  uint low = p.window > 0u && position + 1u > p.window ? position + 1u - p.window : 0u;
  uint high = kCausal != 0u ? (position + 1u) / p.stride : end;
  if (p.window > 0u) high = min(high, position + p.window);
  for (uint d = lane; d < kKey; d += LOCAL) query[d] = heap_f[p.q + (t * p.heads + head) * kKey + d];
  barrier();
  float largest = p.sinks != kAbsent ? heap_f[p.sinks + head] : kMinusInfinity, sum = p.sinks != kAbsent ? 1.0 : 0.0;
  float acc[kDims];
  for (uint e = 0; e < kDims; ++e) acc[e] = 0.0;
#ifdef LISTS
  if (p.lse_before != kAbsent && floatBitsToUint(heap_f[p.lse_before + t * p.heads + head]) != 0xff800000u) {
    largest = heap_f[p.lse_before + t * p.heads + head];
    sum = 1.0;
    for (uint e = 0; e < kDims; ++e)
      if (e * LOCAL + lane < p.value) acc[e] = heap_f[p.before + (t * p.heads + head) * p.value + e * LOCAL + lane];
  }
  const Query own_query = Query(t, head, position);
  narrow(own_query, low, high);
  const uint runs = run_count(own_query);
  for (uint run = 0; run < runs; ++run) {
    const Run r = run_of(own_query, run, low, high);
    const uint step = r.step, stop = r.end;
    for (uint tile = r.begin; tile < stop; tile += LOCAL * step) {
      const uint j = tile + lane * step;
      const bool seen = j < stop && sees(own_query, run, j);
#else
  {
    const uint step = 1, stop = high;
    for (uint tile = low / LOCAL * LOCAL; tile < high; tile += LOCAL) {
      const uint j = tile + lane;
      const bool seen = j >= low && j < high;
#endif
      float score = kMinusInfinity;
      if (seen) {
        float dot = 0.0;
        for (uint d = 0; d < kKey; ++d) dot += query[d] * key_at(begin, j, kv, d);
        score = dot * p.scale;
        if (kSoftcap != 0u) score = p.softcap * tanh_exact(score / p.softcap);
        if (p.bias != kAbsent) score += heap_f[p.bias + head * p.bias_head + t * p.bias_token + (kSource != 0u ? j : begin + j)];
      }
      float fade = 1.0, own = 0.0;
#ifdef LISTS
      if (kSigmoid) {
        own = floatBitsToUint(score) == 0xff800000u ? 0.0 : 1.0 / (1.0 + exp_exact(-kShift - score));
        weight[lane] = own;
        sum = 1.0;
        barrier();
      } else
#endif
      {
        const float most = max(largest, group_max(score));
        // Nothing seen yet: every difference would be of infinities.
        const bool nothing = floatBitsToUint(most) == 0xff800000u;
        fade = nothing || floatBitsToUint(largest) == 0xff800000u ? 0.0 : exp_exact(largest - most);
        own = nothing || floatBitsToUint(score) == 0xff800000u ? 0.0 : exp_exact(score - most);
        weight[lane] = own;
        sum = sum * fade + group_sum(own);
        largest = most;
      }
      const uint from = max(tile, low) - tile, to = (min(tile + LOCAL * step, stop) - tile + step - 1) / step;
      for (uint e = 0; e < kDims; ++e) {
        const uint d = e * LOCAL + lane;
        float a = acc[e] * fade;
        if (d < p.value)
          for (uint n = from; n < to; ++n)
            if (weight[n] != 0.0) a += weight[n] * value_at(begin, tile + n * step, kv, d);
        acc[e] = a;
      }
      barrier();
    }
  }
  for (uint e = 0; e < kDims; ++e) {
    const uint d = e * LOCAL + lane;
    if (d < p.value) heap_f[p.y + (t * p.heads + head) * p.value + d] = sum == 0.0 ? 0.0 : acc[e] / sum;
  }
  if (lane == 0u && p.lse != kAbsent) heap_f[p.lse + t * p.heads + head] = floatBitsToUint(largest) == 0xff800000u ? largest : largest + log_exact(sum);
}
