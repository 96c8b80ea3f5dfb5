// Readers: a file or directory becomes a Checkpoint. Every field of a source is untrusted: counts, lengths, offsets and
// names are checked against the file's size before anything is allocated or followed. They throw Error.
#pragma once

#include "converter/read/checkpoint.h"
#include "converter/read/json_text.h"
#include "converter/read/source_file.h"

namespace runnel::convert {

// By what the path is: a .gguf file or a directory with config.json.
Checkpoint read_checkpoint(const std::filesystem::path& path);

// GGUF versions 2 and 3, little-endian: one file, which may be a part of a split model. `where` is the name for
// messages; bytes must outlive the checkpoint. Tensors and keys are added; a key of both with another value is refused.
void read_gguf(std::span<const uint8_t> bytes, const std::string& where, Checkpoint& checkpoint);
// The same with all the other parts of a split model, which lie beside `path` under their names.
void read_gguf_parts(std::span<const uint8_t> bytes, const std::filesystem::path& path, Checkpoint& checkpoint);
// One safetensors file; its tensors are added.
void read_safetensors(std::span<const uint8_t> bytes, const std::string& where, Checkpoint& checkpoint);
// config.json, *.safetensors (single or with an index), licence of README.md.
Checkpoint read_directory(const std::filesystem::path& directory);

// JSON of a file of at most 64 MiB.
Json read_json(const std::filesystem::path& file);

}  // namespace runnel::convert
