// The language of recipes for sound and series: values on any axes, with several inputs side by side on the axis
// `batch`. A value's axis is what only a call knows, up to the last such size; its dims are the numbers behind it.
#pragma once

#include "converter/program/program.h"
#include "converter/recipes/source.h"

namespace runnel::convert {

// Sizes of axes: numbers, or expressions over symbols. Numbers are computed at once.
std::string more(const std::string& size, int64_t n);
std::string multiple(const std::string& size, int64_t n);
std::string quotient(const std::string& size, int64_t n);  // rounded down

// A window that moves along the axis before the channels.
struct Slide {
  int64_t kernel = 1, stride = 1, dilation = 1, before = 0, behind = 0, groups = 1;
  int64_t reach() const { return (kernel - 1) * dilation + 1; }
};
// As many places as the window finds on an axis.
std::string places(const std::string& size, const Slide& window);

struct Attending {
  double scale = 1;
  bool causal = false;
  int64_t window = 0;  // attention's
  Var unseen = {};     // added to the scores of each key, [batch, keys]; without a name: nothing
  Var bias = {};       // added to the scores, [.. heads, queries, keys]; without a name: nothing
};

class Signal : public Program, public Source {
 public:
  // most: inputs side by side, at most, unless the person who converts says otherwise. Of several programs the first
  // one brings the sizes that all of them share.
  Signal(Checkpoint& checkpoint, ModelBuilder& builder, Naming naming, int64_t context, int64_t most,
         const char* program = "main");

  // Shapes, all axes one by one.
  static Names sizes(const Var& x) { return shape_of(x.axis, x.dims); }
  static Var of_sizes(const std::string& name, const Names& sizes);
  Var given(const std::string& name, const Names& sizes, format::DType dtype = format::DType::f32);
  // Of i32; where a call leaves it out, each element is `fill`. As f32.
  Var filled(const std::string& name, const Names& sizes, int32_t fill);
  void axis(const std::string& name, const std::string& bound) {
    graph().add_symbol(name, format::SymbolKind::axis, bound);
  }
  // A view under the name that the original gives it, as an output of the program.
  void output(const Var& x, const std::string& name, format::DType dtype = format::DType::f32);
  void optional_output(const Var& x, const std::string& name);
  // A state that this program writes and others read under this name.
  void keep(const Var& x, const std::string& name);
  // Of a program along a stream of tokens: inputs ids [T], positions [T] and rows [R], as Net has them; gives
  // positions.
  Var stream();

  // Tensors of the file.
  Var tensor(const std::string& name, const std::vector<int64_t>& shape);
  Var tensor(const std::string& name, const std::vector<int64_t>& source_shape, const std::vector<int64_t>& shape);
  Var numbers(const std::string& name, const std::vector<float>& values, const std::vector<int64_t>& shape);
  Var number(double value);
  std::string places_of(const std::string& name, const std::vector<int32_t>& values,
                        const std::vector<int64_t>& shape);  // i32

  // A matrix [rows, columns] that is no tensor of the source, in floats.
  std::string made_matrix(const std::string& name, const std::vector<float>& values, int64_t rows, int64_t columns);

  // Any operator with one output of these sizes.
  template <class... Attrs>
  Var apply(const std::string& name, const Names& inputs, const Names& sizes, Attrs... attrs) {
    const Var y = of_sizes("", sizes);
    return op(name, inputs, y.axis, y.dims, {}, attrs...);
  }
  Var of_type(const Var& x, format::DType dtype);  // cast
  Var view(const Var& x, const Names& sizes) { return apply("reshape", {x.name}, sizes); }
  Var turned(const Var& x, const std::vector<uint8_t>& perm);
  Var cut(const Var& x, size_t axis, int64_t begin, const std::string& size);
  Var joined(const std::vector<Var>& parts, size_t axis);
  Var padded(const Var& x, size_t axis, int64_t before, const std::string& size,
             format::PadKind kind = format::PadKind::constant, float value = 0);
  Var reduced(format::ReduceKind kind, const Var& x, size_t axis, bool keep = false);
  Var expanded(const Var& x, const Names& sizes) { return apply("expand", {x.name}, sizes); }
  Var counted(const std::string& size, float begin = 0, float step = 1);  // f32
  // x [.., places, heads, width] turned by the number of the place, with these frequencies.
  Var rotated(const Var& x, const std::string& frequencies, bool interleaved = false);
  // Arithmetic; axes meet by numpy's rules.
  Var with(format::BinaryKind kind, const Var& x, const Var& y);
  Var plus(const Var& x, const Var& y) { return with(format::BinaryKind::add, x, y); }
  Var less(const Var& x, const Var& y) { return with(format::BinaryKind::sub, x, y); }
  Var by(const Var& x, const Var& y) { return with(format::BinaryKind::mul, x, y); }
  Var over(const Var& x, const Var& y) { return with(format::BinaryKind::div, x, y); }
  Var math(format::MathKind kind, const Var& x, float alpha = 0, float beta = 0);
  Var compared(format::ArithmeticKind kind, const Var& x, const Var& y);   // i32, 1 or 0
  Var chosen(const Var& condition, const Var& x, const Var& y);            // where
  Var product(const Var& a, const Var& b, bool turn_b, double scale = 1);  // batch_matmul

  // Layers, by the names of their weights.
  Var linear(const Var& x, const std::string& name, int64_t out, int64_t first = -1, int64_t all = 0);
  Var norm(const Var& x, const std::string& name, double eps);  // layer norm
  Var rms(const Var& x, const std::string& name, double eps);
  // Over the last axis, with the statistics of the training.
  Var batch_norm(const Var& x, const std::string& name, double eps);
  // x [batch, length, channels]. weights [out, channels / groups, kernel], of "{name}.weight" unless they are given.
  Var conv(const Var& x, const std::string& name, int64_t out, const Slide& window,
           const std::vector<float>* weights = nullptr);
  // The same on images [batch, height, width, channels]: a square window, as many places of padding on each side.
  Var conv_of_images(const Var& x, const std::string& name, int64_t out, const Slide& window);
  // Its transpose, weights [channels, out / groups, kernel]; of the result the first `from` places are left out, and it
  // is `size` long.
  Var conv_transposed(const Var& x, const std::string& name, int64_t out, const Slide& window, int64_t from,
                      const std::string& size);
  // q [.., queries, heads, key], k and v [.., keys, kv heads, ..] to [.., queries, heads * value].
  Var attend(const Attending& how, const Var& q, const Var& k, const Var& v);
  // Bounds of `groups` sequences that stand one behind the other, each `size` long: [groups + 1] of i32.
  std::string segments(const std::string& groups, const std::string& size);
  // Added to the scores of the places whose mask [batch, keys] is 0.
  Var unseen(const Var& mask);

 private:
  // On images, the window along their width (is_line) or along both sides.
  Var convolved(const Var& x, const std::string& name, int64_t out, const Slide& window, bool is_line,
                const std::vector<float>* weights);
  Var attend_by_segments(const Attending& how, const Var& q, const Var& k, const Var& v);
  std::map<std::string, std::string> segments_, positions_;
};

// The name of the first class in `architectures`, or `otherwise`.
std::string class_of(const Facts& facts, const std::string& otherwise);

}  // namespace runnel::convert
