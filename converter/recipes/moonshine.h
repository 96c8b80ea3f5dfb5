// What Moonshine's two families share: the decoder, and how its class is named.
#pragma once

#include "converter/recipes/speech.h"

namespace runnel::convert {

struct MoonshineText {
  int64_t width = 0, ffn = 0, vocab = 0, layers = 0, heads = 0, head = 0;
  format::UnaryKind activation = format::UnaryKind::silu;
};
// Heads that turn by their places, by these facts; part: of a head that turns, where the facts leave it out.
SpeechAttention turning_heads(Signal& net, const Facts& facts, int64_t heads, int64_t head, double part);
// Reads decoder_input_ids [batch, tokens] and adds the outputs of the class that the facts name. unseen: attention's,
// of what was encoded; shown: what is given as encoder_last_hidden_state.
void moonshine_text(Signal& net, const Facts& facts, const MoonshineText& sizes, const SpeechAttention& own,
                    const Var& encoded, const Var& unseen, const Var& shown);

}  // namespace runnel::convert
