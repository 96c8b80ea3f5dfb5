// Matrices whose stored values have to be multiplied by a number (unit_of): the number goes into the graph.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// Look-ups take it into their scale, products are multiplied by it.
void scale_products(ModelBuilder& builder);

}  // namespace runnel::convert
