// Layers behind the last one that guess a further token from the hidden states: no part of what gives the next token's
// logits.
#include "converter/read/facts.h"

namespace runnel::convert {

void leave_out_further_layers(Checkpoint& c) {
  if (c.kind == Checkpoint::Kind::kFile) return;
  const Facts f = source_facts(c);
  const char *count_key = "num_hidden_layers", *further_key = "num_nextn_predict_layers";
  const int64_t further = f.integer(further_key, 0, 64, 0);
  if (further == 0 || !f.has(count_key)) return;
  // A GGUF's number of layers, and its lists of one value a layer, count them; a configuration's do not.
  const int64_t count = f.integer(count_key, 1, 4096), first = c.is_gguf() ? count - further : count;
  if (first < 1) f.refuse(further_key, "leaves no layer");
  std::vector<std::string> names;
  for (int64_t i = 0; i < further; ++i)
    names.push_back((c.is_gguf() ? "blk." : "layers.") + std::to_string(first + i) + ".");
  c.leave_out(names, "what guesses further tokens");
  if (!c.is_gguf()) return;
  const std::string prefix = stated_architecture(c) + ".";
  c.meta[prefix + "block_count"] = first;
  for (auto& [key, value] : c.meta.items())
    if (key.compare(0, prefix.size(), prefix) == 0 && value.is_array() && int64_t(value.size()) == count)
      value.erase(value.begin() + first, value.end());
}

}  // namespace runnel::convert
