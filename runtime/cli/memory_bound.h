// What bounds the speed of single tokens: bytes that a token reads, and how fast the machine reads them.
#pragma once

#include "session/session.h"

namespace runnel::cli {

// Bytes of weights and states that an operator of a pass reads at this position of the stream. Of tables the rows that
// are looked up, of experts those that are chosen, of a screened matrix the part that is read of every row. Activations
// stay in the caches and are left out.
uint64_t bytes_read(const Session& session, const ObservedOp& op, int64_t position);

// GB/s at which the pool's threads read the model's weights, up to the first GiB of them, and do nothing else: the best
// of some rounds.
double read_gb_per_s(const Model& model, ThreadPool* pool);

}  // namespace runnel::cli
