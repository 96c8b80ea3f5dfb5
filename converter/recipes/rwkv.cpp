// RWKV 4 to 7 from transformers' directories, the authors' own files, flash-linear-attention (7) and GGUF (6 and 7).
// Sizes are those of the tensors; a configuration adds eps and the way of rescaling.
#include "converter/recipes/rwkv.h"

#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

// Streams have no longest length; the file states one that nobody reaches.
constexpr int64_t kContext = 1 << 20;

using Table = std::map<std::string, std::string>;

// Short name -> transformers' name for 4, 5 and 6.
Table transformers_names() {
  Table t = {{"emb", "embeddings"}, {"/ln0", "/rwkv.blocks.0.pre_ln"}};
  for (const char* name : {"time_decay", "time_first", "time_faaaa", "time_decay_w1", "time_decay_w2", "time_maa_w1",
                           "time_maa_w2", "time_maa_x", "time_maa_w", "time_maa_k", "time_maa_v", "time_maa_r",
                           "time_maa_g", "key", "value", "receptance", "gate", "output", "ln_x"})
    t[std::string("att.") + name] = std::string("attention.") + name;
  for (const char* name : {"time_maa_k", "time_maa_r", "key", "value", "receptance"})
    t[std::string("ffn.") + name] = std::string("feed_forward.") + name;
  const std::pair<const char*, const char*> mixes[] = {
      {"k", "key"}, {"v", "value"}, {"r", "receptance"}, {"g", "gate"}};
  for (const auto& [brief, whole] : mixes) {
    t[std::string("att.time_mix_") + brief] = std::string("attention.time_mix_") + whole;
    t[std::string("ffn.time_mix_") + brief] = std::string("feed_forward.time_mix_") + whole;
  }
  return t;
}

// Short name -> flash-linear-attention's name for 7.
Table fla_names() {
  Table t = {{"emb", "embeddings"},
             {"/ln0", "/model.layers.0.pre_norm"},
             {"ln1", "attn_norm"},
             {"ln2", "ffn_norm"},
             {"ln_out", "norm"},
             {"/head", "/lm_head"},
             {"att.fused", "attn.x_x"},
             {"att.receptance", "attn.r_proj"},
             {"att.key", "attn.k_proj"},
             {"att.value", "attn.v_proj"},
             {"att.output", "attn.o_proj"},
             {"att.ln_x", "attn.g_norm"}};
  for (const char* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a", "r_k"})
    t[std::string("att.") + name] = std::string("attn.") + name;
  for (const char* part : {"w", "a", "v", "g"}) {
    const std::string lora = std::string("attn.") + part + "_lora.lora.", name = std::string("att.") + part;
    t[name + "1"] = lora + "0.weight";
    t[name + "2"] = lora + "2.weight";
    t[name + "0"] = lora + "2.bias";
  }
  return t;
}

Table gguf_names() {
  Table t = {{"emb", "token_embd"},
             {"/ln0", "token_embd_norm"},
             {"ln1", "attn_norm"},
             {"ln2", "attn_norm_2"},
             {"ln_out", "output_norm"},
             {"/head", "output"},
             {"att.ln_x", "time_mix_ln"},
             {"att.fused", "time_mix_lerp_fused.weight"},
             {"att.time_faaaa", "time_mix_first.weight"},
             {"att.time_decay", "time_mix_decay.weight"},
             {"att.time_decay_w1", "time_mix_decay_w1.weight"},
             {"att.time_decay_w2", "time_mix_decay_w2.weight"},
             {"att.time_maa_w1", "time_mix_w1.weight"},
             {"att.time_maa_w2", "time_mix_w2.weight"}};
  for (const char* name : {"key", "value", "receptance", "gate", "output"})
    t[std::string("att.") + name] = std::string("time_mix_") + name;
  for (const char* name : {"key", "value", "receptance"})
    t[std::string("ffn.") + name] = std::string("channel_mix_") + name;
  for (const char* name : {"x", "w", "k", "v", "r", "g"})
    t[std::string("att.time_maa_") + name] = std::string("time_mix_lerp_") + name + ".weight";
  for (const char* name : {"k", "r"})
    t[std::string("ffn.time_maa_") + name] = t[std::string("ffn.x_") + name] =
        std::string("channel_mix_lerp_") + name + ".weight";
  for (const char* name : {"w0", "w1", "w2", "a0", "a1", "a2", "v0", "v1", "v2", "g1", "g2", "k_k", "k_a", "r_k"})
    t[std::string("att.") + name] = std::string("time_mix_") + name + ".weight";
  return t;
}

int64_t count_layers(const Checkpoint& c, const std::string& prefix) {
  int64_t layers = 0;
  for (const SourceTensor& t : c.tensors()) {
    if (t.name.compare(0, prefix.size(), prefix) != 0) continue;
    const size_t end = t.name.find('.', prefix.size());
    if (end == t.name.npos || end == prefix.size() || end - prefix.size() > 4) continue;
    const std::string digits = t.name.substr(prefix.size(), end - prefix.size());
    if (digits.find_first_not_of("0123456789") == digits.npos)
      layers = std::max(layers, int64_t(std::stoi(digits)) + 1);
  }
  if (layers == 0) fail("%s: there is no tensor \"%s0...\"", c.path.c_str(), prefix.c_str());
  return layers;
}

int version_of_file(const Net& net) {
  if (net.has("att.r_k")) return 7;
  if (net.has("att.time_maa_x")) return 6;
  return net.has("att.ln_x.weight") ? 5 : 4;
}

// From here on in layer 0.
void read_sizes(Net& net, Rwkv& r, int64_t gguf_head_size) {
  const auto rows = [&](const std::string& name) {
    const SourceTensor& t = net.find(name);
    if (t.shape.empty() || t.shape[0] == 0 || t.shape[0] > (1u << 30))
      fail("tensor \"%s\" has no rows", t.describe().c_str());
    return int64_t(t.shape[0]);
  };
  r.ffn = rows("ffn.key.weight");
  const int64_t width = rows("att.key.weight");
  r.heads = 1;
  if (gguf_head_size) r.heads = width / gguf_head_size;
  else if (r.version == 7) r.heads = rows("att.r_k");
  else if (r.version > 4) r.heads = rows(r.version == 5 ? "att.time_decay" : "att.time_faaaa");
  if (r.heads < 1 || width % r.heads)
    fail("%s: %lld channels cannot be shared by %lld heads", net.checkpoint().path.c_str(),
         static_cast<long long>(width), static_cast<long long>(r.heads));
  r.head_dim = width / r.heads;
}

int64_t read_gguf(const Checkpoint& c, Rwkv& r) {
  r.version = architecture_of(c) == "rwkv6" ? 6 : 7;
  const Facts f = source_facts(c);
  f.pass_over({"hidden_size", "intermediate_size", "max_position_embeddings"});
  r.eps = f.number("layer_norm_eps", 1e-5);
  r.rescale_every = f.integer("rescale_every_n_layers", 0, 65536, 0);
  r.is_divided = r.is_transposed = true;
  r.naming = {"", "blocks.", gguf_names()};
  r.layers = count_layers(c, "blk.");
  if (r.layers != f.integer("num_hidden_layers", 1, 65536, r.layers))
    f.refuse("num_hidden_layers", "is not the number of layers that the file holds");
  return f.integer("wkv.head_size", 1, 65536);
}

void read_config(const Checkpoint& c, Rwkv& r) {
  const Facts f = config_facts(c);
  // The tensors tell.
  f.pass_over({"hidden_size", "attention_hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
               "num_heads", "head_size", "head_dim", "hidden_ratio", "value_dim", "max_position_embeddings",
               "decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim", "norm_bias",
               "norm_first"});
  const std::string type = architecture_of(c);
  if (type == "rwkv7") {
    r.version = 7;
    r.is_transposed = true;
    r.eps = f.number("norm_eps", 1e-5);
    r.group_eps = r.eps * double(f.integer("head_dim", 1, 65536, 64));
    if (f.has("attn")) f.refuse("attn", "is set: layers of attention among those of RWKV-7 are not supported");
    if (f.text("hidden_act", "sqrelu") != "sqrelu") f.refuse("hidden_act", "is not sqrelu");
    r.naming = {"model.", "layers.", {}, fla_names()};
  } else {
    r.version = type == "rwkv" ? 4 : type == "rwkv5" ? 5 : 6;
    r.eps = f.number("layer_norm_epsilon", 1e-5);
    const double divisor = f.number("head_size_divisor", 8);
    r.group_eps = 1e-5 * divisor * divisor;
    r.rescale_every = f.integer("rescale_every", 0, 65536, 6);
    r.naming = {"rwkv.", "blocks.", {}, transformers_names()};
  }
  r.layers = count_layers(c, r.naming.root + r.naming.layer);
}

void build(Checkpoint& c, ModelBuilder& b) {
  Rwkv r;
  int64_t gguf_head_size = 0;
  switch (c.kind) {
    case Checkpoint::Kind::kGguf: gguf_head_size = read_gguf(c, r); break;
    case Checkpoint::Kind::kDirectory: read_config(c, r); break;
    default: r.naming = {"", "blocks.", {}, {{"/ln0", "/blocks.0.ln0"}}}; r.layers = count_layers(c, "blocks.");
  }
  Net net(c, b, r.naming, kContext);
  const SourceTensor& table = net.find("emb.weight");
  if (table.shape.size() != 2) fail("tensor \"%s\" is not a table", table.describe().c_str());
  r.vocab = int64_t(table.shape[0]), r.hidden = int64_t(table.shape[1]);
  net.layer(0, size_t(r.layers));
  if (!r.version) r.version = version_of_file(net);
  read_sizes(net, r, gguf_head_size);
  if (r.version == 7)  // layer 0 has no value to go back to, whatever the file holds for it
    for (const char* name : {"att.v0", "att.v1", "att.v2"}) c.ignore_containing(net.full_name(name));
  net.leave_layers();

  const auto norm = [&](const Var& x, const std::string& name, double eps) {
    return net.layer_norm(x, net.plain(name + ".weight", {r.hidden}),
                          net.has(name + ".bias") ? net.plain(name + ".bias", {r.hidden}) : "", eps);
  };
  Var x = net.embed("emb", r.vocab, r.hidden);
  x = norm(x, "/ln0", r.eps);
  Var first_value;
  double eps = r.eps;
  for (int64_t i = 0; i < r.layers; ++i) {
    net.layer(size_t(i), size_t(r.layers));
    x = net.add(x, rwkv_time_mix(net, r, norm(x, "ln1", eps), &first_value));
    const Var y = rwkv_channel_mix(net, r, norm(x, "ln2", eps));
    x = net.add(net.wanted(x), y);
    if (!r.rescale_every || (i + 1) % r.rescale_every) continue;
    if (r.is_divided) x = net.scale(x, 0.5);
    else eps *= 4;
  }
  net.leave_layers();
  x = norm(x, "ln_out", eps);
  const bool may_be_tied =
      c.kind != Checkpoint::Kind::kDirectory || config_facts(c).boolean("tie_word_embeddings", true);
  const bool is_tied = net.is_headless() || (may_be_tied && !net.has("/head.weight"));
  net.head(x, is_tied ? "emb.weight" : net.matrix("/head.weight", net.take("/head.weight", {r.vocab, r.hidden})),
           r.vocab);
}

}  // namespace

extern const Recipe rwkv_recipe;
const Recipe rwkv_recipe = {
    "rwkv", {"rwkv6", "rwkv7"}, {"rwkv", "rwkv5", "rwkv6", "rwkv7"}, build, "blocks.0.att.key.weight"};

}  // namespace runnel::convert
