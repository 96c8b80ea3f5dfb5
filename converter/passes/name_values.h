// Names of the values between operators, so that a person finds the modules of the original code in a file:
//   the result of an operator with a weight is called like the module that owns it: "layers.0.input_layernorm",
//   "embed_tokens";
//   any other like the module whose output it changes, or like what several modules have in common:
//   "layers.0.self_attn.q_proj.rope",
//   "layers.0.mlp.glu"; a second one of the same name gets "#2";
//   what alone leaves a layer is that layer's output: "layers.0".
#pragma once

#include "format/model_generated.h"

namespace runnel::convert {

// Renames what recipes left with a number alone ("layers.0.rms_norm#1"). To be called when the model is complete.
void name_values(format::ModelT& model);

}  // namespace runnel::convert
