// The source's vocabulary on its way into the file.
#pragma once

#include "converter/program/builder.h"
#include "converter/read/checkpoint.h"

namespace runnel::convert {

struct TokenizerChoice {
  std::filesystem::path file;  // set: a tokenizer's file or a folder with one, which takes the place of the source's
  bool is_left_out = false;
};

// Adds tokenizer and chat format when the source has a vocabulary. Throws Error for one that is not understood. Returns
// notices for the user: no vocabulary, a pre-tokenizer that had to be guessed, a chat template that is not recognised.
std::vector<std::string> add_tokenizer(const Checkpoint& checkpoint, const TokenizerChoice& choice,
                                       ModelBuilder& builder);

}  // namespace runnel::convert
