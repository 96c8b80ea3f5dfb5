// The proof that a written file works: opened, planned and run by the runtime.
#pragma once

#include "format/model_file.h"

namespace runnel::convert {

// Opens the file with the runtime's verifier, compares every checksum, and feeds a few tokens to a model that takes
// tokens alone. Throws Error.
void verify_written(const char* path);
// Opens an adapter beside its base and plans a session. Throws Error.
void verify_adapter(const char* path, std::unique_ptr<Model> base);

}  // namespace runnel::convert
