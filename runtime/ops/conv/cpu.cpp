// Products over windows that are never written out: a strip of pixels meets a tile of 16 filters, and each place of the
// window gives a strip of pointers into x. Places outside of x point to zeros.
#include "ops/conv/conv.h"

#include "cpu/call.h"
#include "format/packed.h"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kStrip = 12;
#elif defined(RNL_SMALL)
constexpr int kStrip = 4;
#else
constexpr int kStrip = 6;
#endif

struct Job {
  const WindowParams* p;
  const float *x, *bias, *zeros;
  const uint8_t* weights;
  float* y;
  int64_t height, width, channels, out, in, out_height, out_width, pixels, pixels_per_task;
  size_t tile_bytes;
  PackedKind kind;
  ActivationFn activation;
};

// Where the windows of a strip begin.
struct Strip {
  const float* image[kStrip];
  int64_t row[kStrip], column[kStrip];
};

// Pixels behind the last one are the last one.
RNL_INLINE void find_strip(const Job& j, int64_t first, Strip* s) {
  for (int i = 0; i < kStrip; ++i) {
    const int64_t at = first + i < j.pixels ? first + i : j.pixels - 1, line = at / j.out_width;
    s->image[i] = j.x + line / j.out_height * j.height * j.width * j.channels;
    s->row[i] = line % j.out_height * j.p->stride[0] - j.p->before[0];
    s->column[i] = at % j.out_width * j.p->stride[1] - j.p->before[1];
  }
}

RNL_INLINE const float* place_of(const Job& j, const Strip& s, int i, int64_t down, int64_t right, int64_t channel) {
  const int64_t row = s.row[i] + down, column = s.column[i] + right;
  const bool is_inside = uint64_t(row) < uint64_t(j.height) && uint64_t(column) < uint64_t(j.width);
  return is_inside ? s.image[i] + (row * j.width + column) * j.channels + channel : j.zeros;
}

template <PackedKind kKind>
RNL_INLINE f32x16 load_filters(const uint8_t* w) {
  if constexpr (kKind == PackedKind::kF32) return load(reinterpret_cast<const float*>(w));
  if constexpr (kKind == PackedKind::kF16) return load_half(reinterpret_cast<const uint16_t*>(w));
  return (f32x16)(widen(reinterpret_cast<const uint16_t*>(w)) << 16);
}

// sums [kStrip][16] of a tile over one group's channels.
template <PackedKind kKind>
void multiply(const Job& j, const Strip& s, const uint8_t* w, int64_t channel, float* sums) {
  constexpr int kBytes = kKind == PackedKind::kF32 ? 64 : 32;
  f32x16 sum[kStrip];
  RNL_UNROLL_FOR (int i = 0; i < kStrip; ++i) sum[i] = splat(0);
  for (int64_t p = 0; p < j.p->kernel[0]; ++p)
    for (int64_t q = 0; q < j.p->kernel[1]; ++q) {
      const float* x[kStrip];
      for (int i = 0; i < kStrip; ++i) x[i] = place_of(j, s, i, p * j.p->dilation[0], q * j.p->dilation[1], channel);
      RNL_KEEP_FOR (int64_t k = 0; k < j.in; ++k, w += kBytes) {
        const f32x16 v = load_filters<kKind>(w);
        RNL_UNROLL_FOR (int i = 0; i < kStrip; ++i) sum[i] = fma(v, splat(x[i][k]), sum[i]);
      }
    }
  RNL_UNROLL_FOR (int i = 0; i < kStrip; ++i) store(sums + i * 16, sum[i]);
}

using MultiplyFn = void (*)(const Job&, const Strip&, const uint8_t*, int64_t, float*);
constexpr MultiplyFn kMultiply[3] = {multiply<PackedKind::kF32>, multiply<PackedKind::kF16>,
                                     multiply<PackedKind::kBF16>};

// Bias, activation and limits of `lanes` results from output `o` on, for each pixel of a strip.
RNL_INLINE void finish(const Job& j, float* sums, int64_t first, int64_t o, int begin, int end) {
  const int pixels = j.pixels - first < kStrip ? int(j.pixels - first) : kStrip;
  if (j.bias) {
    const f32x16 bias = load_n(j.bias + o, end - begin);
    float shifted[16] = {};
    float plain[16];
    store(plain, bias);
    for (int k = begin; k < end; ++k) shifted[k] = plain[k - begin];
    const f32x16 b = load(shifted);
    for (int i = 0; i < pixels; ++i) store(sums + i * 16, load(sums + i * 16) + b);
  }
  if (j.activation) j.activation(sums, nullptr, sums, int64_t(pixels) * 16, 1.0f);
  const f32x16 least = splat(j.p->least), most = splat(j.p->most);
  for (int i = 0; i < pixels; ++i) {
    f32x16 v = load(sums + i * 16);
    v = select(v < least, least, v);
    v = select(v > most, most, v);
    float* y = j.y + (first + i) * j.out + o;
    if (begin == 0 && end == 16) {
      store(y, v);
    } else {
      store(sums + i * 16, v);
      for (int k = begin; k < end; ++k) y[k - begin] = sums[i * 16 + k];
    }
  }
}

void run_task(void* context, int64_t task, int) {
  const Job& j = *static_cast<const Job*>(context);
  const int64_t begin = task * j.pixels_per_task, next = begin + j.pixels_per_task,
                end = next < j.pixels ? next : j.pixels;
  const int64_t each = j.out / j.p->groups;
  const MultiplyFn fn = kMultiply[int(j.kind) - int(PackedKind::kF32)];
  alignas(64) float sums[kStrip * 16];
  Strip strip;
  for (int64_t o = 0; o < j.out;) {
    // The rest of a tile, or of a group that ends within it.
    const int64_t tile = o / kTileRows, group = o / each;
    int64_t last = (tile + 1) * kTileRows;
    if (last > (group + 1) * each) last = (group + 1) * each;
    const int lane = int(o - tile * kTileRows);
    for (int64_t at = begin; at < end; at += kStrip) {
      find_strip(j, at, &strip);
      fn(j, strip, j.weights + size_t(tile) * j.tile_bytes, group * j.in, sums);
      finish(j, sums, at, o, lane, lane + int(last - o));
    }
    o = last;
  }
}

// One filter a channel: 16 channels of a strip of pixels.
void run_channels(void* context, int64_t task, int) {
  const Job& j = *static_cast<const Job*>(context);
  const int64_t begin = task * j.pixels_per_task, next = begin + j.pixels_per_task,
                end = next < j.pixels ? next : j.pixels;
  const float* weights = reinterpret_cast<const float*>(j.weights);
  alignas(64) float sums[kStrip * 16];
  Strip strip;
  for (int64_t at = begin; at < end; at += kStrip) {
    find_strip(j, at, &strip);
    for (int64_t o = 0; o < j.channels; o += 16) {
      const int lanes = j.channels - o < 16 ? int(j.channels - o) : 16;
      f32x16 sum[kStrip];
      RNL_UNROLL_FOR (int i = 0; i < kStrip; ++i) sum[i] = splat(0);
      for (int64_t p = 0; p < j.p->kernel[0]; ++p)
        for (int64_t q = 0; q < j.p->kernel[1]; ++q) {
          const float* w = weights + (p * j.p->kernel[1] + q) * j.channels + o;
          const f32x16 v = lanes == 16 ? load(w) : load_n(w, lanes);
          RNL_UNROLL_FOR (int i = 0; i < kStrip; ++i) {
            const float* x = place_of(j, strip, i, p * j.p->dilation[0], q * j.p->dilation[1], o);
            sum[i] = fma(v, lanes == 16 ? load(x) : load_n(x, lanes), sum[i]);
          }
        }
      RNL_UNROLL_FOR (int i = 0; i < kStrip; ++i) store(sums + i * 16, sum[i]);
      finish(j, sums, at, o, 0, lanes);
    }
  }
}

// Zeros for the channels of a place outside, and a tile more.
size_t zeros_of(const OpCall& c) { return size_t(c.in[0].dims[3] + 16) * sizeof(float); }
size_t scratch_bytes(const OpCall& c, int) { return zeros_of(c); }

void run(const OpCall& c) {
  const TensorView &x = c.in[0], &w = c.in[1], &y = c.out[0];
  Job j{};
  j.p = &params_of<WindowParams>(c);
  j.x = input<float>(c, 0), j.bias = input<float>(c, 2), j.y = output<float>(c, 0);
  j.weights = static_cast<const uint8_t*>(w.data);
  j.height = x.dims[1], j.width = x.dims[2], j.channels = x.dims[3], j.in = j.channels / j.p->groups;
  j.out_height = y.dims[1], j.out_width = y.dims[2], j.out = y.dims[3];
  j.pixels = y.dims[0] * y.dims[1] * y.dims[2];
  if (j.pixels == 0 || j.out == 0) return;
  __builtin_memset(c.scratch, 0, zeros_of(c));
  j.zeros = reinterpret_cast<const float*>(c.scratch);
  const UnaryKind activation = UnaryKind(j.p->activation);
  j.activation = activation == UnaryKind::kNone ? nullptr : activation_of(activation);
  const bool is_each = w.dtype == DType::kF32;
  if (!is_each) j.kind = w.packed->kind, j.tile_bytes = w.packed->tile_bytes(w.dims[1]);
  // About a million products a task; whole strips, so that bits do not depend on their number.
  const int64_t products = int64_t(j.p->kernel[0]) * j.p->kernel[1] * j.in * j.out + 1;
  j.pixels_per_task = (1 + 1048576 / products / kStrip) * kStrip;
  const int64_t tasks = (j.pixels + j.pixels_per_task - 1) / j.pixels_per_task;
  parallel_for(tasks > 1 ? c.pool : nullptr, tasks, is_each ? run_channels : run_task, &j);
}

constexpr Kernel kRows[] = {{"conv_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList conv_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
