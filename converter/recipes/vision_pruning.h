// Fewer tokens in the layers of a plain vision transformer. How many are left behind each layer is known while the
// model is converted, as its images have one size. Groups of tokens and places are those of one image, so that a call
// takes one.
#pragma once

#include <optional>
#include <utility>

#include "converter/program/method_options.h"
#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {

class VisionPruner {
 public:
  // By what --prune asks for. first: tokens before the patches, which are never pruned. Throws Error where the method
  // does not apply to this encoder.
  VisionPruner(VisionNet& net, const VisionEncoder& encoder, int64_t first);

  // In the place of VisionNet::attend: a merged token counts as often as it stands for one.
  Var attend(const std::vector<Var>& qkv, double scale);
  // x behind the attention of a layer (counted from 0) whose queries and keys are given, with fewer tokens.
  Var thinned(int64_t layer, const std::vector<Var>& qkv, double scale, const Var& x);
  // As many rows as there were at first: what a token's group has become, and of a dropped token what it was when it
  // was dropped. Says in the builder what was done.
  Var given_back(const Var& x);

 private:
  bool is(const char* method) const { return std::string(o_.row().name) == method; }
  bool applies(int64_t layer) const;
  Var merged(const std::vector<Var>& qkv, const Var& x);
  Var attend_by_weights(const Var& q, const Var& k, const Var& v, double scale);
  Var attend_with_heads(const std::vector<Var>& qkv, double scale);
  void add_up(const Var& weights);
  void drop_heads();
  Var selected(const std::vector<Var>& qkv, double scale, const Var& x);
  std::string far_apart(const Var& tokens, const Var& scores, int64_t count);
  std::pair<Var, std::string> ranked(const Var& scores);
  void join(const std::string& groups);  // groups of the tokens that there are: where those of the image went

  Var flat(const Var& x);    // of the one image
  Var turned(const Var& x);  // axes 0 and 1 in each other's place
  Var mean_of_heads(const Var& keys);
  Var attention_rows(const Var& queries, const Var& keys, double scale);
  Var in_mean(const Var& weights);
  std::string factor_of(const Var& seen);
  Var log(const Var& x) { return net_.unary(format::UnaryKind::log, x); }
  std::string places(const std::vector<int32_t>& numbers);
  std::string indices(const char* op, const Names& inputs, int64_t count);
  std::string part(const std::string& indices, int64_t begin, int64_t count);
  Var rows_of(const Var& x, const std::string& rows, int64_t count);

  VisionNet& net_;
  const MethodOptions o_;
  const int64_t first_;
  int64_t layer_ = 0;
  std::vector<int64_t> counts_;  // of tokens: at first and behind each layer that left fewer
  std::optional<Var> size_;      // for how many tokens each stands
  std::string map_;              // of each token of the image: its row
  std::string kept_;             // of each row: its token of the image
  std::optional<Var> seen_;      // SpAtten: how much each token was seen, by all heads and layers so far
  std::optional<Var> loud_;      // and of each head that is left the sum of what it gave
  Var weights_;                  // of the latest attend_by_weights
  std::string heads_;            // which they are; empty: all
  std::optional<Var> whole_;     // all tokens as they were when they were last computed
  size_t constants_ = 0;
};

}  // namespace runnel::convert
