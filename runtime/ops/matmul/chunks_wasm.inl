// chunks.inl for WebAssembly: products of 16-bit integers, of which two neighbours are summed to 32 bits. The even
// bytes of four columns make one such pair and the odd ones another, so that a lane of the sum is a row.

constexpr bool kAnyBits = false;
RNL_INLINE constexpr int offset_of(int) { return 0; }
struct Chunk {
  v128_t v[4];  // four rows each
};
RNL_INLINE void store_chunks(uint8_t* p, const Chunk* chunks) { __builtin_memcpy(p, chunks, 8 * sizeof *chunks); }

RNL_INLINE v128_t shifted(v128_t v, int left) {
  return left > 0 ? wasm_i16x8_shl(v, unsigned(left)) : left < 0 ? wasm_u16x8_shr(v, unsigned(-left)) : v;
}
// Rows 4 i .. 4 i + 3.
template <int kBits>
RNL_INLINE v128_t unpack_quarter(const uint8_t* p, int c, int i) {
  const auto at = [&](int offset) RNL_LAMBDA { return wasm_v128_load(p + offset + i * 16); };
  if constexpr (kBits == 8) return at(c * 64);
  v128_t q = wasm_i32x4_const_splat(0);
  constexpr int kTwoAt = kBits & 4 ? 256 : 0, kTwoShift = kBits & 4 ? 4 : 0;
  constexpr int kOneAt = kTwoAt + (kBits & 2 ? 128 : 0), kOneShift = kTwoShift + (kBits & 2 ? 2 : 0);
  if constexpr ((kBits & 4) != 0) q = shifted(at((c & 3) * 64), -(c & 4)) & wasm_i8x16_const_splat(15);
  if constexpr ((kBits & 2) != 0)
    q |= shifted(at(kTwoAt + (c & 1) * 64), kTwoShift - (c & 6)) & wasm_i8x16_const_splat(3 << kTwoShift);
  if constexpr ((kBits & 1) != 0) {
    const v128_t lane = wasm_i64x2_const_splat(int64_t(0x8040201008040201ull));
    const v128_t two = wasm_v128_load16_splat(p + kOneAt + c * 8 + i * 2);
    const v128_t spread = wasm_i8x16_shuffle(two, two, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    q |= wasm_i8x16_eq(spread & lane, lane) & wasm_i8x16_const_splat(1 << kOneShift);
  }
  return q;
}
template <int kBits>
RNL_INLINE Chunk unpack_chunk(const uint8_t* p, int c, int) {
  return {{unpack_quarter<kBits>(p, c, 0), unpack_quarter<kBits>(p, c, 1), unpack_quarter<kBits>(p, c, 2),
           unpack_quarter<kBits>(p, c, 3)}};
}

// Bytes 0 and 2 of each group of four, and bytes 1 and 3.
struct Pairs {
  v128_t even, odd;
};
RNL_INLINE Pairs weight_pairs(v128_t v) { return {v & wasm_i16x8_const_splat(255), wasm_u16x8_shr(v, 8)}; }
RNL_INLINE Pairs activation_pairs(v128_t v) { return {wasm_i16x8_shr(wasm_i16x8_shl(v, 8), 8), wasm_i16x8_shr(v, 8)}; }
// The group `lane` in all lanes.
RNL_INLINE v128_t group_in_all(v128_t v, int lane) {
  switch (lane) {
    case 0: return wasm_i32x4_shuffle(v, v, 0, 0, 0, 0);
    case 1: return wasm_i32x4_shuffle(v, v, 1, 1, 1, 1);
    case 2: return wasm_i32x4_shuffle(v, v, 2, 2, 2, 2);
    default: return wasm_i32x4_shuffle(v, v, 3, 3, 3, 3);
  }
}
RNL_INLINE Pairs group_in_all(const Pairs& p, int lane) {
  return {group_in_all(p.even, lane), group_in_all(p.odd, lane)};
}
RNL_INLINE v128_t add_dot(v128_t sum, const Pairs& w, const Pairs& x) {
  sum = wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(w.even, x.even));
  return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(w.odd, x.odd));
}

template <int kBits>
RNL_INLINE i32x16 dot_chunks(const Chunk* w, const int8_t* x, i32x16 acc) {
  const Pairs columns = activation_pairs(wasm_v128_load(x));
  RNL_UNROLL_FOR (int c = 0; c < 4; ++c) {
    const Pairs four = group_in_all(columns, c);
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i)
      acc.v[i] = (Register<int32_t>)add_dot((v128_t)acc.v[i], weight_pairs(w[c].v[i]), four);
  }
  return acc;
}

constexpr int kRows = 4, kMaxGroups = 1;
typedef Register<float> RowsF;
typedef Register<int32_t> RowsI;
RNL_INLINE constexpr int class_of(int) { return 8; }
template <int kClass>
RNL_INLINE void dot_group(const uint8_t* w, const int8_t* x, RowsI* acc) {
  RNL_UNROLL_FOR (int c = 0; c < 4; ++c) {
    const Pairs v = weight_pairs(wasm_v128_load(w + c * 64)), tokens = activation_pairs(wasm_v128_load(x + c * 16));
    RNL_UNROLL_FOR (int t = 0; t < 4; ++t) acc[t] = (RowsI)add_dot((v128_t)acc[t], v, group_in_all(tokens, t));
  }
}
RNL_INLINE RowsF fma_rows(RowsF a, RowsF b, RowsF c) { return a * b + c; }
