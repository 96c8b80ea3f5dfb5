// Text to ids in the steps of the tokenizers library: added tokens that stand in the raw text, the normaliser on what
// lies between them, added tokens of the normalised text, the pre-tokenizer, and the model on each word.
#pragma once

#include "base/vec.h"
#include "text/vocab.h"

namespace runnel {

// Memory that calls reuse.
struct PipelineScratch {
  Vec<uint8_t> text;  // sections as valid UTF-8; steps that change a text write what they make behind it
  RegexScratch regex;
  BpeScratch bpe;
  NormScratch norm;
  UnigramScratch unigram;
};

// Appends the ids of `text`, without those around it. Control pieces written within one of the `special` ranges
// (ascending, apart) become their ids; other added tokens do so anywhere.
Status pipeline_encode(const Vocab& vocab, const uint8_t* text, size_t size, const TextRange* special,
                       size_t special_count, PipelineScratch* scratch, Vec<int32_t>* ids);

}  // namespace runnel
