// Layers that come after the model is sure are not computed.
#pragma once

#include "converter/program/builder.h"
#include "converter/program/method_options.h"

namespace runnel::convert {

// Behind a layer the classes are computed as behind the last one, by the same operators. Where the likeliest class of
// each row of the logits has at least the part `sure`, these are the outputs; else the next layers are computed. A NaN
// is never sure. The new output `layers` [rows] i32 says how many were. In words for a person: behind which layers.
// Throws Error where the model's layers are not alike, or give no classes.
std::string exit_early(const MethodOptions& options, ModelBuilder& builder);

}  // namespace runnel::convert
