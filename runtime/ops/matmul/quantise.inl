// Activations as int8 in blocks of 32 columns. One token: q [blocks][32], side [blocks]. Several: groups of four
// tokens, the last one padded with zeros, q [groups][blocks][128] (group_offset says where a token's chunk lies), side
// [groups][blocks]. Columns are padded with zeros to a multiple of 256, so that every format finds whole units.

constexpr int kGroup = 4;

template <int kTokens>
struct Side {
  float scale[kTokens];     // max |x| / 127
  int32_t sum[2][kTokens];  // sums of q over columns 0..15 and 16..31
};

struct Activations {
  int8_t* q;
  void* side;
  int64_t blocks, groups;  // groups: 0 for one token
};

RNL_INLINE int32_t fold_max(const i32x16& v) {
  return reduce(v, [](Register<int32_t> a, Register<int32_t> b) RNL_LAMBDA { return a > b ? a : b; });
}
RNL_INLINE int32_t fold_add(const i32x16& v) {
  return reduce(v, [](Register<int32_t> a, Register<int32_t> b) RNL_LAMBDA { return a + b; });
}

struct QuantisedBlock {
  i8x16 q[2];
  float scale;
  int32_t sum[2];
};

RNL_INLINE QuantisedBlock quantise_block(const f32x16& a, const f32x16& b) {
  QuantisedBlock r{};
  // As integers the magnitudes sort like the numbers, with NaN above infinity above the rest.
  const i32x16 ma = (i32x16)abs(a), mb = (i32x16)abs(b);
  const int32_t top = fold_max(select(ma > mb, ma, mb));
  float largest;
  __builtin_memcpy(&largest, &top, 4);
  if (largest < 2e-36f) return r;
  if (top >= 0x7f800000) {  // 0 * infinity makes every product of the row NaN
    r.scale = largest;
    return r;
  }
  r.scale = largest / 127.0f;
  const f32x16 inverse = splat(127.0f / largest), magic = splat(12582912.0f);
  const i32x16 qa = (i32x16)(a * inverse + magic) - 0x4b400000, qb = (i32x16)(b * inverse + magic) - 0x4b400000;
  r.q[0] = narrow(qa);
  r.q[1] = narrow(qb);
  r.sum[0] = fold_add(qa);
  r.sum[1] = fold_add(qb);
  return r;
}

RNL_NOINLINE QuantisedBlock quantise_columns(const float* x, int64_t columns, int64_t block) {
  const int64_t left = columns - block * kBlockColumns;
  if (left >= kBlockColumns) return quantise_block(load(x + block * 32), load(x + block * 32 + 16));
  if (left <= 0) return QuantisedBlock{};
  return quantise_block(load_some(x + block * 32, left < 16 ? int(left) : 16),
                        left > 16 ? load_part(x + block * 32 + 16, int(left) - 16) : splat(0));
}

void quantise_one(const float* x, int64_t columns, const Activations& out) {
  Side<1>* side = static_cast<Side<1>*>(out.side);
  for (int64_t b = 0; b < out.blocks; ++b) {
    const QuantisedBlock r = quantise_columns(x, columns, b);
    __builtin_memcpy(out.q + b * 32, r.q, 32);
    side[b] = {{r.scale}, {{r.sum[0]}, {r.sum[1]}}};
  }
}

// One group of up to four tokens.
void quantise_group(const float* x, int64_t columns, int64_t tokens, int64_t group, const Activations& out) {
  Side<kGroup>* side = static_cast<Side<kGroup>*>(out.side) + group * out.blocks;
  int8_t* q = out.q + group * out.blocks * 128;
  for (int64_t b = 0; b < out.blocks; ++b, q += 128)
    for (int t = 0; t < kGroup; ++t) {
      const int64_t token = group * kGroup + t;
      const QuantisedBlock r = token < tokens ? quantise_columns(x + token * columns, columns, b) : QuantisedBlock{};
      int32_t words[8];
      __builtin_memcpy(words, r.q, 32);
      RNL_UNROLL_FOR (int c = 0; c < 8; ++c) __builtin_memcpy(q + group_offset(c, t), &words[c], 4);
      side[b].scale[t] = r.scale;
      side[b].sum[0][t] = r.sum[0];
      side[b].sum[1][t] = r.sum[1];
    }
}
