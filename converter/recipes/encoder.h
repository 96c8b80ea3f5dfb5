// What encoders share: a text is one call, each token sees those behind it too, and what is computed of the last layer
// depends on the task that the source's class names. A recipe fills in the description; build_encoder turns it into the
// program "main".
//
// Inputs: ids [T]; positions [T]; token_type_ids [T], where the model has a table of types, else 0 each; and
// attention_mask [T], unless the mixing knows none, else 1 each: tokens with 0 are seen by none. Outputs by task:
//
//   base                last_hidden_state [T, hidden]; pooler_output [1, hidden] when it is named
//   masked LM           logits [T, vocabulary]
//   token classes       logits [T, labels]
//   sequence classes    logits [1, labels]
//   question answering  start_logits [T], end_logits [T]
//   discriminator       logits [T]
// and last_hidden_state beside each, when it is named.
#pragma once

#include <functional>

#include "converter/recipes/blocks.h"

namespace runnel::convert {

enum class Task { kBase, kMaskedLm, kTokens, kSequence, kAnswers, kDiscriminator };
// By the class that config.json names (BertForMaskedLM), or kBase where sentence-transformers' list of modules stands
// beside it; refuses the others by name.
Task task_of(const Checkpoint& checkpoint);

enum class Pool { kNone, kFirst, kMean, kLate };  // kLate: the mean of what all tokens give

// One way through a task's layers: pool, dense, activation, norm, output. Short names; empty: left out.
struct Head {
  std::string dense, norm, out;
  format::UnaryKind activation = format::UnaryKind::tanh;
  Pool pool = Pool::kNone;
  std::string bias = {};  // of the output, where it has a name of its own
};

struct EncoderLayer {
  size_t number = 0;   // of its weights
  int64_t window = 0;  // distances below it are seen, to both sides; 0: all
  int rope = -1;       // index into Encoder::ropes; -1: none
};

struct Encoder {
  Naming naming;
  std::string words = "embeddings.word_embeddings", positions = "embeddings.position_embeddings",
              types = "embeddings.token_type_embeddings", embedding_norm = "embeddings.LayerNorm";
  std::string projection;      // from the embedding to the layers' width
  int64_t first_position = 0;  // the row of the first token in the table of positions, which has context rows behind it
  int64_t type_count = 0;      // 0: no table of types
  // Texts are filled up to this length with tokens of this id that nobody sees; 0: not.
  int64_t padded_to = 0;
  int32_t padding = 0;
  int64_t context_limit = 0;  // texts are shorter than the table of positions; 0: not
  int64_t context = 0, vocab = 0, embedding = 0, hidden = 0;
  double eps = 1e-12;
  bool is_rms = false;
  bool is_pre_norm = false;  // norms stand before the halves of a layer, and last_norm behind all
  bool is_tied = true;
  bool has_mask = true;
  float embedding_scale = 1;
  std::string mixed_norm;  // of a layer's input and what the attention adds; the input is added to that again
  std::string attn_norm = "attention.output.LayerNorm", ffn_norm = "output.LayerNorm", last_norm;
  Attention attention;  // window, rope and bias are set layer by layer
  FeedForward ffn;
  std::vector<Rope> ropes;
  std::vector<EncoderLayer> layers;
  Head pooler, masked_lm, tokens, sequence, answers, discriminator;
  // In the place of attention, if it is set: from a layer's input to what is added to it. unseen: added to the scores
  // of each key, [T, 1].
  std::function<Var(Net&, size_t layer, const Var& x, const Var& unseen)> mixer;
  // What is added to the scores beside the mask: [heads, T, T].
  std::function<Var(Net&)> score_bias;
  // What the layers take of the embedding, and what goes on from a layer with input x and output y; as they are, if not
  // set. Names stand outside of the layers there.
  std::function<Var(Net&, const Var& x)> embedded;
  std::function<Var(Net&, size_t layer, const Var& x, const Var& y)> behind;
};

// Names and heads as BERT has them; sizes and activation from the configuration.
Encoder bert_like(const Facts& facts, const std::string& root);
// RoBERTa's heads.
void set_roberta_heads(Encoder& encoder);
// Those, and positions that begin behind the id of padding.
void as_roberta(const Facts& facts, Encoder& encoder);
// A norm over the last axis as the encoder has it.
Var encoder_norm(Net& net, const Encoder& encoder, const Var& x, const std::string& name);
// Numbers by the i32 of `input`, one of the table's rows for each token, [T, 1].
Var numbers_of(Net& net, const Var& input, const std::string& name, const std::vector<float>& table, int outside);
// 1 for tokens that are seen, 0 for others, [T, 1].
Var seen_tokens(Net& net);
// Added to the scores by the distance of two tokens, [heads, T, T]: T5's buckets (arXiv 1910.10683), half of them for
// keys behind the query, of whose distances those from `most` on share the last; a table [buckets, heads].
Var bucket_bias(Net& net, const std::string& table, int64_t buckets, int64_t most, int64_t heads, int64_t context);
// Arithmetic over any axes, whose sizes the result names.
Var arithmetic(Net& net, format::BinaryKind kind, const Var& x, const Var& y, const std::string& axis,
               const std::vector<int64_t>& dims = {});
Var with_constant(Net& net, format::BinaryKind kind, const Var& x, double constant);

void build_encoder(Checkpoint& checkpoint, const Encoder& encoder, ModelBuilder& builder);
// The encoder of T5 and its kin alone.
void build_t5_encoder(Checkpoint& checkpoint, const Facts& facts, ModelBuilder& builder);

}  // namespace runnel::convert
