#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kInterleaved = 0;
layout(constant_id = 1) const uint kExact = 0;
layout(push_constant) uniform Push { uint tokens, heads, dim, pairs, x, positions, inv_freq, y; float scale; uint limit, axes, sections[12]; } p;

// 1 / (2 pi) as a binary fraction of 96 bits.
const uint kInverseTurn[3] = uint[3](0x28be60dbu, 0x9391054au, 0x7f09d5f4u);

// 32 bits of that fraction from bit `first` on; before the point there are zeros.
uint turn_bits(int first) {
  const int word = first >> 5, shift = first & 31;
  const uint high = word < 0 ? 0u : kInverseTurn[min(word, 2)];
  const uint low = word + 1 < 0 ? 0u : kInverseTurn[min(word + 1, 2)];
  return shift == 0 ? high : (high << shift) | (low >> (32 - shift));
}

// Of a quadrant and an angle of at most pi / 4 on either side of its middle.
vec2 turned(uint quadrant, float r) {
  const float s = r * r;
  const float sine = r * (1.0 + s * (-1.6666667e-1 + s * (8.3333310e-3 + s * (-1.9840874e-4 + s * 2.7525562e-6))));
  const float cosine = 1.0 + s * (-0.5 + s * (4.1666638e-2 + s * (-1.3888378e-3 + s * 2.4760495e-5)));
  const vec2 result = (quadrant & 1u) == 0u ? vec2(sine, cosine) : vec2(cosine, -sine);
  return (quadrant & 2u) != 0u ? -result : result;
}

// Of a turn in units of 2^-32.
vec2 of_turn(uint turn) {
  const uint quadrant = (turn + 0x20000000u) >> 30;
  return turned(quadrant, float(int(turn - (quadrant << 30))) * 1.4629180792671596e-9);  // 2 pi / 2^32
}

// Of position * frequency, which is not rounded: the frequency's fraction of a turn in 64 bits, times the position.
vec2 sine_cosine_exact(int position, float frequency) {
  const uint bits = floatBitsToUint(abs(frequency)), mantissa = (bits & 0x7fffffu) | (bits >> 23 == 0u ? 0u : 0x800000u);
  const int exponent = max(int(bits >> 23), 1) - 150;
  uint high, low, carried, unused, carry, above;
  umulExtended(mantissa, turn_bits(exponent + 64), carried, unused);
  umulExtended(mantissa, turn_bits(exponent + 32), high, low);
  low = uaddCarry(low, carried, carry);
  high += carry + mantissa * turn_bits(exponent);
  const uint p = uint(abs(position));
  umulExtended(p, low, above, unused);
  vec2 result = of_turn(p * high + above);
  if ((position < 0) != (frequency < 0.0)) result.x = -result.x;
  return result;
}

// Sine and cosine by exact reduction: the angle is an integer times a power of two, and only the fraction of its turns matters.
vec2 sine_cosine(float angle) {
  const float a = abs(angle);
  const uint bits = floatBitsToUint(a);
  const int exponent = int(bits >> 23) - 150;  // a = mantissa * 2^exponent
  vec2 result;
  if (a > 0.5) {
    const uint mantissa = (bits & 0x7fffffu) | 0x800000u;
    // fraction(mantissa * 2^exponent / (2 pi)) in units of 2^-32
    uint turn, below;
    umulExtended(mantissa, turn_bits(exponent + 32), turn, below);
    turn += mantissa * turn_bits(exponent);
    result = of_turn(turn);
  } else {
    result = turned(0u, a);
  }
  if (angle < 0.0) result.x = -result.x;
  return result;
}

// An item is a pair of a head, or one of the dims behind the pairs.
void main() {
  const uint per_head = p.dim - p.pairs, i = item();
  if (i >= p.tokens * p.heads * per_head) return;
  const uint head = i / per_head, k = i % per_head, at = head * p.dim;
  if (k >= p.pairs) {
    heap_f[p.y + at + p.pairs + k] = heap_f[p.x + at + p.pairs + k];
    return;
  }
  const uint axis = p.axes == 1u ? 0u : p.sections[k >> 4] >> (k & 15u) * 2u & 3u;
  const int position = min(heap_i[p.positions + head / p.heads * p.axes + axis], int(p.limit));
  const float frequency = heap_f[p.inv_freq + k];
  precise float angle = float(position) * frequency;
  const vec2 turn = (kExact != 0u ? sine_cosine_exact(position, frequency) : sine_cosine(angle)) * p.scale;
  const uint first = at + (kInterleaved != 0u ? 2 * k : k), second = at + (kInterleaved != 0u ? 2 * k + 1 : k + p.pairs);
  const float u = heap_f[p.x + first], v = heap_f[p.x + second];
  heap_f[p.y + first] = u * turn.y - v * turn.x;
  heap_f[p.y + second] = v * turn.y + u * turn.x;
}
