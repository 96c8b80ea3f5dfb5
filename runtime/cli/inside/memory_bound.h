// What bounds the speed of single tokens: bytes that a token reads, and how fast the machine reads them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "runnel/runnel.h"

namespace runnel::cli {

// Bytes of weights and states that the passes of a call would read at this position of the stream. Of tables the rows
// that are looked up, of experts those that are chosen, of a screened matrix the part that is read of every row.
// Activations stay in the caches and are left out. 0 on a device.
uint64_t bytes_read(rnl_session* session, int64_t position, const std::function<void()>& call);

// Threads that compute single tokens, known with the engine's first session.
int token_threads(const rnl_session* session);
// GB/s at which these threads read the model's weights, up to the first GiB of them, and do nothing else: the best of
// some rounds.
double read_gb_per_s(const rnl_session* session);
std::string name_of_cpu();

}  // namespace runnel::cli
