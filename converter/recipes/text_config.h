// Models of text alone, and those with towers for pictures or sound beside it, of which the text part is converted.
#pragma once

#include "converter/recipes/net.h"

namespace runnel::convert {

// The part of config.json that describes text, with its defaults, or a GGUF's facts. Tells `naming` where the tensors
// of text stand. tie_word_embeddings is what counts of both places where it may stand.
Facts text_facts(Checkpoint& checkpoint, Naming& naming, const Json& defaults, const GgufForm& form = {});

}  // namespace runnel::convert
