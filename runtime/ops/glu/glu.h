// glu: y = f(gate) * up, element by element, f one of unary's kinds that need no alpha; `none` is the bilinear form.
//
// inputs   gate, up  the same shape, f32
// outputs  y         that shape, f32; may share memory with gate or up
// attrs    activation
// states   none
// tolerance that of unary
// source   Shazeer 2020, "GLU Variants Improve Transformer"
#pragma once

#include "contract/op.h"
#include "ops/unary/unary.h"

namespace runnel {

struct GluParams {
  UnaryKind activation;
};

}  // namespace runnel
