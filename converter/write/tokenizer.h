// The source's vocabulary on its way into the file.
#pragma once

#include "converter/write/builder.h"

namespace runnel::convert {

// Adds tokenizer and chat format when the source has a vocabulary. Returns notices for the user: no vocabulary, one of a kind that cannot
// be written, a chat template that is not recognised.
std::vector<std::string> add_tokenizer(const Checkpoint& checkpoint, ModelBuilder& builder);

}  // namespace runnel::convert
