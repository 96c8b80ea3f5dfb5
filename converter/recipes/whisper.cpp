// Whisper (arXiv 2212.04356): an encoder of spectra, a decoder that sees what it gives.
//
// Program "main": input_features [batch, mel bins, 2 * max_source_positions] and, of those with a decoder,
// decoder_input_ids [batch, tokens]. To write a text down token by token: "encode" keeps what the decoder attends to of
// one sound, "decode" takes a stream of ids.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/speech.h"

namespace runnel::convert {
namespace {

using format::ReduceKind;
using format::UnaryKind;

constexpr double kEps = 1e-5;

struct Sizes {
  int64_t bins = 80, width = 384, vocab = 51865, sources = 1500, targets = 448;
  int64_t encoder_layers = 4, encoder_heads = 6, encoder_ffn = 1536, decoder_layers = 4, decoder_heads = 6,
          decoder_ffn = 1536;
  UnaryKind activation = UnaryKind::gelu;
};

Sizes sizes_of(const Facts& f) {
  Sizes s;
  s.bins = f.integer("num_mel_bins", 1, 65536, 80);
  s.width = f.integer("d_model", 1, 1 << 20, 384);
  s.vocab = f.integer("vocab_size", 1, 1 << 26, 51865);
  s.sources = f.integer("max_source_positions", 1, 1 << 20, 1500);
  s.targets = f.integer("max_target_positions", 1, 1 << 20, 448);
  s.encoder_layers = f.integer("encoder_layers", 1, 4096, 4);
  s.encoder_heads = f.integer("encoder_attention_heads", 1, 65536, 6);
  s.encoder_ffn = f.integer("encoder_ffn_dim", 1, 1 << 20, 1536);
  s.decoder_layers = f.integer("decoder_layers", 1, 4096, 4);
  s.decoder_heads = f.integer("decoder_attention_heads", 1, 65536, 6);
  s.decoder_ffn = f.integer("decoder_ffn_dim", 1, 1 << 20, 1536);
  s.activation = activation_named(f, "activation_function", "gelu");
  f.expect("num_hidden_layers", s.encoder_layers);
  if (s.width % s.encoder_heads || s.width % s.decoder_heads)
    f.refuse("d_model", "is no multiple of the numbers of heads");
  f.pass_over({"scale_embedding",
               "dropout",
               "attention_dropout",
               "activation_dropout",
               "encoder_layerdrop",
               "decoder_layerdrop",
               "init_std",
               "decoder_start_token_id",
               "suppress_tokens",
               "begin_suppress_tokens",
               "forced_decoder_ids",
               "apply_spec_augment",
               "mask_time_prob",
               "mask_time_length",
               "mask_time_min_masks",
               "mask_feature_prob",
               "mask_feature_length",
               "mask_feature_min_masks",
               "median_filter_width",
               "classifier_proj_size",
               "use_weighted_layer_sum",
               "max_length",
               "is_encoder_decoder",
               "tie_word_embeddings"});
  return s;
}

struct Encoded {
  Var last;
  std::vector<Var> states;
};

Var half(Signal& net, const Var& x, const std::string& norm, auto part) {
  return net.plus(x, part(net.norm(x, norm, kEps)));
}

Encoded encode(Signal& net, const Sizes& s, const std::string& batch) {
  const Names shape = {batch, std::to_string(s.bins), std::to_string(2 * s.sources)};
  Var x = net.turned(net.given("input_features", shape), {0, 2, 1});
  x = net.unary(UnaryKind::gelu, net.conv(x, "encoder.conv1", s.width, {3, 1, 1, 1, 1}));
  x = net.unary(UnaryKind::gelu, net.conv(x, "encoder.conv2", s.width, {3, 2, 1, 1, 1}));
  x = net.plus(x, net.tensor("encoder.embed_positions.weight", {s.sources, s.width}));
  Encoded out;
  for (int64_t i = 0; i < s.encoder_layers; ++i) {
    out.states.push_back(x);
    const std::string p = "encoder.layers." + std::to_string(i) + ".";
    SpeechAttention a{p + "self_attn."};
    a.heads = s.encoder_heads;
    x = half(net, x, p + "self_attn_layer_norm", [&](const Var& v) { return speech_attention(net, a, v); });
    x = half(net, x, p + "final_layer_norm",
             [&](const Var& v) { return speech_mlp(net, v, p + "fc1", p + "fc2", s.encoder_ffn, s.activation); });
  }
  out.last = net.norm(x, "encoder.layer_norm", kEps);
  out.states.push_back(out.last);
  return out;
}

Var decode(Signal& net, const Sizes& s, const Var& encoded) {
  net.axis("tokens", "min(context," + std::to_string(s.targets) + ")");
  const Var ids = net.given("decoder_input_ids", {"batch", "tokens"}, format::DType::i32);
  const std::string words = "decoder.embed_tokens.weight";
  const std::string table = net.matrix(words, net.take(words, {s.vocab, s.width}));
  Var x = net.apply("embedding", {ids.name, table}, {"batch", "tokens", std::to_string(s.width)},
                    format::EmbeddingAttrsT());
  const Var positions = net.tensor("decoder.embed_positions.weight", {s.targets, s.width});
  x = net.plus(x, net.cut(positions, 0, 0, "tokens"));
  for (int64_t i = 0; i < s.decoder_layers; ++i) {
    const std::string p = "decoder.layers." + std::to_string(i) + ".";
    SpeechAttention own{p + "self_attn."}, cross{p + "encoder_attn."};
    own.heads = cross.heads = s.decoder_heads;
    own.how.causal = true;
    x = half(net, x, p + "self_attn_layer_norm", [&](const Var& v) { return speech_attention(net, own, v); });
    x = half(net, x, p + "encoder_attn_layer_norm",
             [&](const Var& v) { return speech_attention(net, cross, v, encoded); });
    x = half(net, x, p + "final_layer_norm",
             [&](const Var& v) { return speech_mlp(net, v, p + "fc1", p + "fc2", s.decoder_ffn, s.activation); });
  }
  return net.norm(x, "decoder.layer_norm", kEps);
}

// The matrix of the logits.
std::string head(Signal& net, const Sizes& s) {
  const std::string name = net.has("/proj_out.weight") ? "/proj_out.weight" : "decoder.embed_tokens.weight";
  return net.matrix(name, net.take(name, {s.vocab, s.width}));
}

std::string kept(int64_t layer, const char* part) { return "encoded." + std::to_string(layer) + "." + part; }

// One sound's keys and values for each layer of the decoder.
void keep_encoded(Signal& net, const Sizes& s) {
  const Names shape = {std::to_string(s.sources), std::to_string(s.decoder_heads),
                       std::to_string(s.width / s.decoder_heads)};
  const Encoded encoded = encode(net, s, "1");
  for (int64_t i = 0; i < s.decoder_layers; ++i) {
    const std::string p = "decoder.layers." + std::to_string(i) + ".encoder_attn.";
    net.keep(net.view(net.linear(encoded.last, p + "k_proj", s.width), shape), kept(i, "k"));
    net.keep(net.view(net.linear(encoded.last, p + "v_proj", s.width), shape), kept(i, "v"));
  }
  net.output(encoded.last, "encoder_last_hidden_state");
}

// Ids one after the other, which see those before them and what was kept: logits of the wanted rows.
void decode_stream(Signal& net, const Sizes& s) {
  const Var positions = net.stream();
  const Names heads = {"T", std::to_string(s.decoder_heads), std::to_string(s.width / s.decoder_heads)};
  const std::string words = "decoder.embed_tokens.weight", places = "decoder.embed_positions.weight";
  const auto row_of = [&](const char* ids, const std::string& table) {
    return net.apply("embedding", {ids, table}, {"T", std::to_string(s.width)}, format::EmbeddingAttrsT());
  };
  Var x = net.plus(row_of("ids", net.matrix(words, net.take(words, {s.vocab, s.width}))),
                   row_of(positions.name.c_str(), net.tensor(places, {s.targets, s.width}).name));
  format::AttentionAttrsT own, cross;
  own.scale = cross.scale = float(1 / std::sqrt(double(s.width / s.decoder_heads)));
  cross.causal = false;
  for (int64_t i = 0; i < s.decoder_layers; ++i) {
    const std::string p = "decoder.layers." + std::to_string(i) + ".", states = p + "self_attn.kv";
    net.attention_states(states, 0, s.decoder_heads, s.width / s.decoder_heads, s.width / s.decoder_heads);
    const auto part = [&](const Var& v, const std::string& name) {
      return net.view(net.linear(v, p + name, s.width), heads).name;
    };
    const auto attended = [&](const Names& inputs, const format::AttentionAttrsT& attrs, const std::string& out) {
      return net.linear(net.apply("attention", inputs, {"T", std::to_string(s.width)}, attrs), p + out, s.width);
    };
    x = half(net, x, p + "self_attn_layer_norm", [&](const Var& v) {
      return attended({part(v, "self_attn.q_proj"), part(v, "self_attn.k_proj"), part(v, "self_attn.v_proj"),
                       states + ".k", states + ".v"},
                      own, "self_attn.out_proj");
    });
    x = half(net, x, p + "encoder_attn_layer_norm", [&](const Var& v) {
      return attended({part(v, "encoder_attn.q_proj"), kept(i, "k"), kept(i, "v")}, cross, "encoder_attn.out_proj");
    });
    x = half(net, x, p + "final_layer_norm",
             [&](const Var& v) { return speech_mlp(net, v, p + "fc1", p + "fc2", s.decoder_ffn, s.activation); });
  }
  x = net.norm(net.apply("gather_rows", {x.name, "rows"}, {"R", std::to_string(s.width)}), "decoder.layer_norm", kEps);
  net.output(net.times(x, head(net, s), "", {s.vocab}), "logits");
}

void classify(Signal& net, const Facts& f, const Encoded& encoded) {
  Var x = encoded.last;
  if (f.boolean("use_weighted_layer_sum", false)) {
    const std::vector<float> weights = net.values("/layer_weights", {int64_t(encoded.states.size())});
    double sum = 0;
    for (float w : weights) sum += std::exp(double(w));
    for (size_t i = 0; i < weights.size(); ++i) {
      const Var part = net.scale(encoded.states[i], std::exp(double(weights[i])) / sum);
      x = i ? net.plus(x, part) : part;
    }
  }
  x = net.reduced(ReduceKind::mean, net.linear(x, "/projector", f.integer("classifier_proj_size", 1, 1 << 20, 256)), 1);
  net.output(net.linear(x, "/classifier", int64_t(net.find("/classifier.weight").shape.at(0))), "logits");
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const Sizes s = sizes_of(f);
  const std::string task = class_of(f, "WhisperModel");
  Signal net(c, b, {"model.", "", {}}, s.targets, kSoundsAtOnce);
  const Encoded encoded = encode(net, s, "batch");
  if (task == "WhisperForAudioClassification") return classify(net, f, encoded);
  if (task != "WhisperForConditionalGeneration" && task != "WhisperModel")
    f.refuse("architectures", "names " + printable(task) + ", which is not supported");
  const Var x = decode(net, s, encoded.last);
  if (task == "WhisperModel") {
    net.output(x, "last_hidden_state");
  } else {
    net.output(net.times(x, head(net, s), "", {s.vocab}), "logits");
  }
  net.optional_output(encoded.last, "encoder_last_hidden_state");
  if (task == "WhisperModel") return;
  Signal front(c, b, {"model.", "", {}}, 0, 0, "encode");
  keep_encoded(front, s);
  Signal back(c, b, {"model.", "", {}}, 0, 0, "decode");
  decode_stream(back, s);
}

}  // namespace

extern const Recipe whisper_recipe;
const Recipe whisper_recipe = {"whisper", {}, {"whisper"}, build};

}  // namespace runnel::convert
