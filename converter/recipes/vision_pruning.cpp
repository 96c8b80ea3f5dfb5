#include "converter/recipes/vision_pruning.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "converter/program/pruning.h"

namespace runnel::convert {

using format::BinaryKind, format::UnaryKind;

namespace {

format::ReduceAttrsT over(format::ReduceKind kind, uint8_t axis) {
  format::ReduceAttrsT attrs;
  attrs.kind = kind, attrs.axis = axis;
  return attrs;
}
format::ReduceAttrsT mean_over(uint8_t axis) { return over(format::ReduceKind::mean, axis); }
format::ReduceAttrsT sum_over(uint8_t axis) { return over(format::ReduceKind::sum, axis); }

int64_t part_of(double part, int64_t count) { return int64_t(std::ceil(part * double(count))); }

}  // namespace

VisionPruner::VisionPruner(VisionNet& net, const VisionEncoder& e, int64_t first)
    : net_(net), o_(prune_options(net.builder().prune)), first_(first) {
  if (e.rotate) o_.refuse("this model turns tokens by their places, which fewer tokens have not");
  if (e.biases) o_.refuse("this model adds a bias by relative places, which fewer tokens have not");
  if (e.attend) o_.refuse("this model's attention is not that of all tokens to each other");
  if (is("tome") || is("mctf")) {
    o_.whole("r", 1, 65536), o_.whole("keep", 0, 65536);
  } else {
    if (first == 0 && (is("evit") || is("topk")))
      o_.refuse("this model has no class token, by whose attention tokens are chosen");
    if (!(o_.number("keep") > 0 && o_.number("keep") <= 1)) o_.refuse("keep is no part above 0 and up to 1");
    if (is("spatten") && !(o_.number("heads") > 0 && o_.number("heads") <= 1))
      o_.refuse("heads is no part above 0 and up to 1");
    o_.whole("every", 1, 65536);
  }
  for (const char* temperature : {"info", "size"})
    if (o_.has(temperature) && !(o_.number(temperature) >= 0 && o_.number(temperature) <= 1))
      o_.refuse(std::string(temperature) + " is no number from 0 to 1");
  if (o_.whole("exact", 0, 65536) >= e.layers) o_.refuse("exact leaves out all layers");
}

bool VisionPruner::applies(int64_t layer) const {
  const int64_t behind = layer - o_.whole("exact", 0, 65536);
  return behind >= 0 && (!o_.has("every") || behind % o_.whole("every", 1, 65536) == 0);
}

Var VisionPruner::turned(const Var& x) {
  format::TransposeAttrsT attrs;
  attrs.perm = {1, 0, 2};
  return net_.op("transpose", {x.name}, "", {x.dims[1], x.dims[0], x.dims[2]}, {}, attrs);
}

Var VisionPruner::flat(const Var& x) { return net_.op("reshape", {x.name}, "", x.dims); }

std::string VisionPruner::places(const std::vector<int32_t>& numbers) {
  const std::string name = "prune.places" + std::to_string(constants_++);
  const auto* bytes = reinterpret_cast<const uint8_t*>(numbers.data());
  net_.builder().add_bytes(format::SegmentKind::weights, name, format::DType::i32, {numbers.size()},
                           {bytes, bytes + numbers.size() * 4});
  return name;
}

std::string VisionPruner::indices(const char* op, const Names& inputs, int64_t count) {
  const std::string y = net_.make("prune", "", {count}, false, format::DType::i32).name;
  net_.graph().op(op, inputs, {y});
  return y;
}

std::string VisionPruner::part(const std::string& all, int64_t begin, int64_t count) {
  format::SliceAttrsT attrs;
  attrs.begin = begin;
  const std::string y = net_.make("prune", "", {count}, false, format::DType::i32).name;
  net_.graph().op("slice", {all}, {y}, attrs);
  return y;
}

Var VisionPruner::rows_of(const Var& x, const std::string& rows, int64_t count) {
  return net_.op("gather_rows", {x.name, rows}, "", {count, x.dims[1]});
}

Var VisionPruner::attend(const std::vector<Var>& qkv, double scale) {
  if (is("spatten")) return attend_with_heads(qkv, scale);
  if (is("mctf") && applies(layer_)) {
    const Var y = attend_by_weights(flat(qkv[0]), flat(qkv[1]), flat(qkv[2]), scale);
    return net_.shaped(y, qkv[0].axis, {y.dims[0], y.dims[1] * y.dims[2]});
  }
  if (!size_) return net_.attend(qkv[0], qkv[1], qkv[2], scale);
  const int64_t n = qkv[0].dims[0], width = qkv[0].dims[1] * qkv[0].dims[2];
  format::AttentionAttrsT attrs;
  attrs.scale = float(scale), attrs.causal = false;
  const Var bias = net_.op("reshape", {log(*size_).name}, "", {1, 1, n});
  Names inputs;
  for (const Var& x : qkv) inputs.push_back(flat(x).name);
  inputs.insert(inputs.end(), {"", "", "", bias.name});
  const Var y = net_.op("attention", inputs, "", {n, width}, {}, attrs);
  return net_.shaped(y, qkv[0].axis, {n, width});
}

Var VisionPruner::thinned(int64_t layer, const std::vector<Var>& qkv, double scale, const Var& x) {
  if (counts_.empty()) counts_.push_back(x.dims[0]);
  ++layer_;
  if (is("spatten")) add_up(weights_);
  if (!applies(layer)) return x;
  const Var y = is("tome") || is("mctf") ? merged(qkv, x) : selected(qkv, scale, x);
  if (y.dims[0] != x.dims[0]) counts_.push_back(y.dims[0]);
  return y;
}

// Attention [n, heads, d] whose weights are looked at too, so that they are computed once.
Var VisionPruner::attend_by_weights(const Var& q, const Var& k, const Var& v, double scale) {
  weights_ = attention_rows(q, k, scale);
  const Var values = turned(v);
  return turned(net_.op("batch_matmul", {weights_.name, values.name}, "", {q.dims[1], q.dims[0], v.dims[2]}, {},
                        format::BatchMatmulAttrsT()));
}

// SpAtten: the heads that are left attend, those that are gone give zeros.
Var VisionPruner::attend_with_heads(const std::vector<Var>& qkv, double scale) {
  const int64_t n = qkv[0].dims[0], all = qkv[0].dims[1], d = qkv[0].dims[2],
                count = heads_.empty() ? all : loud_->dims[0];
  format::GatherAttrsT along;
  along.axis = 1;
  std::vector<Var> left;
  for (const Var& x : qkv) {
    const Var one = flat(x);
    left.push_back(heads_.empty() ? one : net_.op("gather", {one.name, heads_}, "", {n, count, d}, {}, along));
  }
  Var y = attend_by_weights(left[0], left[1], left[2], scale);
  const Var by_token = net_.op("reduce", {net_.unary(UnaryKind::abs, y).name}, "", {n, count}, {}, sum_over(2)),
            loud = net_.op("reduce", {by_token.name}, "", {count}, {}, sum_over(0));
  loud_ = loud_ ? net_.add(*loud_, loud) : loud;
  if (!heads_.empty()) {
    std::vector<int32_t> now(static_cast<size_t>(count));
    std::iota(now.begin(), now.end(), 0);
    const std::string none = places(std::vector<int32_t>(size_t(all), int32_t(count))),
                      where = net_.make("prune", "", {all}, false, format::DType::i32).name;
    net_.graph().op("scatter", {none, heads_, places(now)}, {where}, format::ScatterAttrsT());
    const Var zeros = net_.op("expand", {net_.constant("/prune.zero", {0}, {1})}, "", {n, 1, d});
    y = net_.op("gather", {net_.concat({y, zeros}, 1).name, where}, "", {n, all, d}, {}, along);
  }
  return net_.shaped(y, qkv[0].axis, {n, all * d});
}

// SpAtten: weights [heads, queries, keys] of another layer join what tokens were seen.
void VisionPruner::add_up(const Var& weights) {
  const int64_t rows = weights.dims[0] * weights.dims[1], m = weights.dims[2];
  const Var table = net_.op("reshape", {weights.name}, "", {rows, m}),
            seen = net_.op("reduce", {table.name}, "", {m}, {}, sum_over(0));
  seen_ = seen_ ? net_.add(*seen_, seen) : seen;
}

void VisionPruner::drop_heads() {
  const int64_t count = part_of(o_.number("heads"), loud_->dims[0]);
  if (count == loud_->dims[0]) return;
  const auto [sums, ranks] = ranked(*loud_);
  const std::string kept = part(ranks, 0, count);
  loud_ = net_.slice(sums, 0, 0, count);
  heads_ = heads_.empty() ? kept : indices("gather_rows", {heads_, kept}, count);
}

// Keys of all heads in the mean: what tokens are compared by.
Var VisionPruner::mean_of_heads(const Var& keys) {
  return net_.op("reduce", {flat(keys).name}, "", {keys.dims[0], keys.dims[2]}, {}, mean_over(1));
}

// Weights [heads, queries, keys] of the keys k [m, heads, d] for these queries.
Var VisionPruner::attention_rows(const Var& q, const Var& k, double scale) {
  const int64_t n = q.dims[0], m = k.dims[0], heads = q.dims[1];
  format::BatchMatmulAttrsT product;
  product.transpose_b = true, product.scale = float(scale);
  const Var queries = turned(q), keys = turned(k);
  Var scores = net_.op("batch_matmul", {queries.name, keys.name}, "", {heads, n, m}, {}, product);
  if (size_) scores = net_.binary(BinaryKind::add, scores, log(*size_).name);
  return net_.op("softmax", {scores.name}, "", scores.dims, {}, format::SoftmaxAttrsT());
}

// Weights of the keys in the mean over heads and queries.
Var VisionPruner::in_mean(const Var& weights) {
  const int64_t rows = weights.dims[0] * weights.dims[1], m = weights.dims[2];
  const Var table = net_.op("reshape", {weights.name}, "", {rows, m});
  return net_.op("reduce", {table.name}, "", {m}, {}, mean_over(0));
}

// MCTF: a token that is seen little, and stands for few, is merged rather: seen^-info size^-size.
std::string VisionPruner::factor_of(const Var& seen) {
  Var sum = net_.unary(UnaryKind::scale, log(seen), float(-o_.number("info")));
  if (size_) sum = net_.add(sum, net_.unary(UnaryKind::scale, log(*size_), float(-o_.number("size"))));
  return net_.unary(UnaryKind::exp, sum).name;
}

Var VisionPruner::merged(const std::vector<Var>& qkv, const Var& x) {
  const int64_t n = x.dims[0], keep = std::max<int64_t>(o_.whole("keep", 0, 65536), first_),
                count = n - std::min<int64_t>(o_.whole("r", 1, 65536), std::max<int64_t>(n - keep, 0) / 2);
  if (count == n) return x;
  Names compared = {mean_of_heads(qkv[1]).name};
  std::optional<Var> weight = size_, seen;
  if (is("mctf")) {
    seen = in_mean(weights_);
    compared.push_back(factor_of(*seen));
    weight = size_ ? net_.mul(*size_, *seen) : *seen;
  }
  format::MatchTokensAttrsT attrs;
  attrs.merge = uint32_t(n - count), attrs.keep = uint32_t(keep);
  const std::string groups = net_.make("prune", "", {n}, false, format::DType::i32).name;
  net_.graph().op("match_tokens", compared, {groups}, attrs);
  const Var size = net_.make("prune", "", {count}), own = size_.value_or(Var());
  Names outputs = {net_.make("prune", "", {count, x.dims[1]}).name};
  if (!seen) outputs.push_back(size.name);
  net_.graph().op("merge_tokens", {flat(x).name, groups, weight.value_or(Var()).name}, outputs);
  if (seen)  // the mean's weights are not the sizes: those are summed alone
    net_.graph().op("merge_tokens", {seen->name, groups, own.name}, {net_.make("prune", "", {count}).name, size.name});
  size_ = size;
  join(groups);
  return net_.shaped({outputs[0], "", {count, x.dims[1]}}, x.axis, {count, x.dims[1]});
}

void VisionPruner::join(const std::string& groups) {
  map_ = map_.empty() ? groups : indices("gather_rows", {groups, map_}, counts_[0]);
}

// Greedy k-centre by cosines: places among the tokens behind the first ones.
std::string VisionPruner::far_apart(const Var& tokens, const Var& scores, int64_t count) {
  const int64_t all = tokens.dims[0] - first_, width = tokens.dims[1];
  format::NormAttrsT attrs;
  attrs.eps = 1e-12f;
  const Var unit = net_.op("rms_norm", {net_.slice(tokens, 0, first_, all).name}, "", {all, width}, {}, attrs),
            rows = net_.op("reshape", {unit.name}, "", {1, all, width});
  const std::string given = first_ ? net_.op("reshape", {scores.name}, "", {1, 1, all}).name : "",
                    ids = net_.make("prune", "", {1, 1, count}, false, format::DType::i32).name;
  net_.graph().op("select_greedy", {rows.name, given}, {ids, net_.make("prune", "", {1, 1, all}).name});
  return indices("reshape", {ids}, count);
}

// Of tokens behind the first ones as the class token sees them: weights and places, from the highest down.
std::pair<Var, std::string> VisionPruner::ranked(const Var& scores) {
  const int64_t all = scores.dims[0];
  const Var weights = net_.make("prune", "", {all});
  const std::string ranks = net_.make("prune", "", {all}, false, format::DType::i32).name;
  net_.graph().op("top_k", {scores.name}, {weights.name, ranks}, format::TopKAttrsT());
  return {weights, ranks};
}

Var VisionPruner::selected(const std::vector<Var>& qkv, double scale, const Var& x) {
  const int64_t n = x.dims[0], all = n - first_, count = part_of(o_.number("keep"), all);
  if (is("spatten")) drop_heads();
  if (count == all) return x;
  const Var tokens = flat(x);
  Var scores, weights;
  std::string places_behind;
  if (is("spatten")) scores = net_.slice(*seen_, 0, first_, all);
  else if (first_)
    scores =
        net_.slice(in_mean(attention_rows(net_.slice(flat(qkv[0]), 0, 0, 1), flat(qkv[1]), scale)), 0, first_, all);
  if (is("k-centre")) places_behind = far_apart(tokens, scores, count);
  else std::tie(weights, places_behind) = ranked(scores);
  const int64_t ranks = is("k-centre") ? count : all;
  format::ArithmeticAttrsT add;
  const std::string order = net_.make("prune", "", {ranks}, false, format::DType::i32).name;
  net_.graph().op("arithmetic", {places_behind, places({int32_t(first_)})}, {order}, add);
  std::vector<int32_t> first(static_cast<size_t>(first_));
  std::iota(first.begin(), first.end(), 0);
  std::string rows = part(order, 0, count);
  if (first_) {
    const std::string own = net_.make("prune", "", {first_ + count}, false, format::DType::i32).name;
    net_.graph().op("concat", {places(first), rows}, {own}, format::ConcatAttrsT());
    rows = own;
  }
  const Var kept = rows_of(tokens, rows, first_ + count);
  if (is("spatten")) seen_ = net_.op("gather_rows", {seen_->name, rows}, "", {first_ + count});
  if (!is("evit")) {
    whole_ = whole_
                 ? net_.op("scatter", {whole_->name, kept_, tokens.name}, "", whole_->dims, {}, format::ScatterAttrsT())
                 : tokens;
    kept_ = kept_.empty() ? rows : indices("gather_rows", {kept_, rows}, first_ + count);
    return net_.shaped(kept, x.axis, kept.dims);
  }
  // EViT: one token is the sum of those left out by these weights.
  const Var rest = rows_of(tokens, part(order, count, all - count), all - count),
            by = net_.op("reshape", {net_.slice(weights, 0, count, all - count).name}, "", {1, all - count}),
            one = net_.op("batch_matmul", {by.name, rest.name}, "", {1, x.dims[1]}, {}, format::BatchMatmulAttrsT());
  std::vector<int32_t> now(static_cast<size_t>(first_ + count));
  std::iota(now.begin(), now.end(), 0);
  const std::string gone = places(std::vector<int32_t>(size_t(n), int32_t(first_ + count)));
  const std::string groups = net_.make("prune", "", {n}, false, format::DType::i32).name;
  net_.graph().op("scatter", {gone, rows, places(now)}, {groups}, format::ScatterAttrsT());
  join(groups);
  const Var y = net_.concat({kept, one}, 0);
  return net_.shaped(y, x.axis, y.dims);
}

Var VisionPruner::given_back(const Var& x) {
  std::string counts;
  for (const int64_t n : counts_) counts += (counts.empty() ? "" : ", ") + std::to_string(n);
  net_.builder().pruned = "prune " + net_.builder().prune + ": tokens of an image " + counts;
  const Var tokens = flat(x);
  Var y = tokens;
  if (whole_) y = net_.op("scatter", {whole_->name, kept_, tokens.name}, "", whole_->dims, {}, format::ScatterAttrsT());
  if (!map_.empty()) y = rows_of(tokens, map_, counts_[0]);
  return net_.shaped(y, x.axis, y.dims);
}

}  // namespace runnel::convert
