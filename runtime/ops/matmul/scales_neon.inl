// expand_small_scales for Arm: small scales are put together as bytes, 16 rows at once.

// p[16] = d * (q - less). As the low bits of 2^23 a byte is a float after one subtraction.
RNL_INLINE void store_scales(float* p, const f32x16& d, uint8x16_t q, int less) {
  const auto base = (Register<float>)vdupq_n_f32(8388608.0f + float(less));
  const uint8x16x2_t words = vzipq_u8(q, vdupq_n_u8(0));
  RNL_UNROLL_FOR (int i = 0; i < 2; ++i) {
    const uint16x8x2_t bits = vzipq_u16(vreinterpretq_u16_u8(words.val[i]), vdupq_n_u16(0x4b00));
    RNL_UNROLL_FOR (int k = 0; k < 2; ++k) {
      const auto number = (Register<float>)minus((Register<float>)bits.val[k], base);
      vst1q_f32(p + i * 8 + k * 4, (float32x4_t)times(number, d.v[i * 2 + k]));
    }
  }
}

// Entries 4g..4g+3 of n six-bit numbers a row.
RNL_INLINE void store_six_bits(float* p, const f32x16& d, const uint8_t* from, int n, int g, int less) {
  const uint8x16_t low0 = vld1q_u8(from + g * 32), low1 = vld1q_u8(from + g * 32 + 16),
                   high = vld1q_u8(from + n * 8 + g * 16), six = vdupq_n_u8(63);
  store_scales(p, d, vandq_u8(vsliq_n_u8(low0, high, 4), six), less);
  store_scales(p + 16, d, vandq_u8(vsriq_n_u8(vshlq_n_u8(high, 2), low0, 4), six), less);
  store_scales(p + 32, d, vandq_u8(vbslq_u8(vdupq_n_u8(15), low1, high), six), less);
  store_scales(p + 48, d, vsriq_n_u8(vshrq_n_u8(high, 2), low1, 4), less);
}

// Small scales and minus the minimums of a unit of 256 columns as [blocks][16] floats each.
RNL_NOINLINE void expand_small_scales(const PackedFormat& f, const uint8_t* unit, float* scales, float* minus_mins) {
  const int n = kSuperColumns / f.block;
  const f32x16 d = load_halves(reinterpret_cast<const uint16_t*>(unit));
  const f32x16 dmin = f.has_min ? -load_halves(reinterpret_cast<const uint16_t*>(unit + 32)) : splat(0);
  const uint8_t* p = unit + (f.has_min ? 64 : 32);
  if (f.scale == ScaleKind::kU4) {
    RNL_KEEP_FOR (int i = 0; i < n; ++i) {
      const uint8x16_t v = vld1q_u8(p + i * 16);
      store_scales(scales + i * 16, d, vandq_u8(v, vdupq_n_u8(15)), 0);
      store_scales(minus_mins + i * 16, dmin, vshrq_n_u8(v, 4), 0);
    }
  } else if (f.scale == ScaleKind::kI8) {
    RNL_KEEP_FOR (int i = 0; i < n; ++i)
      store_scales(scales + i * 16, d, veorq_u8(vld1q_u8(p + i * 16), vdupq_n_u8(128)), 128);
  } else {
    RNL_KEEP_FOR (int g = 0; g < n / 4; ++g) {
      store_six_bits(scales + g * 64, d, p, n, g, f.scale == ScaleKind::kS6 ? 32 : 0);
      if (f.has_min) store_six_bits(minus_mins + g * 64, dmin, p + n * 12, n, g, 0);
    }
  }
}
