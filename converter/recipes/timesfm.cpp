// TimesFM 1 and 2 (arXiv 2310.10688), and 2.5: pieces of a time series are the tokens of a decoder, whose last token
// gives the forecast.
//
// Inputs: past_values [batch, T], T up to the context of the configuration; past_values_padding [batch, T], 1 in front
// of a series that is shorter, else 0; freq of the first, the kind of a series (0 where nobody says).
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/series.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;
using format::ReduceKind;
using format::UnaryKind;

struct Sizes {
  int64_t patch = 32, context = 512, horizon = 128, width = 1280, ffn = 1280, head = 80, heads = 16, layers = 0;
  int64_t outputs = 10;  // mean and quantiles
  double eps = 1e-6;
  bool is_forecast = false;
  std::string patches = {};  // how many there are
};

Sizes sizes_of(const Facts& f, int64_t context, int64_t layers, const std::string& base) {
  Sizes s;
  s.patch = f.integer("patch_length", 1, 65536, 32);
  s.context = f.integer("context_length", 2, 1 << 20, context);
  s.horizon = f.integer("horizon_length", 1, 1 << 20, 128);
  s.width = f.integer("hidden_size", 1, 1 << 20, 1280);
  s.ffn = f.integer("intermediate_size", 1, 1 << 20, 1280);
  s.head = f.integer("head_dim", 1, 65536, 80);
  s.heads = f.integer("num_attention_heads", 1, 65536, 16);
  s.layers = f.integer("num_hidden_layers", 1, 4096, layers);
  s.eps = f.number("rms_norm_eps", 1e-6);
  const Json* quantiles = f.find("quantiles");
  if (quantiles && !quantiles->is_array()) f.refuse("quantiles", "is no list");
  s.outputs = 1 + (quantiles ? int64_t(quantiles->size()) : 9);
  f.pass_over({"attention_dropout", "initializer_range"});
  const std::string task = class_of(f, base);
  s.is_forecast = task == base + "ForPrediction";
  if (!s.is_forecast && task != base)
    f.refuse("architectures", "names " + printable(task) + ", which is not supported");
  s.patches = (s.is_forecast ? "ceildiv(T," : "floordiv(T,") + std::to_string(s.patch) + ")";
  return s;
}

class Builder {
 public:
  Builder(Checkpoint& c, ModelBuilder& b, const Sizes& sizes, const std::string& root)
      : s(sizes), net(c, b, {root, "", {}}, sizes.context, 64) {
    net.axis("T", "min(context," + std::to_string(s.context) + ")");
  }

 protected:
  Var number(double value) { return net.number(value); }
  Var as_float(const Var& x) { return net.of_type(x, format::DType::f32); }
  Var is(ArithmeticKind kind, const Var& x, const Var& y) { return as_float(net.compared(kind, x, y)); }
  Var flipped(const Var& x) { return net.less(number(1), x); }
  Var at_least(const Var& x, double least) { return net.with(BinaryKind::max, x, number(least)); }
  Var square(const Var& x) { return net.unary(UnaryKind::square, x); }
  Var root(const Var& x) { return net.unary(UnaryKind::sqrt, x); }
  Var sum(const Var& x, size_t axis) { return net.reduced(ReduceKind::sum, x, axis, true); }
  // [patches, patches]: 1 where the column's patch is no later than the row's.
  Var earlier() {
    const Var n = net.counted(s.patches);
    return is(ArithmeticKind::at_most, net.view(n, {"1", s.patches}), net.view(n, {s.patches, "1"}));
  }
  // Of flags [batch, patches, 1]: 1 at the first that is set.
  Var first_of(const Var& flags) {
    const Var before = net.less(net.product(earlier(), flags, false), flags);
    return net.by(flags, at_least(net.less(number(1), before), 0));
  }
  Var residual_block(const Var& x, const std::string& name, int64_t hidden, int64_t out, UnaryKind activation) {
    const Var inner = net.unary(activation, net.linear(x, name + ".input_layer", hidden));
    return net.plus(net.linear(inner, name + ".output_layer", out), net.linear(x, name + ".residual_layer", out));
  }
  // Reads the inputs; a forecast's series are filled up to whole patches, in front. [batch, patches, patch]
  void read_inputs() {
    const Var given = net.given("past_values", {"batch", "T"});
    Var all = given, pads = net.filled("past_values_padding", {"batch", "T"}, 0);
    if (s.is_forecast) {
      const InFront room = room_in_front(net, "T", multiple(s.patches, s.patch));
      all = moved(net, room, all);
      pads = net.with(BinaryKind::max, moved(net, room, pads), is(ArithmeticKind::less, room.number, number(0)));
    }
    const Names shape = {"batch", s.patches, std::to_string(s.patch)};
    raw = given, series = net.view(all, shape), padding = net.view(pads, shape);
  }
  std::vector<float> query_scale(const std::string& name) {
    std::vector<float> scale = net.values(name, {s.head});
    for (float& v : scale) v = std::log1p(std::exp(v)) * float(1.442695041 / std::sqrt(double(s.head)));
    return scale;
  }
  Var in_heads(const Var& y, int64_t heads) {
    Names n = Signal::sizes(y);
    n.back() = std::to_string(heads);
    n.push_back(std::to_string(s.head));
    return net.view(y, n);
  }
  // The last patch alone.
  Var newest(const Var& y) { return net.cut(y, 1, -1, "1"); }

  Sizes s;
  Signal net;
  Var raw, series, padding;
};

class First : Builder {
 public:
  First(Checkpoint& c, ModelBuilder& b, const Facts& f)
      : Builder(c, b, sizes_of(f, 512, 50, kBase), "decoder."),
        tolerance(f.number("tolerance", 1e-6)),
        pad_value(f.number("pad_val", 1123581321.0)) {
    read_inputs();
    const Var freq = kinds(f.integer("freq_size", 1, 65536, 3));
    // What is padding, or holds the value that stands for it.
    series = net.by(series, is(ArithmeticKind::less, number(tolerance), net.unary(UnaryKind::abs, flipped(padding))));
    const Var distance = net.unary(UnaryKind::abs, net.less(series, number(pad_value)));
    padding = net.with(BinaryKind::max, padding, is(ArithmeticKind::less, distance, number(tolerance)));
    find_scale();
    const Var normed = net.by(net.over(net.less(series, loc), scale), flipped(padding));
    Var h = residual_block(net.joined({normed, padding}, 2), "input_ff_layer", s.ffn, s.width, UnaryKind::silu);
    hidden = net.reduced(ReduceKind::min, padding, 2, true);
    if (f.boolean("use_positional_embedding", false)) h = net.plus(h, positions(f));
    h = net.plus(h, freq);
    Attending how;
    how.causal = true;
    how.unseen = net.unseen(net.view(flipped(hidden), {"batch", s.patches}));
    for (int64_t i = 0; i < s.layers; ++i) h = layer(h, "layers." + std::to_string(i) + ".", how);
    if (s.is_forecast) forecast(h);
    else show(h);
  }
  static constexpr const char* kBase = "TimesFmModel";

 private:
  Var kinds(int64_t count) {
    const Names shape = s.is_forecast ? Names{"batch"} : Names{"batch", "1"};
    net.graph().add_filled_input("freq", shape, 0);
    const Var ids = net.of_sizes("freq", shape);
    const std::string table = net.matrix("freq_emb.weight", net.take("freq_emb.weight", {count, s.width}));
    Names out = {"batch", "1", std::to_string(s.width)}, looked_up = shape;
    looked_up.push_back(out.back());
    return net.view(net.apply("embedding", {ids.name, table}, looked_up, format::EmbeddingAttrsT()), out);
  }
  // Mean and deviation of the first patch that has three values or more, else of the last one.
  void find_scale() {
    const Var valid = flipped(padding);
    const Var flags = is(ArithmeticKind::at_most, number(3), sum(valid, 2)), first = first_of(flags);
    const Var place = net.view(net.counted(s.patches), {s.patches, "1"});
    const Var last = is(ArithmeticKind::equal, place, last_place(net, s.patches));
    const Var chosen = net.plus(first, net.by(flipped(sum(first, 1)), last));
    const auto of_chosen = [&](const Var& v) { return sum(net.by(v, chosen), 1); };
    const Var values = of_chosen(series), seen = of_chosen(valid), count = at_least(sum(seen, 2), 1);
    loc = net.over(sum(net.by(values, seen), 2), count);
    const Var centred = net.by(net.less(values, loc), seen);
    scale = at_least(root(net.over(sum(square(centred), 2), count)), tolerance);
  }
  // Sines and cosines that begin with the first patch that holds something.
  Var positions(const Facts& f) {
    const double least = f.number("min_timescale", 1), most = f.number("max_timescale", 10000);
    const int64_t half = s.width / 2, rows = s.context / s.patch;
    const float step = float(std::log(most / least) / double(std::max<int64_t>(half - 1, 1)));
    const std::string stored = "position_emb.inv_timescales";
    std::vector<float> frequencies, table(size_t(rows * s.width), 0);
    for (int64_t j = 0; j < half; ++j) frequencies.push_back(float(least) * std::exp(float(j) * -step));
    if (net.has(stored)) frequencies = net.values(stored, {half});
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < half; ++j) {
        const float angle = float(i) * frequencies[size_t(j)];
        table[size_t(i * s.width + j)] = std::sin(angle);
        table[size_t(i * s.width + half + j)] = std::cos(angle);
      }
    const Var shown = first_of(is(ArithmeticKind::equal, hidden, number(0)));
    const Var place = net.view(net.counted(s.patches), {s.patches, "1"}), last = last_place(net, s.patches);
    const Var first = net.plus(sum(net.by(shown, place), 1), net.less(sum(shown, 1), number(1)));
    const Var shifted = net.less(place, first);
    // Those in front wrap around.
    const Var count = net.plus(last, number(1));
    const Var wrapped = net.plus(shifted, net.by(is(ArithmeticKind::less, shifted, number(0)), count));
    const Var row = net.less(wrapped, net.by(is(ArithmeticKind::at_most, count, wrapped), count));
    const Var ids = net.of_type(net.view(row, {"batch", s.patches}), format::DType::i32);
    return net.apply("gather", {net.numbers("positions", table, {rows, s.width}).name, ids.name},
                     {"batch", s.patches, std::to_string(s.width)}, format::GatherAttrsT());
  }
  void show(const Var& h) {
    net.output(h, "last_hidden_state");
    net.optional_output(net.view(loc, {"batch"}), "loc");
    net.optional_output(net.view(scale, {"batch"}), "scale");
  }
  Var layer(const Var& h, const std::string& p, const Attending& how) {
    const Var y = net.rms(h, p + "input_layernorm", s.eps);
    const auto part = [&](const char* name) {
      return in_heads(net.linear(y, p + "self_attn." + name, s.heads * s.head), s.heads);
    };
    const Var factors = net.numbers(p + "self_attn.scaling", query_scale(p + "self_attn.scaling"), {s.head});
    const Var mixed = net.attend(how, net.by(part("q_proj"), factors), part("k_proj"), part("v_proj"));
    const Var z = net.plus(h, net.linear(mixed, p + "self_attn.o_proj", s.width));
    const Var gate = net.linear(net.norm(z, p + "mlp.layer_norm", 1e-6), p + "mlp.gate_proj", s.ffn);
    const Var out = net.linear(net.unary(UnaryKind::relu, gate), p + "mlp.down_proj", s.width);
    return net.plus(net.by(out, flipped(hidden)), z);
  }
  void forecast(const Var& h) {
    const Var y = residual_block(newest(h), "/horizon_ff_layer", s.ffn, s.horizon * s.outputs, UnaryKind::silu);
    const Names shape = {"batch", std::to_string(s.horizon), std::to_string(s.outputs)};
    const Var all = net.plus(net.by(net.view(y, shape), scale), loc);
    net.output(net.view(net.cut(all, 2, 0, "1"), {"batch", shape[1]}), "mean_predictions");
    net.output(all, "full_predictions");
  }

  double tolerance, pad_value;
  Var loc, scale, hidden;
};

class Second : Builder {
 public:
  Second(Checkpoint& c, ModelBuilder& b, const Facts& facts)
      : Builder(c, b, sizes_of(facts, 16384, 20, kBase), "model."),
        f(facts),
        activation(activation_named(f, "activation", "swish")),
        kv_heads(f.integer("num_key_value_heads", 1, 65536, 16)) {
    if (s.heads % kv_heads) f.refuse("num_key_value_heads", "does not divide num_attention_heads");
    f.pass_over({"use_bias", "attention_bias", "max_position_embeddings", "output_quantile_len", "decode_index",
                 "use_continuous_quantile_head", "force_flip_invariance", "infer_is_positive"});
    double base = 10000;
    if (const auto rope = f.inside("rope_parameters")) {
      rope->expect("rope_type", "default");
      base = rope->number("rope_theta", base);
    }
    frequencies = net.constant("/rope", rope_frequencies(base, s.head), {-1});
    read_inputs();
    padding = is(ArithmeticKind::at_most, number(0.5), padding);
    if (s.is_forecast) forecast();
    else show(layers(series));
  }
  static constexpr const char* kBase = "TimesFm2_5Model";

 private:
  void show(const Var& h) {
    net.output(h, "last_hidden_state");
    net.optional_output(net.view(newest(means), {"batch"}), "loc");
    net.optional_output(at_least(net.view(newest(deviations), {"batch"}), kTolerance), "scale");
    net.optional_output(net.view(means, {"batch", s.patches}), "context_mu");
    net.optional_output(net.view(deviations, {"batch", s.patches}), "context_sigma");
  }
  static constexpr double kTolerance = 1e-6;

  Var safe(const Var& scale) {
    const Var small = is(ArithmeticKind::less, scale, number(kTolerance));
    return net.plus(net.by(scale, flipped(small)), small);
  }
  // Of the values up to each patch: mean and deviation, [batch, patches, 1].
  void find_scales(const Var& values, const Var& valid) {
    const Var count = sum(valid, 2), some = at_least(count, 1);
    const Var own = net.over(sum(net.by(values, valid), 2), some);
    const Var spread = sum(square(net.by(net.less(values, own), valid)), 2), before = earlier();
    const auto so_far = [&](const Var& v) { return net.product(before, v, false); };
    const Var counts = at_least(so_far(count), 1);
    means = net.over(so_far(net.by(count, own)), counts);
    // Each patch's distance from the mean of those up to another one: rows are the latter.
    const std::string batch = Signal::sizes(values)[0];
    const auto in_row = [&](const Var& v) { return net.view(v, {batch, "1", s.patches}); };
    const Var distance = net.by(square(net.less(in_row(own), means)), before);
    const Var all = net.plus(so_far(spread), sum(net.by(distance, in_row(count)), 2));
    deviations = root(net.over(all, counts));
  }
  Var layers(const Var& values) {
    const std::string batch = Signal::sizes(values)[0];
    Var pads = padding;
    if (batch != "batch") pads = net.joined({padding, padding}, 0);
    const Var valid = flipped(pads);
    find_scales(values, valid);
    const Var normed = net.by(net.over(net.less(values, means), safe(deviations)), valid);
    Var h = residual_block(net.joined({normed, pads}, 2), "input_ff_layer", s.width, s.width, activation);
    Attending how;
    how.causal = true;
    how.unseen = net.unseen(net.view(net.cut(valid, 2, s.patch - 1, "1"), {batch, s.patches}));
    for (int64_t i = 0; i < s.layers; ++i) h = layer(h, "layers." + std::to_string(i) + ".", how);
    return h;
  }
  Var layer(const Var& h, const std::string& p, const Attending& how) {
    const Var y = net.rms(h, p + "input_layernorm", s.eps);
    const auto part = [&](const char* name, int64_t heads) {
      return in_heads(net.linear(y, p + "self_attn." + name, heads * s.head), heads);
    };
    const Var q = net.rms(net.rotated(part("q_proj", s.heads), frequencies), p + "self_attn.q_norm", s.eps),
              k = net.rms(net.rotated(part("k_proj", kv_heads), frequencies), p + "self_attn.k_norm", s.eps);
    const Var factors = net.numbers(p + "self_attn.scaling", query_scale(p + "self_attn.scaling"), {s.head});
    const Var mixed =
        net.linear(net.attend(how, net.by(q, factors), k, part("v_proj", kv_heads)), p + "self_attn.o_proj", s.width);
    const Var z = net.plus(net.rms(mixed, p + "post_attention_layernorm", s.eps), h);
    const bool is_published = net.has(p + "mlp.ff0.weight");
    const Var inner = net.linear(net.rms(z, p + "pre_feedforward_layernorm", s.eps),
                                 p + (is_published ? "mlp.ff0" : "mlp.fc1"), s.ffn);
    const Var out = net.linear(net.unary(activation, inner), p + (is_published ? "mlp.ff1" : "mlp.fc2"), s.width);
    return net.plus(net.rms(out, p + "post_feedforward_layernorm", s.eps), z);
  }
  // The last patch's block of outputs, in the scale of the values up to it: [batch, length, outputs].
  Var projected(const Var& h, const std::string& name, int64_t length) {
    const std::string batch = Signal::sizes(h)[0];
    const Var y = residual_block(newest(h), name, s.width, length * s.outputs, activation);
    return net.plus(net.by(net.view(y, {batch, std::to_string(length), std::to_string(s.outputs)}), newest(deviations)),
                    newest(means));
  }
  // Half the difference of what a series gives and what its mirror image gives, whose quantiles are in reverse.
  Var without_mirror(const Var& both) {
    Names half = Signal::sizes(both);
    half[0] = "batch";
    std::vector<int32_t> reverse = {0};
    for (int64_t i = s.outputs - 1; i > 0; --i) reverse.push_back(int32_t(i));
    // By halves: the batch is split into two of its size.
    const Var pair = net.view(both, {"2", "batch", half[1], half[2]});
    const auto part = [&](int64_t i) { return net.view(net.cut(pair, 0, i, "1"), half); };
    format::GatherAttrsT attrs;
    attrs.axis = 2;
    const Var mirror = net.apply("gather", {part(1).name, net.places_of("reverse", reverse, {s.outputs})}, half, attrs);
    return net.scale(net.less(part(0), mirror), 0.5);
  }
  void forecast() {
    // Mean and deviation of the whole context, with zeros in front of what is shorter.
    const Var valid = flipped(padding), seen = net.by(series, valid);
    const auto over_all = [&](const Var& v) { return sum(sum(v, 2), 1); };
    const Var loc = net.scale(over_all(seen), 1 / double(s.context));
    const Var missing = net.less(number(double(s.context)), over_all(valid));
    const Var spread = net.plus(over_all(net.by(square(net.less(seen, loc)), valid)), net.by(square(loc), missing));
    const Var scale = root(net.scale(spread, 1 / double(s.context - 1)));
    const Var normed = net.over(net.less(seen, loc), safe(scale));
    const bool is_mirrored = f.boolean("force_flip_invariance", true);
    const Var h = layers(is_mirrored ? net.joined({normed, net.unary(UnaryKind::neg, normed)}, 0) : normed);
    const int64_t spreads = f.integer("output_quantile_len", 1, 1 << 20, 1024);
    Var all = projected(h, "/output_projection_point", s.horizon);
    const bool has_spreads = f.boolean("use_continuous_quantile_head", true);
    const int64_t median = std::min(f.integer("decode_index", 0, 1 << 20, 5), s.outputs - 1);
    if (is_mirrored) all = without_mirror(all);
    Var quantiles = projected(h, "/output_projection_quantiles", spreads);
    if (has_spreads) {
      if (is_mirrored) quantiles = without_mirror(quantiles);
      all = spread_out(all, quantiles, median, std::min(s.horizon, spreads));
    }
    all = net.plus(net.by(all, scale), loc);
    if (f.boolean("infer_is_positive", true)) {
      // Where no value of the call is negative, no forecast is.
      const Var low = net.reduced(ReduceKind::min, net.reduced(ReduceKind::min, raw, 1), 0);
      const Var positive = net.with(BinaryKind::max, all, number(0));
      all = net.chosen(net.compared(ArithmeticKind::at_most, number(0), net.view(low, {"1"})), positive, all);
    }
    net.output(net.view(net.cut(all, 2, median, "1"), {"batch", std::to_string(s.horizon)}), "mean_predictions");
    net.output(all, "full_predictions");
  }
  // Quantiles at the distances from the median that their own head gives, for the first `length` values.
  Var spread_out(const Var& all, const Var& quantiles, int64_t median, int64_t length) {
    const std::string n = std::to_string(length), rest = std::to_string(s.horizon - length);
    const Var near = net.cut(all, 1, 0, n), own = net.cut(quantiles, 1, 0, n);
    const auto column = [&](const Var& v, int64_t i) { return net.cut(v, 2, i, "1"); };
    std::vector<Var> columns;
    const Var shift = net.less(column(near, median), column(own, median));
    for (int64_t i = 0; i < s.outputs; ++i)
      columns.push_back(i == 0 || i == median ? column(near, i) : net.plus(column(own, i), shift));
    const Var spread = net.joined(columns, 2);
    return length == s.horizon ? spread : net.joined({spread, net.cut(all, 1, length, rest)}, 1);
  }

  Facts f;
  UnaryKind activation;
  int64_t kv_heads;
  std::string frequencies;
  Var means, deviations;
};

void build_first(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  f.pass_over({"min_timescale", "max_timescale"});
  First(c, b, f);
}
void build_second(Checkpoint& c, ModelBuilder& b) { Second(c, b, config_facts(c)); }

}  // namespace

extern const Recipe timesfm_recipe;
const Recipe timesfm_recipe = {"timesfm", {}, {"timesfm"}, build_first};
extern const Recipe timesfm2_5_recipe;
const Recipe timesfm2_5_recipe = {"timesfm2_5", {}, {"timesfm2_5"}, build_second};

}  // namespace runnel::convert
