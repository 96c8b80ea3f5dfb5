// Which keys and values a stream keeps: constant memory by how much attention they drew.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// What --kv-policy takes, for --help.
std::string kv_policies();

// POLICY[:name=value,...]. Every attention over a whole stream keeps a budget of positions, in states of a constant
// size. What was changed, in words for a person. Throws Error for an unknown policy or option, and where it does not
// apply.
std::string impose_policy(const std::string& policy, ModelBuilder& builder);

}  // namespace runnel::convert
