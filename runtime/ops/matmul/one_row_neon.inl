// one_row for Arm: sums of four rows in registers.

// As load, without loads of pairs: see apart.
RNL_INLINE f32x16 load_apart(const float* p) {
  const float* const odd = apart(p + 4);
  return by_index<f32x16>([&](int i)
                              RNL_LAMBDA { return (Register<float>)vld1q_f32(i & 1 ? odd + (i - 1) * 4 : p + i * 4); });
}

// One block row of a tile added to acc. Scales and minimums: halves as they lie in the file, or floats and minus the
// minimums.
template <int kBits, int kBlock, class Number>
RNL_INLINE void block_row(const uint8_t* planes, const int8_t* q, const Side<1>& side, int zero_point,
                          const Number* scales, const Number* mins, float32x4_t* acc) {
  constexpr int kPerRow = kBlockColumns / kBlock;
  constexpr bool kHalves = sizeof(Number) == 2;
  const auto numbers = [](const Number* p) RNL_LAMBDA {
    if constexpr (kHalves) return load_halves(p);
    else if constexpr (kBlock == 32 && keeps_apart(kBits)) return load_apart(p);
    else return load(p);
  };
  int32_t sum[2] = {side.sum[0][0], side.sum[1][0]}, start[2];
  if (kBlock == 32) sum[0] += sum[1];
  RNL_UNROLL_FOR (int h = 0; h < kPerRow; ++h) start[h] = kDotBase - zero_point * sum[h];
  const float sx = side.scale[0];
  int32x4_t dot[kPerRow][4];
  dot_block<kBits, kBlock>(planes, q, start, dot);
  const auto add_products = [&](int h) RNL_LAMBDA {
    const f32x16 scale = numbers(scales + h * 16) * sx;
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i) acc[i] = fused(dot_float(dot[h][i]), (float32x4_t)scale.v[i], acc[i]);
  };
  if (kBlock == 16 && !mins) {  // the halves side by side
    RNL_UNROLL_FOR (int h = 0; h < kPerRow; ++h) add_products(h);
    return;
  }
  RNL_UNROLL_FOR (int h = 0; h < kPerRow; ++h) {
    add_products(h);
    if (!mins) continue;
    const float factor = sx * float(sum[h]);
    const f32x16 min = numbers(mins + h * 16);
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i)
      acc[i] = fused((float32x4_t)min.v[i], vdupq_n_f32(kHalves ? -factor : factor), acc[i]);
  }
}

template <int kBits, int kBlock>
void one_row(const OneRow& j, int64_t first_tile, int64_t end_tile) {
  const PackedFormat& f = j.format;
  const int zero_point = int(f.zero_point) - row_offset_of(kBits);
  constexpr int kScalesPerRow = kBlockColumns / kBlock * 16;
  constexpr size_t kPlaneBytes = kBits == 8 ? 512 : kBits * 64;
  const size_t header = f.header_bytes();
  const uint8_t* p = j.weights + size_t(first_tile) * j.tile_bytes;
  for (int64_t tile = first_tile; tile < end_tile; ++tile) {
    float32x4_t acc[4];
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i) acc[i] = vdupq_n_f32(0);
    const int8_t* q = j.q;
    const Side<1>* side = j.side;
    // Halves of blocks of 16, which are rare, share the code of small scales.
    if (kBlock == 32 && f.scale == ScaleKind::kF16) {
      RNL_KEEP_FOR (int64_t u = 0; u < j.units; ++u, p += header + kPlaneBytes, q += kBlockColumns, ++side) {
        for (size_t i = 0; i <= kPlaneBytes; i += 64) __builtin_prefetch(p + kPrefetchBytes + i);
        const uint16_t* scales = reinterpret_cast<const uint16_t*>(p);
        block_row<kBits, kBlock>(p + header, q, *side, zero_point, scales, f.has_min ? scales + kScalesPerRow : nullptr,
                                 acc);
      }
    } else {
      const int rows = f.unit_columns() / kBlockColumns;
      float scales[8 * kScalesPerRow], minus_mins[8 * kScalesPerRow];
      for (int64_t u = 0; u < j.units; ++u) {
        for (size_t i = 0; i < header; i += 64) __builtin_prefetch(p + kPrefetchBytes + i);
        expand_scales(f, p, scales, minus_mins);
        p += header;
        RNL_KEEP_FOR (int b = 0; b < rows; ++b, p += kPlaneBytes, q += kBlockColumns, ++side) {
          for (size_t i = 0; i < kPlaneBytes; i += 64) __builtin_prefetch(p + kPrefetchBytes + i);
          const int at = b * kScalesPerRow;
          block_row<kBits, kBlock>(p, q, *side, zero_point, scales + at, f.has_min ? minus_mins + at : nullptr, acc);
        }
      }
    }
    const int64_t row = tile * kTileRows;
    const int n = j.rows - row < kTileRows ? int(j.rows - row) : kTileRows;
    alignas(16) float sums[kTileRows];
    RNL_UNROLL_FOR (int i = 0; i < 4; ++i) vst1q_f32(sums + i * 4, acc[i]);
    const f32x16 y = load(sums);
    store_some(j.y + row, j.bias ? y + load_some(j.bias + row, n) : y, n);
  }
}
