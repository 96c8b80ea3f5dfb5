// One step of generation: feeds tokens and chooses the next from the logits, under a grammar where there is one.
#pragma once

#include "text/generate.h"

namespace runnel {

class NextToken {
 public:
  NextToken(Session& session, const GenerateOptions& options) : session_(session), options_(options), state_(text_state(session)) {}
  // Feeds the prompt, not empty. new_text: it is not only what was chosen before.
  Status begin(const int32_t* prompt, size_t count, bool new_text);
  // Feeds ids, which stand in the history then.
  Status feed(const int32_t* ids, size_t count);
  // kNoToken: the grammar's text is complete and nothing can follow, not even an end token, as the vocabulary has none.
  Result<int32_t> choose();

 private:
  struct Logits {
    const float* data = nullptr;
    int64_t count = 0;
    int32_t choice = -1;  // where a device has chosen: that alone
  };
  Status check_grammar() const;
  Status resume(const int32_t* prompt, size_t count);
  Result<int32_t> list_first();
  TokenFilter filter(int32_t least);
  Result<int32_t> sample();
  Status make_again();

  Session& session_;
  const GenerateOptions& options_;
  TextState& state_;
  Sampler sampler_;
  Logprobs logprobs_;
  Logits logits_;
  int32_t top_logits_ = 0;  // the highest ones that are asked of the output matrix, 0: all
  int32_t asked_ = 0;       // of logits_; 0: all that matter are there
  int32_t least_ = 1;       // so many of the asked must be tokens that the grammar lets through
  Vec<int32_t> listed_;
  GrammarPosition at_{};  // before the next token
};

}  // namespace runnel
