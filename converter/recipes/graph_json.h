// A graph in the JSON form of the schema, with weights in a safetensors file beside it. See runtime/format/FORMAT.md.
#pragma once

#include "converter/program/builder.h"
#include "converter/read/checkpoint.h"

namespace runnel::convert {

// Parses the JSON into builder.model: operators get number and version by name. `where` serves messages.
void read_graph_json(const std::string& text, const std::string& where, ModelBuilder& builder);

// Adds the tensors that the programs name and that are neither values nor states, in order of use: weights of matmul
// and tables of embedding are packed, others stay plain. A tensor listed in the JSON with a dtype is stored as that
// says (packed or f32).
void add_graph_tensors(Checkpoint& checkpoint, ModelBuilder& builder);

}  // namespace runnel::convert
