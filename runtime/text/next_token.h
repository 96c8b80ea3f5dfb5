// One step of generation: feeds tokens and chooses the next from the logits, under a grammar where there is one.
#pragma once

#include "text/generate.h"

namespace runnel {

class NextToken {
 public:
  // tokenizer: null where the model has none.
  NextToken(Session& session, const GenerateOptions& options, const Tokenizer* tokenizer)
      : session_(session), options_(options), state_(text_state(session)), tokenizer_(tokenizer) {}
  // Everything about the options that can be refused before anything is fed. new_text: what will be fed is not only
  // what was chosen before.
  Status prepare(bool new_text);
  // Feeds the prompt, not empty, after prepare(); ids from `first` on may hold places of the options' parts.
  Status begin(const int32_t* prompt, size_t first, size_t count);
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
  Status find_logits();
  Session::RunOptions options_of_call();
  Status drop_padding();
  Status check_grammar() const;
  Status resume(const int32_t* prompt, size_t count);
  Result<int32_t> list_first();
  TokenFilter filter(int32_t least);
  Result<int32_t> sample();
  Status make_again();

  Session& session_;
  const GenerateOptions& options_;
  TextState& state_;
  const Tokenizer* tokenizer_;
  int output_ = -1;       // of the program: its logits
  int64_t width_ = 0;     // of a row of logits
  int64_t vocab_ = 0;     // of these, the tokens that there are; rows behind the vocabulary pad the output matrix
  bool goes_on_ = false;  // an answer under the grammar is under way
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
