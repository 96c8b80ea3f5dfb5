// What Gemma 3n and Gemma 4 share: each layer gets an input of its own from a second, wide embedding; layers with a
// window and without may have other heads; the last layers read the keys and values of earlier ones, so that only the
// wanted rows go through them.
#pragma once

#include "converter/recipes/decoder.h"

namespace runnel::convert {

struct PerLayerDecoder {
  Decoder d;  // sizes, norms, windows and ropes; ropes[0] for layers that see everything, ropes[1] for those with a
              // window
  struct Sizes {
    int64_t head_dim = 0, kv_heads = 0, width = 0;  // width: of the feed-forward
  };
  std::vector<Sizes> sizes;  // of each layer
  size_t owners = 0;         // layers with keys and values of their own, the first ones
  int64_t input_width = 0;   // channels of a layer's own input; 0: there are none
  int64_t input_vocab = 0;   // rows of the table that they come from
  bool k_is_v = false;       // in layers that see everything the keys' product is that of the values too
  bool has_outside = false;  // ids outside of that table stand for row 0
};

// Sizes of `facts` (a configuration with its defaults, or a GGUF): those that the two families name alike. pattern:
// each how-manieth layer sees everything where the source does not list them.
void read_per_layer(const Facts& facts, int64_t pattern, PerLayerDecoder& p);
// GGUF names beyond those of Decoder.
void add_per_layer_names(Decoder& decoder);

class PerLayerNet {
 public:
  PerLayerNet(Net& net, const PerLayerDecoder& p);
  // Begins a layer: names are looked up there.
  void layer(size_t i);
  // Every layer's input [layers, width] from the scaled embedding x; those of the present layer [width].
  void make_inputs(const Var& x);
  Var input();
  // Attention with a norm in front and one behind, added to x.
  Var attention_of(const Var& normed);
  Var norm(const Var& x, const std::string& name, const Var* residual = nullptr);
  // norm(projection(f(gate(x)) * input)), plus the residual.
  Var gated_input(const Var& x, const Var* residual = nullptr);

 private:
  Net& net_;
  const PerLayerDecoder& p_;
  size_t i_ = 0;
  Var inputs_;
  std::vector<std::string> ropes_;
  std::map<bool, std::string> shared_;  // by whether there is a window: states of the last layer that owns some
};

}  // namespace runnel::convert
