// Gemma 3n, text part. Several streams go through the layers beside each other (AltUp: Baykal et al. 2023): a layer
// predicts all of them by a small matrix of each token, works on one, and corrects all by what it found. Beside
// attention a low-rank branch (Laurel); in the first layers only gates far above their mean pass; inputs for each
// layer; shared keys and values. The towers for pictures and sound are left out.
#include <cmath>
#include <cstring>

#include "converter/recipes/layer_types.h"
#include "converter/recipes/per_layer.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/text_config.h"

namespace runnel::convert {
namespace {

constexpr int64_t kPattern = 5;
constexpr double kLocalBase = 10000, kGlobalBase = 1000000;
constexpr size_t kSparseLayers = 10;  // where a source does not say
constexpr double kSparsity = 0.95;
constexpr float kLeastMeanSquare = 1e-5f;

const Json kDefaults = {{"vocab_size", 262400},
                        {"hidden_size", 2048},
                        {"intermediate_size", 16384},
                        {"num_hidden_layers", 35},
                        {"num_attention_heads", 8},
                        {"num_key_value_heads", 2},
                        {"head_dim", 256},
                        {"max_position_embeddings", 32768},
                        {"sliding_window", 512},
                        {"vocab_size_per_layer_input", 262144},
                        {"hidden_size_per_layer_input", 256},
                        {"num_kv_shared_layers", 15},
                        {"altup_active_idx", 0},
                        {"altup_num_inputs", 4},
                        {"altup_correct_scale", true},
                        {"laurel_rank", 64}};
constexpr double kSoftcap = 30;

struct Gemma3n {
  PerLayerDecoder p;
  int64_t streams = 4, active = 0, rank = 0;
  bool scales_corrected = true;
  // How many standard deviations above its mean a gate must be, layer by layer; -infinity: all pass.
  std::vector<double> thresholds;
};

// The number below which a share `p` of a normal distribution lies.
double normal_quantile(double p) {
  double low = -40, high = 40;
  for (int i = 0; i < 200; ++i) {
    const double mid = (low + high) / 2;
    (0.5 * std::erfc(-mid / std::sqrt(2.0)) < p ? low : high) = mid;
  }
  return low;
}

// Shares of the gates that are to be 0, or in a GGUF the thresholds that follow.
void read_sparsity(const Facts& f, Gemma3n& m) {
  const size_t layers = m.p.d.layers.size();
  m.thresholds.assign(layers, -INFINITY);
  const char* key = f.has("activation_sparsity_scale") ? "activation_sparsity_scale" : "activation_sparsity_pattern";
  const bool is_share = key == std::string("activation_sparsity_pattern");
  const Json* given = f.find(key);
  if (given && (!given->is_array() || given->size() != layers)) f.refuse(key, "does not have a value for each layer");
  for (size_t i = 0; i < layers; ++i) {
    const double value = !given                    ? (layers > kSparseLayers && i < kSparseLayers ? kSparsity : 0)
                         : (*given)[i].is_number() ? (*given)[i].get<double>()
                                                   : NAN;
    if (is_share && !(value >= 0 && value < 1))
      f.refuse(key, "holds " + printable((*given)[i].dump()) + ", not a share from 0 to below 1");
    if (std::isnan(value) || value == INFINITY) f.refuse(key, "holds something that is no threshold");
    if (!is_share) m.thresholds[i] = value;
    else if (value > 0) m.thresholds[i] = normal_quantile(float(value));
  }
}

const GgufForm kGguf = {{{"altup_num_inputs", "altup.num_inputs"}, {"altup_active_idx", "altup.active_idx"}},
                        {{"rope_theta", kGlobalBase}}};

void read_facts(Checkpoint& c, Gemma3n& m) {
  Decoder& d = m.p.d;
  const Facts f = text_facts(c, d.naming, kDefaults, kGguf);
  read_per_layer(f, kPattern, m.p);
  read_biases(f, d.naming);
  const char* softcap = "final_logit_softcapping";
  if (!f.is_null(softcap)) d.output_softcap = float(f.number(softcap, kSoftcap));  // null: none
  f.pass_over({"query_pre_attn_scalar"});                                          // scores are not scaled
  m.p.has_outside = true;
  m.streams = f.integer("altup_num_inputs", 1, 64);
  m.active = f.integer("altup_active_idx", 0, m.streams - 1);
  m.scales_corrected = f.boolean("altup_correct_scale", true);
  m.rank = f.integer("laurel_rank");
  const int64_t head_dim = m.p.sizes[0].head_dim;
  d.ropes = {read_rope(c, f, "full_attention", kGlobalBase, head_dim),
             read_rope(c, f, "sliding_attention", kLocalBase, head_dim)};
  read_sparsity(f, m);
}

class Builder {
 public:
  Builder(Checkpoint& c, Net& net, const Gemma3n& m, PerLayerNet& parts)
      : c_(c), net_(net), m_(m), d_(m.p.d), parts_(parts), n_(m.streams), hidden_(m.p.d.hidden) {}

  // All streams [n, hidden] from the first one [hidden].
  Var spread(const Var& x) {
    if (n_ == 1) return net_.reshape(x, {1, hidden_});
    std::vector<Net::Weight> weights;
    for (int64_t i = 0; i + 1 < n_; ++i) weights.push_back({own_matrix("altup_projections", i), {1, hidden_}});
    const Var first = net_.reshape(x, {1, hidden_});
    return net_.concat({first, as_loud_as(first, net_.concat(net_.products(x, weights), 1))}, 1);
  }
  // The mean of the first stream and of what the others are projected to.
  Var gather(const Var& x) {
    std::vector<Var> streams;
    for (int64_t i = 0; i < n_; ++i) {
      const Var one = net_.slice(x, 1, i, 1);
      streams.push_back(i == 0 ? one
                               : net_.products(net_.reshape(one, {hidden_}),
                                               {{own_matrix("altup_unembed_projections", i - 1), {1, hidden_}}})[0]);
      if (i > 0) streams.back() = as_loud_as(streams[0], streams.back());
    }
    return reduced(net_.concat(streams, 1), 1, {hidden_});
  }

  Var layer(size_t i, const Var& x) {
    parts_.layer(i);
    const Var predicted = batch(predictions(reshaped(net_.slice(x, 1, m_.active, 1))), x);
    const Var active = reshaped(net_.slice(predicted, 1, m_.active, 1)),
              normed = parts_.norm(active, "input_layernorm");
    const Var mixed = parts_.attention_of(normed), before = net_.wanted(active);
    const Var gated = parts_.norm(mixed, "post_attention_layernorm", &before);
    const Var y = net_.scale(net_.add(gated, laurel(net_.wanted(normed))), std::sqrt(0.5));
    const Var found =
        parts_.norm(feed_forward_of(i, parts_.norm(y, "pre_feedforward_layernorm")), "post_feedforward_layernorm", &y);
    return corrected(net_.wanted(predicted), before, found);
  }

 private:
  Var reshaped(const Var& x) { return net_.reshape(x, {hidden_}); }
  Var reduced(const Var& x, int axis, const std::vector<int64_t>& dims) {
    format::ReduceAttrsT mean;
    mean.kind = format::ReduceKind::mean;
    mean.axis = uint8_t(axis);
    return net_.op("reduce", {x.name}, x.axis, dims, {}, mean);
  }
  Var batch(const Var& a, const Var& b) {
    return net_.op("batch_matmul", {a.name, b.name}, a.axis, {a.dims[0], b.dims[1]}, {}, format::BatchMatmulAttrsT());
  }

  // Matrix i [hidden, hidden] of several: one tensor each, in a GGUF one for all.
  std::string own_matrix(const std::string& name, int64_t i) {
    const std::string own = name + "." + std::to_string(i) + ".weight";
    return net_.matrix(own, net_.matrix_of_several(name, i, n_ - 1, hidden_, hidden_));
  }
  // y [k, hidden] with the root mean square of x [1, hidden].
  Var as_loud_as(const Var& x, const Var& y) {
    const auto mean_square = [&](const Var& v) {
      return net_.reshape(reduced(net_.unary(format::UnaryKind::square, v), 2, {v.dims[0]}), {v.dims[0], 1});
    };
    const Var wanted = net_.unary(format::UnaryKind::sqrt, mean_square(x));
    const Var least = net_.binary(format::BinaryKind::max, mean_square(y),
                                  net_.constant("/least_mean_square", {kLeastMeanSquare}, {1}));
    return net_.mul(y, net_.binary(format::BinaryKind::div, wanted, net_.unary(format::UnaryKind::sqrt, least)));
  }
  // A small matrix of numbers that this recipe arranged.
  std::string arranged(const std::string& name, const std::vector<float>& values, int64_t rows) {
    SourceTensor t{
        name, SourceType::kF32, {uint64_t(rows), values.size() / uint64_t(rows)}, nullptr, values.size() * 4};
    std::vector<uint8_t> bytes(values.size() * 4);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return net_.matrix(name, c_.derive(std::move(t), std::move(bytes)), true);
  }
  // What the coefficients of a token come from: [n].
  Var modalities(const Var& x) {
    std::vector<float> weight = net_.values("altup.router_norm.weight", {hidden_});
    for (float& v : weight) v = float(v / double(hidden_));
    const Var normed = net_.rms_norm(x, net_.constant("altup.router_norm.weight", weight, {hidden_}), d_.eps);
    const std::string router =
        net_.matrix("altup.modality_router.weight", net_.take("altup.modality_router.weight", {n_, hidden_}), true);
    return net_.unary(format::UnaryKind::tanh, net_.times(normed, router, "", {n_}));
  }
  // [n, n]: stream i is predicted as the sum of its row times all streams; each keeps itself.
  Var predictions(const Var& x) {
    std::vector<float> identity(size_t(n_ * n_));
    for (int64_t i = 0; i < n_; ++i) identity[size_t(i * n_ + i)] = 1;
    const std::string matrix =
        net_.matrix("altup.prediction_coefs.weight", net_.take("altup.prediction_coefs.weight", {n_ * n_, n_}), true);
    return net_.times(modalities(x), matrix, net_.constant("/identity", identity, {n_ * n_}), {n_, n_});
  }
  // What was found corrects every stream by a coefficient of its own; the layer's input is added to all but the first.
  Var corrected(const Var& predicted, const Var& active, const Var& found) {
    const Var innovation = net_.binary(format::BinaryKind::sub, found, active);
    // Coefficients [n, 2], of the innovation and of the layer's input.
    const std::vector<float> source = net_.values("altup.correction_coefs.weight", {n_, n_});
    std::vector<float> rows(size_t(2 * n_ * n_)), offsets(size_t(2 * n_), 1);
    for (int64_t i = 0; i < n_; ++i) std::memcpy(rows.data() + 2 * i * n_, source.data() + i * n_, size_t(n_) * 4);
    offsets[1] = 0;
    const Var coefficients = net_.times(modalities(found), arranged("altup.corrections.weight", rows, 2 * n_),
                                        net_.constant("/corrections", offsets, {2 * n_}), {n_, 2});
    const Var own = net_.reshape(net_.slice(net_.slice(coefficients, 1, m_.active, 1), 2, 0, 1), {1});
    Var first = net_.add(active, net_.mul(innovation, own));
    const std::string scale = "altup.correct_output_scale";
    if (m_.scales_corrected) first = net_.binary(format::BinaryKind::mul, first, net_.plain(scale, {hidden_}));
    else net_.find(scale);  // it is there all the same
    const Var input = parts_.gated_input(first);
    return net_.add(predicted,
                    batch(coefficients,
                          net_.concat({net_.reshape(innovation, {1, hidden_}), net_.reshape(input, {1, hidden_})}, 1)));
  }
  Var laurel(const Var& x) {
    const Var low = net_.linear(x, {"laurel.linear_left", {m_.rank}});
    return parts_.norm(net_.linear(low, {"laurel.linear_right", {hidden_}}), "laurel.post_laurel_norm", &x);
  }
  Var feed_forward_of(size_t i, const Var& x) {
    FeedForward f = d_.ffn;
    f.width = m_.p.sizes[i].width;
    const double threshold = m_.thresholds[i];
    if (threshold == -INFINITY) return feed_forward(net_, f, x);
    const std::vector<Var> h = net_.linears(x, {{f.prefix + f.gate, {f.width}}, {f.prefix + f.up, {f.width}}});
    const auto mean = [&](const Var& v) { return net_.reshape(reduced(v, 1, {}), {1}); };
    const Var centred = net_.binary(format::BinaryKind::sub, h[0], mean(h[0]));
    const Var deviation = net_.unary(format::UnaryKind::sqrt, mean(net_.unary(format::UnaryKind::square, centred)));
    const Var gate = net_.unary(format::UnaryKind::relu,
                                net_.binary(format::BinaryKind::sub, centred, net_.scale(deviation, threshold)));
    return net_.linear(net_.glu(f.activation, gate, h[1]), {f.prefix + f.down, {hidden_}});
  }

  Checkpoint& c_;
  Net& net_;
  const Gemma3n& m_;
  const Decoder& d_;
  PerLayerNet& parts_;
  const int64_t n_, hidden_;
};

void build(Checkpoint& c, ModelBuilder& b) {
  Gemma3n m;
  Decoder& d = m.p.d;
  add_per_layer_names(d);
  d.naming.gguf.insert({{"altup_projections", "altup_proj"},
                        {"altup_unembed_projections", "altup_unembd_proj"},
                        {"altup.correction_coefs", "altup_correct_coef"},
                        {"altup.correct_output_scale", "altup_correct_scale.weight"},
                        {"altup.prediction_coefs", "altup_predict_coef"},
                        {"altup.modality_router", "altup_router"},
                        {"altup.router_norm", "altup_router_norm"},
                        {"laurel.linear_left", "laurel_l"},
                        {"laurel.linear_right", "laurel_r"},
                        {"laurel.post_laurel_norm", "laurel_post_norm"}});
  read_facts(c, m);
  Net net(c, b, d.naming, d.context);
  Var x = net.embed("embed_tokens", d.vocab, d.hidden, float(std::sqrt(double(d.hidden))));
  PerLayerNet parts(net, m.p);
  Builder make(c, net, m, parts);
  parts.make_inputs(x);
  x = make.spread(x);
  for (size_t i = 0; i < d.layers.size(); ++i) x = make.layer(i, x);
  net.leave_layers();
  x = parts.norm(make.gather(x), "norm");
  net.graph().move_to_end("R");
  net.head(x, output_matrix(net, "embed_tokens", d.is_tied, d.vocab, d.hidden), d.vocab, d.output_softcap);
}

}  // namespace

extern const Recipe gemma3n_recipe;
const Recipe gemma3n_recipe = {"gemma3n", {"gemma3n"}, {"gemma3n_text", "gemma3n"}, build};

}  // namespace runnel::convert
