#include "converter/recipes/encoder.h"

#include <cmath>
#include <cstdio>

#include "converter/recipes/decoder.h"

namespace runnel::convert {
namespace {

// Added to the scores of tokens that nobody is to see; any real score is lost beside it.
constexpr float kUnseen = -1e30f;

constexpr const char *kTypes = "token_type_ids", *kMask = "attention_mask";

}  // namespace

Task task_of(const Checkpoint& c) {
  if (names_base_class(c)) return Task::kBase;
  const Facts f = outer_facts(c);
  const Json* classes = f.find("architectures");
  if (!classes || !classes->is_array() || classes->empty() || !(*classes)[0].is_string()) return Task::kBase;
  const std::string name = (*classes)[0].get<std::string>();
  static const std::pair<const char*, Task> kTasks[] = {{"ForMaskedLM", Task::kMaskedLm},
                                                        {"ForTokenClassification", Task::kTokens},
                                                        {"ForSequenceClassification", Task::kSequence},
                                                        {"ForQuestionAnswering", Task::kAnswers}};
  for (const auto& [end, task] : kTasks)
    if (name.ends_with(end)) return task;
  if (name.ends_with("ForPreTraining")) return name[0] == 'E' ? Task::kDiscriminator : Task::kMaskedLm;
  f.refuse("architectures", "names " + printable(name) + ", a class of encoders that is not supported");
}

Encoder bert_like(const Facts& f, const std::string& root) {
  Encoder e;
  e.naming = {root, "encoder.layer.", {}};
  e.hidden = e.embedding = f.integer("hidden_size");
  e.vocab = f.integer("vocab_size");
  e.context = f.integer("max_position_embeddings");
  e.type_count = f.integer("type_vocab_size", 0, 1 << 20, f.is_gguf() ? 0 : 2);
  e.eps = f.number("layer_norm_eps", 1e-12);
  e.is_tied = f.boolean("tie_word_embeddings", true);
  f.expect("is_decoder", false);
  f.expect("position_embedding_type", "absolute");
  f.pass_over({"is_causal"});
  Attention& a = e.attention;
  a.heads = a.kv_heads = f.integer("num_attention_heads", 1, 65536);
  a.head_dim = f.integer("head_dim", 2, 65536, e.hidden / a.heads);
  f.expect("attention.value_length", a.head_dim);
  if (a.head_dim < 2) f.refuse("num_attention_heads", "gives heads of less than 2 channels");
  a.scale = 1 / std::sqrt(double(a.head_dim));
  a.prefix = "attention.";
  a.q = "self.query", a.k = "self.key", a.v = "self.value", a.o = "output.dense";
  e.ffn = {"",
           "",
           "intermediate.dense",
           "output.dense",
           f.integer("intermediate_size"),
           activation_named(f, "hidden_act", "gelu"),
           "",
           false};
  e.layers.resize(size_t(f.integer("num_hidden_layers", 1, 4096)));
  for (size_t i = 0; i < e.layers.size(); ++i) e.layers[i].number = i;
  e.pooler = {"pooler.dense", "", "", format::UnaryKind::tanh, Pool::kFirst};
  e.masked_lm = {"/cls.predictions.transform.dense",
                 "/cls.predictions.transform.LayerNorm",
                 "/cls.predictions.decoder",
                 e.ffn.activation,
                 Pool::kNone,
                 "/cls.predictions.bias"};
  e.sequence = e.pooler;
  e.sequence.out = e.tokens.out = "/classifier";
  e.answers.out = "/qa_outputs";
  return e;
}

void as_roberta(const Facts& f, Encoder& e) {
  e.first_position = f.integer("pad_token_id", 0, 1 << 20, 1) + 1;
  e.context -= e.first_position;
  if (e.context < 1) f.refuse("max_position_embeddings", "leaves no positions behind that of padding");
  set_roberta_heads(e);
}

void set_roberta_heads(Encoder& e) {
  e.masked_lm = {"/lm_head.dense",        "/lm_head.layer_norm", "/lm_head.decoder",
                 format::UnaryKind::gelu, Pool::kNone,           "/lm_head.bias"};
  e.sequence = {"/classifier.dense", "", "/classifier.out_proj", format::UnaryKind::tanh, Pool::kFirst};
}

Var encoder_norm(Net& net, const Encoder& e, const Var& x, const std::string& name) {
  if (name.empty()) return x;
  const std::string weight = net.plain(name + ".weight", {x.dims.back()}), bias = name + ".bias";
  if (e.is_rms) return net.rms_norm(x, weight, e.eps);
  return net.layer_norm(x, weight, net.has(bias) ? net.plain(bias, {x.dims.back()}) : "", e.eps);
}

Var numbers_of(Net& net, const Var& input, const std::string& name, const std::vector<float>& table, int outside) {
  format::EmbeddingAttrsT attrs;
  attrs.outside = outside;
  return net.op("embedding", {input.name, net.constant("/" + name, table, {int64_t(table.size()), 1})}, input.axis, {1},
                {}, attrs);
}

Var seen_tokens(Net& net) { return numbers_of(net, {kMask, "T", {}}, "seen", {0, 1}, 1); }

Var arithmetic(Net& net, format::BinaryKind kind, const Var& x, const Var& y, const std::string& axis,
               const std::vector<int64_t>& dims) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  return net.op("binary", {x.name, y.name}, axis, dims, {}, attrs);
}

Var with_constant(Net& net, format::BinaryKind kind, const Var& x, double constant) {
  char name[40];
  std::snprintf(name, sizeof name, "/number_%.9g", constant);
  return net.binary(kind, x, net.constant(name, {float(constant)}, {1}));
}

namespace {

class EncoderBuilder {
 public:
  EncoderBuilder(Net& net, const Encoder& e) : net_(net), e_(e) {}

  Var embed() {
    Var x = looked_up(filled_up("ids", e_.padding), e_.words, e_.vocab, 0, e_.vocab, e_.embedding_scale);
    if (e_.type_count > 0) {
      net_.graph().add_filled_input(kTypes, "T", 0);
      x = net_.add(x, looked_up(filled_up(kTypes, 0), e_.types, e_.type_count, 0, e_.type_count));
    }
    const int64_t rows = e_.first_position + e_.context;
    if (e_.padded_to > 0)
      x = net_.binary(format::BinaryKind::add, x, first_rows(e_.positions, rows, e_.first_position, e_.padded_to));
    else if (!e_.positions.empty())
      x = net_.add(x, looked_up({"positions", "T", {}}, e_.positions, rows, e_.first_position, e_.context));
    x = encoder_norm(net_, e_, x, e_.embedding_norm);
    return e_.projection.empty() ? x : net_.linear(x, {e_.projection, {e_.hidden}});
  }

  Var layers(Var x) {
    Var bias;
    if (e_.has_mask) {
      net_.graph().add_filled_input(kMask, "T", 1);
      mask_ = numbers_of(net_, filled_up(kMask, 0), "unseen", {kUnseen, 0}, 1);
      bias = net_.op("reshape", {mask_.name}, "1 1 " + mask_.axis, {});
    }
    if (e_.score_bias) {
      const Var own = e_.score_bias(net_);
      bias = arithmetic(net_, format::BinaryKind::add, own, bias, own.axis);
    }
    if (e_.embedded) x = e_.embedded(net_, x);
    std::vector<std::string> ropes;
    for (size_t i = 0; i < e_.ropes.size(); ++i)
      ropes.push_back(rope_table(net_, e_.ropes[i], "rope" + std::to_string(i)));
    for (size_t i = 0; i < e_.layers.size(); ++i) {
      net_.layer(e_.layers[i].number, e_.layers.size());
      Attention a = e_.attention;
      a.window = e_.layers[i].window;
      a.bias = bias.name;
      if (const int rope = e_.layers[i].rope; rope >= 0)
        a.rope = ropes[size_t(rope)], a.rope_scale = e_.ropes[size_t(rope)].scale;
      const Var y = layer(i, a, x);
      net_.leave_layers();
      x = e_.behind ? e_.behind(net_, i, x, y) : y;
    }
    if (e_.padded_to > 0) x = net_.op("slice", {x.name}, "T", x.dims, {}, format::SliceAttrsT());
    return encoder_norm(net_, e_, x, e_.last_norm);
  }

  // What the task makes of the last layer.
  Var head(const Head& h, Var x) {
    if (h.pool != Pool::kNone && h.pool != Pool::kLate) x = pooled(h.pool, x);
    if (!h.dense.empty()) {
      const int64_t rows = int64_t(net_.find(h.dense + ".weight").shape.at(0));
      x = net_.linear(x, {h.dense, {rows}});
      if (h.activation != format::UnaryKind::none) x = net_.unary(h.activation, x);
    }
    x = encoder_norm(net_, e_, x, h.norm);
    if (!h.out.empty()) x = output(h, x);
    return h.pool == Pool::kLate ? pooled(Pool::kMean, x) : x;
  }

  // A view under the name that the original gives it.
  std::string named(const Var& x, const std::string& name) {
    net_.graph().op("reshape", {x.name}, {net_.graph().value(name, shape_of(x.axis, x.dims))});
    return name;
  }

 private:
  // An input of the call, and behind it this number, so that there are as many as the model needs.
  Var filled_up(const std::string& input, int32_t number) {
    if (e_.padded_to == 0) return {input, "T", {}};
    const std::string behind = input + ".behind", n = std::to_string(e_.padded_to);
    const std::vector<int32_t> numbers(size_t(e_.padded_to), number);
    const auto* bytes = reinterpret_cast<const uint8_t*>(numbers.data());
    net_.builder().add_bytes(format::SegmentKind::weights, behind, format::DType::i32, {numbers.size()},
                             {bytes, bytes + numbers.size() * 4});
    const Var all = net_.make("concat", "T+" + n, {}, false, format::DType::i32),
              first = net_.make("slice", n, {}, false, format::DType::i32);
    net_.graph().op("concat", {input, behind}, {all.name}, format::ConcatAttrsT());
    net_.graph().op("slice", {all.name}, {first.name}, format::SliceAttrsT());
    return first;
  }
  std::string first_rows(const std::string& table, int64_t rows, int64_t first, int64_t count) {
    const std::vector<float> all = net_.values(table + ".weight", {rows, e_.embedding});
    const auto at = [&](int64_t row) { return all.begin() + row * e_.embedding; };
    return net_.constant(table, {at(first), at(first + count)}, {count, e_.embedding});
  }
  Var looked_up(const Var& ids, const std::string& table, int64_t rows, int64_t first, int64_t count, float scale = 1) {
    const SourceTensor& all = net_.take(table + ".weight", {rows, e_.embedding});
    format::EmbeddingAttrsT attrs;
    attrs.scale = scale;
    return net_.op("embedding", {ids.name, net_.matrix(table + ".weight", net_.rows_of(all, first, count))}, ids.axis,
                   {e_.embedding}, {}, attrs);
  }
  Var mixed(size_t i, const Attention& a, const Var& x) {
    const Var y = e_.mixer ? e_.mixer(net_, i, x, mask_) : attention(net_, a, x);
    return e_.mixed_norm.empty() ? y : encoder_norm(net_, e_, net_.add(x, y), e_.mixed_norm);
  }
  Var layer(size_t i, const Attention& a, const Var& x) {
    if (!e_.is_pre_norm) {
      const Var y = encoder_norm(net_, e_, net_.add(x, mixed(i, a, x)), e_.attn_norm);
      return encoder_norm(net_, e_, net_.add(y, feed_forward(net_, e_.ffn, y)), e_.ffn_norm);
    }
    const bool has_norm = net_.has(e_.attn_norm + ".weight");  // ModernBERT's first layer has none
    const Var y = net_.add(x, mixed(i, a, has_norm ? encoder_norm(net_, e_, x, e_.attn_norm) : x));
    return net_.add(y, feed_forward(net_, e_.ffn, encoder_norm(net_, e_, y, e_.ffn_norm)));
  }
  Var pooled(Pool pool, const Var& x) {
    if (pool == Pool::kFirst) return net_.op("slice", {x.name}, "1", x.dims, {}, format::SliceAttrsT());
    const Var counts = seen_tokens(net_);
    format::ReduceAttrsT sum;
    sum.kind = format::ReduceKind::sum;
    const Var all = net_.op("reduce", {net_.mul(x, counts).name}, "", x.dims, {}, sum),
              n = net_.op("reduce", {counts.name}, "", {1}, {}, sum);
    return net_.op("reshape", {net_.binary(format::BinaryKind::div, all, n).name}, "1", x.dims);
  }
  Var output(const Head& h, const Var& x) {
    const bool is_lm = &h == &e_.masked_lm;
    const std::string weight = h.out + ".weight";
    const int64_t rows = is_lm ? e_.vocab : int64_t(net_.find(weight).shape.at(0)), columns = x.dims.back();
    const std::string matrix = is_lm ? output_matrix(net_, e_.words, e_.is_tied, e_.vocab, columns, weight)
                                     : net_.matrix(weight, net_.take(weight, {rows, columns}));
    std::string bias;
    for (const std::string& name : {h.bias, h.out + ".bias"})  // the same twice in some files
      if (!name.empty() && net_.has(name)) net_.take(name, {rows}), bias = name;
    return net_.times(x, matrix, bias.empty() ? "" : net_.plain(bias, {rows}), {rows});
  }

  Net& net_;
  const Encoder& e_;
  Var mask_;
};

// Heads of other tasks than the one that is converted.
void leave_out_heads(Checkpoint& c, Task task) {
  if (task == Task::kBase)
    c.leave_out({"cls", "lm_head", "classifier", "qa_outputs", "predictions", "generator_predictions",
                 "generator_lm_head", "discriminator_predictions", "sop_classifier", "lm_predictions",
                 "mask_predictions"},
                "the head for another task");
  for (const char* part : {"cls.seq_relationship.", "sop_classifier."}) c.ignore_containing(part);
  if (task != Task::kBase) c.ignore_containing("pooler.");
}

}  // namespace

void build_encoder(Checkpoint& c, const Encoder& e, ModelBuilder& b) {
  const Task task = task_of(c);
  const int64_t limit = e.padded_to > 0 ? e.padded_to : e.context_limit;
  Net net(c, b, e.naming, limit > 0 ? limit : e.context, true);
  if (limit > 0)
    for (auto& symbol : b.model.symbols)
      if (symbol->name == "T") symbol->bound = "min(context," + std::to_string(limit) + ")";
  EncoderBuilder make(net, e);
  const Var x = make.layers(make.embed());
  make.named(x, "last_hidden_state");
  GraphBuilder& graph = net.graph();
  if (task == Task::kBase) {
    graph.add_output("last_hidden_state");
    if (!e.pooler.dense.empty() && net.has(e.pooler.dense + ".weight"))
      graph.add_optional_output(make.named(make.head(e.pooler, x), "pooler_output"));
  } else {
    graph.add_optional_output("last_hidden_state");
    const Head& h = task == Task::kMaskedLm   ? e.masked_lm
                    : task == Task::kTokens   ? e.tokens
                    : task == Task::kSequence ? e.sequence
                    : task == Task::kAnswers  ? e.answers
                                              : e.discriminator;
    if (h.out.empty()) fail("%s: this family has no such head", c.path.c_str());
    const Var y = make.head(h, x);
    const auto column = [&](int64_t i) { return net.reshape(net.slice(y, 1, i, 1), {}); };
    if (task == Task::kAnswers) {
      if (y.dims.back() != 2)
        fail("%s: the head for questions gives %lld values a token, not 2", c.path.c_str(),
             static_cast<long long>(y.dims.back()));
      for (int64_t i = 0; i < 2; ++i) graph.add_output(make.named(column(i), i ? "end_logits" : "start_logits"));
    } else {
      graph.add_output(make.named(task == Task::kDiscriminator ? net.reshape(y, {}) : y, "logits"));
    }
  }
  leave_out_heads(c, task);
}

}  // namespace runnel::convert
