#include "converter/passes/prune_tokens.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

#include "converter/passes/exit_early.h"
#include "converter/passes/images_in_turn.h"
#include "converter/program/control.h"
#include "converter/program/pruning.h"

namespace runnel::convert {
namespace {

constexpr size_t kKey = 1, kBias = 6;  // inputs of attention

// An attention, and the first operator behind it through whose result alone the stream goes on.
struct Place {
  size_t attention, cut;
};

class Merger {
 public:
  Merger(const MethodOptions& options, ModelBuilder& builder, format::ProgramT& program)
      : o_(options),
        merge_(options.whole("r", 1, 65536)),
        keep_(options.whole("keep", 0, 65536)),
        b_(builder),
        program_(program) {}

  // Attentions behind which tokens are merged.
  size_t run() {
    const std::vector<Place> places = find_places();
    if (places.empty()) return 0;
    const size_t end = last_cut();
    std::vector<std::unique_ptr<format::OpT>> old;
    old.swap(program_.ops);
    auto place = places.begin();
    for (size_t i = 0; i < old.size(); ++i) {
      format::OpT& op = *old[i];
      if (merges_ > 0) rename(op);
      if (merges_ > 0 && i <= end) {
        shrink(op);
        if (is_whole(op)) weigh(op);
      }
      program_.ops.push_back(std::move(old[i]));
      if (place != places.end() && i == place->attention) features_ = mean_key(op.inputs[kKey]);
      if (place != places.end() && i == place->cut) merge(op.outputs[0]), ++place;
      if (i == end) give_back(op.outputs[0]);
    }
    return places.size();
  }

 private:
  [[noreturn]] void refuse(const format::OpT& op, const char* why) const {
    o_.refuse(op.name + " \"" + printable(op.outputs[0]) + "\" " + why);
  }

  // Attention of all tokens to each other.
  static bool is_whole(const format::OpT& op) {
    const auto given = [&](size_t i) { return i < op.inputs.size() && !op.inputs[i].empty(); };
    const auto* a = op.attrs.AsAttentionAttrs();
    return op.name == "attention" && given(kKey) && !given(3) && !given(7) && !given(8) && a && !a->causal;
  }
  // Not to tokens of another sequence.
  bool is_of_one_sequence(const format::OpT& op) const {
    return value_of(program_, op.inputs[0]).shape[0] == value_of(program_, op.inputs[kKey]).shape[0];
  }

  std::vector<Place> find_places() {
    const auto& ops = program_.ops;
    derive();
    const format::OpT* rotates = nullptr;
    std::vector<Place> places;
    size_t exact = o_.whole("exact", 0, 65536);
    for (size_t i = 0; i < ops.size(); ++i) {
      const format::OpT& op = *ops[i];
      if (op.name == "rope") rotates = &op;
      if (!is_whole(op) || !is_of_one_sequence(op) || (exact > 0 && exact--)) continue;
      if (!places.empty() && i <= places.back().cut) continue;  // beside another one: the tokens are merged once
      const std::string tokens = value_of(program_, op.inputs[0]).shape[0];
      if (!tokens_.empty() && tokens != tokens_) refuse(op, "has other tokens than those before");
      if (op.attrs.AsAttentionAttrs()->window > 0)
        refuse(op, "sees a window of positions, which merged tokens have not");
      tokens_ = tokens;
      Place place{i, i};
      while (place.cut < ops.size() && !is_cut(place.cut)) ++place.cut;
      if (place.cut == ops.size()) refuse(op, "is followed by no value through which alone the tokens go on");
      places.push_back(place);
    }
    if (!places.empty() && rotates) refuse(*rotates, "turns tokens by positions, which merged ones have not");
    if (std::any_of(tokens_.begin(), tokens_.end(), [](char c) { return !std::isalnum(c) && c != '_'; }))
      o_.refuse("the number of tokens, " + printable(tokens_) + ", is no plain size");
    return places;
  }

  // Where values are made and last read.
  void derive() {
    for (const auto& input : program_.inputs)
      if (input->name == "attention_mask") mask_ = input->name;
    for (size_t i = 0; i < program_.ops.size(); ++i) {
      const format::OpT& op = *program_.ops[i];
      made_by_.push_back(op.inputs);
      for (const std::string& x : op.inputs) last_use_[x] = i;
      for (const std::string& y : op.outputs) maker_[y] = i;
    }
    for (const Names* list : {&program_.outputs, &program_.optional_outputs})
      for (const std::string& y : *list) last_use_[y] = program_.ops.size();
  }

  bool has_tokens(const format::ValueT& v) const {
    return std::any_of(v.shape.begin(), v.shape.end(),
                       [&](const std::string& size) { return replaced_symbol(size, tokens_, "") != size; });
  }
  // Whether a value comes from the mask and constants alone, one number for each token.
  bool is_of_mask(const std::string& name) const {
    const auto made = maker_.find(name);
    if (made == maker_.end()) return name == mask_ || !find_value(program_, name);
    const Names &shape = value_of(program_, name).shape, &inputs = made_by_[made->second];
    return std::all_of(shape.begin(), shape.end(), [&](const auto& size) { return size == "1" || size == tokens_; }) &&
           std::all_of(inputs.begin(), inputs.end(), [&](const std::string& x) { return is_of_mask(x); });
  }

  // Behind operator i: whether its result, a row for each token, is all that later operators read of the tokens.
  bool is_cut(size_t i) const {
    const format::OpT& op = *program_.ops[i];
    const auto is_in_the_way = [&](const format::ValueT& v) {
      const auto used = last_use_.find(v.name);
      const auto made = maker_.find(v.name);
      return used != last_use_.end() && used->second > i && (made == maker_.end() || made->second <= i) &&
             v.name != op.outputs[0] && has_tokens(v) && !is_of_mask(v.name);
    };
    for (const auto* list : {&program_.inputs, &program_.values})
      if (std::any_of(list->begin(), list->end(), [&](const auto& v) { return is_in_the_way(*v); })) return false;
    const Names& shape = value_of(program_, op.outputs[0]).shape;
    const auto used = last_use_.find(op.outputs[0]);
    const size_t axes = shape.size();
    const bool is_row_each = axes > 1 && axes < 4 && shape[axes - 2] == tokens_ && (axes == 2 || shape[0] == "1");
    return op.outputs.size() == 1 && is_row_each && used != last_use_.end() && used->second < program_.ops.size();
  }
  // Behind the last merge there is one: that of the merge.
  size_t last_cut() const {
    size_t i = program_.ops.size() - 1;
    while (!is_cut(i)) --i;
    return i;
  }

  // Tokens behind so many merges: of each the smaller of r and half of those that may be merged. Merging r as often as
  // it goes and halving for the rest leaves most of all orders, so that the largest of these is the number.
  std::string tokens_behind(size_t merges) const {
    std::vector<std::string> all;
    for (size_t i = 0; i <= merges && merges - i < 40; ++i) {
      const int64_t halves = int64_t(1) << (merges - i);
      const int64_t more = (halves - 1) * keep_ - int64_t(i) * merge_;
      all.push_back("ceildiv(" + tokens_ + (more < 0 ? "" : "+") + std::to_string(more) + "," + std::to_string(halves) +
                    ")");
    }
    while (all.size() > 1) {  // a tree, which is not deep
      std::vector<std::string> half;
      for (size_t i = 0; i < all.size(); i += 2)
        half.push_back(i + 1 < all.size() ? "max(" + all[i] + "," + all[i + 1] + ")" : all[i]);
      all.swap(half);
    }
    return "min(" + tokens_ + "," + all[0] + ")";
  }

  void rename(format::OpT& op) const {
    for (std::string& x : op.inputs)
      if (const auto found = now_.find(x); found != now_.end()) x = found->second;
  }
  // An operator between merges: its results have as many tokens as the last merge left.
  void shrink(const format::OpT& op) {
    for (size_t k = 0; k < op.inputs.size(); ++k) {
      const format::ValueT* v = find_value(program_, op.inputs[k]);
      if (v && has_tokens(*v) && !shrunk_.count(v->name) && !(is_whole(op) && k == kBias))
        refuse(op, ("takes \"" + printable(v->name) + "\", which has a row for each token of the text").c_str());
    }
    for (auto& v : program_.values) {
      if (std::find(op.outputs.begin(), op.outputs.end(), v->name) == op.outputs.end()) continue;
      for (std::string& size : v->shape) size = replaced_symbol(size, tokens_, count_);
      shrunk_.insert(v->name);
    }
  }

  // Of a merged token the scores count as often as it stands for a token; for none, never.
  void weigh(format::OpT& op) {
    op.inputs.resize(std::max(op.inputs.size(), kBias + 1));
    if (!op.inputs[kBias].empty() && (mask_.empty() || !is_of_mask(op.inputs[kBias])))
      refuse(op, "adds a bias that is more than a mask of tokens");
    if (bias_.empty()) {
      format::UnaryAttrsT log;
      log.kind = format::UnaryKind::log;
      const std::string logs = add(fresh("log_size"), {count_});
      set_attrs(add_op("unary", {size_}, {logs}), log);
      bias_ = add(fresh("size_bias"), {"1", "1", count_});
      add_op("reshape", {logs}, {bias_});
    }
    op.inputs[kBias] = bias_;
  }

  // Keys of all heads in the mean: what tokens are compared by.
  std::string mean_key(const std::string& k) {
    const Names shape = value_of(program_, k).shape;
    if (shape[1] == "1") {
      const std::string one = add(fresh("key"), {shape[0], shape[2]});
      add_op("reshape", {k}, {one});
      return one;
    }
    const std::string mean = add(fresh("key"), {shape[0], shape[2]});
    format::ReduceAttrsT attrs;
    attrs.kind = format::ReduceKind::mean, attrs.axis = 1;
    set_attrs(add_op("reduce", {k}, {mean}), attrs);
    return mean;
  }

  // Tokens of the text that count: 1, of those that the mask leaves out 0.
  void take_sizes() {
    if (mask_.empty()) return;
    const std::string table = "/prune.seen";
    b_.add_floats(table, {0, 1}, {2, 1});
    const std::string column = add(fresh("seen"), {tokens_, "1"});
    format::EmbeddingAttrsT attrs;
    attrs.outside = 1;
    set_attrs(add_op("embedding", {mask_, table}, {column}), attrs);
    size_ = add(fresh("size"), {tokens_});
    add_op("reshape", {column}, {size_});
  }

  void merge(const std::string& value) {
    if (merges_ == 0) take_sizes(), count_ = tokens_;
    const std::string groups = add(fresh("groups"), {count_}, format::DType::i32);
    format::MatchTokensAttrsT attrs;
    attrs.merge = uint32_t(merge_), attrs.keep = uint32_t(keep_);
    set_attrs(add_op("match_tokens", {features_}, {groups}), attrs);
    count_ = tokens_behind(++merges_);
    const std::string row = value_of(program_, value).shape.back(), y = add(fresh("merged"), {count_, row}),
                      size = add(fresh("size"), {count_});
    add_op("merge_tokens", {flat(value), groups, size_}, {y, size});
    size_ = size, bias_ = "";
    shrunk_.insert(now_[value] = with_axes_of(value, y, count_));
    std::string map = groups;
    if (merges_ > 1) {
      map = add(fresh("map"), {tokens_}, format::DType::i32);
      add_op("gather_rows", {groups, map_}, {map});
    }
    map_ = map;
  }

  // Every token of the text gets what its group has become.
  void give_back(const std::string& value) {
    const auto merged = now_.find(value);
    const std::string y = add(fresh("all"), {tokens_, value_of(program_, value).shape.back()});
    add_op("gather_rows", {flat(merged == now_.end() ? value : merged->second), map_}, {y});
    now_[value] = with_axes_of(value, y, tokens_);
  }

  // [tokens, channels] of a value that may have an axis of 1 before them; and such a value with the axes of another.
  std::string flat(const std::string& value) {
    const Names shape = value_of(program_, value).shape;
    if (shape.size() == 2) return value;
    const std::string y = add(fresh("rows"), {shape[1], shape[2]});
    add_op("reshape", {value}, {y});
    return y;
  }
  std::string with_axes_of(const std::string& value, const std::string& rows, const std::string& count) {
    const Names shape = value_of(program_, value).shape;
    if (shape.size() == 2) return rows;
    const std::string y = add(fresh("tokens"), {"1", count, shape[2]});
    add_op("reshape", {rows}, {y});
    return y;
  }

  std::string fresh(const char* what) { return "prune." + std::string(what) + std::to_string(names_++); }
  std::string add(const std::string& name, const Names& shape, format::DType dtype = format::DType::f32) {
    return add_value(program_, name, shape, dtype);
  }
  format::OpT& add_op(const char* name, const Names& inputs, const Names& outputs) {
    program_.ops.push_back(new_op(name, inputs, outputs));
    return *program_.ops.back();
  }

  const MethodOptions& o_;
  const int64_t merge_, keep_;
  ModelBuilder& b_;
  format::ProgramT& program_;
  std::map<std::string, size_t> last_use_, maker_;
  std::vector<Names> made_by_;  // inputs of each operator
  std::string tokens_;          // the symbol that counts tokens

  size_t merges_ = 0, names_ = 0;
  std::string count_;              // tokens behind the last merge
  std::string size_, map_, bias_;  // how many each stands for; where the text's went; what scores get for it
  std::string features_, mask_;
  std::map<std::string, std::string> now_;  // what stands for a value behind a merge
  std::set<std::string> shrunk_;            // values with a row for each merged token
};

}  // namespace

std::string prune_tokens(ModelBuilder& b) {
  const MethodOptions options = prune_options(b.prune);
  const bool exits = !thins_tokens(b.prune);
  if (exits || !b.pruned.empty()) {
    const std::string done = exits ? exit_early(options, b) : b.pruned;
    take_images_in_turn(b);
    return done;
  }
  if (std::string(options.row().name) != "tome")
    options.refuse("is for images in plain vision transformers, and this model is none");
  size_t changed = 0;
  for (auto& program : b.model.programs) changed += Merger(options, b, *program).run();
  if (changed == 0) options.refuse("no program of this model has attention of all tokens to each other");
  return "prune " + b.prune + ": behind " + std::to_string(changed) + " attentions";
}

}  // namespace runnel::convert
