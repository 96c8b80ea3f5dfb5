#include "cpu/call.h"
#include "ops/rope/rope.h"

namespace runnel::RNL_ISA {
namespace {

typedef Tile<double> f64x16;

// A register of floats in two halves, each of which is one of doubles.
typedef RegisterOf<float, kRegisterBytes / 2>::Type Half;
struct Halves {
  Half v[2];
};
RNL_INLINE f64x16 to_double(const f32x16& a) {
  return by_index<f64x16>([&a](int i) RNL_LAMBDA {
    return __builtin_convertvector(__builtin_bit_cast(Halves, a.v[i / 2]).v[i % 2], Register<double>);
  });
}
RNL_INLINE f32x16 to_float(const f64x16& a) {
  return by_index<f32x16>([&a](int i) RNL_LAMBDA {
    return __builtin_bit_cast(Register<float>, Halves{{__builtin_convertvector(a.v[2 * i], Half),
                                                       __builtin_convertvector(a.v[2 * i + 1], Half)}});
  });
}

struct Job {
  const float *x, *freq;
  const int32_t* positions;
  float* y;
  int64_t tokens, heads, dim, pairs, tokens_per_task;
  int64_t axes;
  const RopeParams* p;
  int32_t limit;
};

// cos and sin of an angle of any size below 2^31: the multiple of pi/2 is taken off in double, so that large
// angles lose nothing; Taylor polynomials serve the remaining [-pi/4, pi/4] with errors below 1e-8.
RNL_INLINE void cos_sin(const f64x16& a, f32x16* cosine, f32x16* sine) {
  const double magic = 6755399441055744.0;  // adding it rounds to an integer
  const f64x16 n = (a * 0.63661977236758134308 + magic) - magic;
  const f32x16 r = to_float(a - n * 1.57079632679489661923);
  // n modulo 4 as a float keeps the conversion to int small.
  const f64x16 quarter = n - ((n * 0.25 + magic) - magic) * 4.0;  // -2 .. 2
  const i32x16 q = to_int(to_float(quarter));
  const f32x16 z = r * r;
  f32x16 s = splat(1.0f / 362880);
  s = fma(s, z, splat(-1.0f / 5040));
  s = fma(s, z, splat(1.0f / 120));
  s = fma(s, z, splat(-1.0f / 6));
  s = fma(s * z, r, r);
  f32x16 c = splat(-1.0f / 3628800);
  c = fma(c, z, splat(1.0f / 40320));
  c = fma(c, z, splat(-1.0f / 720));
  c = fma(c, z, splat(1.0f / 24));
  c = fma(c * z, z, fma(z, splat(-0.5f), splat(1.0f)));
  const i32x16 odd = -(q & 1);
  const f32x16 sine_part = select(odd, c, s), cosine_part = select(odd, s, c);
  *sine = (f32x16)((u32x16)sine_part ^ (u32x16)((q & 2) << 30));
  *cosine = (f32x16)((u32x16)cosine_part ^ (u32x16)(((q + 1) & 2) << 30));
}

// 16 pairs of one head. first and second are apart (half-split).
RNL_INLINE void rotate_halves(const float* x, float* y, int64_t i, int64_t pairs, int n, f32x16 c, f32x16 s) {
  if (n == 16) {
    const f32x16 u = load(x + i), v = load(x + i + pairs);
    store(y + i, u * c - v * s);
    store(y + i + pairs, v * c + u * s);
  } else {
    const f32x16 u = load_n(x + i, n), v = load_n(x + i + pairs, n);
    store_n(y + i, u * c - v * s, n);
    store_n(y + i + pairs, v * c + u * s, n);
  }
}

// n pairs of neighbours. c: each cosine twice; s: each sine twice, the first one negated.
RNL_INLINE void rotate_neighbours(const float* x, float* y, int n, const float* c, const float* s) {
  int i = 0;
  for (; i + 16 <= 2 * n; i += 16) {
    const f32x16 v = load(x + i);
    store(y + i, v * load(c + i) + of_four<1, 0, 3, 2>(v, v) * load(s + i));
  }
  for (; i < 2 * n; i += 2) {
    const float u = x[i], v = x[i + 1];
    y[i] = u * c[i] + v * s[i];
    y[i + 1] = v * c[i] + u * s[i + 1];
  }
}

// The positions of pairs i to i + 15, at most the limit.
RNL_INLINE i32x16 positions_of(const Job& j, const int32_t* positions, int64_t i) {
  int32_t each[16];
  uint32_t sections = j.axes == 1 ? 0 : j.p->sections.words[i / 16];
  RNL_KEEP_FOR (int k = 0; k < 16; ++k, sections >>= 2) {
    const int32_t place = positions[sections & 3];
    each[k] = place < j.limit ? place : j.limit;
  }
  return load_tile<i32x16>(each);
}

void rotate_token(const Job& j, int64_t t) {
  const float* x = j.x + t * j.heads * j.dim;
  float* y = j.y + t * j.heads * j.dim;
  const int32_t* positions = j.positions + t * j.axes;
  for (int64_t i = 0; i < j.pairs; i += 16) {
    const int n = j.pairs - i < 16 ? int(j.pairs - i) : 16;
    const f32x16 freq = n == 16 ? load(j.freq + i) : load_n(j.freq + i, n);
    f32x16 c, s;
    const i32x16 places = positions_of(j, positions, i);
    f64x16 angle = to_double(to_float(places) * freq);
    if (j.p->exact)
      angle = (to_double(to_float(places & ~4095)) + to_double(to_float(places & 4095))) * to_double(freq);
    cos_sin(angle, &c, &s);
    c = c * j.p->scale;
    s = s * j.p->scale;
    if (j.p->interleaved) {
      float one[32], cosines[32], sines[32];
      store(one, c);
      store(one + 16, s);
      for (int k = 0; k < 16; ++k) {
        cosines[2 * k] = cosines[2 * k + 1] = one[k];
        sines[2 * k] = -one[16 + k], sines[2 * k + 1] = one[16 + k];
      }
      for (int64_t h = 0; h < j.heads; ++h)
        rotate_neighbours(x + h * j.dim + 2 * i, y + h * j.dim + 2 * i, n, cosines, sines);
    } else {
      for (int64_t h = 0; h < j.heads; ++h) rotate_halves(x + h * j.dim, y + h * j.dim, i, j.pairs, n, c, s);
    }
  }
  if (x != y)
    for (int64_t h = 0; h < j.heads; ++h)
      for (int64_t i = 2 * j.pairs; i < j.dim; ++i) y[h * j.dim + i] = x[h * j.dim + i];
}

void run(const OpCall& c) {
  const TensorView& x = c.in[0];
  const RopeParams& p = params_of<RopeParams>(c);
  Job j{input<float>(c, 0),
        input<float>(c, 2),
        input<int32_t>(c, 1),
        output<float>(c, 0),
        x.dims[0],
        x.dims[1],
        x.dims[2],
        c.in[2].dims[0],
        0,
        c.in[1].rank == 2 ? c.in[1].dims[1] : 1,
        &p,
        p.limit > 0 ? int32_t(p.limit) : INT32_MAX};
  if (elements_of(x) == 0) return;
  j.tokens_per_task = 1 + 8192 / (j.heads * j.dim);
  const int64_t tasks = (j.tokens + j.tokens_per_task - 1) / j.tokens_per_task;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& job = *static_cast<const Job*>(context);
        int64_t end = (task + 1) * job.tokens_per_task;
        if (end > job.tokens) end = job.tokens;
        for (int64_t t = task * job.tokens_per_task; t < end; ++t) rotate_token(job, t);
      },
      &j);
}

constexpr Kernel kRows[] = {{"rope_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList rope_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
