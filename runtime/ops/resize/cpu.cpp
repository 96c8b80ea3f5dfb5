// A row of y is made of whole rows of x first, then of the columns of that one row.
#include "ops/resize/resize.h"

#include "cpu/call.h"

namespace runnel::RNL_ISA {
namespace {

struct Column {
  ResizeTaps taps;
  int64_t weights;  // where they begin
};

struct Job {
  const ResizeParams* p;
  const float *x, *weights;
  const Column* columns;
  float *y, *lines;  // a line a worker: a row of x, and the weights of the rows
  int64_t height, width, channels, out_height, out_width, rows, rows_per_task, line;
};

// Floats that all columns' weights take at most: with antialias about as many as x has columns, for each that reaches.
int64_t most_weights(const OpCall& c) {
  const ResizeParams& p = params_of<ResizeParams>(c);
  const int64_t from = c.in[0].dims[2], to = c.out[0].dims[2];
  return p.antialias ? 8 * from + 8 * to : 4 * to;
}
int64_t most_row_taps(const OpCall& c) { return c.in[0].dims[1] + 8; }
int64_t rounded(int64_t n) { return (n + 15) / 16 * 16; }
int64_t column_floats(const OpCall& c) { return rounded(c.out[0].dims[2] * int64_t(sizeof(Column) / sizeof(float))); }
int64_t line_floats(const OpCall& c) { return rounded(c.in[0].dims[2] * c.in[0].dims[3]) + rounded(most_row_taps(c)); }

size_t scratch_bytes(const OpCall& c, int workers) {
  return size_t(column_floats(c) + rounded(most_weights(c)) + line_floats(c) * workers) * sizeof(float);
}

// to[i] = sum of weights[k] from[k * step + i].
RNL_INLINE void add_up(const float* from, int64_t step, const float* weights, int64_t count, float* to, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int lanes = n - i < 16 ? int(n - i) : 16;
    f32x16 sum = splat(0);
    for (int64_t k = 0; k < count; ++k) {
      const float* at = from + k * step + i;
      sum = fma(lanes == 16 ? load(at) : load_n(at, lanes), splat(weights[k]), sum);
    }
    if (lanes == 16) store(to + i, sum);
    else store_n(to + i, sum, lanes);
  }
}

void fill(float* to, int64_t n, float v) {
  for (int64_t i = 0; i < n; ++i) to[i] = v;
}

void row(const Job& j, int64_t at, float* line) {
  const int64_t wide = j.width * j.channels;
  float *y = j.y + at * j.out_width * j.channels, *weights = line + rounded(wide);
  const ResizeTaps taps = resize_taps_of(*j.p, 0, j.height, j.out_height, at % j.out_height, weights);
  if (taps.count == 0) return fill(y, j.out_width * j.channels, j.p->outside);
  const float* from = j.x + (at / j.out_height * j.height + taps.first) * wide;
  if (taps.count > 1 || weights[0] != 1) add_up(from, wide, weights, taps.count, line, wide), from = line;
  for (int64_t i = 0; i < j.out_width; ++i, y += j.channels) {
    const Column& column = j.columns[i];
    const float* w = j.weights + column.weights;
    const float* pixel = from + column.taps.first * j.channels;
    if (column.taps.count == 0) {
      fill(y, j.channels, j.p->outside);
    } else if (j.channels < 4) {
      for (int64_t ch = 0; ch < j.channels; ++ch) {
        float sum = 0;
        for (int64_t k = 0; k < column.taps.count; ++k) sum += w[k] * pixel[k * j.channels + ch];
        y[ch] = sum;
      }
    } else {
      add_up(pixel, j.channels, w, column.taps.count, y, j.channels);
    }
  }
}

void run_task(void* context, int64_t task, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  const int64_t next = (task + 1) * j.rows_per_task, end = next < j.rows ? next : j.rows;
  for (int64_t at = task * j.rows_per_task; at < end; ++at) row(j, at, j.lines + worker * j.line);
}

void run(const OpCall& c) {
  const TensorView &x = c.in[0], &y = c.out[0];
  const ResizeParams& p = params_of<ResizeParams>(c);
  Column* columns = reinterpret_cast<Column*>(c.scratch);
  float* weights = reinterpret_cast<float*>(c.scratch) + column_floats(c);
  Job j{&p,        input<float>(c, 0), weights,   columns,   output<float>(c, 0), weights + rounded(most_weights(c)),
        x.dims[1], x.dims[2],          x.dims[3], y.dims[1], y.dims[2],           y.dims[0] * y.dims[1],
        0,         line_floats(c)};
  if (j.rows == 0 || j.out_width == 0 || j.channels == 0) return;
  int64_t next = 0;
  for (int64_t i = 0; i < j.out_width; ++i) {
    columns[i] = {resize_taps_of(p, 1, j.width, j.out_width, i, weights + next), next};
    next += columns[i].taps.count;
  }
  j.rows_per_task = 1 + 65536 / (j.out_width * j.channels);
  const int64_t tasks = (j.rows + j.rows_per_task - 1) / j.rows_per_task;
  parallel_for(tasks > 1 ? c.pool : nullptr, tasks, run_task, &j);
}

constexpr Kernel kRows[] = {{"resize_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList resize_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
