#include "converter/recipes/ssm.h"

#include <cmath>

#include "converter/recipes/decoder.h"

namespace runnel::convert {

using format::UnaryKind;

Var short_conv(Net& net, const Var& x, const std::string& name, int64_t taps, UnaryKind activation, int64_t channels,
               int64_t first) {
  const int64_t width = x.dims[0];
  if (channels == 0) channels = width;
  const std::string part = width == channels ? "" : "[" + std::to_string(first) + "]";
  const auto piece = [&](const std::string& tensor, const std::vector<int64_t>& source_shape, int64_t each) {
    const std::vector<float> v = net.values(tensor, source_shape);
    return std::vector<float>(v.begin() + first * each, v.begin() + (first + width) * each);
  };
  const std::string weight =
      net.constant(name + part + ".weight", piece(name + ".weight", {channels, 1, taps}, taps), {width, taps});
  const std::string bias =
      net.has_bias(name) ? net.constant(name + part + ".bias", piece(name + ".bias", {channels}, 1), {width}) : "";
  return short_conv(net, x, weight, bias, taps, activation, name + part);
}

Var short_conv(Net& net, const Var& x, const std::string& weight, const std::string& bias, int64_t taps,
               UnaryKind activation, const std::string& name) {
  Names inputs = {x.name, weight, bias, ""}, more;
  if (taps > 1) {
    inputs[3] = net.state(name + ".tail", {taps - 1, x.dims[0]});
    more.push_back(inputs[3]);
  }
  format::ConvAttrsT attrs;
  attrs.activation = activation;
  return net.op("causal_conv", inputs, x.axis, x.dims, more, attrs);
}

const std::map<std::string, std::string> kGgufMamba2 = {{"in_proj", "ssm_in"},  {"conv1d", "ssm_conv1d"},
                                                        {"x_proj", "ssm_x"},    {"dt_proj", "ssm_dt"},
                                                        {"A_log", "ssm_a"},     {"D", "ssm_d"},
                                                        {"norm", "ssm_norm"},   {"dt_bias", "ssm_dt.bias"},
                                                        {"out_proj", "ssm_out"}};

MambaReading mamba_reading(Net& net, const Mamba& m, const Var& x) {
  const std::string& p = m.prefix;
  const std::vector<Var> in =
      net.linears(x, {{p + "in_proj", {m.inner}, 0, 2 * m.inner}, {p + "in_proj", {m.inner}, m.inner, 2 * m.inner}});
  const Var u = short_conv(net, in[0], p + "conv1d", m.taps, m.activation);
  const int64_t all = m.rank + 2 * m.state;
  std::vector<Var> dbc = net.linears(u, {{p + "x_proj", {m.rank}, 0, all},
                                         {p + "x_proj", {m.state}, m.rank, all},
                                         {p + "x_proj", {m.state}, m.rank + m.state, all}});
  if (m.norms != Mamba::Norms::kNone) {
    const char* names[] = {"dt_layernorm.weight", "b_layernorm.weight", "c_layernorm.weight"};
    for (size_t i = 0; i < 3; ++i)
      dbc[i] = net.rms_norm(dbc[i], m.norms == Mamba::Norms::kWeighted ? net.plain(p + names[i], {dbc[i].dims[0]}) : "",
                            m.eps);
  }
  // The bias of dt goes into the scan, which adds it in front of the softplus.
  const Var dt = net.times(dbc[0], net.matrix(p + "dt_proj.weight", net.take(p + "dt_proj.weight", {m.inner, m.rank})),
                           "", {m.inner});
  const std::string h = net.state(p + "state", {m.inner, m.state});
  format::SelectiveScanAttrsT attrs;
  attrs.softplus = true;
  const Var y = net.op("selective_scan",
                       {u.name, dt.name,
                        net.constant(p + "A", net.negative_exp(p + "A_log", {m.inner, m.state}), {m.inner, m.state}),
                        dbc[1].name, dbc[2].name, net.plain(p + "D", {m.inner}),
                        net.has(p + "dt_proj.bias") ? net.plain(p + "dt_proj.bias", {m.inner}) : "", h},
                       "T", {m.inner}, {h}, attrs);
  return {y, in[1]};
}

Var mamba_output(Net& net, const Mamba& m, const MambaReading& r, int64_t hidden) {
  return net.linear(net.glu(UnaryKind::silu, net.wanted(r.gate), net.wanted(r.y)), {m.prefix + "out_proj", {hidden}});
}

Var mamba(Net& net, const Mamba& m, const Var& x) {
  return mamba_output(net, m, mamba_reading(net, m, x), x.dims.back());
}

void read_step_limit(const Facts& f, Mamba2& m) {
  const Json* limit = f.find("time_step_limit");
  if (!limit) return;
  const auto number = [&](const Json& v) -> double {
    if (v.is_number()) return v.get<double>();
    const Json* text = v.is_object() && v.contains("__float__") ? &v["__float__"] : &v;
    if (!text->is_string() || *text != "Infinity")
      f.refuse("time_step_limit", "is " + printable(limit->dump()) + ", not two numbers");
    return INFINITY;
  };
  if (!limit->is_array() || limit->size() != 2) f.refuse("time_step_limit", "is not a list of two numbers");
  m.dt_min = number((*limit)[0]);
  m.dt_max = number((*limit)[1]);
}

const std::map<std::string, std::string> kGgufHybridKeys = {{"mamba_n_heads", "ssm.time_step_rank"},
                                                            {"mamba_d_inner", "ssm.inner_size"},
                                                            {"mamba_d_state", "ssm.state_size"},
                                                            {"mamba_n_groups", "ssm.group_count"},
                                                            {"mamba_d_conv", "ssm.conv_kernel"}};

void read_hybrid_mamba2(const Facts& f, int64_t inner, Mamba2& m) {
  m.prefix = "mamba.";
  m.heads = f.integer("mamba_n_heads", 1, 65536);
  const Json* dim = f.find("mamba_d_head");
  m.head_dim = dim && dim->is_number() ? f.integer("mamba_d_head", 1, 65536) : inner / m.heads;
  if (m.heads * m.head_dim != inner)
    f.refuse("mamba_n_heads", "and mamba_d_head do not give " + std::to_string(inner) + " channels");
  m.state = f.integer("mamba_d_state", 1, 65536);
  m.groups = m.norm_groups = f.integer("mamba_n_groups", 1, 65536, 1);
  m.taps = f.integer("mamba_d_conv", 1, 64, 4);
  m.eps = f.number("rms_norm_eps", 1e-5);
  m.activation = activation_named(f, "hidden_act", "silu");
  read_step_limit(f, m);
}

Var mamba2(Net& net, const Mamba2& m, const Var& x) {
  const std::string& p = m.prefix;
  const int64_t inner = m.heads * m.head_dim, bc = m.groups * m.state, all = 2 * inner + 2 * bc + m.heads,
                conv = inner + 2 * bc;
  std::vector<Var> in = net.linears(x, {{p + "in_proj", {inner}, 0, all},
                                        {p + "in_proj", {inner}, inner, all},
                                        {p + "in_proj", {bc}, 2 * inner, all},
                                        {p + "in_proj", {bc}, 2 * inner + bc, all},
                                        {p + "in_proj", {m.heads}, 2 * inner + 2 * bc, all}});
  for (size_t i = 0; i < 5; ++i)
    if (m.factors[i] != 1) in[i] = net.scale(in[i], m.factors[i]);
  const Var u = net.reshape(short_conv(net, in[1], p + "conv1d", m.taps, m.activation, conv, 0), {m.heads, m.head_dim});
  const Var b =
      net.reshape(short_conv(net, in[2], p + "conv1d", m.taps, m.activation, conv, inner), {m.groups, m.state});
  const Var c =
      net.reshape(short_conv(net, in[3], p + "conv1d", m.taps, m.activation, conv, inner + bc), {m.groups, m.state});
  Var dt =
      net.unary(UnaryKind::softplus, net.binary(format::BinaryKind::add, in[4], net.plain(p + "dt_bias", {m.heads})));
  if (m.dt_min > 0) dt = net.binary(format::BinaryKind::max, dt, net.constant(p + "dt_min", {float(m.dt_min)}, {1}));
  if (std::isfinite(m.dt_max))
    dt = net.binary(format::BinaryKind::min, dt, net.constant(p + "dt_max", {float(m.dt_max)}, {1}));
  const Var decay = net.binary(format::BinaryKind::mul, dt,
                               net.constant(p + "A", net.negative_exp(p + "A_log", {m.heads}), {m.heads}));
  const Var v = net.mul(u, net.reshape(dt, {m.heads, 1}));
  const std::string s = net.state(p + "state", {m.heads, m.state, m.head_dim});
  Var y = net.op("matrix_recurrence", {c.name, b.name, v.name, decay.name, "", "", "", "", "", s}, "T",
                 {m.heads, m.head_dim}, {s}, format::MatrixRecurrenceAttrsT{});
  y = net.wanted(y);
  y = net.add(y, net.binary(format::BinaryKind::mul, net.wanted(u), net.plain_as(p + "D", {m.heads}, {m.heads, 1})));
  y = net.reshape(y, {inner});
  const Var gate = net.wanted(in[0]);
  if (!m.norm_before_gate || !m.has_norm) y = net.glu(UnaryKind::silu, gate, y);
  if (m.has_norm) {
    // The norm's weight belongs to the whole width, its mean square to one group.
    const int64_t part = inner / m.norm_groups;
    const std::string weight =
        net.constant(p + "norm.weight", net.numbers(p + "norm.weight", inner), {inner});  // a GGUF's is cut by group
    if (m.norm_groups == 1) {
      y = net.rms_norm(y, weight, m.eps);
    } else {
      y = net.reshape(net.rms_norm(net.reshape(y, {m.norm_groups, part}), "", m.eps), {inner});
      y = net.binary(format::BinaryKind::mul, y, weight);
    }
    if (m.norm_before_gate) y = net.glu(UnaryKind::silu, gate, y);
  }
  return net.linear(y, {p + "out_proj", {x.dims.back()}});
}

}  // namespace runnel::convert
