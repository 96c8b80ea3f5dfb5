// Programs that run others.
#pragma once

#include "converter/program/graph.h"

namespace runnel::convert {

// An operator of format/control.h.
std::unique_ptr<format::OpT> new_control(const std::string& name, const std::string& program,
                                         const std::string& otherwise, const Names& inputs, const Names& outputs);
// A size expression with another one in the place of a symbol.
std::string replaced_symbol(const std::string& size, const std::string& symbol, const std::string& by);

}  // namespace runnel::convert
