// Models of text alone, and those with towers for pictures or sound beside it, of which the text part is converted.
#pragma once

#include "converter/recipes/net.h"

namespace runnel::convert {

// The part of config.json that describes text.
struct TextConfig {
  Json given;   // as it stands there
  Json config;  // with its defaults
  bool is_tied = true;
  Facts facts(const Checkpoint& checkpoint) const { return config_facts(checkpoint).with(config); }
};
// Tells `naming` where the tensors of text stand.
TextConfig read_text_config(Checkpoint& checkpoint, Naming& naming, const Json& defaults);

}  // namespace runnel::convert
