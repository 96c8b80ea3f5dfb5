// A task is one head. Its planes are changed where the state goes to (or in scratch when it is not kept); W_t of a map
// is made in scratch. Vectors are padded to whole tiles of 16 with zeros, rows of matrices are not.
#include "ops/inner_model/inner_model.h"
#include "ops/sequence.inl"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

// Called from several places; the bytes matter more than the calls.
#define RNL_NOINLINE __attribute__((noinline))

enum Input { kQ, kK, kV, kRate, kKeep, kMomentum, kRead, kNormWeight, kNormBias, kState };
constexpr int kVectors = 9;

struct Job {
  InnerModelParams p;
  const float *q, *k, *v, *rate, *keep, *momentum, *read, *norm_weight, *norm_bias, *state_in;
  float *y, *state_out, *scratch;
  int64_t tokens, heads, dim, inner, parameters, planes, position, vector, worker_floats;
};

int lanes_at(int64_t i, int64_t n) { return n - i < 16 ? int(n - i) : 16; }
int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

struct Head {
  const Job& j;
  int64_t h;
  float *base, *sum, *speed, *now;
  float *pre, *act, *z, *unit, *dz, *dact, *x, *target, *f;

  int64_t bias1() const { return j.dim * j.inner; }
  int64_t second() const { return bias1() + (j.p.bias ? j.inner : 0); }
  int64_t bias2() const { return second() + int64_t(j.p.hidden) * j.dim; }
};

// out = x W + b with W = w + by * more (more null: w alone); w is [n_in, n_out], b lies at `bias` of both planes when
// >= 0.
RNL_NOINLINE void vector_matrix(const float* x, const float* w, const float* more, float by, int64_t at, int64_t bias,
                                int64_t n_in, int64_t n_out, float* out) {
  const f32x16 b = splat(by);
  for (int64_t c = 0; c < n_out; c += 16) {
    const int lanes = lanes_at(c, n_out);
    f32x16 acc = bias >= 0 ? load_lanes(w + bias + c, lanes) : splat(0.0f);
    if (bias >= 0 && more) acc = fma(b, load_lanes(more + bias + c, lanes), acc);
    for (int64_t i = 0; i < n_in; ++i) {
      f32x16 v = load_lanes(w + at + i * n_out + c, lanes);
      if (more) v = fma(b, load_lanes(more + at + i * n_out + c, lanes), v);
      acc = fma(splat(x[i]), v, acc);
    }
    store(out + c, acc);
  }
}

RNL_NOINLINE void forward(const Head& u, const float* w, const float* more, float by, const float* x) {
  const Job& j = u.j;
  vector_matrix(x, w, more, by, 0, j.p.bias ? u.bias1() : -1, j.dim, j.inner, j.p.hidden ? u.pre : u.z);
  if (!j.p.hidden) return;
  const UnaryKind kind = UnaryKind(j.p.activation);
  for (int64_t i = 0; i < j.inner; i += 16) {
    const f32x16 v = load(u.pre + i);
    store(u.act + i, kind == UnaryKind::kRelu   ? activate<UnaryKind::kRelu>(v, 1)
                     : kind == UnaryKind::kSilu ? activate<UnaryKind::kSilu>(v, 1)
                                                : activate<UnaryKind::kGeluTanh>(v, 1));
  }
  vector_matrix(u.act, w, more, by, u.second(), j.p.bias ? u.bias2() : -1, j.p.hidden, j.dim, u.z);
}

// f from z and x; fills unit; returns 1 / standard deviation.
RNL_NOINLINE float finish(const Head& u, const float* x, float* f) {
  const Job& j = u.j;
  const int64_t n = j.dim;
  float inverse = 1;
  f32x16 mean = splat(0.0f);
  if (j.norm_weight) {
    f32x16 total = splat(0.0f), square = splat(0.0f);
    for (int64_t i = 0; i < n; i += 16) total = total + load_lanes(u.z + i, lanes_at(i, n));
    const float m = reduce_add(total) / float(n);
    mean = splat(m);
    for (int64_t i = 0; i < n; i += 16) {
      const int lanes = lanes_at(i, n);
      const f32x16 d = (lanes == 16 ? load(u.z + i) : load_n(u.z + i, lanes, m)) - mean;
      square = fma(d, d, square);
    }
    inverse = 1.0f / __builtin_sqrtf(reduce_add(square) / float(n) + j.p.eps);
  }
  for (int64_t i = 0; i < n; i += 16) {
    const int lanes = lanes_at(i, n);
    f32x16 v = load_lanes(u.z + i, lanes);
    if (j.norm_weight) {
      const f32x16 flat = (v - mean) * inverse;
      store_lanes(u.unit + i, flat, lanes);
      v = fma(flat, load_lanes(j.norm_weight + u.h * n + i, lanes), load_lanes(j.norm_bias + u.h * n + i, lanes));
    }
    if (j.p.residual) v = v + load_lanes(x + i, lanes);
    store_lanes(f + i, v, lanes);
  }
  return inverse;
}

RNL_NOINLINE f32x16 slope(UnaryKind kind, f32x16 x) {
  if (kind == UnaryKind::kRelu) return select(x > splat(0.0f), splat(1.0f), splat(0.0f));
  const bool is_silu = kind == UnaryKind::kSilu;
  const f32x16 xx = x * x, s = sigmoid(is_silu ? x : x * fma(xx, splat(0.0713548162726f), splat(1.5957691216057f)));
  const f32x16 inner = is_silu ? splat(1.0f) : fma(xx, splat(3 * 0.0713548162726f), splat(1.5957691216057f));
  return fma(x * s * (1.0f - s), inner, s);
}

RNL_NOINLINE f32x16 loss_slope(const InnerModelParams& p, f32x16 e) {
  const f32x16 a = abs(e), sign = select(e < splat(0.0f), splat(-1.0f), splat(1.0f));
  if (p.loss == InnerLoss::kHuber) return select(a > splat(p.loss_delta), sign * p.loss_delta, e);
  if (p.loss == InnerLoss::kSquared) return e;
  // a^(p - 1); 0 stays 0 unless p is 1.
  const f32x16 power =
      select(a > splat(0.0f), exp(log(a) * (p.loss_power - 1)), splat(p.loss_power == 1 ? 1.0f : 0.0f));
  return select(e == e, sign * power * p.loss_power, e);
}

struct Rates {
  float rate, keep, momentum;
};

// Gradient row[0 .. n) = factor * out[0 .. n) into the planes at `at`.
RNL_NOINLINE void put(const Head& u, int64_t at, int64_t n, float factor, const float* out, const Rates& r) {
  const f32x16 step = splat(-r.rate * factor), keep = splat(r.keep), momentum = splat(r.momentum);
  for (int64_t i = 0; i < n; i += 16) {
    const int lanes = lanes_at(i, n);
    f32x16 s = step * load_lanes(out + i, lanes);
    if (u.speed) {
      s = fma(momentum, load_lanes(u.speed + at + i, lanes), s);
      store_lanes(u.speed + at + i, s, lanes);
    }
    store_lanes(u.sum + at + i, fma(keep, load_lanes(u.sum + at + i, lanes), s), lanes);
  }
}

RNL_NOINLINE void train(const Head& u, const float* k, const float* v, const Rates& r) {
  const Job& j = u.j;
  const int64_t n = j.dim;
  forward(u, u.base, nullptr, 0, k);
  const float inverse = finish(u, k, u.f);
  f32x16 total = splat(0.0f), along = splat(0.0f);
  for (int64_t i = 0; i < n; i += 16) {
    const int lanes = lanes_at(i, n);
    f32x16 d = loss_slope(j.p, load_lanes(u.f + i, lanes) - load_lanes(v + i, lanes));
    if (j.norm_weight) {
      d = d * load_lanes(j.norm_weight + u.h * n + i, lanes);
      total = total + d;
      along = fma(d, load_lanes(u.unit + i, lanes), along);
    }
    store_lanes(u.dz + i, d, lanes);
  }
  if (j.norm_weight) {
    const f32x16 mean = splat(reduce_add(total) / float(n)), part = splat(reduce_add(along) / float(n));
    for (int64_t i = 0; i < n; i += 16) {
      const int lanes = lanes_at(i, n);
      store_lanes(u.dz + i, (load_lanes(u.dz + i, lanes) - mean - load_lanes(u.unit + i, lanes) * part) * inverse,
                  lanes);
    }
  }
  const float* out = u.dz;
  if (j.p.hidden) {
    for (int64_t i = 0; i < j.inner; ++i) {
      const float* row = u.base + u.second() + i * n;
      f32x16 dot = splat(0.0f);
      for (int64_t c = 0; c < n; c += 16)
        dot = fma(load_lanes(row + c, lanes_at(c, n)), load_lanes(u.dz + c, lanes_at(c, n)), dot);
      u.dact[i] = reduce_add(dot);
      put(u, u.second() + i * n, n, u.act[i], u.dz, r);
    }
    for (int64_t i = 0; i < j.inner; i += 16)
      store(u.dact + i, load(u.dact + i) * slope(UnaryKind(j.p.activation), load(u.pre + i)));
    if (j.p.bias) put(u, u.bias2(), n, 1, u.dz, r);
    out = u.dact;
  }
  for (int64_t i = 0; i < n; ++i) put(u, i * j.inner, j.inner, k[i], out, r);
  if (j.p.bias) put(u, u.bias1(), j.inner, 1, out, r);
}

RNL_NOINLINE void map_matrix(const Head& u, int64_t at, int64_t rows, int64_t columns) {
  const InnerModelParams& p = u.j.p;
  if (p.map == InnerMap::kPower) {
    const int64_t n = rows * columns;
    f32x16 total = splat(0.0f);
    for (int64_t i = 0; i < n; i += 16) {
      const f32x16 a = abs(load_lanes(u.sum + at + i, lanes_at(i, n)));
      total = total + select(a > splat(0.0f), exp(log(a) * p.map_power), splat(0.0f));
    }
    const float sum = reduce_add(total),
                by = sum > 0 ? exp(log(splat(sum)) * (-(p.map_power - 2) / p.map_power))[0] : 0.0f;
    for (int64_t i = 0; i < n; i += 16)
      store_lanes(u.now + at + i, load_lanes(u.sum + at + i, lanes_at(i, n)) * by, lanes_at(i, n));
    return;
  }
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = u.sum + at + r * columns;
    float* to = u.now + at + r * columns;
    f32x16 top = splat(-__builtin_inff()), total = splat(0.0f);
    for (int64_t c = 0; c < columns; c += 16)
      top = max(top, columns - c < 16 ? load_n(from + c, int(columns - c), -__builtin_inff()) : load(from + c));
    const float largest = reduce_max(top);
    for (int64_t c = 0; c < columns; c += 16) {
      const int lanes = lanes_at(c, columns);
      const f32x16 e = exp((lanes == 16 ? load(from + c) : load_n(from + c, lanes, -__builtin_inff())) - largest);
      store_lanes(to + c, e, lanes);
      total = total + e;
    }
    const float inverse = 1.0f / reduce_add(total);
    for (int64_t c = 0; c < columns; c += 16)
      store_lanes(to + c, load_lanes(to + c, lanes_at(c, columns)) * inverse, lanes_at(c, columns));
  }
}

RNL_NOINLINE void copy(const Job& j, const float* from, float* to) {
  for (int64_t i = 0; i < j.parameters; i += 16)
    store_lanes(to + i, load_lanes(from + i, lanes_at(i, j.parameters)), lanes_at(i, j.parameters));
}

RNL_NOINLINE void map(const Head& u) {
  const Job& j = u.j;
  copy(j, u.sum, u.now);  // biases stay
  map_matrix(u, 0, j.dim, j.inner);
  if (j.p.hidden) map_matrix(u, u.second(), j.p.hidden, j.dim);
}

// W = W_t; read null: none.
RNL_NOINLINE void end_batch(const Head& u, const float* current, const float* read) {
  const Job& j = u.j;
  if (!read) return copy(j, current, u.base);
  const f32x16 by = splat(*read);
  for (int64_t i = 0; i < j.parameters; i += 16) {
    const int lanes = lanes_at(i, j.parameters);
    store_lanes(u.base + i, fma(by, load_lanes(u.sum + i, lanes), load_lanes(u.base + i, lanes)), lanes);
    store_lanes(u.sum + i, splat(0.0f), lanes);
  }
}

void run_head(void* context, int64_t h, int worker) {
  const Job& j = *static_cast<const Job*>(context);
  const int64_t n = j.dim, state = j.planes * j.parameters;
  float* at = j.scratch + int64_t(worker) * j.worker_floats;
  const auto take = [&at](int64_t count) {
    float* p = at;
    at += padded(count);
    return p;
  };
  float* planes = j.state_out ? j.state_out + h * state : take(state);
  if (!j.state_in) __builtin_memset(planes, 0, size_t(state) * sizeof(float));
  else if (j.state_in + h * state != planes)
    __builtin_memcpy(planes, j.state_in + h * state, size_t(state) * sizeof(float));
  Head u{j,
         h,
         planes,
         planes + j.parameters,
         j.planes == 3 ? planes + 2 * j.parameters : nullptr,
         j.p.map == InnerMap::kIdentity ? nullptr : take(j.parameters),
         {},
         {},
         {},
         {},
         {},
         {},
         {},
         {},
         {}};
  float** vectors[kVectors] = {&u.pre, &u.act, &u.z, &u.unit, &u.dz, &u.dact, &u.x, &u.target, &u.f};
  for (float** v : vectors) {
    *v = take(j.vector);
    __builtin_memset(*v, 0, size_t(padded(j.vector)) * sizeof(float));
  }
  for (int64_t t = 0; t < j.tokens; ++t) {
    const int64_t row = (t * j.heads + h) * n, gate = t * j.heads + h;
    train(u, j.k + row, j.v + row, {j.rate[gate], j.keep ? j.keep[gate] : 1.0f, j.momentum ? j.momentum[gate] : 0.0f});
    const float* read = j.read ? j.read + gate : nullptr;
    for (int64_t i = 0; i < n; i += 16)
      store_lanes(u.x + i, load_lanes(j.q + row + i, lanes_at(i, n)) * j.p.scale, lanes_at(i, n));
    const float* current = read ? u.base : u.sum;
    if (u.now) map(u), current = u.now;
    forward(u, current, read ? u.sum : nullptr, read ? *read : 0.0f, u.x);
    finish(u, u.x, j.y + row);
    if ((j.position + t + 1) % j.p.batch == 0) end_batch(u, current, read);
  }
}

Job job_of(const OpCall& c) {
  Job j{};
  j.p = params_of<InnerModelParams>(c);
  j.tokens = c.in[kQ].dims[0], j.heads = c.in[kQ].dims[1], j.dim = c.in[kQ].dims[2];
  j.inner = j.p.hidden ? j.p.hidden : j.dim;
  j.parameters = parameters_of(j.p, j.dim);
  j.planes = has_input(c, kMomentum) ? 3 : 2;
  j.vector = j.dim > j.inner ? j.dim : j.inner;
  j.worker_floats = padded(j.planes * j.parameters) + padded(j.parameters) + kVectors * padded(j.vector);
  return j;
}

size_t scratch_bytes(const OpCall& c, int workers) {
  return size_t(job_of(c).worker_floats) * size_t(workers) * sizeof(float);
}

void run(const OpCall& c) {
  Job j = job_of(c);
  j.q = input<float>(c, kQ), j.k = input<float>(c, kK), j.v = input<float>(c, kV), j.rate = input<float>(c, kRate),
  j.keep = input<float>(c, kKeep);
  j.momentum = input<float>(c, kMomentum), j.read = input<float>(c, kRead),
  j.norm_weight = input<float>(c, kNormWeight), j.norm_bias = input<float>(c, kNormBias);
  j.state_in = input<float>(c, kState);
  j.state_out = c.out_count > 1 && c.out[1].dtype != DType::kNone ? output<float>(c, 1) : nullptr;
  j.y = output<float>(c, 0);
  j.position = c.position;
  j.scratch = reinterpret_cast<float*>(c.scratch);
  parallel_for(double(j.tokens) * double(j.heads) * double(j.parameters) >= 32768 && j.heads > 1 ? c.pool : nullptr,
               j.heads, run_head, &j);
}

constexpr Kernel kRows[] = {{"inner_model_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList inner_model_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
