// The language in which recipes are written: a source, which knows tensors by name, and the program that is written
// over them, for models that read one stream of tokens.
#pragma once

#include "converter/program/program.h"
#include "converter/recipes/source.h"

namespace runnel::convert {

// One of several products of the same input. Rows of the source matrix [first, first + product of dims) are used; -1:
// all of them.
struct Product {
  std::string source;         // short name without ".weight"
  std::vector<int64_t> dims;  // of the output, behind the token axis
  int64_t first = -1;
  int64_t rows_in_all = 0;  // of the source matrix, when first >= 0
};

// The program "main". Values lie on axis T (all tokens of the call) or R (the wanted rows).
class Net : public Program, public Source {
 public:
  // is_whole: tokens see those behind them too, so a text is one call. sections: of all rotations, Rope's; with them
  // `positions` has as many axes.
  Net(Checkpoint& checkpoint, ModelBuilder& builder, Naming naming, int64_t context, bool is_whole = false,
      std::vector<uint8_t> sections = {});

  // Where names are looked up and values are named from here on. layer(i) for i < count; the last layer is where
  // `wanted` gathers.
  void layer(size_t i, size_t count);
  void leave_layers();

  // A tensor as f32 in the file, with what the original code adds to it; returns its name there.
  std::string plain(const std::string& name, const std::vector<int64_t>& shape, float offset = 0);
  // The same with another shape of as many elements.
  std::string plain_as(const std::string& name, const std::vector<int64_t>& source_shape,
                       const std::vector<int64_t>& shape);

  // What the session fills in: its option `context` [1], and the positions of the tokens [T]; as floats.
  Var session_context() { return filled_in("context", "1", format::Role::context); }
  Var float_positions() { return filled_in("float_positions", "T", format::Role::positions); }
  // Positions of what lies on this axis.
  std::string positions(const std::string& axis);
  Var wanted(const Var& x);  // in the last layer: the rows whose outputs are asked for; elsewhere x

  Var embed(const std::string& table, int64_t vocab, int64_t hidden, float scale = 1);
  Var linear(const Var& x, const Product& product) { return linears(x, {product})[0]; }
  std::vector<Var> linears(const Var& x, const std::vector<Product>& products);
  // Each of `groups` parts of x, `in` channels wide, through a matrix of its own: weights [groups, out, in]. Gives
  // [groups, out].
  Var by_group(const Var& x, const std::string& name, const std::vector<float>& weights, int64_t groups, int64_t out,
               int64_t in, bool is_delicate = false);
  Var rope(const Var& x, const std::string& table, bool interleaved = false, float scale = 1) {
    return rotate(x, positions(x.axis), table, interleaved, scale, sections_);
  }

  bool is_whole() const { return is_whole_; }
  // The model has no output matrix: tokens see those behind them; or the source has none and its configuration names a
  // class without one, or sentence-transformers' list of modules stands beside it.
  bool is_headless() const { return is_headless_; }
  // The final product, its output called `logits`; x is the optional output `last_hidden_state`. Without a head that is
  // the only output.
  void head(const Var& x, const std::string& matrix, int64_t vocab, double softcap = 0, double factor = 1);

 private:
  Var filled_in(const std::string& name, const std::string& axis, format::Role role);

  bool is_last_layer_ = false, is_whole_ = false, is_headless_ = false;
  std::vector<uint8_t> sections_;
  std::vector<int64_t> position_axes_;  // of `positions`, behind the tokens
  std::map<std::string, Var> wanted_;
};

}  // namespace runnel::convert
