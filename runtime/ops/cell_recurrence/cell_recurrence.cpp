#include "ops/cell_recurrence/cell_recurrence.h"

#include <cmath>

#include "base/vec.h"
#include "ops/sequence.h"

namespace runnel {
namespace {

enum Input { kX, kR, kRBias, kFirstState, kSegments = kFirstState + kCellStates, kPeepholes };

static_assert(int(format::CellKind::lstm) == int(CellKind::kLstm) &&
              int(format::CellKind::gru) == int(CellKind::kGru) && int(format::CellKind::MAX) == int(CellKind::kSlstm));

constexpr int kGates[] = {1, 4, 3, 4};
constexpr int kStates[] = {1, 2, 1, 4};
constexpr const char* kNames[] = {"rnn", "lstm", "gru", "slstm"};
constexpr const char* kStateNames[] = {"h", "c", "n", "m"};

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::CellAttrs*>(attrs);
  const auto function = [](format::UnaryKind given, UnaryKind own) {
    return given == format::UnaryKind::none ? own : UnaryKind(given);
  };
  const CellParams p{CellKind(a.kind()),
                     a.forget_exp(),
                     a.reverse(),
                     a.reset_first(),
                     function(a.gate(), UnaryKind::kSigmoid),
                     function(a.candidate(), UnaryKind::kTanh),
                     function(a.read(), UnaryKind::kTanh),
                     a.clip() == 0 ? INFINITY : a.clip()};
  RNL_CHECK_ARG(int(p.kind) <= int(CellKind::kSlstm), "cell_recurrence: kind %d is not known", int(p.kind));
  RNL_CHECK_ARG(p.clip > 0, "cell_recurrence: clip is %g", double(p.clip));
  RNL_CHECK_ARG(!p.reset_first || p.kind == CellKind::kGru, "cell_recurrence: reset_first is of gru, the kind is %s",
                kNames[int(p.kind)]);
  for (UnaryKind f : {p.gate, p.candidate, p.read})
    RNL_CHECK_ARG(f == UnaryKind::kSigmoid || f == UnaryKind::kTanh || f == UnaryKind::kRelu,
                  "cell_recurrence: function %d is not sigmoid, tanh or relu", int(f));
  const bool is_slstm = p.kind == CellKind::kSlstm;
  RNL_CHECK_ARG(!is_slstm || (p.gate == UnaryKind::kSigmoid && p.candidate == UnaryKind::kTanh && p.clip == INFINITY),
                "cell_recurrence: slstm has its own functions");
  RNL_CHECK_ARG(p.kind == CellKind::kLstm || p.read == UnaryKind::kTanh,
                "cell_recurrence: read is of lstm, the kind is %s", kNames[int(p.kind)]);
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
  // One head's weights serve all.
  const auto heads_of = [heads](const TensorView& t) { return t.rank > 1 && t.dims[1] == 1 ? int64_t(1) : heads; };
  RNL_TRY(check_shape("cell_recurrence", "R", c.in[kR], DType::kF32, {gates, heads_of(c.in[kR]), dim, dim}));
  if (has_input(c, kRBias))
    RNL_TRY(check_shape("cell_recurrence", "r_bias", c.in[kRBias], DType::kF32, {gates, heads_of(c.in[kRBias]), dim}));
  if (has_input(c, kPeepholes)) {
    RNL_CHECK_ARG(kind == int(CellKind::kLstm), "cell_recurrence: %s has no peepholes", kNames[kind]);
    RNL_TRY(check_shape("cell_recurrence", "peepholes", c.in[kPeepholes], DType::kF32,
                        {3, heads_of(c.in[kPeepholes]), dim}));
  }
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

double clipped(const CellParams& p, double v) {
  const double most = double(p.clip);
  return v > most ? most : v < -most ? -most : v;
}

double apply(UnaryKind f, double v) {
  return f == UnaryKind::kSigmoid ? 1 / (1 + std::exp(-v)) : f == UnaryKind::kTanh ? std::tanh(v) : v < 0 ? 0 : v;
}

// x and r: what each gate has from the input and from the output before; w: peepholes of i, f and o.
void step(const CellParams& p, const double* x, const double* r, const double* w, Cell* s) {
  const auto gate = [&](double v) { return apply(p.gate, clipped(p, v)); };
  const auto candidate = [&](double v) { return apply(p.candidate, clipped(p, v)); };
  switch (p.kind) {
    case CellKind::kRnn: s->h = candidate(x[0] + r[0]); return;
    case CellKind::kLstm: {
      const double c = s->c;
      s->c = gate(x[1] + r[1] + w[1] * c) * c + gate(x[0] + r[0] + w[0] * c) * candidate(x[2] + r[2]);
      s->h = gate(x[3] + r[3] + w[2] * s->c) * apply(p.read, s->c);
      return;
    }
    case CellKind::kGru: {
      const double z = gate(x[1] + r[1]), back = p.reset_first ? r[2] : gate(x[0] + r[0]) * r[2];
      s->h = (1 - z) * candidate(x[2] + back) + z * s->h;
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
      s->h = apply(UnaryKind::kSigmoid, x[3] + r[3]) * s->c / s->n;
      return;
    }
  }
}

// What gate g of channel ch has from `seen`, the outputs before.
double product(const OpCall& c, int64_t g, int64_t ch, const Vec<double>& seen) {
  const int64_t heads = c.in[kX].dims[2], dim = c.in[kX].dims[3], head = ch / dim, d = ch % dim;
  const auto row_of = [&](const TensorView& t) { return (g * t.dims[1] + (t.dims[1] == heads ? head : 0)) * dim + d; };
  const auto f = [&](int i, int64_t at) { return double(static_cast<const float*>(c.in[i].data)[at]); };
  double sum = has_input(c, kRBias) ? f(kRBias, row_of(c.in[kRBias])) : 0;
  for (int64_t k = 0; k < dim; ++k) sum += f(kR, row_of(c.in[kR]) * dim + k) * seen[size_t(head * dim + k)];
  return sum;
}

void reference(const OpCall& c) {
  const CellParams& p = params_of<CellParams>(c);
  const TensorView& x = c.in[kX];
  const int64_t gates = x.dims[1], heads = x.dims[2], dim = x.dims[3], width = heads * dim;
  const auto f = [&](int i, int64_t at) { return double(static_cast<const float*>(c.in[i].data)[at]); };
  float* y = static_cast<float*>(c.out[0].data);
  Vec<Cell> cells;
  Vec<double> before, reset;
  // Every target has a kernel; only tests and the converter come here.
  if (!cells.assign(size_t(width)).is_ok() || !before.assign(size_t(width)).is_ok() ||
      !reset.assign(size_t(width)).is_ok())
    return;
  for_each_segment(c, kSegments, x.dims[0], [&](int64_t first, int64_t count) {
    for (int64_t ch = 0; ch < width; ++ch) {
      double s[kCellStates];
      for (int k = 0; k < kCellStates; ++k)
        s[k] = has_input(c, kFirstState + k) ? state_value(c.in[kFirstState + k], ch) : 0;
      cells[size_t(ch)] = {s[0], s[1], s[2], s[3]};
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = p.reverse ? first + count - 1 - i : first + i;
      const auto in = [&](int64_t g, int64_t ch) { return f(kX, (t * gates + g) * width + ch); };
      for (int64_t ch = 0; ch < width; ++ch) before[size_t(ch)] = cells[size_t(ch)].h;
      for (int64_t ch = 0; p.reset_first && ch < width; ++ch)
        reset[size_t(ch)] = apply(p.gate, clipped(p, in(0, ch) + product(c, 0, ch, before))) * before[size_t(ch)];
      for (int64_t ch = 0; ch < width; ++ch) {
        double own[4] = {}, back[4] = {}, w[3] = {};
        for (int64_t g = 0; g < gates; ++g) {
          own[g] = in(g, ch);
          back[g] = product(c, g, ch, p.reset_first && g == 2 ? reset : before);
        }
        for (int64_t k = 0; k < 3 && has_input(c, kPeepholes); ++k) {
          const int64_t own_heads = c.in[kPeepholes].dims[1];
          w[k] = f(kPeepholes, (k * own_heads + (own_heads == heads ? ch / dim : 0)) * dim + ch % dim);
        }
        step(p, own, back, w, &cells[size_t(ch)]);
        y[t * width + ch] = float(cells[size_t(ch)].h);
      }
    }
    for (int64_t ch = 0; ch < width; ++ch) {
      const Cell& s = cells[size_t(ch)];
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
