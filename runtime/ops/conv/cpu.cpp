// Products over windows that are never written out: a strip of pixels meets a tile of 16 filters, and each place of the
// window is a strip of pointers into x. Places outside of x point to zeros. The pointers of some strips are found once
// and serve all tiles.
#include "ops/conv/conv.h"

#include "cpu/call.h"
#include "format/packed.h"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

// Pixels whose sums stay in registers; what is left of an image goes by fours and ones.
#if defined(__AVX512F__)
constexpr int kStrip = 12;
#elif defined(RNL_SMALL)
constexpr int kStrip = 4;
#else
constexpr int kStrip = 6;
#endif
constexpr int kMostStrips = 16, kMostPieces = kMostStrips + kStrip / 4 + 4;
constexpr int kSides = 4;  // tiles that a single pixel meets at once, so that their sums hide each other's latency
constexpr int64_t kMostLine = 16384;

struct Job {
  const WindowParams* p;
  const float *x, *bias, *zeros;
  const uint8_t* weights;
  float* y;
  int64_t height, width, channels, out, in, out_height, out_width, pixels, places;
  int64_t reach[2];                                         // places from the first to the last of a window
  int64_t blocks, parts, pixels_per_block, tiles_per_part;  // a task is a block of pixels and a part of the tiles
  size_t tile_bytes, table_bytes, filter_bytes;
  unsigned char *tables, *filters;  // of each worker
  PackedKind kind;
  ActivationFn activation;
  float least, most;
  bool has_limits, has_lines;
};

// Some pixels side by side. at: [places][pixels], where the window's places lie. A row of the window that lies in x
// without a gap, for all pixels, has pointers at its first place alone: is_line.
struct Piece {
  int64_t first;
  int pixels;
  const float** at;
  bool* is_line;
};

RNL_INLINE int pieces_of(int64_t left) { return left >= kStrip ? kStrip : left >= 4 ? 4 : 1; }

// Windows that lie in x with all their places.
RNL_INLINE void find_places_inside(const Job& j, const Piece& s, const int64_t* first) {
  const WindowParams& p = *j.p;
  const float** at = s.at;
  RNL_KEEP_FOR (int64_t a = 0; a < p.kernel[0]; ++a) {
    s.is_line[a] = j.has_lines;
    RNL_KEEP_FOR (int64_t b = 0; b < p.kernel[1]; ++b, at += s.pixels) {
      if (b && j.has_lines) continue;
      const int64_t step = (a * p.dilation[0] * j.width + b * p.dilation[1]) * j.channels;
      RNL_KEEP_FOR (int i = 0; i < s.pixels; ++i) at[i] = j.x + (first[i] + step);
    }
  }
}

RNL_INLINE void find_places(const Job& j, const Piece& s) {
  const WindowParams& p = *j.p;
  int64_t image[kStrip], place[kStrip], row[kStrip], column[kStrip];
  const int64_t line = s.first / j.out_width;
  int64_t right = s.first % j.out_width, down = line % j.out_height, number = line / j.out_height;
  bool is_inside = true;
  RNL_KEEP_FOR (int i = 0; i < s.pixels; ++i) {
    image[i] = number * j.height * j.width * j.channels;
    row[i] = down * p.stride[0] - p.before[0];
    column[i] = right * p.stride[1] - p.before[1];
    place[i] = image[i] + (row[i] * j.width + column[i]) * j.channels;
    is_inside &= row[i] >= 0 && column[i] >= 0 && row[i] + j.reach[0] <= j.height && column[i] + j.reach[1] <= j.width;
    if (++right < j.out_width) continue;
    right = 0;
    if (++down == j.out_height) down = 0, ++number;
  }
  if (is_inside) return find_places_inside(j, s, place);
  RNL_KEEP_FOR (int64_t a = 0; a < p.kernel[0]; ++a) {
    bool is_line = j.has_lines;
    RNL_KEEP_FOR (int i = 0; i < s.pixels; ++i)
      is_line &= (column[i] >= 0 && column[i] + p.kernel[1] <= j.width) || uint64_t(row[i]) >= uint64_t(j.height);
    s.is_line[a] = is_line;
    RNL_KEEP_FOR (int64_t b = 0; b < (is_line ? 1 : p.kernel[1]); ++b)
      RNL_KEEP_FOR (int i = 0; i < s.pixels; ++i) {
        const int64_t at = column[i] + b * p.dilation[1];
        const bool is_place = uint64_t(row[i]) < uint64_t(j.height) && uint64_t(at) < uint64_t(j.width);
        s.at[(a * p.kernel[1] + b) * s.pixels + i] =
            is_place ? j.x + image[i] + (row[i] * j.width + at) * j.channels : j.zeros;
      }
    RNL_KEEP_FOR (int i = 0; i < s.pixels; ++i) row[i] += p.dilation[0];
  }
}

// The pixels [begin, end) in pieces, with their tables.
int find_pieces(const Job& j, int64_t begin, int64_t end, unsigned char* table, Piece* pieces) {
  const float** at = reinterpret_cast<const float**>(table);
  bool* is_line = reinterpret_cast<bool*>(at + j.pixels_per_block * j.places);
  int count = 0;
  RNL_KEEP_FOR (int64_t first = begin; first < end; ++count) {
    const Piece s{first, pieces_of(end - first), at + (first - begin) * j.places, is_line + count * j.p->kernel[0]};
    find_places(j, s);
    pieces[count] = s;
    first += s.pixels;
  }
  return count;
}

// A tile of filters of 16 bits as floats.
void widen_filters(const Job& j, const uint8_t* from, float* to) {
  const uint16_t* w = reinterpret_cast<const uint16_t*>(from);
  RNL_KEEP_FOR (int64_t k = 0; k < j.places * j.in; ++k, w += 16, to += 16)
    store(to, j.kind == PackedKind::kF16 ? load_half(w) : (f32x16)(widen(w) << 16));
}

// Where sums go: lanes of pixel i at y + i * stride, those of the next tile 16 lanes further.
struct Target {
  const float* bias;  // of 16 lanes
  float* y;
  int64_t stride;
  bool has_limits;
};

RNL_INLINE void put(const Job& j, const Target& t, float* y, f32x16 v) {
  if (t.has_limits) {
    const f32x16 least = splat(j.least), most = splat(j.most);
    v = select(v < least, least, v);
    v = select(v > most, most, v);
  }
  store(y, v);
}

// A piece's pixels times kTiles tiles, over one group's channels.
template <int kPixels, int kTiles>
void multiply(const Job& j, const Piece& s, const float* w, int64_t channel, const Target& t) {
  const int64_t tile_floats = j.places * j.in * 16;
  f32x16 sum[kTiles][kPixels];
  RNL_UNROLL_FOR (int n = 0; n < kTiles; ++n) {
    const f32x16 bias = load(t.bias + n * 16);
    RNL_UNROLL_FOR (int i = 0; i < kPixels; ++i) sum[n][i] = bias;
  }
  const int64_t width = j.p->kernel[1];
  const float* const* row = s.at;
  for (int64_t a = 0; a < j.p->kernel[0]; ++a, row += width * kPixels) {
    const int64_t runs = s.is_line[a] ? 1 : width, length = s.is_line[a] ? width * j.in : j.in;
    for (int64_t b = 0; b < runs; ++b) {
      const float* x[kPixels];
      for (int i = 0; i < kPixels; ++i) x[i] = row[b * kPixels + i] + channel;
      RNL_KEEP_FOR (int64_t k = 0; k < length; ++k, w += 16) {
        f32x16 v[kTiles];
        RNL_UNROLL_FOR (int n = 0; n < kTiles; ++n) v[n] = load(w + n * tile_floats);
        RNL_UNROLL_FOR (int i = 0; i < kPixels; ++i)
          RNL_UNROLL_FOR (int n = 0; n < kTiles; ++n) sum[n][i] = fma(v[n], splat(x[i][k]), sum[n][i]);
      }
    }
  }
  RNL_UNROLL_FOR (int i = 0; i < kPixels; ++i)
    RNL_UNROLL_FOR (int n = 0; n < kTiles; ++n) put(j, t, t.y + i * t.stride + n * 16, sum[n][i]);
}

using MultiplyFn = void (*)(const Job&, const Piece&, const float*, int64_t, const Target&);

// Sums [pixels][16] that are not where they belong yet: activation, limits, and the lanes [begin, end) to y.
void finish(const Job& j, const Piece& s, float* sums, int64_t o, int begin, int end) {
  if (j.activation) j.activation(sums, nullptr, sums, int64_t(s.pixels) * 16, 1.0f);
  const Target t{nullptr, nullptr, 0, j.has_limits};
  RNL_KEEP_FOR (int i = 0; i < s.pixels; ++i) {
    float* y = j.y + (s.first + i) * j.out + o;
    if (begin == 0 && end == 16) {
      put(j, t, y, load(sums + i * 16));
    } else {
      put(j, t, sums + i * 16, load(sums + i * 16));
      RNL_KEEP_FOR (int k = begin; k < end; ++k) y[k - begin] = sums[i * 16 + k];
    }
  }
}

// The bias of `end - begin` outputs from o on, at lane `begin`.
RNL_INLINE const float* bias_of(const Job& j, int64_t o, int begin, int end, float* buffer) {
  if (!j.bias) return j.zeros;
  if (begin == 0 && end == 16) return j.bias + o;
  RNL_KEEP_FOR (int k = 0; k < 16; ++k) buffer[k] = k >= begin && k < end ? j.bias[o + k - begin] : 0.0f;
  return buffer;
}

RNL_CALLED int pieces_of_task(const Job& j, int64_t task, int worker, Piece* pieces) {
  const int64_t begin = task / j.parts * j.pixels_per_block, next = begin + j.pixels_per_block;
  return find_pieces(j, begin, next < j.pixels ? next : j.pixels, j.tables + j.table_bytes * size_t(worker), pieces);
}

void run_task(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  Piece pieces[kMostPieces];
  const int count = pieces_of_task(j, task, worker, pieces);
  const int64_t each = j.out / j.p->groups, first = task % j.parts * j.tiles_per_part * kTileRows,
                next = first + j.tiles_per_part * kTileRows, last = next < j.out ? next : j.out;
  // Outputs before this one meet single pixels some tiles at once.
  constexpr int64_t kSide = kSides * kTileRows;
  const bool is_wide = j.kind == PackedKind::kF32;
  const int64_t sides = j.p->groups == 1 && is_wide ? first + (last - first) / kSide * kSide : first;
  float* const filters = reinterpret_cast<float*>(j.filters + j.filter_bytes * size_t(worker));
  alignas(64) float sums[kStrip * 16], buffer[16];
  for (int64_t o = first; o < last;) {
    // The rest of a tile, or of a group that ends within it.
    const int64_t tile = o / kTileRows, group = o / each;
    int64_t end = (tile + 1) * kTileRows;
    if (end > (group + 1) * each) end = (group + 1) * each;
    const int lane = int(o - tile * kTileRows), lanes = int(end - o);
    const uint8_t* from = j.weights + size_t(tile) * j.tile_bytes;
    const float* w = is_wide ? reinterpret_cast<const float*>(from) : filters;
    if (!is_wide) widen_filters(j, from, filters);
    const float* bias = bias_of(j, o, lane, lane + lanes, buffer);
    const bool is_direct = lanes == kTileRows && !j.activation;
    for (int i = 0; i < count; ++i) {
      const Piece& s = pieces[i];
      const bool has_sides = s.pixels == 1 && o < sides;
      if (has_sides && (o - first) % kSide) continue;
      const Target t{bias, is_direct ? j.y + s.first * j.out + o : sums, is_direct ? j.out : 16,
                     is_direct && j.has_limits};
      const MultiplyFn fn = has_sides            ? multiply<1, kSides>
                            : s.pixels == kStrip ? multiply<kStrip, 1>
                            : s.pixels == 4      ? multiply<4, 1>
                                                 : multiply<1, 1>;
      fn(j, s, w, group * j.in, t);
      if (is_direct) continue;
      for (int n = 0; n < (has_sides ? kSides : 1); ++n) finish(j, s, sums + n * 16, o + n * 16, lane, lane + lanes);
    }
    o = end;
  }
}

// One filter a channel: 16 channels of some pixels.
template <int kPixels>
void multiply_channels(const Job& j, const Piece& s, int64_t o, const Target& t) {
  const float* w = reinterpret_cast<const float*>(j.weights) + o;
  const f32x16 bias = load(t.bias);
  f32x16 sum[kPixels];
  RNL_UNROLL_FOR (int i = 0; i < kPixels; ++i) sum[i] = bias;
  const float* const* x = s.at;
  RNL_KEEP_FOR (int64_t k = 0; k < j.places; ++k, w += j.channels, x += kPixels) {
    const f32x16 v = load(w);
    RNL_UNROLL_FOR (int i = 0; i < kPixels; ++i) sum[i] = fma(v, load(x[i] + o), sum[i]);
  }
  RNL_UNROLL_FOR (int i = 0; i < kPixels; ++i) put(j, t, t.y + i * t.stride, sum[i]);
}

// The same where there are fewer than 16.
void multiply_few_channels(const Job& j, const Piece& s, const float* bias, float* sums) {
  const float* w = reinterpret_cast<const float*>(j.weights);
  for (int i = 0; i < s.pixels; ++i) {
    f32x16 sum = load(bias);
    for (int64_t k = 0; k < j.places; ++k)
      sum = fma(load_n(w + k * j.channels, int(j.channels)), load_n(s.at[k * s.pixels + i], int(j.channels)), sum);
    store(sums + i * 16, sum);
  }
}

void run_channels(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  Piece pieces[kMostPieces];
  const int count = pieces_of_task(j, task, worker, pieces);
  alignas(64) float sums[kStrip * 16], buffer[16];
  for (int i = 0; i < count; ++i) {
    const Piece& s = pieces[i];
    if (j.channels < 16) {
      multiply_few_channels(j, s, bias_of(j, 0, 0, int(j.channels), buffer), sums);
      finish(j, s, sums, 0, 0, int(j.channels));
      continue;
    }
    const auto fn = s.pixels == kStrip ? multiply_channels<kStrip>
                    : s.pixels == 4    ? multiply_channels<4>
                                       : multiply_channels<1>;
    for (int64_t at = 0; at < j.channels; at += 16) {
      const int64_t o = at + 16 <= j.channels ? at : j.channels - 16;  // the last ones once more
      const float* bias = bias_of(j, o, 0, 16, buffer);
      const Target t =
          j.activation ? Target{bias, sums, 16, false} : Target{bias, j.y + s.first * j.out + o, j.out, j.has_limits};
      fn(j, s, o, t);
      if (j.activation) finish(j, s, sums, o, 0, 16);
    }
  }
}

RNL_INLINE size_t align_up(size_t n) { return (n + 63) / 64 * 64; }

// A row of the window is one run of numbers in x.
bool has_lines(const WindowParams& p, int64_t channels) {
  return p.groups == 1 && p.dilation[1] == 1 && p.kernel[1] * channels <= kMostLine;
}

// Zeros for a place outside or a row of them, and some tiles more.
size_t zeros_of(const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  const int64_t channels = c.in[0].dims[3];
  return align_up(size_t((has_lines(p, channels) ? p.kernel[1] * channels : channels) + kSides * 16) * sizeof(float));
}

// Strips of a block: their table and what they read of x shall stay near.
int64_t strips_of(const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  const int64_t places = int64_t(p.kernel[0]) * p.kernel[1],
                table = 32768 / (places * kStrip * int64_t(sizeof(float*))),
                image = 131072 / (c.in[0].dims[3] * kStrip * int64_t(sizeof(float)) + 1);
  const int64_t strips = table < image ? table : image;
  return strips < 1 ? 1 : strips > kMostStrips ? kMostStrips : strips;
}

size_t table_bytes(const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  const size_t places = size_t(p.kernel[0]) * size_t(p.kernel[1]);
  return align_up(size_t(strips_of(c)) * kStrip * places * sizeof(float*) + kMostPieces * size_t(p.kernel[0]));
}

size_t filter_bytes(const OpCall& c) {
  const TensorView& w = c.in[1];
  return w.dtype == DType::kF32 || w.packed->kind == PackedKind::kF32 ? 0 : size_t(w.dims[1]) * 64;
}

size_t scratch_bytes(const OpCall& c, int workers) {
  return zeros_of(c) + (table_bytes(c) + filter_bytes(c)) * size_t(workers);
}

// Blocks of pixels, each of as many strips, and where these are too few for all threads, parts of the tiles. A task has
// half a million products or more.
void cut(Job* j, int64_t most_strips, int64_t tiles, int workers) {
  const int64_t products = j->pixels * j->places * j->in * j->out, most = products / 524288 + 1;
  const int64_t strips = (j->pixels + kStrip - 1) / kStrip;
  int64_t wanted = workers == 1 ? 1 : int64_t(workers) * 4;
  if (wanted > most) wanted = most;
  int64_t blocks = (strips + most_strips - 1) / most_strips;
  if (blocks < wanted) blocks = tiles == 1 ? wanted : blocks;
  if (blocks > strips) blocks = strips;
  j->pixels_per_block = (strips + blocks - 1) / blocks * kStrip;
  j->blocks = (j->pixels + j->pixels_per_block - 1) / j->pixels_per_block;
  const int64_t parts = (wanted + j->blocks - 1) / j->blocks;
  j->tiles_per_part = parts < 1 ? tiles : (tiles + parts - 1) / parts;
  j->parts = (tiles + j->tiles_per_part - 1) / j->tiles_per_part;
}

void run(const OpCall& c) {
  const TensorView &x = c.in[0], &w = c.in[1], &y = c.out[0];
  Job j{};
  j.p = &params_of<WindowParams>(c);
  j.x = input<float>(c, 0), j.bias = input<float>(c, 2), j.y = output<float>(c, 0);
  j.weights = static_cast<const uint8_t*>(w.data);
  j.height = x.dims[1], j.width = x.dims[2], j.channels = x.dims[3], j.in = j.channels / j.p->groups;
  j.out_height = y.dims[1], j.out_width = y.dims[2], j.out = y.dims[3];
  j.pixels = y.dims[0] * y.dims[1] * y.dims[2];
  j.places = int64_t(j.p->kernel[0]) * j.p->kernel[1];
  for (int i = 0; i < 2; ++i) j.reach[i] = int64_t(j.p->kernel[i] - 1) * j.p->dilation[i] + 1;
  if (j.pixels == 0 || j.out == 0) return;
  __builtin_memset(c.scratch, 0, zeros_of(c));
  j.zeros = reinterpret_cast<const float*>(c.scratch);
  j.tables = c.scratch + zeros_of(c), j.table_bytes = table_bytes(c);
  j.filter_bytes = filter_bytes(c);
  j.filters = j.tables + j.table_bytes * size_t(thread_pool_size(c.pool));
  const UnaryKind activation = UnaryKind(j.p->activation);
  const bool is_relu = activation == UnaryKind::kRelu;
  j.activation = activation == UnaryKind::kNone || is_relu ? nullptr : activation_of(activation);
  j.least = is_relu && j.p->least < 0 ? 0.0f : j.p->least, j.most = j.p->most;
  j.has_limits = j.least > -__builtin_inff() || j.most < __builtin_inff();
  const bool is_each = w.dtype == DType::kF32;
  if (!is_each) j.kind = w.packed->kind, j.tile_bytes = w.packed->tile_bytes(w.dims[1]);
  j.has_lines = !is_each && has_lines(*j.p, j.channels);
  cut(&j, strips_of(c), is_each ? 1 : (j.out + kTileRows - 1) / kTileRows, thread_pool_size(c.pool));
  const int64_t tasks = j.blocks * j.parts;
  parallel_for(tasks > 1 ? c.pool : nullptr, tasks, is_each ? run_channels : run_task, &j);
}

constexpr Kernel kRows[] = {{"conv_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList conv_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
