#include "ops/cell_recurrence/cell_recurrence.h"

#include <cmath>

#include "base/vec.h"
#include "ops/sequence.h"

namespace runnel {
namespace {

enum Input { kX, kR, kRBias, kFirstState, kSegments = kFirstState + kCellStates };

static_assert(int(format::CellKind::lstm) == int(CellKind::kLstm) &&
              int(format::CellKind::gru) == int(CellKind::kGru) && int(format::CellKind::MAX) == int(CellKind::kSlstm));

constexpr int kGates[] = {1, 4, 3, 4};
constexpr int kStates[] = {1, 2, 1, 4};
constexpr const char* kNames[] = {"rnn", "lstm", "gru", "slstm"};
constexpr const char* kStateNames[] = {"h", "c", "n", "m"};

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::CellAttrs*>(attrs);
  const CellParams p{CellKind(a.kind()), a.forget_exp(), a.reverse()};
  RNL_CHECK_ARG(int(p.kind) <= int(CellKind::kSlstm), "cell_recurrence: kind %d is not known", int(p.kind));
  RNL_CHECK_ARG(!p.forget_exp || p.kind == CellKind::kSlstm, "cell_recurrence: forget_exp is of slstm, the kind is %s",
                kNames[int(p.kind)]);
  *params_of<CellParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  const int kind = int(params_of<CellParams>(c).kind);
  const int64_t gates = kGates[kind];
  RNL_TRY(check_shape("cell_recurrence", "x", c.in[kX], DType::kF32, {-1, gates, -1, -1}));
  const int64_t tokens = c.in[kX].dims[0], heads = c.in[kX].dims[2], dim = c.in[kX].dims[3];
  RNL_TRY(check_shape("cell_recurrence", "R", c.in[kR], DType::kF32, {gates, heads, dim, dim}));
  if (has_input(c, kRBias))
    RNL_TRY(check_shape("cell_recurrence", "r_bias", c.in[kRBias], DType::kF32, {gates, heads, dim}));
  RNL_TRY(check_shape("cell_recurrence", "y", c.out[0], DType::kF32, {tokens, heads * dim}));
  bool has_states = false;
  for (int i = 0; i < kCellStates; ++i) {
    const bool is_given = has_input(c, kFirstState + i) || has_output(c, 1 + i);
    RNL_CHECK_ARG(!is_given || i < kStates[kind], "cell_recurrence: %s has no state %s", kNames[kind], kStateNames[i]);
    RNL_TRY(check_state("cell_recurrence", kStateNames[i], c, kFirstState + i, 1 + i, {heads, dim}));
    has_states |= is_given;
  }
  return check_segments("cell_recurrence", c, kSegments, has_states);
}

Status check_data(const OpCall& c) { return check_segment_bounds("cell_recurrence", c, kSegments, c.in[kX].dims[0]); }

struct Cell {
  double h, c, n, m;
};

// x and r: what each gate has from the input and from the output before.
void step(const CellParams& p, const double* x, const double* r, Cell* s) {
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  switch (p.kind) {
    case CellKind::kRnn: s->h = std::tanh(x[0] + r[0]); return;
    case CellKind::kLstm:
      s->c = sigmoid(x[1] + r[1]) * s->c + sigmoid(x[0] + r[0]) * std::tanh(x[2] + r[2]);
      s->h = sigmoid(x[3] + r[3]) * std::tanh(s->c);
      return;
    case CellKind::kGru: {
      const double z = sigmoid(x[1] + r[1]);
      s->h = (1 - z) * std::tanh(x[2] + sigmoid(x[0] + r[0]) * r[2]) + z * s->h;
      return;
    }
    case CellKind::kSlstm: {
      const double i = x[0] + r[0], f = x[1] + r[1];
      const double kept = s->m + (p.forget_exp ? f : f < 0 ? f - std::log1p(std::exp(f)) : -std::log1p(std::exp(-f)));
      const double m = s->n == 0 || i > kept ? i : kept;
      const double keep = s->n == 0 ? 0 : std::exp(kept - m), take = std::exp(i - m);
      s->c = keep * s->c + take * std::tanh(x[2] + r[2]);
      s->n = keep * s->n + take;
      s->m = m;
      s->h = sigmoid(x[3] + r[3]) * s->c / s->n;
      return;
    }
  }
}

void reference(const OpCall& c) {
  const CellParams& p = params_of<CellParams>(c);
  const TensorView& x = c.in[kX];
  const int64_t gates = x.dims[1], heads = x.dims[2], dim = x.dims[3], width = heads * dim;
  const auto f = [&](int i, int64_t at) { return double(static_cast<const float*>(c.in[i].data)[at]); };
  float* y = static_cast<float*>(c.out[0].data);
  Vec<Cell> before, after;
  // Every target has a kernel; only tests come here.
  if (!before.assign(size_t(width)).is_ok() || !after.assign(size_t(width)).is_ok()) return;
  for_each_segment(c, kSegments, x.dims[0], [&](int64_t first, int64_t count) {
    for (int64_t ch = 0; ch < width; ++ch) {
      double s[kCellStates];
      for (int k = 0; k < kCellStates; ++k)
        s[k] = has_input(c, kFirstState + k) ? state_value(c.in[kFirstState + k], ch) : 0;
      after[size_t(ch)] = {s[0], s[1], s[2], s[3]};
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = p.reverse ? first + count - 1 - i : first + i;
      for (int64_t ch = 0; ch < width; ++ch) before[size_t(ch)] = after[size_t(ch)];
      for (int64_t ch = 0; ch < width; ++ch) {
        double in[4] = {}, back[4] = {};
        for (int64_t g = 0; g < gates; ++g) {
          in[g] = f(kX, (t * gates + g) * width + ch);
          back[g] = has_input(c, kRBias) ? f(kRBias, g * width + ch) : 0;
          for (int64_t k = 0; k < dim; ++k)
            back[g] += f(kR, (g * width + ch) * dim + k) * before[size_t(ch / dim * dim + k)].h;
        }
        step(p, in, back, &after[size_t(ch)]);
        y[t * width + ch] = float(after[size_t(ch)].h);
      }
    }
    for (int64_t ch = 0; ch < width; ++ch) {
      const Cell& s = after[size_t(ch)];
      const double values[kCellStates] = {s.h, s.c, s.n, s.m};
      for (int k = 0; k < kCellStates; ++k)
        if (has_output(c, 1 + k)) set_state_value(c.out[1 + k], ch, values[k]);
    }
  });
}

}  // namespace

extern constexpr OpDef cell_recurrence_def =
    define_op(registry_row::cell_recurrence, parse, check, reference, check_data);

}  // namespace runnel
