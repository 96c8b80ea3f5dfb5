// What --prune takes, and how recipes and the pass hear of it.
#pragma once

#include "converter/program/builder.h"
#include "converter/program/method_options.h"

namespace runnel::convert {

// What --prune takes, for --help.
std::string prune_methods();

// METHOD[:name=value,...], read. Throws Error for an unknown method or option.
MethodOptions prune_options(const std::string& method);

// What --prune asks for stands in the model's provenance while recipes build. One that prunes by itself, as there it
// knows more, says in words what it did, and the pass then has nothing left to do.
void ask_to_prune(const std::string& method, ModelBuilder& builder);
std::string asked_to_prune(const ModelBuilder& builder);  // empty: nothing
void note_pruned(const std::string& words, ModelBuilder& builder);

}  // namespace runnel::convert
