// From the command line to the options of a generation, with what they refer to.
#pragma once

#include <memory>
#include <string>

#include "cli/common.h"

namespace runnel::cli {

class TextOptions {
 public:
  // Reads grammars and opens the file of log-probabilities.
  TextOptions(const Options& o, const rnl::Model& model);
  const rnl_generate_options& get() const { return options_; }
  // Behind the last token: throws when log-probabilities could not be written.
  void finish();

 private:
  void write_logprobs(const rnl_logprobs& token);
  const rnl::Model& model_;
  rnl_generate_options options_;
  rnl::Grammar grammar_;
  std::unique_ptr<TextOutput> logprobs_;  // null: standard error
  std::string error_;                     // the library's callbacks must not throw
};

}  // namespace runnel::cli
