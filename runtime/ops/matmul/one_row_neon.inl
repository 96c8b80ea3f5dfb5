// one_row for Arm: sums of four rows in registers. Scales are brought into floats for eight block rows at a time, whatever their kind.

// One block row of a tile added to acc.
template <int kBits, int kBlock>
RNL_INLINE void block_row(const uint8_t* planes, const int8_t* q, const Side<1>& side, int zero_point, const float* scales, const float* minus_mins,
                          float32x4_t* acc) {
  constexpr int kPerRow = kBlockColumns / kBlock;
  int32_t sum[2] = {side.sum[0][0], side.sum[1][0]}, start[2];
  if (kBlock == 32) sum[0] += sum[1];
  RNL_UNROLL for (int h = 0; h < kPerRow; ++h) start[h] = kDotBase - zero_point * sum[h];
  const float sx = side.scale[0];
  int32x4_t dot[kPerRow][4];
  dot_block<kBits, kBlock>(planes, q, start, dot);
  const auto add_products = [&](int h) {
    RNL_UNROLL for (int i = 0; i < 4; ++i) {
      const auto scale = times((Register<float>)vld1q_f32(scales + h * 16 + i * 4), (Register<float>)vdupq_n_f32(sx));
      acc[i] = fused(dot_float(dot[h][i]), (float32x4_t)scale, acc[i]);
    }
  };
  if (kBlock == 16 && !minus_mins) {  // the halves side by side
    RNL_UNROLL for (int h = 0; h < kPerRow; ++h) add_products(h);
    return;
  }
  RNL_UNROLL for (int h = 0; h < kPerRow; ++h) {
    add_products(h);
    if (!minus_mins) continue;
    const float32x4_t factor = vdupq_n_f32(sx * float(sum[h]));
    RNL_UNROLL for (int i = 0; i < 4; ++i) acc[i] = fused(vld1q_f32(minus_mins + h * 16 + i * 4), factor, acc[i]);
  }
}

template <int kBits, int kBlock>
void one_row(const OneRow& j, int64_t first_tile, int64_t end_tile) {
  const PackedFormat& f = j.format;
  const int zero_point = int(f.zero_point) - row_offset_of(kBits);
  constexpr int kScalesPerRow = kBlockColumns / kBlock * 16, kRowsAtOnce = kSuperColumns / kBlockColumns;
  constexpr size_t kPlaneBytes = kBits == 8 ? 512 : kBits * 64;
  const size_t header = f.header_bytes();
  const bool small_scales = f.unit_columns() == kSuperColumns;
  float scales[kRowsAtOnce * kScalesPerRow], minus_mins[kRowsAtOnce * kScalesPerRow];
  const uint8_t* p = j.weights + size_t(first_tile) * j.tile_bytes;
  for (int64_t tile = first_tile; tile < end_tile; ++tile) {
    float32x4_t acc[4];
    RNL_UNROLL for (int i = 0; i < 4; ++i) acc[i] = vdupq_n_f32(0);
    const int8_t* q = j.q;
    const Side<1>* side = j.side;
    for (int64_t left = j.units; left > 0;) {
      const int units = small_scales ? 1 : left < kRowsAtOnce ? int(left) : kRowsAtOnce;
      const int rows = small_scales ? kRowsAtOnce : units;
      const size_t step = small_scales ? kPlaneBytes : header + kPlaneBytes;
      RNL_KEEP_LOOP for (int u = 0; u < units; ++u) {
        const uint8_t* unit = p + size_t(u) * step;
        for (size_t i = 0; i < header; i += 64) __builtin_prefetch(unit + kPrefetchBytes + i);
        expand_scales(f, unit, scales + u * kScalesPerRow, minus_mins + u * kScalesPerRow);
      }
      const uint8_t* planes = p + header;
      RNL_KEEP_LOOP for (int b = 0; b < rows; ++b, planes += step, q += kBlockColumns, ++side) {
        for (size_t i = 0; i < kPlaneBytes; i += 64) __builtin_prefetch(planes + kPrefetchBytes + i);
        block_row<kBits, kBlock>(planes, q, *side, zero_point, scales + b * kScalesPerRow, f.has_min ? minus_mins + b * kScalesPerRow : nullptr, acc);
      }
      p = small_scales ? planes : planes - header;
      left -= units;
    }
    const int64_t row = tile * kTileRows;
    const int n = j.rows - row < kTileRows ? int(j.rows - row) : kTileRows;
    alignas(16) float sums[kTileRows];
    RNL_UNROLL for (int i = 0; i < 4; ++i) vst1q_f32(sums + i * 4, acc[i]);
    const f32x16 y = load(sums);
    store_some(j.y + row, j.bias ? y + load_some(j.bias + row, n) : y, n);
  }
}
