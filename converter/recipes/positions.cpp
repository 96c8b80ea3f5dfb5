// Rotary frequencies and factors that depend on the session's context or on a token's position, as operators.
#include "converter/recipes/blocks.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::UnaryKind;

Var with(Net& net, BinaryKind kind, const Var& x, const std::string& name, double value) {
  return net.binary(kind, x, net.constant("/" + name, {float(value)}, {1}));
}

// x [1] times a vector of numbers.
Var times_each(Net& net, const Var& x, const std::string& name, const std::vector<float>& numbers) {
  format::BinaryAttrsT attrs;
  attrs.kind = BinaryKind::mul;
  return net.op("binary", {x.name, net.constant(name, numbers, {-1})}, std::to_string(numbers.size()), {}, {}, attrs);
}

}  // namespace

std::string rope_table(Net& net, const Rope& rope, const std::string& name) {
  if (rope.original == 0) return net.constant(name, rope.frequencies, {-1});
  const Var context = net.session_context();
  if (!rope.long_frequencies.empty()) {
    const Var beyond = with(net, BinaryKind::sub, context, name + ".original", double(rope.original));
    const Var is_long = with(net, BinaryKind::max, with(net, BinaryKind::min, beyond, "one", 1), "zero", 0);
    const Var is_short = with(net, BinaryKind::add, net.scale(is_long, -1), "one", 1);
    return net
        .add(times_each(net, is_short, name + ".short", rope.frequencies),
             times_each(net, is_long, name + ".long", rope.long_frequencies))
        .name;
  }
  // The base grows by g^(dims / (dims - 2)), so frequency i shrinks by g^(2i / (dims - 2)), g = factor * context /
  // original - (factor - 1).
  const Var longest = with(net, BinaryKind::max, context, name + ".original", double(rope.original));
  const Var g = with(net, BinaryKind::sub, net.scale(longest, rope.ntk_factor / double(rope.original)), name + ".less",
                     rope.ntk_factor - 1);
  std::vector<float> powers;
  for (size_t i = 0; i < rope.frequencies.size(); ++i)
    powers.push_back(float(-double(i) / (double(rope.frequencies.size()) - 1)));
  const Var shrink = net.unary(UnaryKind::exp, times_each(net, net.unary(UnaryKind::log, g), name + ".powers", powers));
  return net.binary(BinaryKind::mul, shrink, net.constant(name, rope.frequencies, {-1})).name;
}

void set_rope(Net& net, Attention& a, const Rope& rope, const std::string& name) {
  a.rope = rope_table(net, rope, name);
  a.rope_scale = rope.scale;
}

Var query_scale(Net& net, double beta, int64_t original, int64_t first) {
  Var position = net.reshape(net.float_positions(), {1, 1});
  if (first) position = with(net, BinaryKind::add, position, "query_scale.first", double(first));
  const Var turn =
      net.unary(UnaryKind::floor, with(net, BinaryKind::div, position, "query_scale.original", double(original)));
  return with(net, BinaryKind::add,
              net.scale(net.unary(UnaryKind::log, with(net, BinaryKind::add, turn, "one", 1)), beta), "one", 1);
}

}  // namespace runnel::convert
