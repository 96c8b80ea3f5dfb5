// One workgroup for some rows, which are queries of neighbouring tokens and of heads that share keys: each key and value is read once for all of
// them. Online softmax over tiles of 64 keys at absolute positions, so that a query's bits depend neither on how the stream is cut nor on the
// rows beside it. An invocation scores one key of a tile, then gathers its own dims of the values.
#extension GL_EXT_control_flow_attributes : require
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/segments.glsl"

layout(constant_id = 0) const uint kSource = 0;  // of keys: 0 the call's own, 1 f32 states, 2 f16 states, 3 q8 states
layout(constant_id = 1) const uint kCausal = 1;
layout(constant_id = 2) const uint kKey = 64;
layout(constant_id = 3) const uint kDims = 1;  // dims of the values an invocation has: value / 64, rounded up
layout(constant_id = 4) const uint kSoftcap = 0;
layout(constant_id = 5) const uint kTokens = 1;  // rows of a group: so many tokens
layout(constant_id = 6) const uint kHeads = 1;   // and heads of each
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
const uint kRows = kTokens * kHeads, kQuads = (kKey + 3u) / 4u;
const uint kParts = LOCAL / 8u;  // a row's tile is summed up in parts of 8 keys
shared vec4 query[kRows * kQuads];
shared float scores[kRows * LOCAL];
shared vec4 weights[kRows * LOCAL / 4u];  // of four keys each
shared float part_most[kRows * kParts], part_sum[kRows * kParts];
// Of each row so far; low, high: the keys that it sees.
shared float largest[kRows], total[kRows], fade[kRows];
shared uint low[kRows], high[kRows];

bool is_infinite_below(float v) { return floatBitsToUint(v) == 0xff800000u; }

// Elements d .. d + 3 of a key; 0 behind the last.
vec4 key_quad(uint begin, uint j, uint slot, uint head, uint d) {
  vec4 v = vec4(0.0);
  if (kSource == 3u) {
    const uint block = ((head * (p.slots / 16u) + slot / 16u) * ((kKey + 31u) / 32u) + d / 32u) * 136u, at = p.k_state + block + d % 32u * 4u + slot % 16u / 4u;
    for (uint i = 0u; i < 4u; ++i)
      if (kKey % 4u == 0u || d + i < kKey) v[i] = float(bitfieldExtract(int(state_u[at + i * 4u]), int(slot % 4u * 8u), 8));
    return v * state_half(p.k_state + block + 128u, slot % 16u);
  }
  const uint row = p.k + ((begin + j) * p.kv_heads + head) * kKey + d, tile = ((head * (p.slots / 16u) + slot / 16u) * kKey + d) * 16u + slot % 16u;
  for (uint i = 0u; i < 4u; ++i)
    if (kKey % 4u == 0u || d + i < kKey) v[i] = kSource == 0u ? heap_f[row + i] : kSource == 1u ? state_f[p.k_state + tile + i * 16u] : state_half(p.k_state, tile + i * 16u);
  return v;
}
float value_at(uint begin, uint j, uint slot, uint head, uint d) {
  if (kSource == 0u) return heap_f[p.v + ((begin + j) * p.kv_heads + head) * p.value + d];
  if (kSource == 3u) {
    const uint block = ((head * p.slots + slot) * ((p.value + 31u) / 32u) + d / 32u) * 34u, element = block + d % 32u;
    return float(bitfieldExtract(int(state_u[p.v_state + element / 4u]), int(element % 4u * 8u), 8)) * state_half(p.v_state, (block + 32u) / 2u);
  }
  const uint i = (head * p.slots + slot) * p.value + d;
  return kSource == 1u ? state_f[p.v_state + i] : state_half(p.v_state, i);
}
// Where key j of the stream stands in the states.
uint slot_of(uint j) { return kSource == 0u ? 0u : j % p.slots; }

// The group's place among the rows.
uint first_token, first_head, kv;
uint token_of(uint row) { return first_token + row / kHeads; }
uint head_of(uint row) { return first_head + row % kHeads; }
bool is_row(uint row) { return token_of(row) < p.tokens && head_of(row) < (kv + 1u) * (p.heads / p.kv_heads); }

// Position of a token in its segment or stream; where the segment begins and what it has.
uint position_of(uint t, out uint begin, out uint end) {
  begin = 0u;
  end = p.keys;
  if (kSource != 0u) return call_word[kPosition] + (p.rows != kAbsent ? heap_u[p.rows + t] : t);
  if (p.bounds != kAbsent)
    for (uint s = 0u; s < p.segments; ++s) {
      const uvec2 own = segment(p.bounds, s, p.tokens);
      if (t >= own.x && t < own.x + own.y) {
        begin = own.x;
        end = own.y;
        return t - own.x;
      }
    }
  return t;
}

// Scores of a tile become weights beside the row's largest score; its sum so far and all that it gathered fade by what the largest grew.
void weigh() {
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < kRows * kParts; i += LOCAL) {
    float most = scores[i * 8u];
    for (uint n = 1u; n < 8u; ++n) most = max(most, scores[i * 8u + n]);
    part_most[i] = most;
  }
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < kRows * kParts; i += LOCAL) {
    const uint row = i / kParts;
    float most = largest[row];
    for (uint n = 0u; n < kParts; ++n) most = max(most, part_most[row * kParts + n]);
    // Nothing seen yet: every difference would be of infinities.
    const bool is_nothing = is_infinite_below(most);
    float sum = 0.0;
    for (uint half_part = 0u; half_part < 2u; ++half_part) {
      vec4 own;
      for (uint n = 0u; n < 4u; ++n) {
        const float score = scores[i * 8u + half_part * 4u + n];
        own[n] = is_nothing || is_infinite_below(score) ? 0.0 : exp_exact(score - most);
        sum += own[n];
      }
      weights[i * 2u + half_part] = own;
    }
    part_sum[i] = sum;
    if (i % kParts == 0u) fade[row] = is_nothing || is_infinite_below(largest[row]) ? 0.0 : exp_exact(largest[row] - most);
  }
  barrier();
  for (uint row = gl_LocalInvocationIndex; row < kRows; row += LOCAL) {
    float sum = total[row] * fade[row], most = largest[row];
    for (uint n = 0u; n < kParts; ++n) {
      sum += part_sum[row * kParts + n];
      most = max(most, part_most[row * kParts + n]);
    }
    total[row] = sum;
    largest[row] = most;
  }
}

#ifdef LISTS
void weigh_by_sigmoid() {
  barrier();
  for (uint i = gl_LocalInvocationIndex; i < kRows * LOCAL / 4u; i += LOCAL) {
    vec4 own;
    for (uint n = 0u; n < 4u; ++n) {
      const float score = scores[i * 4u + n];
      own[n] = is_infinite_below(score) ? 0.0 : 1.0 / (1.0 + exp_exact(-kShift - score));
    }
    weights[i] = own;
  }
  for (uint row = gl_LocalInvocationIndex; row < kRows; row += LOCAL) fade[row] = total[row] = 1.0;
  barrier();
}
#endif

void main() {
  const uint lane = gl_LocalInvocationIndex, share = p.heads / p.kv_heads, parts = (share + kHeads - 1u) / kHeads, place = group() / p.kv_heads;
  kv = group() % p.kv_heads;
  first_head = kv * share + place % parts * kHeads;
  first_token = place / parts * kTokens;
  if (first_token >= p.tokens) return;
  uint begin, end;
  const uint position = position_of(first_token, begin, end);
  float acc[kRows * kDims];
  [[unroll]] for (uint e = 0u; e < kRows * kDims; ++e) acc[e] = 0.0;
  for (uint row = lane; row < kRows; row += LOCAL) {
    uint own_begin, own_end;
    const uint own = is_row(row) ? position_of(token_of(row), own_begin, own_end) : 0u;
    low[row] = p.window > 0u && own + 1u > p.window ? own + 1u - p.window : 0u;
    high[row] = kCausal != 0u ? (own + 1u) / p.stride : end;
    if (p.window > 0u) high[row] = min(high[row], own + p.window);
    if (!is_row(row)) low[row] = high[row] = 0u;
    const bool has_sink = p.sinks != kAbsent && is_row(row);
    largest[row] = has_sink ? heap_f[p.sinks + head_of(row)] : kMinusInfinity;
    total[row] = has_sink ? 1.0 : 0.0;
  }
  for (uint i = lane; i < kRows * kQuads; i += LOCAL) {
    const uint row = i / kQuads, d = i % kQuads * 4u, at = p.q + (token_of(row) * p.heads + head_of(row)) * kKey + d;
    vec4 q = vec4(0.0);
    for (uint n = 0u; n < 4u; ++n)
      if (is_row(row) && d + n < kKey) q[n] = heap_f[at + n];
    query[i] = q;
  }
#ifdef LISTS
  if (p.lse_before != kAbsent)
    [[unroll]] for (uint row = 0u; row < kRows; ++row) {
      const uint at = token_of(row) * p.heads + head_of(row);
      const float before = is_row(row) ? heap_f[p.lse_before + at] : kMinusInfinity;
      const bool has_before = !is_infinite_below(before);
      if (has_before && lane == row) {
        largest[row] = before;
        total[row] = 1.0;
      }
      [[unroll]] for (uint e = 0u; e < kDims; ++e)
        if (has_before && e * LOCAL + lane < p.value) acc[row * kDims + e] = heap_f[p.before + at * p.value + e * LOCAL + lane];
    }
#endif
  barrier();
  // Of all rows.
  uint least = 0xffffffffu, most = 0u;
  [[unroll]] for (uint row = 0u; row < kRows; ++row)
    if (high[row] > low[row]) {
      least = min(least, low[row]);
      most = max(most, high[row]);
    }
#ifdef LISTS
  // Rows are heads of one token and have its lists.
  const Query own_query = Query(first_token, first_head, position);
  least = low[0];
  most = high[0];
  narrow(own_query, least, most);
  const uint runs = run_count(own_query);
  for (uint run = 0u; run < runs; ++run) {
    const Run r = run_of(own_query, run, least, most);
    const uint step = r.step, stop = r.end;
    for (uint tile = r.begin; tile < stop; tile += LOCAL * step) {
      const uint j = tile + lane * step;
      const bool is_seen = j < stop && sees(own_query, run, j);
#else
  {
    const uint step = 1u, stop = most;
    for (uint tile = least / LOCAL * LOCAL; tile < stop; tile += LOCAL) {
      const uint j = tile + lane;
      const bool is_seen = j >= least && j < stop;
#endif
      float score[kRows];
      [[unroll]] for (uint row = 0u; row < kRows; ++row) score[row] = 0.0;
      if (is_seen) {
        const uint slot = slot_of(j);
        [[dont_unroll]] for (uint d = 0u; d < kQuads; ++d) {
          const vec4 key = key_quad(begin, j, slot, kv, d * 4u);
          [[unroll]] for (uint row = 0u; row < kRows; ++row) score[row] += dot(query[row * kQuads + d], key);
        }
      }
      [[unroll]] for (uint row = 0u; row < kRows; ++row) {
        float s = score[row] * p.scale;
        if (kSoftcap != 0u) s = p.softcap * tanh_exact(s / p.softcap);
#ifdef LISTS
        const bool is_own = is_seen && is_row(row);
#else
        const bool is_own = is_seen && j >= low[row] && j < high[row];
#endif
        if (p.bias != kAbsent && is_own) s += heap_f[p.bias + head_of(row) * p.bias_head + token_of(row) * p.bias_token + (kSource != 0u ? j : begin + j)];
        scores[row * LOCAL + lane] = is_own ? s : kMinusInfinity;
      }
#ifdef LISTS
      if (kSigmoid) weigh_by_sigmoid();
      else
#endif
        weigh();
      [[unroll]] for (uint row = 0u; row < kRows; ++row)
        [[unroll]] for (uint e = 0u; e < kDims; ++e) acc[row * kDims + e] *= fade[row];
      const uint from = max(tile, least) - tile, to = (min(tile + LOCAL * step, stop) - tile + step - 1u) / step;
      [[dont_unroll]] for (uint n = from / 4u; n < (to + 3u) / 4u; ++n) {
        // For keys behind the last one stands the last.
        const uvec4 keys = min(tile + (n * 4u + uvec4(0u, 1u, 2u, 3u)) * step, uvec4(stop - 1u));
#ifdef LISTS
        const uvec4 slots = uvec4(slot_of(keys.x), slot_of(keys.y), slot_of(keys.z), slot_of(keys.w));
#else
        const uvec4 slots = slot_of(tile + n * 4u) + uvec4(0u, 1u, 2u, 3u);
#endif
        [[unroll]] for (uint e = 0u; e < kDims; ++e) {
          const uint d = e * LOCAL + lane;
          vec4 v = vec4(0.0);
          if (d < p.value)
            for (uint i = 0u; i < 4u; ++i) v[i] = value_at(begin, keys[i], slots[i], kv, d);
          // What is not finite counts for the rows that see it alone.
          const bvec4 is_finite = lessThan(floatBitsToUint(v) & 0x7fffffffu, uvec4(0x7f800000u));
          const vec4 finite = mix(vec4(0.0), v, is_finite);
          [[unroll]] for (uint row = 0u; row < kRows; ++row) acc[row * kDims + e] += dot(weights[row * LOCAL / 4u + n], finite);
          if (!all(is_finite))
            [[unroll]] for (uint row = 0u; row < kRows; ++row) {
              const vec4 weight = weights[row * LOCAL / 4u + n];
              const vec4 seen = mix(vec4(0.0), weight * (v - finite), notEqual(weight, vec4(0.0)));
              acc[row * kDims + e] += dot(seen, vec4(1.0));
            }
        }
      }
    }
  }
  barrier();
  [[unroll]] for (uint row = 0u; row < kRows; ++row) {
    const bool is_own = is_row(row);
    const uint at = token_of(row) * p.heads + head_of(row);
    [[unroll]] for (uint e = 0u; e < kDims; ++e) {
      const uint d = e * LOCAL + lane;
      if (is_own && d < p.value) heap_f[p.y + at * p.value + d] = total[row] == 0.0 ? 0.0 : acc[row * kDims + e] / total[row];
    }
    if (is_own && lane == 0u && p.lse != kAbsent) heap_f[p.lse + at] = is_infinite_below(largest[row]) ? largest[row] : largest[row] + log_exact(total[row]);
  }
}
