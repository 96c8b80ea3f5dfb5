// What a graph spells out and the program has as one operator.
#pragma once

#include "converter/onnx/lowering.h"

namespace runnel::convert {

// Lowers the node, where it is the last one of attention, of a GELU, of a SiLU or of a norm that are spelt out. The
// operators of the nodes before it are left to Lowering::drop_unread.
bool lower_spelt_out(Lowering& l, const Node& n);

// Attention of q [batch, heads, queries, width] to k and v [batch, key heads, keys, width], with a bias that meets
// [batch, heads, queries, keys], as one operator; absent: it has another form. sinks: [heads].
Value attention_of(Lowering& l, const Value& q, const Value& k, const Value& v, double scale, const Value& bias,
                   double softcap = 0, const Value& sinks = Value());

}  // namespace runnel::convert
