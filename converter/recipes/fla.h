// Token mixers of flash-linear-attention's model classes (package fla 0.6.0, fla/layers), each named after its class's
// model_type. Sizes are read from the tensors where they stand in them; short convolutions, output gates and norm
// weights are used when the source has them.
#pragma once

#include "converter/recipes/net.h"

namespace runnel::convert {

struct FlaLayer {
  int64_t hidden = 0;
  double eps = 1e-6;
  std::vector<float> lower_bound;  // of the forget gates; empty: none (HGRN, HGRN2)
};

// x: normed input [hidden]; gives what is added to the residual.
using FlaMixer = Var (*)(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);

Var fla_retnet(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_gla(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_linear_attn(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_hgrn(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_hgrn2(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_lightnet(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_delta_net(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_gated_deltanet(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_gated_deltaproduct(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_kda(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);
Var fla_mom(Net& net, const Facts& f, const FlaLayer& layer, const Var& x);

// Shared by the mixers; all tensors are behind "attn.".
// Rows of a matrix.
int64_t fla_rows(Net& net, const std::string& name);
// Products "attn.{name}_proj", each through "attn.{name}_conv1d" and `convolved` where the source has one, else through
// `plain`.
std::vector<Var> fla_streams(Net& net, const Var& x, const std::vector<std::string>& names, format::UnaryKind convolved,
                             format::UnaryKind plain);
// Norm over the last axis of y (weight "attn.{norm}.weight" where there is one), times activation(gate) if there is a
// gate, and "attn.o_proj".
Var fla_output(Net& net, const FlaLayer& layer, const Var& y, const Var& gate, const std::string& norm,
               format::UnaryKind activation = format::UnaryKind::silu);
// "attn.g_proj" of x; a Var without a name when the source has none.
Var fla_gate(Net& net, const Var& x);

}  // namespace runnel::convert
