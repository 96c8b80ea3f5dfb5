// The embedding of a text: rows of the first program's output last_hidden_state, pooled; what the file's program for it
// makes of them; scaled to length 1 where that is wanted.
#pragma once

#include "format/model_file.h"
#include "session/session.h"

namespace runnel {

struct EmbedOptions {
  // What the caller wants otherwise than the file says; negative: as it says.
  int pooling = -1;  // format::Pooling
  int normalise = -1;
};

// Floats of an embedding. kUnsupported: the model has no hidden states that could be pooled, or pools in a way unknown
// to this runtime.
Result<int64_t> embedding_width(const Model& model);

// Empties the session's stream, feeds `count` ids and writes the embedding: embedding_width() floats of `capacity`.
// Sums are kept in double, in the order of the tokens, so passes of any length give the same sum of the same rows. The
// stream then holds the text, after a failure nothing or a part of it.
Status embed(Session& session, const int32_t* ids, size_t count, const EmbedOptions& options, float* embedding,
             size_t capacity);

}  // namespace runnel
