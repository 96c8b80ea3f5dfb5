// From the command line to the options of a generation, with what they refer to.
#pragma once

#include <cstdio>
#include <memory>
#include <string>

#include "cli/common.h"

namespace runnel::cli {

class TextOptions {
 public:
  // Reads grammars and opens the file of log-probabilities.
  TextOptions(const Options& o, const rnl::Model& model);
  const rnl_generate_options& get() const { return options_; }

 private:
  void write_logprobs(const rnl_logprobs& token);
  struct Close {
    void operator()(std::FILE* f) const {
      if (f != stderr) std::fclose(f);
    }
  };
  const rnl::Model& model_;
  rnl_generate_options options_;
  rnl::Grammar grammar_;
  std::unique_ptr<std::FILE, Close> logprobs_;
};

}  // namespace runnel::cli
