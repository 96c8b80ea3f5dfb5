// Numbers that rise with the floats of these bits, 0 for NaN; one for both zeros.
uint rank_of(uint bits) {
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0u;
  return (bits & 0x7fffffffu) == 0u ? 0x80000000u : (bits >> 31) != 0u ? ~bits : bits | 0x80000000u;
}
