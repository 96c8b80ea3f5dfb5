// The bits of a half: to the nearest, ties to even, as in runtime/base/half.h.
uint half_bits(float v) {
  const uint bits = floatBitsToUint(v), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return sign | 0x7e00u;
  if (size >= 0x477ff000u) return sign | 0x7c00u;
  if (size < 0x38800000u) return sign | uint(roundEven(uintBitsToFloat(size) * 16777216.0));
  return sign | ((size + 0xfffu + (size >> 13 & 1u)) >> 13) - (112u << 10);
}
