// RWKV's tokenizer: at each place the longest piece that the text goes on with, byte by byte, whatever the bytes are.
#pragma once

#include "base/vec.h"
#include "text/vocab.h"

namespace runnel {

// Appends the ids of `text`, without bos and eos. Control pieces written within one of the `special` ranges (ascending,
// apart) become their ids. kInvalidModel when no piece begins with a byte of the text; the converter writes no such
// vocabulary.
Status longest_match_encode(const Vocab& vocab, const uint8_t* text, size_t size, const TextRange* special,
                            size_t special_count, Vec<int32_t>* ids);

}  // namespace runnel
