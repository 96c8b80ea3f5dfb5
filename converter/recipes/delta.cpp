#include "converter/recipes/delta.h"

#include <cmath>

#include "converter/recipes/ssm.h"

namespace runnel::convert {

using format::BinaryKind;
using format::UnaryKind;

Var unit_length(Net& net, const Var& x, double eps) {
  const double n = double(x.dims.back());
  return net.scale(net.rms_norm(x, "", eps / n), 1 / std::sqrt(n));
}

DeltaInput delta_input(Net& net, const DeltaSizes& s, const std::vector<Var>& qkv, const std::vector<float>& conv,
                       const std::string& prefix) {
  const int64_t widths[] = {s.key_width(), s.key_width(), s.value_width()};
  const char* names[] = {"q_conv", "k_conv", "v_conv"};
  Var out[3];
  int64_t first = 0;
  for (size_t i = 0; i < 3; ++i) {
    const auto begin = conv.begin() + first * s.taps;
    const std::string weight =
        net.constant(prefix + names[i], std::vector<float>(begin, begin + widths[i] * s.taps), {widths[i], s.taps});
    out[i] = short_conv(net, qkv[i], weight, "", s.taps, s.activation, prefix + names[i]);
    first += widths[i];
  }
  DeltaInput in;
  const auto heads = [&](const Var& x) {
    const Var y = unit_length(net, net.reshape(x, {s.key_heads, s.key_dim}));
    return s.is_round_robin && s.value_heads != s.key_heads
               ? net.concat(std::vector<Var>(size_t(s.value_heads / s.key_heads), y), 1)
               : y;
  };
  in.q = heads(out[0]);
  in.k = heads(out[1]);
  in.v = net.reshape(out[2], {s.value_heads, s.value_dim});
  return in;
}

std::vector<float> joined_convs(Net& net, const std::string& prefix, const DeltaSizes& s) {
  std::vector<float> all;
  for (const char* name : {"q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"}) {
    const std::vector<float> part = net.values_of_rows(prefix + name, {1, s.taps});
    all.insert(all.end(), part.begin(), part.end());
  }
  if (int64_t(all.size()) != (2 * s.key_width() + s.value_width()) * s.taps)
    fail("%s: the convolutions of \"%s\" have %zu weights, not %lld", net.checkpoint().path.c_str(),
         net.full_name(prefix).c_str(), all.size(),
         static_cast<long long>((2 * s.key_width() + s.value_width()) * s.taps));
  return all;
}

namespace {

// a + dt_bias, and -e^A_log for each head.
struct Decay {
  Var biased;
  std::vector<float> factor;
  std::vector<int64_t> shape;
};
Decay decay_of(Net& net, const Var& a, const std::string& prefix, const std::vector<int64_t>& a_log_shape) {
  Decay d{net.binary(BinaryKind::add, a, net.plain_as(prefix + "dt_bias", {a.width()}, a.dims)),
          net.negative_exp(prefix + "A_log", a_log_shape),
          {}};
  d.shape = {int64_t(d.factor.size())};
  if (a.dims.size() == 2) d.shape.push_back(1);
  return d;
}

}  // namespace

Var delta_decay(Net& net, const Var& a, const std::string& prefix, const std::vector<int64_t>& a_log_shape) {
  const Decay d = decay_of(net, a, prefix, a_log_shape);
  return net.binary(BinaryKind::mul, net.unary(UnaryKind::softplus, d.biased),
                    net.constant(prefix + "A", d.factor, d.shape));
}

Var bounded_delta_decay(Net& net, const Var& a, const std::string& prefix, const std::vector<int64_t>& a_log_shape,
                        double bound) {
  Decay d = decay_of(net, a, prefix, a_log_shape);
  for (float& v : d.factor) v = -v;
  const Var x = net.binary(BinaryKind::mul, d.biased, net.constant(prefix + "A", d.factor, d.shape));
  return net.scale(net.unary(UnaryKind::sigmoid, x), bound);
}

Var delta_rule(Net& net, const DeltaSizes& s, const DeltaInput& in, const Var& decay, const Var& beta,
               const std::string& prefix, int64_t steps) {
  format::MatrixRecurrenceAttrsT attrs;
  attrs.steps = uint32_t(steps);
  attrs.rule = format::RecurrenceRule::delta;
  attrs.scale = float(1 / std::sqrt(double(s.key_dim)));
  const std::string state = net.state(prefix + "state", {s.value_heads, s.key_dim, s.value_dim});
  return net.op("matrix_recurrence", {in.q.name, in.k.name, in.v.name, decay.name, beta.name, "", "", "", "", state},
                "T", {s.value_heads, s.value_dim}, {state}, attrs);
}

Var gated_head_norm(Net& net, const Var& y, const Var& gate, const std::string& weight, UnaryKind activation,
                    double eps) {
  const Var normed = net.rms_norm(net.wanted(y), net.plain(weight, {y.dims.back()}), eps);
  return net.reshape(net.glu(activation, net.reshape(net.wanted(gate), y.dims), normed), {y.width()});
}

}  // namespace runnel::convert
