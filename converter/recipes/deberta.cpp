// DeBERTa (arXiv 2006.03654, 2111.09543): a query has scores for keys, for the places of keys relative to its own, and
// a key has some for the places of queries. Places stand in buckets, each with a row of one table that all layers share
// and that goes through each layer's projections: those products are weights of the file.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "converter/recipes/decoder.h"
#include "converter/recipes/encoder.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;

// The bucket of a distance as the original computes it, in float32; the sign is kept.
int64_t bucket_of(int64_t distance, int64_t buckets, int64_t most) {
  const int64_t middle = buckets / 2, away = std::abs(distance);
  if (buckets < 1 || most < 1 || away <= middle) return distance;
  const float far = std::log(float(away) / float(middle)) / std::log(float(most - 1) / float(middle));
  const int64_t bucket = int64_t(std::ceil(far * float(middle - 1))) + middle;
  return distance < 0 ? -bucket : bucket;
}

// Numbers of the program that are counted with.
class Integers {
 public:
  explicit Integers(Net& net) : net_(net) {}

  Var constant(const std::string& name, const std::vector<int32_t>& values, const std::vector<int64_t>& dims) {
    std::vector<uint8_t> bytes(values.size() * 4);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    net_.builder().add_bytes(format::SegmentKind::weights, name, format::DType::i32, as_shape(dims), std::move(bytes));
    return {name, "", dims};
  }
  // 0, 1, ..., shaped so.
  Var tokens(const std::string& axis) {
    const Var n = net_.make("index", "T", {}, false, format::DType::i32);
    net_.graph().op("index", {}, {n.name}, format::IndexAttrsT());
    return made("reshape", {n.name}, axis);
  }
  Var math(ArithmeticKind kind, const Var& x, const Var& y, const std::string& axis) {
    format::ArithmeticAttrsT attrs;
    attrs.kind = kind;
    return made("arithmetic", {x.name, y.name}, axis, attrs);
  }
  Var looked_up(const Var& table, const Var& ids) {
    return made("gather", {table.name, ids.name}, ids.axis, format::GatherAttrsT());
  }

 private:
  template <class... Attrs>
  Var made(const std::string& op, const Names& inputs, const std::string& axis, Attrs... attrs) {
    const Var y = net_.make(op, axis, {}, false, format::DType::i32);
    net_.graph().op(op, inputs, {y.name}, attrs...);
    return y;
  }
  Net& net_;
};

struct Disentangled {
  Attention attention;
  int64_t context = 0, hidden = 0, buckets = 0, most = 0;
  double eps = 0;
  bool is_first = false;  // of the versions: one matrix for queries, keys and values, head by head
  bool is_relative = false, is_shared = false, is_normed = false, has_keys = false, has_queries = false;
  std::vector<float> table = {};  // a row for each bucket
  // Where the score of a pair stands among those of a query and all buckets, and of a key and all buckets: [heads, T,
  // T].
  Var by_query = {}, by_key = {};
  Var is_seen = {};

  int64_t span() const { return buckets > 0 ? buckets : most; }
  int64_t rows() const { return 2 * span(); }

  void read_table(Net& net) {
    table = net.values("encoder.rel_embeddings.weight", {rows(), hidden});
    if (!is_normed) return;
    const std::vector<float> weight = net.values("encoder.LayerNorm.weight", {hidden}),
                             bias = net.values("encoder.LayerNorm.bias", {hidden});
    for (size_t r = 0; r < size_t(rows()); ++r) {
      float* row = table.data() + r * size_t(hidden);
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < hidden; ++i) mean += row[i] / double(hidden);
      for (int64_t i = 0; i < hidden; ++i) variance += (row[i] - mean) * (row[i] - mean) / double(hidden);
      for (int64_t i = 0; i < hidden; ++i)
        row[i] = float((row[i] - mean) / std::sqrt(variance + eps) * weight[size_t(i)] + bias[size_t(i)]);
    }
  }

  void find_places(Net& net) {
    const int64_t heads = attention.heads;
    std::vector<int32_t> all, first;
    for (int64_t d = 1 - context; d < context; ++d)
      all.push_back(int32_t(std::clamp<int64_t>(bucket_of(d, buckets, most) + span(), 0, rows() - 1)));
    for (int64_t h = 0; h < heads; ++h) first.push_back(int32_t(h * rows()));
    Integers n(net);
    const std::string h = std::to_string(heads);
    const Var query = n.tokens("T 1"), key = n.tokens("1 T"),
              zero = n.constant("places.zero", {int32_t(context - 1)}, {1}),
              distance = n.math(ArithmeticKind::add, n.math(ArithmeticKind::sub, query, key, "T T"), zero, "T T"),
              bucket = n.looked_up(n.constant("places.buckets", all, {int64_t(all.size())}), distance),
              head = n.constant("places.heads", first, {heads, 1, 1}),
              width = n.constant("places.width", {int32_t(heads * rows())}, {1});
    const auto places = [&](const Var& token, const std::string& axis) {
      const Var begin = n.math(ArithmeticKind::add, n.math(ArithmeticKind::mul, token, width, token.axis), head, axis);
      return n.math(ArithmeticKind::add, begin, bucket, h + " T T");
    };
    if (has_keys) by_query = places(query, h + " T 1");
    if (has_queries) by_key = places(key, h + " 1 T");
  }

  // Scores of each token's x [heads, head_dim] and what the projection makes of each bucket.
  Var scores(Net& net, const Var& x, const std::string& projection, double scale, const Var& places) const {
    const int64_t heads = attention.heads, dim = attention.head_dim;
    const std::vector<float> w = net.values(projection + ".weight", {heads * dim, hidden});
    std::vector<float> b(size_t(heads * dim)), turned(w.size()), weights;
    if (net.has_bias(projection)) b = net.values(projection + ".bias", {heads * dim});
    for (size_t o = 0; o < b.size(); ++o)
      for (size_t i = 0; i < size_t(hidden); ++i) turned[i * b.size() + o] = w[o * size_t(hidden) + i];
    std::vector<double> row(b.size());
    weights.resize(size_t(rows()) * b.size());
    for (size_t r = 0; r < size_t(rows()); ++r) {
      std::copy(b.begin(), b.end(), row.begin());
      for (size_t i = 0; i < size_t(hidden); ++i) {
        const double factor = table[r * size_t(hidden) + i];
        for (size_t o = 0; o < b.size(); ++o) row[o] += factor * turned[i * b.size() + o];
      }
      for (size_t o = 0; o < b.size(); ++o)
        weights[(o / size_t(dim) * size_t(rows()) + r) * size_t(dim) + o % size_t(dim)] = float(row[o] * scale);
    }
    const Var all = net.by_group(x, projection + ".places", weights, heads, rows(), dim);
    const Var line = net.op("reshape", {all.name}, std::to_string(heads * rows()) + "*T", {});
    return net.op("gather", {line.name, places.name}, places.axis, {}, {}, format::GatherAttrsT());
  }

  std::vector<Var> projections(Net& net, const Var& x) const {
    const Attention& a = attention;
    const std::vector<int64_t> dims = {a.heads, a.head_dim};
    if (!is_first) return net.linears(x, {{a.prefix + a.q, dims}, {a.prefix + a.k, dims}, {a.prefix + a.v, dims}});
    const std::string all = a.prefix + "self.in_proj";
    const SourceTensor& source = net.take_matrix(all, 3 * a.heads * a.head_dim, x.dims.back());
    const char* biases[] = {"self.q_bias", "", "self.v_bias"};
    std::vector<Var> out;
    for (int64_t part = 0; part < 3; ++part) {
      std::vector<int64_t> rows;
      for (int64_t h = 0; h < a.heads; ++h)
        for (int64_t i = 0; i < a.head_dim; ++i) rows.push_back((3 * h + part) * a.head_dim + i);
      const std::string bias = biases[part];
      out.push_back(net.times(x, net.matrix(all + "." + std::to_string(part), net.reordered(source, rows)),
                              bias.empty() ? "" : net.plain(a.prefix + bias, {a.heads * a.head_dim}), dims));
    }
    return out;
  }

  Var operator()(Net& net, const Var& x, const Var& unseen) const {
    const Attention& a = attention;
    const std::vector<Var> qkv = projections(net, x);
    // Who is not seen sees all alike: there the scores are 0.
    const Var q = net.mul(qkv[0], net.reshape(is_seen, {1, 1}));
    const std::string h = std::to_string(a.heads) + " ";
    const double scale = 1 / std::sqrt(double(a.head_dim) * (1 + has_keys + has_queries));
    Var bias = net.op("reshape", {unseen.name}, "1 1 T", {});
    if (is_relative && has_queries) {
      const std::string from = is_shared ? a.q : is_first ? "self.pos_q_proj" : "self.pos_query_proj";
      bias = arithmetic(net, BinaryKind::add, scores(net, qkv[1], a.prefix + from, scale, by_key), bias, h + "T T");
    }
    const Var rows = net.op("reshape", {is_seen.name}, "1 T 1", {});
    bias = arithmetic(net, BinaryKind::mul, bias, rows, bias.axis == "1 1 T" ? "1 T T" : bias.axis);
    if (is_relative && has_keys) {
      const std::string from = is_shared ? a.k : is_first ? "self.pos_proj" : "self.pos_key_proj";
      bias = arithmetic(net, BinaryKind::add, scores(net, q, a.prefix + from, scale, by_query), bias, h + "T T");
    }
    Softmax softmax;
    softmax.scale = scale, softmax.bias = bias.name;
    return net.linear(attend(net, softmax, q, qkv[1], qkv[2]), {a.prefix + a.o, {x.dims.back()}});
  }
};

// A convolution along the text, from the embedding to the first layer's output.
struct TextConv {
  int64_t kernel = 0, hidden = 0;
  format::UnaryKind activation = format::UnaryKind::tanh;

  Var operator()(Net& net, const Encoder& e, const Var& x, const Var& y, const Var& is_seen) const {
    const std::string name = "encoder.conv.conv";
    const std::vector<float> w = net.values(name + ".weight", {hidden, hidden, kernel});
    std::vector<float> rows(w.size());
    for (size_t o = 0; o < size_t(hidden); ++o)
      for (size_t i = 0; i < size_t(hidden); ++i)
        for (size_t k = 0; k < size_t(kernel); ++k)
          rows[(o * size_t(kernel) + k) * size_t(hidden) + i] = w[(o * size_t(hidden) + i) * size_t(kernel) + k];
    std::vector<uint8_t> bytes(rows.size() * 4);
    std::memcpy(bytes.data(), rows.data(), bytes.size());
    SourceTensor t{name, SourceType::kF32, as_shape({hidden, kernel * hidden}), nullptr, 0};
    const uint32_t pad = uint32_t(kernel - 1) / 2;
    format::WindowAttrsT attrs;
    attrs.kernel = {1, uint32_t(kernel)}, attrs.stride = {1, 1}, attrs.dilation = {1, 1}, attrs.pad = {0, pad, 0, pad};
    const Var image = net.op("reshape", {x.name}, "1 1 T", {hidden}),
              out = net.op("conv",
                           {image.name, net.matrix(name, net.derived(std::move(t), std::move(bytes))),
                            net.plain(name + ".bias", {hidden})},
                           "1 1 T", {hidden}, {}, attrs),
              line = net.mul(net.op("reshape", {out.name}, "T", {hidden}), is_seen);
    return net.mul(encoder_norm(net, e, net.add(y, net.unary(activation, line)), "encoder.conv.LayerNorm"), is_seen);
  }
};

// "p2c|c2p", or a list.
std::vector<std::string> listed(const Facts& f, const std::string& key) {
  std::vector<std::string> out;
  const Json* found = f.find(key);
  if (!found) return out;
  if (found->is_string()) {
    std::string word;
    for (const char c : found->get<std::string>() + "|")
      if (c == '|') out.push_back(word), word.clear();
      else if (c != ' ') word += char(std::tolower(static_cast<unsigned char>(c)));
    return out;
  }
  if (!found->is_array()) f.refuse(key, "is no list");
  for (const Json& part : *found) {
    if (!part.is_string()) f.refuse(key, "holds something else than names");
    out.push_back(part.get<std::string>());
  }
  return out;
}

void read_relative(const Facts& f, Disentangled& d) {
  d.is_relative = f.boolean("relative_attention", false);
  d.most = f.integer("max_relative_positions", -1, 1 << 20, -1);
  if (d.most < 1) d.most = d.context;
  for (const std::string& part : listed(f, "pos_att_type"))
    if (part == "c2p") d.has_keys = true;
    else if (part == "p2c") d.has_queries = true;
    else f.refuse("pos_att_type", "names \"" + printable(part) + "\", which is not supported");
  if (d.is_first) return;
  d.buckets = f.integer("position_buckets", -1, 1 << 20, -1);
  if (d.buckets == 1) f.refuse("position_buckets", "is too small to hold both sides");
  d.is_shared = f.boolean("share_att_key", false);
  for (const std::string& part : listed(f, "norm_rel_ebd"))
    if (part == "layer_norm") d.is_normed = true;
    else if (part != "none") f.refuse("norm_rel_ebd", "is \"" + printable(part) + "\", which is not supported");
}

void build_version(Checkpoint& c, ModelBuilder& b, bool is_first) {
  const Facts f = source_facts(c)
                      .renamed({{"attention_head_size", "head_dim"}})
                      .with_defaults({{"type_vocab_size", 0}, {"layer_norm_eps", 1e-7}});
  Encoder e = bert_like(f, "deberta.");
  Attention& a = e.attention;
  a.q = "self.query_proj", a.k = "self.key_proj", a.v = "self.value_proj";
  if (!f.boolean("position_biased_input", true)) {
    e.positions.clear();
    c.ignore_containing("embeddings.position_embeddings.");  // in some files all the same
  }
  if (task_of(c) == Task::kBase) c.leave_out({"pooler"}, "the head for another task");
  f.expect("embedding_size", e.hidden);
  f.expect("pooler_hidden_size", e.hidden);
  e.pooler = {};
  e.sequence = {"/pooler.dense", "", "/classifier", activation_named(f, "pooler_hidden_act", "gelu"), Pool::kFirst};
  if (!f.boolean("legacy", true))
    e.masked_lm = {"/lm_predictions.lm_head.dense",
                   "/lm_predictions.lm_head.LayerNorm",
                   "/lm_predictions.lm_head",
                   e.ffn.activation,
                   Pool::kNone,
                   "/lm_predictions.lm_head.bias"};
  Disentangled mixer{a, e.context, e.hidden};
  mixer.is_first = is_first;
  mixer.eps = e.eps;
  read_relative(f, mixer);
  if (!mixer.is_relative) c.ignore_containing("encoder.LayerNorm.");
  TextConv conv{is_first ? 0 : f.integer("conv_kernel_size", 0, 255, 0), e.hidden};
  if (is_first) {
    f.expect("talking_head", false);
  } else if (conv.kernel > 0) {
    if (conv.kernel % 2 == 0) f.refuse("conv_kernel_size", "is even, which is not supported");
    f.expect("conv_groups", 1);
    conv.activation = activation_named(f, "conv_act", "tanh");
    e.behind = [&](Net& net, size_t layer, const Var& x, const Var& y) {
      return layer == 0 ? conv(net, e, x, y, mixer.is_seen) : y;
    };
  } else {
    f.pass_over({"conv_act", "conv_groups"});
  }
  e.embedded = [&](Net& net, const Var& x) {
    mixer.is_seen = seen_tokens(net);
    if (mixer.is_relative) mixer.read_table(net), mixer.find_places(net);
    return net.mul(x, mixer.is_seen);
  };
  e.mixer = [&](Net& net, size_t, const Var& x, const Var& unseen) { return mixer(net, x, unseen); };
  build_encoder(c, e, b);
}

}  // namespace

extern const Recipe deberta_recipe;
const Recipe deberta_recipe = {"deberta", {}, {"deberta"}, [](Checkpoint& c, ModelBuilder& b) {
                                 build_version(c, b, true);
                               }};
extern const Recipe deberta_v2_recipe;
const Recipe deberta_v2_recipe = {"deberta_v2", {}, {"deberta-v2"}, [](Checkpoint& c, ModelBuilder& b) {
                                    build_version(c, b, false);
                                  }};

}  // namespace runnel::convert
