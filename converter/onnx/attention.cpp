// Attention and its surroundings as one node: ONNX's own from opset 23 on, and what onnxruntime's optimiser makes.
#include <cmath>

#include "converter/onnx/fusion.h"

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;
using format::UnaryKind;

Value add(Lowering& l, const Value& a, const Value& b) { return l.binary(BinaryKind::add, a, b); }

// [batch, tokens, heads * width] as [batch, heads, tokens, width], and back.
Value split_heads(Lowering& l, const Value& v, int64_t heads) {
  const auto width = v.rank() == 3 && heads > 0 ? v.shape[2].divided_by(heads) : std::nullopt;
  if (!width) fail("%lld heads of %s", static_cast<long long>(heads), text(v.shape).c_str());
  return l.transpose(l.reshape(v, {v.shape[0], v.shape[1], heads, *width}), {0, 2, 1, 3});
}
Value join_heads(Lowering& l, const Value& v) {
  return l.reshape(l.transpose(v, {0, 2, 1, 3}), {v.shape[0], v.shape[2], v.shape[1] * v.shape[3]});
}

// What is added to scores: 0 where a query sees a key, else `hidden`.
Value added(Lowering& l, const Value& sees, float hidden) {
  return l.where(sees, Lowering::scalar(0), Lowering::scalar(hidden));
}

// Query i sees the keys up to i + before.
Value causal(Lowering& l, const Size& queries, const Size& keys, const Size& before) {
  const Value row = l.reshape(counted(l, before, queries), {queries, 1}),
              column = l.reshape(counted(l, 0, keys), {1, keys});
  return added(l, l.arithmetic(ArithmeticKind::at_most, column, row, Elem::kBool), -INFINITY);
}

struct Scores {
  double scale = 0, softcap = 0;
  std::vector<Value> biases;  // each meets [batch, heads, queries, keys]
  Value sinks;                // [heads]
};

// q [batch, heads, queries, width], k and v [batch, key heads, keys, width]; heads share the key heads in order.
Value attend(Lowering& l, const Value& q, const Value& k, const Value& v, const Scores& s) {
  for (const Value* x : {&q, &k, &v})
    if (x->rank() != 4) fail("of %s", text(x->shape).c_str());
  const Size batch = q.shape[0], heads = q.shape[1], queries = q.shape[2], keys = k.shape[2], kv_heads = k.shape[1];
  const auto group = heads.divided_by(kv_heads);
  if (!group || !(v.shape[2] == keys))
    fail("%s, %s and %s", text(q.shape).c_str(), text(k.shape).c_str(), text(v.shape).c_str());
  Value bias;
  for (const Value& more : s.biases) bias = bias.is_absent() ? more : add(l, bias, more);
  const Value whole = attention_of(l, q, k, v, s.scale, bias, s.softcap, s.sinks);
  if (!whole.is_absent()) return whole;
  if (!s.sinks.is_absent()) fail("sinks of several sequences");
  const Value rows =
      l.reshape(l.unary(UnaryKind::scale, q, float(s.scale)), {batch, kv_heads, *group * queries, q.shape[3]});
  Value scores = l.reshape(multiplied(l, rows, l.transpose(k, {0, 1, 3, 2})), {batch, heads, queries, keys});
  if (s.softcap > 0) scores = l.unary(UnaryKind::softcap, scores, float(s.softcap));
  for (const Value& more : s.biases) scores = add(l, scores, more);
  const Value weights = l.reshape(softmax_of(l, scores), {batch, kv_heads, *group * queries, keys});
  return l.reshape(multiplied(l, weights, v), {batch, heads, queries, v.shape[3]});
}

double scale_of(const Node& n, const Value& q) {
  const double given = n.real("scale", 0);
  if (given != 0) return given;
  if (!q.shape[3].is_constant()) fail("heads of %s", text(q.shape).c_str());
  return 1 / std::sqrt(double(q.shape[3].constant()));
}

// onnxruntime's masks of keys: [batch] lengths, or 1 for those that are seen, [batch, keys] or [batch, queries, keys].
Value key_mask(Lowering& l, const Value& mask, const Size& batch, const Size& keys, float hidden) {
  if (mask.elem == Elem::kFloat) fail("a mask of real numbers");
  if (mask.rank() == 1 && mask.shape[0] == batch) {
    const Value column = l.reshape(counted(l, 0, keys), {1, 1, 1, keys});
    const Value sees = l.arithmetic(ArithmeticKind::less, column, l.reshape(mask, {batch, 1, 1, 1}), Elem::kBool);
    return added(l, sees, hidden);
  }
  if (mask.rank() == 2)
    return added(l, l.cast(l.reshape(mask, {mask.shape[0], 1, 1, mask.shape[1]}), Elem::kBool), hidden);
  if (mask.rank() != 3) fail("a mask of %s", text(mask.shape).c_str());
  return added(l, l.cast(l.reshape(mask, {mask.shape[0], 1, mask.shape[1], mask.shape[2]}), Elem::kBool), hidden);
}

// Of onnxruntime's two kinds, whose input 5 is a bias; past: keys of earlier calls.
Scores scores_of(Lowering& l, const Node& n, const Value& q, const Value& k, const Size& past, size_t mask) {
  Scores s;
  s.scale = scale_of(n, q);
  const float hidden = float(n.real("mask_filter_value", -10000));
  if (n.has(mask)) s.biases.push_back(key_mask(l, n.in(mask), q.shape[0], k.shape[2], hidden));
  if (n.integer("unidirectional", 0)) s.biases.push_back(causal(l, q.shape[2], k.shape[2], past));
  if (n.has(5)) s.biases.push_back(n.in(5));
  return s;
}

// Keys or values behind those of earlier calls.
Value behind(Lowering& l, const Node& n, size_t past, const Value& v) {
  return n.has(past) ? joined(l, {n.in(past), v}, 2) : v;
}

void refuse_inputs(const Node& n, size_t from) {
  for (size_t i = from; i < n.inputs(); ++i)
    if (n.has(i)) fail("its input %zu is not read", i);
}
void refuse_outputs(const Node& n, size_t from) {
  for (size_t i = from; i < n.outputs(); ++i)
    if (n.wants(i)) fail("its output %zu is not made", i);
}

// The first r channels of [batch, heads, tokens, channels] turned by tables [1 | batch, 1, tokens, r / 2].
Value turned(Lowering& l, const Value& x, const Value& c, const Value& s, int64_t r, bool in_pairs) {
  const Size width = x.shape[3];
  const Value part = piece(l, x, 3, 0, r);
  const Sizes half = {x.shape[0], x.shape[1], x.shape[2], r / 2};
  Value a, b;
  if (in_pairs) {
    const Value pairs = l.reshape(part, {half[0], half[1], half[2], r / 2, 2});
    a = l.reshape(piece(l, pairs, 4, 0, 1), half), b = l.reshape(piece(l, pairs, 4, 1, 1), half);
  } else {
    a = piece(l, part, 3, 0, r / 2), b = piece(l, part, 3, r / 2, r / 2);
  }
  const auto mul = [&](const Value& p, const Value& q) { return l.binary(BinaryKind::mul, p, q); };
  const Value first = l.binary(BinaryKind::sub, mul(a, c), mul(b, s)), second = add(l, mul(a, s), mul(b, c));
  Value y;
  if (in_pairs) {
    Sizes one = half;
    one.push_back(1);
    y = l.reshape(joined(l, {l.reshape(first, one), l.reshape(second, one)}, 4), part.shape);
  } else {
    y = joined(l, {first, second}, 3);
  }
  return width.is(r) ? y : joined(l, {y, piece(l, x, 3, r, width - Size(r))}, 3);
}

}  // namespace

void lower_attention(Lowering& l, const Node& n) {
  refuse_inputs(n, 6), refuse_outputs(n, 3);
  const bool is_flat = n.in(0).rank() == 3;
  const auto heads = [&](size_t i, const char* count) {
    return is_flat ? split_heads(l, n.in(i), n.integer(count, 0)) : n.in(i);
  };
  const Value q = heads(0, "q_num_heads"), k = behind(l, n, 4, heads(1, "kv_num_heads")),
              v = behind(l, n, 5, heads(2, "kv_num_heads"));
  if (q.rank() != 4 || k.rank() != 4) fail("of %s and %s", text(q.shape).c_str(), text(k.shape).c_str());
  Scores s;
  s.scale = scale_of(n, q), s.softcap = n.real("softcap", 0);
  if (n.integer("is_causal", 0))
    s.biases.push_back(causal(l, q.shape[2], k.shape[2], n.has(4) ? n.in(4).shape[2] : Size(0)));
  if (n.has(3)) s.biases.push_back(n.in(3).elem == Elem::kFloat ? n.in(3) : added(l, n.in(3), -INFINITY));
  const Value y = attend(l, q, k, v, s);
  n.set(is_flat ? join_heads(l, y) : y);
  n.set(1, k), n.set(2, v);
}

// onnxruntime's, with the products that make queries, keys and values.
void lower_packed_attention(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  for (size_t i : {4, 6})
    if (n.has(i)) fail("its input %zu is not read", i);
  refuse_outputs(n, 1);
  if (n.integer("do_rotary", 0)) fail("do_rotary");
  const int64_t heads = n.integer("num_heads", 0);
  if (x.rank() != 3 || n.in(1).rank() != 2) fail("of %s by %s", text(x.shape).c_str(), text(n.in(1).shape).c_str());
  Value all = multiplied(l, x, n.in(1));
  if (n.has(2)) all = add(l, all, n.in(2));
  std::vector<int64_t> sizes = n.integers("qkv_hidden_sizes");
  const auto third = all.shape[2].divided_by(3);
  if (sizes.empty() && third && third->is_constant()) sizes.assign(3, third->constant());
  if (sizes.size() != 3) fail("queries, keys and values of %s", text(all.shape).c_str());
  std::vector<Value> parts;
  Size at = 0;
  for (int64_t size : sizes) parts.push_back(split_heads(l, piece(l, all, 2, at, size), heads)), at = at + Size(size);
  const Scores s = scores_of(l, n, parts[0], parts[1], 0, 3);
  n.set(join_heads(l, attend(l, parts[0], parts[1], parts[2], s)));
}

// Of decoders: few heads of keys and values, those of earlier calls before them, places that turn queries and keys. The
// sequences of a call are as long as each other: what seqlens_k leaves out stands behind all queries that count.
void lower_group_query_attention(Lowering& l, const Node& n) {
  refuse_outputs(n, 3);
  const int64_t heads = n.integer("num_heads", 0), few = n.integer("kv_num_heads", 0),
                window = n.integer("local_window_size", -1);
  for (const char* name : {"k_quant_type", "v_quant_type"})
    if (n.text(name, "NONE") != "NONE") fail("%s", name);
  if (heads < 1 || few < 1 || heads % few || n.in(0).rank() != 3)
    fail("%lld heads over %lld of keys, %s", static_cast<long long>(heads), static_cast<long long>(few),
         text(n.in(0).shape).c_str());
  Value q, k, v;
  if (n.has(1) && n.has(2)) {
    q = split_heads(l, n.in(0), heads), k = split_heads(l, n.in(1), few), v = split_heads(l, n.in(2), few);
  } else {
    const Value all = split_heads(l, n.in(0), heads + 2 * few);
    q = piece(l, all, 1, 0, heads), k = piece(l, all, 1, heads, few), v = piece(l, all, 1, heads + few, few);
  }
  const Size tokens = q.shape[2], past = n.has(3) ? n.in(3).shape[2] : Size(0);
  if (n.integer("do_rotary", 0)) {
    Value ids = counted(l, past, tokens);
    if (n.has(9)) ids = n.in(9);
    const auto table = [&](size_t i) {
      const Value t = looked_up(l, n.in(i), 0, ids);
      return l.reshape(t, {ids.rank() == 2 ? ids.shape[0] : Size(1), 1, tokens, n.in(i).shape[1]});
    };
    const Value c = table(7), s = table(8);
    if (!c.shape[3].is_constant()) fail("tables of %s", text(n.in(7).shape).c_str());
    const int64_t r = 2 * c.shape[3].constant();
    const bool in_pairs = n.integer("rotary_interleaved", 0) != 0;
    q = turned(l, q, c, s, r, in_pairs), k = turned(l, k, c, s, r, in_pairs);
  }
  k = behind(l, n, 3, k), v = behind(l, n, 4, v);
  Scores s;
  s.scale = scale_of(n, q), s.softcap = n.real("softcap", 0);
  s.biases.push_back(causal(l, tokens, k.shape[2], past));
  if (window > 0) {  // query i, at past + i, does not see the keys up to past + i - window
    const Value row = l.reshape(counted(l, past - Size(window), tokens), {tokens, 1}),
                column = l.reshape(counted(l, 0, k.shape[2]), {1, k.shape[2]});
    s.biases.push_back(added(l, l.arithmetic(ArithmeticKind::less, row, column, Elem::kBool), -INFINITY));
  }
  if (n.has(10)) s.biases.push_back(n.in(10));
  if (n.has(11)) s.sinks = l.reshape(n.in(11), {heads});
  else if (n.integer("smooth_softmax", 0) > 0)
    s.sinks = Lowering::floats(std::vector<float>(size_t(heads), 0), {heads});
  n.set(join_heads(l, attend(l, q, k, v, s)));
  n.set(1, k), n.set(2, v);
}

void lower_multi_head_attention(Lowering& l, const Node& n) {
  refuse_inputs(n, 8), refuse_outputs(n, 3);
  if (!n.has(1) || !n.has(2)) fail("queries, keys and values in one");
  const int64_t heads = n.integer("num_heads", 0);
  Value in[3];
  Size at = 0;
  for (size_t i = 0; i < 3; ++i) {
    in[i] = n.in(i);
    if (in[i].rank() == 4 && i > 0) {  // heads are split
      if (n.has(3)) fail("a bias of heads that are split");
      continue;
    }
    if (in[i].rank() != 3) fail("of %s", text(in[i].shape).c_str());
    if (n.has(3)) in[i] = add(l, in[i], piece(l, n.in(3), 0, at, in[i].shape[2]));
    at = at + in[i].shape[2];
    in[i] = split_heads(l, in[i], heads);
  }
  const Value &q = in[0], k = behind(l, n, 6, in[1]), v = behind(l, n, 7, in[2]);
  const Scores s = scores_of(l, n, q, k, n.has(6) ? n.in(6).shape[2] : Size(0), 4);
  n.set(join_heads(l, attend(l, q, k, v, s)));
  n.set(1, k), n.set(2, v);
}

// ONNX's has the places last, onnxruntime's in front of the tables.
void lower_rotary(Lowering& l, const Node& n, size_t places, size_t cosines, size_t sines) {
  const Value& given = n.in(0);
  // Where the heads are not counted, the tables say their width.
  int64_t heads = n.integer("num_heads", 0);
  const Size width_of_tables = n.in(cosines).shape.back() * Size(2);
  if (heads == 0 && given.rank() == 3)
    if (const auto count = given.shape[2].divided_by(width_of_tables); count && count->is_constant())
      heads = count->constant();
  const Value x = given.rank() == 4 ? given : split_heads(l, given, heads);
  if (x.rank() != 4 || !x.shape[3].is_constant()) fail("of %s", text(given.shape).c_str());
  const Size batch = x.shape[0], tokens = x.shape[2];
  const int64_t width = x.shape[3].constant(), some = n.integer("rotary_embedding_dim", 0), r = some ? some : width;
  if (r % 2 || r < 2 || r > width)
    fail("%lld of %lld channels are turned", static_cast<long long>(r), static_cast<long long>(width));
  const auto table = [&](size_t i) {
    Value t = n.in(i);
    if (n.has(places)) {
      Value ids = n.in(places);
      // One place is the first token's.
      if (ids.rank() == 1)
        ids = l.arithmetic(ArithmeticKind::add, l.reshape(counted(l, 0, tokens), {1, tokens}), l.reshape(ids, {1, 1}),
                           Elem::kInt);
      t = looked_up(l, t, 0, ids);
    }
    return l.reshape(t, {t.shape[0], 1, tokens, r / 2});
  };
  const Value y = turned(l, x, table(cosines), table(sines), r, n.integer("interleaved", 0) != 0);
  n.set(given.rank() == 4 ? y : join_heads(l, y));
}
void lower_rotary_embedding(Lowering& l, const Node& n) { lower_rotary(l, n, 3, 1, 2); }
void lower_rotary_embedding_ort(Lowering& l, const Node& n) {
  if (n.integer("is_packed_batching", 0)) fail("packed batches");
  if (n.real("scale", 1) != 1) fail("a scale");
  lower_rotary(l, n, 1, 2, 3);
}

// The norm of a sum.
void lower_skip_norm(Lowering& l, const Node& n) {
  const bool is_rms = n.op() == "SkipSimplifiedLayerNormalization";
  for (size_t i : {1, 2})
    if (n.wants(i)) fail("its output %zu is not made", i);
  Value sum = add(l, n.in(0), n.in(1));
  const size_t bias = is_rms ? 3 : 4;
  if (n.has(bias)) sum = add(l, sum, n.in(bias));
  n.set(layer_norm_of(l, sum, n.in(2), !is_rms && n.has(3) ? n.in(3) : Value(), n.real("epsilon", 1e-12), is_rms));
  n.set(3, sum);
}

// Tables of words, places and kinds, added and normed.
void lower_embed_norm(Lowering& l, const Node& n) {
  const Value& ids = n.in(0);
  if (ids.rank() != 2) fail("ids of %s", text(ids.shape).c_str());
  const Size tokens = ids.shape[1];
  Value sum = looked_up(l, n.in(2), 0, ids);
  sum = add(l, sum, n.has(8) ? looked_up(l, n.in(3), 0, n.in(8)) : piece(l, n.in(3), 0, 0, tokens));
  if (n.has(1)) sum = add(l, sum, looked_up(l, n.in(4), 0, n.in(1)));
  n.set(layer_norm_of(l, sum, n.in(5), n.in(6), n.real("epsilon", 1e-12), false));
  if (n.wants(1)) {  // how many tokens of each text are seen
    n.set(1, n.has(7)
                 ? l.cast(reduced(l, format::ReduceKind::sum, l.cast(n.in(7), Elem::kFloat), {false, true}), Elem::kInt)
                 : l.expand(Lowering::ints({0}, {1}), {ids.shape[0]}));
  }
  n.set(2, sum);
}

void lower_fused_matmul(Lowering& l, const Node& n) {
  if (n.integer("transBatchA", 0) || n.integer("transBatchB", 0)) fail("batches that are turned");
  const auto operand = [&](size_t i, const char* turned) {
    const Value& v = n.in(i);
    if (!n.integer(turned, 0) || v.rank() < 2) return v;
    Perm perm = identity(v.rank());
    std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
    return l.transpose(v, perm);
  };
  const Value y = multiplied(l, operand(0, "transA"), operand(1, "transB"));
  const float alpha = float(n.real("alpha", 1));
  n.set(alpha == 1 ? y : l.unary(UnaryKind::scale, y, alpha));
}

void lower_fused_gelu(Lowering& l, const Node& n) {
  const Value x = n.has(1) ? add(l, n.in(0), n.in(1)) : n.in(0);
  if (n.op() != "QuickGelu") return n.set(l.unary(n.op() == "BiasGelu" ? UnaryKind::gelu : UnaryKind::gelu_tanh, x));
  const Value gate = l.unary(UnaryKind::sigmoid, l.unary(UnaryKind::scale, x, float(n.real("alpha", 1.702))));
  n.set(l.binary(BinaryKind::mul, x, gate));
}

}  // namespace runnel::convert
