// Writes the built model as a .rnl file, opens it again with the runtime's own verifier and only then gives it its
// name.
#pragma once

#include <filesystem>
#include <functional>

#include "converter/program/builder.h"
#include "converter/write/verify.h"

namespace runnel::convert {

struct WriteReport {
  uint64_t file_bytes = 0;
  uint64_t header_bytes = 0;
  uint64_t weight_bytes = 0;
  uint64_t tokenizer_bytes = 0;
};

// Lays tensors out in segments (cut at 2 GiB, a tensor is never cut), streams them, writes header and seal. sources are
// hashed meanwhile into provenance.source_sha256. verify: the proof that the file works, before it gets its name. On
// failure nothing is left behind. threads >= 1.
WriteReport write_model(ModelBuilder& builder, const std::vector<std::filesystem::path>& sources,
                        const std::filesystem::path& output, int threads,
                        const std::function<void(const char*)>& verify = verify_written);

}  // namespace runnel::convert
