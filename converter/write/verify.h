// The proof that a written file works: opened, planned and run by the runtime.
#pragma once

namespace runnel::convert {

// Opens the file with the runtime's verifier, compares every checksum, and feeds a few tokens to a model that takes tokens alone.
// Throws Error.
void verify_written(const char* path);

}  // namespace runnel::convert
