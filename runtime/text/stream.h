// Calls that move a stream which generate() also continues. They keep the text part of its state right: a token that
// was chosen but not fed yet, the sampler's history, marks of chats and grammars.
#pragma once

#include "text/generate.h"

namespace runnel {

// Session::run. A token that is still pending is fed first, in the same call where ids alone are given, and outputs are
// those of the caller's tokens. Where other inputs stand for tokens, in a call of its own, which is not taken back when
// the second one fails.
Status run_stream(Session& session, const IoTensor* inputs, size_t count, const Session::RunOptions& options);
// The same with outputs copied into the caller's tensors.
Status run_stream_into(Session& session, const char* program, const IoTensor* inputs, size_t count, IoTensor* outputs,
                       size_t output_count);

// Session::rollback. A pending token is void then.
Status rollback_stream(Session& session, int64_t n, Session::Reach reach = Session::Reach::kWindow);

// Tokens [begin, end) of the stream are these ids (null: something else than tokens).
void note_tokens(TextState& state, int64_t begin, const int32_t* ids, int64_t end);

}  // namespace runnel
