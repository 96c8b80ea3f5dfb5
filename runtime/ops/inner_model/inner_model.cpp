#include "ops/inner_model/inner_model.h"

#include <cmath>

#include "ops/sequence.h"
#include "ops/unary/unary.h"

namespace runnel {
namespace {

enum Input { kQ, kK, kV, kRate, kKeep, kMomentum, kRead, kNormWeight, kNormBias, kState };
constexpr const char* kOp = "inner_model";

static_assert(int(format::InnerLoss::MAX) == int(InnerLoss::kHuber) &&
              int(format::InnerMap::MAX) == int(InnerMap::kSoftmax));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::InnerModelAttrs*>(attrs);
  const InnerModelParams p{int64_t(a.batch()),  int32_t(a.hidden()), uint8_t(a.activation()),
                           InnerLoss(a.loss()), InnerMap(a.map()),   a.bias(),
                           a.residual(),        a.loss_power(),      a.loss_delta(),
                           a.map_power(),       a.scale(),           a.eps()};
  RNL_CHECK_ARG(p.batch >= 1 && p.batch < (int64_t(1) << 31), "%s: batch %" PRId64, kOp, p.batch);
  RNL_CHECK_ARG(p.hidden >= 0 && p.hidden <= 65536, "%s: hidden %d, want 0 to 65536", kOp, p.hidden);
  const UnaryKind kind = UnaryKind(p.activation);
  RNL_CHECK_ARG(kind == UnaryKind::kRelu || kind == UnaryKind::kSilu || kind == UnaryKind::kGeluTanh,
                "%s: activation %d, want relu, silu or gelu_tanh", kOp, int(p.activation));
  RNL_CHECK_ARG(int(p.loss) <= 2 && int(p.map) <= 2, "%s: loss %d or map %d is not known", kOp, int(p.loss),
                int(p.map));
  RNL_CHECK_ARG(std::isfinite(p.scale) && p.eps >= 0 && std::isfinite(p.eps), "%s: scale %g or eps %g", kOp,
                double(p.scale), double(p.eps));
  RNL_CHECK_ARG(p.loss_power >= 1 && p.loss_power <= 16 && p.map_power >= 2 && p.map_power <= 16 && p.loss_delta > 0 &&
                    std::isfinite(p.loss_delta),
                "%s: loss_power %g, map_power %g or loss_delta %g", kOp, double(p.loss_power), double(p.map_power),
                double(p.loss_delta));
  *params_of<InnerModelParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  const InnerModelParams& p = params_of<InnerModelParams>(c);
  RNL_TRY(check_shape(kOp, "q", c.in[kQ], DType::kF32, {-1, -1, -1}));
  const int64_t tokens = c.in[kQ].dims[0], heads = c.in[kQ].dims[1], dim = c.in[kQ].dims[2];
  RNL_CHECK_ARG(heads >= 1 && heads <= 65536 && dim >= 1 && dim <= 4096,
                "%s: %" PRId64 " heads of %" PRId64 ", want 1 to 65536 of 1 to 4096", kOp, heads, dim);
  RNL_TRY(check_shape(kOp, "k", c.in[kK], DType::kF32, {tokens, heads, dim}));
  RNL_TRY(check_shape(kOp, "v", c.in[kV], DType::kF32, {tokens, heads, dim}));
  RNL_TRY(check_shape(kOp, "y", c.out[0], DType::kF32, {tokens, heads, dim}));
  constexpr struct {
    int input;
    const char* what;
  } kGates[] = {{kRate, "rate"}, {kKeep, "keep"}, {kMomentum, "momentum"}, {kRead, "read"}};
  for (const auto& g : kGates)
    if (g.input == kRate || has_input(c, g.input))
      RNL_TRY(check_shape(kOp, g.what, c.in[g.input], DType::kF32, {tokens, heads}));
  RNL_CHECK_ARG(!has_input(c, kRead) ||
                    (p.map == InnerMap::kIdentity && !has_input(c, kKeep) && !has_input(c, kMomentum)),
                "%s: read together with a map, keep or momentum", kOp);
  RNL_CHECK_ARG(has_input(c, kNormWeight) == has_input(c, kNormBias),
                "%s: only one of norm_weight and norm_bias is given", kOp);
  if (has_input(c, kNormWeight)) {
    RNL_TRY(check_shape(kOp, "norm_weight", c.in[kNormWeight], DType::kF32, {heads, dim}));
    RNL_TRY(check_shape(kOp, "norm_bias", c.in[kNormBias], DType::kF32, {heads, dim}));
  }
  const int64_t planes = has_input(c, kMomentum) ? 3 : 2, parameters = parameters_of(p, dim);
  if (has_input(c, kState)) RNL_TRY(check_shape(kOp, "state", c.in[kState], DType::kF32, {heads, planes, parameters}));
  if (has_output(c, 1)) RNL_TRY(check_shape(kOp, "state", c.out[1], DType::kF32, {heads, planes, parameters}));
  return Status::ok();
}

// One head in double. Vectors are as long as the wider of dim and hidden.
struct Head {
  const InnerModelParams& p;
  int64_t dim, parameters;
  const float *norm_weight, *norm_bias;
  double *base, *sum, *speed, *now;  // W at the batch's start, A, S, W_t
  double *pre, *act, *z, *unit, *dz, *dact;

  int64_t inner() const { return p.hidden ? p.hidden : dim; }
  int64_t bias1() const { return dim * inner(); }
  int64_t second() const { return bias1() + (p.bias ? inner() : 0); }
  int64_t bias2() const { return second() + p.hidden * dim; }

  // z of the model with weights w; pre and act are kept for the gradient.
  __attribute__((noinline)) void forward(const double* w, const double* x) {
    double* first = p.hidden ? pre : z;
    for (int64_t j = 0; j < inner(); ++j) {
      first[j] = p.bias ? w[bias1() + j] : 0;
      for (int64_t i = 0; i < dim; ++i) first[j] += x[i] * w[i * inner() + j];
    }
    if (!p.hidden) return;
    for (int64_t j = 0; j < p.hidden; ++j) act[j] = unary_reference(UnaryKind(p.activation), pre[j], 1);
    for (int64_t j = 0; j < dim; ++j) {
      z[j] = p.bias ? w[bias2() + j] : 0;
      for (int64_t i = 0; i < p.hidden; ++i) z[j] += act[i] * w[second() + i * dim + j];
    }
  }
  // f from z; unit is the normalised z; returns 1 / standard deviation.
  __attribute__((noinline)) double finish(const double* x, double* f) {
    double mean = 0, square = 0;
    for (int64_t j = 0; j < dim; ++j) mean += z[j] / double(dim);
    for (int64_t j = 0; j < dim; ++j) square += (z[j] - mean) * (z[j] - mean) / double(dim);
    const double inverse = 1 / std::sqrt(square + double(p.eps));
    for (int64_t j = 0; j < dim; ++j) {
      unit[j] = (z[j] - mean) * inverse;
      f[j] = (p.residual ? x[j] : 0) + (norm_weight ? unit[j] * double(norm_weight[j]) + double(norm_bias[j]) : z[j]);
    }
    return inverse;
  }
  double slope(double x) const {
    if (UnaryKind(p.activation) == UnaryKind::kRelu) return x > 0;
    const double c = 2 * 0.79788456080286535588,
                 u = UnaryKind(p.activation) == UnaryKind::kSilu ? x : c * (x + 0.044715 * x * x * x);
    const double s = 1 / (1 + std::exp(-u));
    return s + x * s * (1 - s) * (UnaryKind(p.activation) == UnaryKind::kSilu ? 1 : c * (1 + 3 * 0.044715 * x * x));
  }
  double loss_slope(double e) const {
    const double a = std::fabs(e), sign = e < 0 ? -1 : 1;
    if (p.loss == InnerLoss::kPower) return sign * double(p.loss_power) * std::pow(a, double(p.loss_power) - 1);
    return p.loss == InnerLoss::kHuber && a > double(p.loss_delta) ? sign * double(p.loss_delta) : e;
  }
  __attribute__((noinline)) void put(int64_t i, double gradient, double rate, double keep, double momentum) {
    double step = -rate * gradient;
    if (speed) step = speed[i] = momentum * speed[i] + step;
    sum[i] = keep * sum[i] + step;
  }
  __attribute__((noinline)) void train(const double* k, const double* v, double rate, double keep, double momentum) {
    forward(base, k);
    const double inverse = finish(k, dz);
    double total = 0, along = 0;
    for (int64_t j = 0; j < dim; ++j) {
      dz[j] = loss_slope(dz[j] - v[j]) * (norm_weight ? double(norm_weight[j]) : 1);
      total += dz[j] / double(dim), along += dz[j] * unit[j] / double(dim);
    }
    for (int64_t j = 0; norm_weight && j < dim; ++j) dz[j] = (dz[j] - total - unit[j] * along) * inverse;
    const double* out = dz;
    if (p.hidden) {
      for (int64_t i = 0; i < p.hidden; ++i) {
        dact[i] = 0;
        for (int64_t j = 0; j < dim; ++j) dact[i] += base[second() + i * dim + j] * dz[j];
        dact[i] *= slope(pre[i]);
        for (int64_t j = 0; j < dim; ++j) put(second() + i * dim + j, act[i] * dz[j], rate, keep, momentum);
      }
      for (int64_t j = 0; p.bias && j < dim; ++j) put(bias2() + j, dz[j], rate, keep, momentum);
      out = dact;
    }
    for (int64_t i = 0; i < dim; ++i)
      for (int64_t j = 0; j < inner(); ++j) put(i * inner() + j, k[i] * out[j], rate, keep, momentum);
    for (int64_t j = 0; p.bias && j < inner(); ++j) put(bias1() + j, out[j], rate, keep, momentum);
  }
  __attribute__((noinline)) void map_matrix(int64_t at, int64_t rows, int64_t columns) {
    if (p.map == InnerMap::kPower) {
      double total = 0;
      for (int64_t i = 0; i < rows * columns; ++i) total += std::pow(std::fabs(sum[at + i]), double(p.map_power));
      const double by = std::pow(total, (double(p.map_power) - 2) / double(p.map_power));
      for (int64_t i = 0; i < rows * columns; ++i) now[at + i] = by > 0 ? sum[at + i] / by : 0;
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      double largest = -INFINITY, total = 0;
      for (int64_t j = 0; j < columns; ++j) largest = std::fmax(largest, sum[at + r * columns + j]);
      for (int64_t j = 0; j < columns; ++j)
        total += now[at + r * columns + j] = std::exp(sum[at + r * columns + j] - largest);
      for (int64_t j = 0; j < columns; ++j) now[at + r * columns + j] /= total;
    }
  }
  // W_t; read null: none.
  void make_now(const float* read) {
    for (int64_t i = 0; i < parameters; ++i) now[i] = read ? base[i] + double(*read) * sum[i] : sum[i];
    if (p.map == InnerMap::kIdentity) return;
    map_matrix(0, dim, inner());
    if (p.hidden) map_matrix(second(), p.hidden, dim);
  }
  void end_batch(bool reads) {
    for (int64_t i = 0; i < parameters; ++i) {
      base[i] = now[i];
      if (reads) sum[i] = 0;
    }
  }
};

void reference(const OpCall& c) {
  const InnerModelParams& p = params_of<InnerModelParams>(c);
  const int64_t tokens = c.in[kQ].dims[0], heads = c.in[kQ].dims[1], dim = c.in[kQ].dims[2],
                parameters = parameters_of(p, dim), wide = dim > p.hidden ? dim : p.hidden;
  const int64_t planes = has_input(c, kMomentum) ? 3 : 2;
  double* memory = new (std::nothrow) double[size_t(4 * parameters + 8 * wide)];
  if (!memory) return;
  const auto gate = [&](int input, int64_t at, double otherwise) {
    return has_input(c, input) ? double(static_cast<const float*>(c.in[input].data)[at]) : otherwise;
  };
  for (int64_t h = 0; h < heads; ++h) {
    double* vectors = memory + 4 * parameters;
    double *x = vectors + 6 * wide, *f = vectors + 7 * wide;
    const bool normed = has_input(c, kNormWeight);
    Head head{p,
              dim,
              parameters,
              normed ? static_cast<const float*>(c.in[kNormWeight].data) + h * dim : nullptr,
              normed ? static_cast<const float*>(c.in[kNormBias].data) + h * dim : nullptr,
              memory,
              memory + parameters,
              planes == 3 ? memory + 2 * parameters : nullptr,
              memory + 3 * parameters,
              vectors,
              vectors + wide,
              vectors + 2 * wide,
              vectors + 3 * wide,
              vectors + 4 * wide,
              vectors + 5 * wide};
    for (int64_t i = 0; i < planes * parameters; ++i)
      memory[i] = has_input(c, kState) ? state_value(c.in[kState], h * planes * parameters + i) : 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t at = (t * heads + h) * dim, g = t * heads + h;
      for (int64_t i = 0; i < dim; ++i) {
        x[i] = static_cast<const float*>(c.in[kK].data)[at + i];
        f[i] = static_cast<const float*>(c.in[kV].data)[at + i];
      }
      head.train(x, f, gate(kRate, g, 0), gate(kKeep, g, 1), gate(kMomentum, g, 0));
      const bool reads = has_input(c, kRead);
      head.make_now(reads ? static_cast<const float*>(c.in[kRead].data) + g : nullptr);
      for (int64_t i = 0; i < dim; ++i)
        x[i] = double(p.scale) * double(static_cast<const float*>(c.in[kQ].data)[at + i]);
      head.forward(head.now, x);
      head.finish(x, f);
      for (int64_t i = 0; i < dim; ++i) static_cast<float*>(c.out[0].data)[at + i] = float(f[i]);
      if ((c.position + t + 1) % p.batch == 0) head.end_batch(reads);
    }
    for (int64_t i = 0; has_output(c, 1) && i < planes * parameters; ++i)
      set_state_value(c.out[1], h * planes * parameters + i, memory[i]);
  }
  delete[] memory;
}

}  // namespace

extern constexpr OpDef inner_model_def = define_op(registry_row::inner_model, parse, check, reference);

}  // namespace runnel
