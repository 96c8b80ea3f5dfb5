#include "converter/recipes/speech.h"

#include <algorithm>
#include <cmath>

namespace runnel::convert {

Var speech_attention(Signal& net, const SpeechAttention& a, const Var& x, const Var& other) {
  const int64_t width = x.dims.back(), head = a.head ? a.head : width / a.heads;
  const auto part = [&](const Var& from, const char* name, int64_t heads) {
    Names n = Signal::sizes(from);
    n.back() = std::to_string(heads);
    n.push_back(std::to_string(head));
    return net.view(net.linear(from, a.prefix + name, heads * head), n);
  };
  const Var& keys = other.name.empty() ? x : other;
  const int64_t kv_heads = a.kv_heads ? a.kv_heads : a.heads;
  Var q = part(x, a.q, a.heads), k = part(keys, a.k, kv_heads);
  if (a.rotate) q = a.rotate(q), k = a.rotate(k);
  Attending how = a.how;
  if (how.scale == 1) how.scale = 1 / std::sqrt(double(head));
  return net.linear(net.attend(how, q, k, part(keys, a.v, kv_heads)), a.prefix + a.o, width);
}

Var speech_mlp(Signal& net, const Var& x, const std::string& in, const std::string& out, int64_t width,
               format::UnaryKind activation) {
  return net.linear(net.unary(activation, net.linear(x, in, width)), out, x.dims.back());
}

Var distance_bias(Signal& net, const std::string& name, int64_t buckets, int64_t most, int64_t heads,
                  const std::string& size, bool adds_first) {
  const int64_t half = buckets / 2, exact = half / 2;
  const std::vector<float> table = net.values(name, {buckets, heads});
  std::vector<float> rows;
  for (int64_t d = -most; d <= most; ++d) {
    int64_t bucket = std::abs(d);
    if (bucket >= exact) {
      const float far = std::log(float(bucket) / float(exact)) / float(std::log(double(most) / double(exact)));
      const float step = far * float(half - exact);
      bucket = std::min(half - 1, adds_first ? int64_t(float(exact) + step) : exact + int64_t(step));
    }
    if (d > 0) bucket += half;
    for (int64_t h = 0; h < heads; ++h) rows.push_back(table[size_t(bucket * heads + h)]);
  }
  const Var place = net.counted(size);
  const Var distance = net.less(net.view(place, {"1", size}), net.view(place, {size, "1"}));
  const Var held = net.math(format::MathKind::clip, distance, float(-most), float(most));
  const Var ids = net.of_type(net.plus(held, net.number(double(most))), format::DType::i32);
  const Var all =
      net.apply("embedding", {ids.name, net.numbers(name + ".by_distance", rows, {2 * most + 1, heads}).name},
                {size, size, std::to_string(heads)}, format::EmbeddingAttrsT());
  return net.turned(all, {2, 0, 1});
}

Var gated_halves(Signal& net, const Var& x) {
  const size_t axis = Signal::sizes(x).size() - 1;
  const int64_t half = x.dims.back() / 2;
  return net.glu(format::UnaryKind::sigmoid, net.cut(x, axis, half, std::to_string(half)),
                 net.cut(x, axis, 0, std::to_string(half)));
}

}  // namespace runnel::convert
