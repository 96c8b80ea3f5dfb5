// Added tokens: what a tokenizer.json lists beside its model, and what tokenizer_config.json says about them.
#pragma once

#include <nlohmann/json.hpp>

#include "converter/text/vocabulary.h"

namespace runnel::convert {

// Added tokens with their numbers as the original gives them; `size` is the number of entries of the model's own
// vocabulary.
void read_added_tokens(const nlohmann::json& added, size_t size, VocabSource* source);
// What transformers knows about them beyond tokenizer.json (added_tokens_decoder): more of them may be special.
void apply_added_tokens(const nlohmann::json& decoder, VocabSource* source);
// Those that are looked for in the normalised text are normalised themselves, as in the original: that is then what
// their ids are written as, but for control pieces, which chat templates name as they were, and pieces that the model
// itself has.
void normalize_added_tokens(VocabSource* source);

}  // namespace runnel::convert
