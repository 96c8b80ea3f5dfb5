// Portable SIMD on the compilers' vector extensions: a tile of lanes, most often of 16 floats, as registers of the
// target (16 floats are one register with AVX-512, two with AVX2, four with NEON and SSE). The registers are spelt out
// because compilers keep vectors that are wider than a register in memory (GCC does so lane by lane). Everything lives
// in the target's own namespace, so no inline code is shared between objects that are compiled for different
// instruction sets. Include only from files that are compiled once per target.
#pragma once

#ifndef RNL_ISA
#error "cpu/tile.h is for files that CMake compiles once per target with -DRNL_ISA=<target>"
#endif

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#define RNL_INLINE static inline __attribute__((always_inline))
#define RNL_MEMBER inline __attribute__((always_inline))
#define RNL_LAMBDA __attribute__((always_inline))
// A loop that becomes straight code, with its arrays in registers; one that stays a loop, for the size of the library.
// RNL_SMALL: of the floor that any machine can run, where size comes before time.
#if defined(RNL_SMALL)
#define RNL_LONG_INLINE inline __attribute__((noinline))
#define RNL_UNROLL_FOR for
#define RNL_KEEP_FOR for
#elif defined(__clang__)
#define RNL_LONG_INLINE RNL_INLINE
#define RNL_UNROLL_FOR _Pragma("unroll") for
#define RNL_KEEP_FOR _Pragma("nounroll") for
#else
#define RNL_LONG_INLINE RNL_INLINE
#define RNL_UNROLL_FOR _Pragma("GCC unroll 16") for
#define RNL_KEEP_FOR _Pragma("GCC unroll 1") for
#endif

namespace runnel::RNL_ISA {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

// Lane types of a register and what its comparisons give.
template <class T, int kBytes = kRegisterBytes>
struct RegisterOf {
  typedef T Type __attribute__((vector_size(kBytes)));
  typedef T Unaligned __attribute__((vector_size(kBytes), aligned(sizeof(T)), may_alias));
};
template <class T>
using Register = typename RegisterOf<T>::Type;

template <class T, int kLanes = 16>
struct Tile {
  static constexpr int kParts = kLanes * int(sizeof(T)) / kRegisterBytes, kPartLanes = kLanes / kParts;
  Register<T> v[kParts];

  RNL_MEMBER T operator[](int i) const { return v[i / kPartLanes][i % kPartLanes]; }
  // The same bits as lanes of another type.
  template <class U, int kOther>
  RNL_MEMBER explicit operator Tile<U, kOther>() const;
};
typedef Tile<float> f32x16;
typedef Tile<int32_t> i32x16;
typedef Tile<uint32_t> u32x16;
typedef Tile<uint8_t, 64> u8x64;
typedef Tile<int8_t, 64> i8x64;

// R's registers, each of them f of the same register of the arguments.
template <class R, class F, class... A>
RNL_INLINE R by_register(F f, const A&... a) {
  if constexpr (R::kParts == 1) return R{{f(a.v[0]...)}};
  else if constexpr (R::kParts == 2) return R{{f(a.v[0]...), f(a.v[1]...)}};
  else if constexpr (R::kParts == 4) return R{{f(a.v[0]...), f(a.v[1]...), f(a.v[2]...), f(a.v[3]...)}};
  else
    return R{{f(a.v[0]...), f(a.v[1]...), f(a.v[2]...), f(a.v[3]...), f(a.v[4]...), f(a.v[5]...), f(a.v[6]...),
              f(a.v[7]...)}};
}

// The same of f(index of the register); and f called for each index below kParts.
template <class R, class F>
RNL_INLINE R by_index(F f) {
  if constexpr (R::kParts == 1) return R{{f(0)}};
  else if constexpr (R::kParts == 2) return R{{f(0), f(1)}};
  else if constexpr (R::kParts == 4) return R{{f(0), f(1), f(2), f(3)}};
  else return R{{f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)}};
}
template <int kParts, class F>
RNL_INLINE void for_each_part(F f) {
  f(0);
  if constexpr (kParts > 1) f(1);
  if constexpr (kParts > 2) f(2), f(3);
  if constexpr (kParts > 4) f(4), f(5), f(6), f(7);
}

template <class T, int kLanes>
template <class U, int kOther>
RNL_MEMBER Tile<T, kLanes>::operator Tile<U, kOther>() const {
  static_assert(sizeof(Tile<U, kOther>) == sizeof(Tile), "a tile of the same size");
  return by_register<Tile<U, kOther>>([](Register<T> a) RNL_LAMBDA { return (Register<U>)a; }, *this);
}

template <class T, int kLanes = 16>
RNL_INLINE Tile<T, kLanes> splat_of(T x) {
  const Register<T> r = x - Register<T>{};  // x - 0 is x, also when x is -0
  return by_index<Tile<T, kLanes>>([r](int) RNL_LAMBDA { return r; });
}
RNL_INLINE f32x16 splat(float x) { return splat_of(x); }

// Operators lane by lane; a scalar counts for every lane. Comparisons give -1 where they hold, else 0.
// Scalar: so that the tile alone says what T is, and an int may stand beside a tile of floats.
template <class T>
struct Scalar {
  typedef T Type;
};
#define RNL_OPERATORS(X) X(+, plus) X(-, minus) X(*, times) X(/, divided_by) X(&, bit_and) X(|, bit_or) X(^, bit_xor)
#define RNL_COMPARISONS(X) X(<, is_less) X(<=, is_at_most) X(>, is_more) X(>=, is_at_least) X(==, is_equal)
#define RNL_OPERATOR(op, name)     \
  template <class V>               \
  RNL_INLINE auto name(V a, V b) { \
    return a op b;                 \
  }
RNL_OPERATORS(RNL_OPERATOR)
RNL_COMPARISONS(RNL_OPERATOR)
#undef RNL_OPERATOR
#if defined(__arm__) && defined(__ARM_NEON) && !defined(__clang__)
// GCC leaves vectors of floats to armv7's scalar unit, because NEON takes subnormals for 0; even the intrinsics do not
// change that.
#define RNL_NEON(name, instruction)                                       \
  RNL_INLINE Register<float> name(Register<float> a, Register<float> b) { \
    Register<float> r;                                                    \
    __asm__(instruction " %q0, %q1, %q2" : "=w"(r) : "w"(a), "w"(b));     \
    return r;                                                             \
  }
RNL_NEON(plus, "vadd.f32")
RNL_NEON(minus, "vsub.f32")
RNL_NEON(times, "vmul.f32")
RNL_NEON(is_less, "vclt.f32")
RNL_NEON(is_at_most, "vcle.f32")
RNL_NEON(is_more, "vcgt.f32")
RNL_NEON(is_at_least, "vcge.f32")
RNL_NEON(is_equal, "vceq.f32")
#undef RNL_NEON
#endif
#define RNL_OPERATOR(op, name)                                                                   \
  template <class T, int kLanes>                                                                 \
  RNL_INLINE Tile<T, kLanes> operator op(const Tile<T, kLanes>& a, const Tile<T, kLanes>& b) {   \
    return by_register<Tile<T, kLanes>>(                                                         \
        [](Register<T> x, Register<T> y) RNL_LAMBDA { return (Register<T>)name(x, y); }, a, b);  \
  }                                                                                              \
  template <class T, int kLanes>                                                                 \
  RNL_INLINE Tile<T, kLanes> operator op(const Tile<T, kLanes>& a, typename Scalar<T>::Type b) { \
    return a op splat_of<T, kLanes>(b);                                                          \
  }                                                                                              \
  template <class T, int kLanes>                                                                 \
  RNL_INLINE Tile<T, kLanes> operator op(typename Scalar<T>::Type a, const Tile<T, kLanes>& b) { \
    return splat_of<T, kLanes>(a) op b;                                                          \
  }
RNL_OPERATORS(RNL_OPERATOR)
#undef RNL_OPERATOR
#define RNL_COMPARISON(op, name)                                                                                      \
  template <class T>                                                                                                  \
  RNL_INLINE i32x16 operator op(const Tile<T>& a, const Tile<T>& b) {                                                 \
    return by_register<i32x16>([](Register<T> x, Register<T> y) RNL_LAMBDA { return (Register<int32_t>)name(x, y); }, \
                               a, b);                                                                                 \
  }                                                                                                                   \
  template <class T>                                                                                                  \
  RNL_INLINE i32x16 operator op(const Tile<T>& a, typename Scalar<T>::Type b) {                                       \
    return a op splat_of<T>(b);                                                                                       \
  }
RNL_COMPARISONS(RNL_COMPARISON)
#undef RNL_COMPARISON
#undef RNL_OPERATORS
#undef RNL_COMPARISONS
template <class T, int kLanes>
RNL_INLINE Tile<T, kLanes> operator-(const Tile<T, kLanes>& a) {
  return by_register<Tile<T, kLanes>>([](Register<T> x) RNL_LAMBDA { return -x; }, a);
}
template <class T, int kLanes>
RNL_INLINE Tile<T, kLanes> operator~(const Tile<T, kLanes>& a) {
  return by_register<Tile<T, kLanes>>([](Register<T> x) RNL_LAMBDA { return ~x; }, a);
}
template <class T, int kLanes>
RNL_INLINE Tile<T, kLanes> operator<<(const Tile<T, kLanes>& a, int by) {
  return by_register<Tile<T, kLanes>>([by](Register<T> x) RNL_LAMBDA { return x << T(by); }, a);
}
template <class T, int kLanes>
RNL_INLINE Tile<T, kLanes> operator>>(const Tile<T, kLanes>& a, int by) {
  return by_register<Tile<T, kLanes>>([by](Register<T> x) RNL_LAMBDA { return x >> T(by); }, a);
}
template <class T>
RNL_INLINE Tile<T> select(const i32x16& mask, const Tile<T>& a, const Tile<T>& b) {
  return by_register<Tile<T>>(
      [](Register<int32_t> m, Register<T> x, Register<T> y)
          RNL_LAMBDA { return (Register<T>)(((Register<int32_t>)x & m) | ((Register<int32_t>)y & ~m)); },
      mask, a, b);
}

// Any alignment.
template <class R, class T>
RNL_INLINE R load_tile(const T* p) {
  return by_index<R>([p](int i) RNL_LAMBDA -> Register<T> {
    return *reinterpret_cast<const typename RegisterOf<T>::Unaligned*>(p + i * R::kPartLanes);
  });
}
template <class T, int kLanes>
RNL_INLINE void store_tile(T* p, const Tile<T, kLanes>& t) {
  for_each_part<Tile<T, kLanes>::kParts>([p, &t](int i) RNL_LAMBDA {
    *reinterpret_cast<typename RegisterOf<T>::Unaligned*>(p + i * Tile<T, kLanes>::kPartLanes) = t.v[i];
  });
}
RNL_INLINE f32x16 load(const float* p) { return load_tile<f32x16>(p); }
RNL_INLINE void store(float* p, const f32x16& v) { store_tile(p, v); }
// First n (0..16) elements; the rest reads as `fill`. Called, not inlined: parts of a tile are rare and their code is
// long.
#define RNL_CALLED static __attribute__((noinline, unused))
RNL_CALLED f32x16 load_n(const float* p, int n, float fill = 0.0f) {
  float part[16];
  store(part, splat(fill));
  __builtin_memcpy(part, p, size_t(n) * sizeof(float));
  return load(part);
}
RNL_CALLED void store_n(float* p, f32x16 v, int n) {
  float part[16];
  store(part, v);
  __builtin_memcpy(p, part, size_t(n) * sizeof(float));
}
RNL_INLINE i32x16 lane_numbers() {
  static const int32_t kNumbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return load_tile<i32x16>(kNumbers);
}

// Conversions register by register: floats and int32; 16 smaller integers in memory as int32.
RNL_INLINE f32x16 to_float(const i32x16& a) {
  return by_register<f32x16>([](Register<int32_t> x) RNL_LAMBDA { return __builtin_convertvector(x, Register<float>); },
                             a);
}
// Towards zero.
RNL_INLINE i32x16 to_int(const f32x16& a) {
  return by_register<i32x16>([](Register<float> x) RNL_LAMBDA { return __builtin_convertvector(x, Register<int32_t>); },
                             a);
}
#if defined(__ARM_NEON)
RNL_INLINE i32x16 widen(const uint16_t* p) {
  return by_index<i32x16>([p](int i) RNL_LAMBDA { return (Register<int32_t>)vmovl_u16(vld1_u16(p + 4 * i)); });
}
RNL_INLINE i32x16 widen(const uint8_t* p) {
  const uint8x16_t v = vld1q_u8(p);
  const uint16x8_t a = vmovl_u8(vget_low_u8(v)), b = vmovl_u8(vget_high_u8(v));
  return {{(Register<int32_t>)vmovl_u16(vget_low_u16(a)), (Register<int32_t>)vmovl_u16(vget_high_u16(a)),
           (Register<int32_t>)vmovl_u16(vget_low_u16(b)), (Register<int32_t>)vmovl_u16(vget_high_u16(b))}};
}
RNL_INLINE i32x16 widen(const int8_t* p) {
  const int8x16_t v = vld1q_s8(p);
  const int16x8_t a = vmovl_s8(vget_low_s8(v)), b = vmovl_s8(vget_high_s8(v));
  return {{(Register<int32_t>)vmovl_s16(vget_low_s16(a)), (Register<int32_t>)vmovl_s16(vget_high_s16(a)),
           (Register<int32_t>)vmovl_s16(vget_low_s16(b)), (Register<int32_t>)vmovl_s16(vget_high_s16(b))}};
}
#else
template <class T>
RNL_INLINE i32x16 widen(const T* p) {
  typedef T Few __attribute__((vector_size(i32x16::kPartLanes * sizeof(T))));
  return by_index<i32x16>([p](int i) RNL_LAMBDA {
    Few few;
    __builtin_memcpy(&few, p + i * i32x16::kPartLanes, sizeof few);
    return __builtin_convertvector(few, Register<int32_t>);
  });
}
#endif

// The low bytes of the lanes.
RNL_INLINE RegisterOf<int8_t, 16>::Type narrow(const i32x16& a) {
#if defined(__ARM_NEON)
  const int16x8_t low = vcombine_s16(vmovn_s32((int32x4_t)a.v[0]), vmovn_s32((int32x4_t)a.v[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32((int32x4_t)a.v[2]), vmovn_s32((int32x4_t)a.v[3]));
  return (RegisterOf<int8_t, 16>::Type)vcombine_s8(vmovn_s16(low), vmovn_s16(high));
#else
  typedef int8_t Few __attribute__((vector_size(i32x16::kPartLanes)));
  struct {
    Few v[i32x16::kParts];
  } r;
  for_each_part<i32x16::kParts>([&r, &a](int i) RNL_LAMBDA { r.v[i] = __builtin_convertvector(a.v[i], Few); });
  return __builtin_bit_cast(RegisterOf<int8_t, 16>::Type, r);
#endif
}

// Permutations within registers. P::at(lane) of the result is a lane of a, or kPartLanes and more of b.
template <int... kLane>
struct Lanes {};
template <int kCount, int... kLane>
struct LanesBelow : LanesBelow<kCount - 1, kCount - 1, kLane...> {};
template <int... kLane>
struct LanesBelow<0, kLane...> {
  typedef Lanes<kLane...> Type;
};
template <class P, class V, int... kLane>
RNL_INLINE V permuted(V a, V b, Lanes<kLane...>) {
  return __builtin_shufflevector(a, b, P::at(kLane)...);
}
template <class P, class V>
RNL_INLINE V permuted(V a, V b) {
  return permuted<P>(a, b, typename LanesBelow<int(sizeof(V) / sizeof(a[0]))>::Type{});
}

// Each group of four lanes of the result: lanes kA, kB, kC, kD of the group of a (0..3) and of b (4..7).
template <int kA, int kB, int kC, int kD, int kPart>
struct OfFour {
  static constexpr int at(int lane) {
    const int from[4] = {kA, kB, kC, kD};
    return lane / 4 * 4 + from[lane % 4] % 4 + from[lane % 4] / 4 * kPart;
  }
};
template <int kA, int kB, int kC, int kD, class T>
RNL_INLINE Tile<T> of_four(const Tile<T>& a, const Tile<T>& b) {
  return by_register<Tile<T>>([](Register<T> x, Register<T> y)
                                  RNL_LAMBDA { return permuted<OfFour<kA, kB, kC, kD, Tile<T>::kPartLanes>>(x, y); },
                              a, b);
}

// All lanes brought together in halves: lane l with l + 8, then l + 4, 2, 1, whatever the width of a register.
template <int kHalf>
struct Across {
  static constexpr int at(int lane) { return lane ^ kHalf; }
};
template <class T, class F>
RNL_INLINE T reduce(const Tile<T>& a, F f) {
  constexpr int kParts = Tile<T>::kParts;
  Register<T> r = a.v[0];
  if constexpr (kParts == 2) r = f(r, a.v[1]);
  if constexpr (kParts == 4) r = f(f(r, a.v[2]), f(a.v[1], a.v[3]));
  if constexpr (kParts == 1) r = f(r, permuted<Across<8>>(r, r));
  if constexpr (kParts <= 2) r = f(r, permuted<Across<4>>(r, r));
  r = f(r, permuted<Across<2>>(r, r));
  return f(r, permuted<Across<1>>(r, r))[0];
}
// For groups of 2 kHalf lanes: the first halves of a's and of b's group, or the second ones.
template <int kHalf, int kPart, bool kSecond>
struct HalfOfGroup {
  static constexpr int at(int lane) {
    const int group = lane / (2 * kHalf) * (2 * kHalf), in = lane % (2 * kHalf);
    return group + in % kHalf + (kSecond ? kHalf : 0) + (in / kHalf) * kPart;
  }
};
template <int kHalf, class V>
RNL_INLINE V fold_pair(V a, V b) {
  constexpr int kPart = int(sizeof(V) / sizeof(float));
  return (V)plus(permuted<HalfOfGroup<kHalf, kPart, false>>(a, b), permuted<HalfOfGroup<kHalf, kPart, true>>(a, b));
}
// Lane i of the result: the sum over the lanes of v[i], to the bit that of reduce.
RNL_INLINE f32x16 fold(const f32x16* v) {
  constexpr int kLanes = f32x16::kPartLanes;
  return by_index<f32x16>([v](int part) RNL_LAMBDA {
    Register<float> r[kLanes];
    RNL_UNROLL_FOR (int i = 0; i < kLanes; ++i) {
      const f32x16& a = v[part * kLanes + i];
      if constexpr (f32x16::kParts == 1) r[i] = a.v[0];
      else if constexpr (f32x16::kParts == 2) r[i] = plus(a.v[0], a.v[1]);
      else r[i] = (Register<float>)plus((Register<float>)plus(a.v[0], a.v[2]), (Register<float>)plus(a.v[1], a.v[3]));
    }
    if constexpr (kLanes == 16)
      RNL_UNROLL_FOR (int i = 0; i < 8; ++i) r[i] = fold_pair<8>(r[i], r[i + 8]);
    if constexpr (kLanes >= 8)
      RNL_UNROLL_FOR (int i = 0; i < 4; ++i) r[i] = fold_pair<4>(r[i], r[i + 4]);
    RNL_UNROLL_FOR (int i = 0; i < 2; ++i) r[i] = fold_pair<2>(r[i], r[i + 2]);
    return fold_pair<1>(r[0], r[1]);
  });
}

}  // namespace runnel::RNL_ISA
