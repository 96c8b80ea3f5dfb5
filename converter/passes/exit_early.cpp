#include "converter/passes/exit_early.h"

#include <algorithm>
#include <map>
#include <set>

#include "converter/program/control.h"

namespace runnel::convert {
namespace {

constexpr const char *kLogits = "logits", *kLayers = "layers", *kSure = "exit.sure", *kTokens = "exit.tokens",
                     *kGive = "exit.give", *kHead = "exit.head";

class Exits {
 public:
  Exits(const MethodOptions& options, ModelBuilder& builder)
      : o_(options), b_(builder), main_(*builder.model.programs.at(0)) {}

  std::string run() {
    if (!(o_.number("sure") > 0 && o_.number("sure") <= 1)) o_.refuse("sure is no part above 0 and up to 1");
    if (b_.model.programs.size() > 1) o_.refuse("this model has several programs");
    if (!b_.model.states.empty()) o_.refuse("this model keeps states, which each layer has to write");
    find_layers();
    check_outputs();
    const std::vector<size_t> places = exits();
    if (places.empty()) o_.refuse("exact leaves out all layers");
    write(places);
    std::string words;
    for (const size_t layer : places) words += (words.empty() ? "" : ", ") + std::to_string(layer);
    return "prune " + b_.prune + ": ends may come behind layers " + words + " of " + std::to_string(ends_.size());
  }

 private:
  const format::OpT& op(size_t i) const { return *main_.ops[i]; }
  const format::ValueT& result(size_t i) const { return value_of(main_, op(i).outputs[0]); }

  // Operators behind whose result alone, and what was there before all layers, the model goes on.
  bool is_cut(size_t i) const {
    if (op(i).outputs.size() != 1) return false;
    const auto is_in_the_way = [&](const auto& made) {
      return made.second >= first_ && made.second <= i && made.first != op(i).outputs[0] && last_use(made.first) > i;
    };
    return last_use(op(i).outputs[0]) > i && std::none_of(maker_.begin(), maker_.end(), is_in_the_way);
  }
  size_t last_use(const std::string& value) const {
    const auto found = last_use_.find(value);
    return found == last_use_.end() ? 0 : found->second;
  }

  void find_layers() {
    std::vector<size_t> attentions;
    for (size_t i = 0; i < main_.ops.size(); ++i) {
      if (op(i).name == "attention" || op(i).name == "softmax") attentions.push_back(i);
      for (const std::string& x : op(i).inputs) last_use_[x] = i;
      for (const std::string& y : op(i).outputs) maker_[y] = i;
    }
    for (const Names* list : {&main_.outputs, &main_.optional_outputs})
      for (const std::string& y : *list) last_use_[y] = main_.ops.size();
    if (attentions.size() < 2) o_.refuse("this model has no layers of attention one behind the other");
    first_ = attentions[0];
    size_t length = attentions[1] - first_;
    while (length > 0 && !is_cut(first_ + length)) --length;
    if (length == 0) o_.refuse("this model's layers are followed by no value through which alone they go on");
    for (const size_t a : attentions) {
      bool is_alike = a + length < main_.ops.size() && is_cut(a + length) &&
                      result(a + length).shape == result(first_ + length).shape;
      for (size_t i = 0; is_alike && i <= length; ++i) is_alike = op(a + i).name == op(first_ + i).name;
      if (!is_alike)
        o_.refuse("layer " + std::to_string(ends_.size() + 1) + " of this model is not like those before it");
      ends_.push_back(a + length);
    }
  }

  void check_outputs() const {
    const auto& outputs = main_.outputs;
    if (std::find(outputs.begin(), outputs.end(), kLogits) == outputs.end() ||
        value_of(main_, kLogits).shape.size() != 2)
      o_.refuse("this model gives no classes (\"logits\" of one row or more)");
    for (const Names* list : {&main_.outputs, &main_.optional_outputs})
      for (const std::string& y : *list)
        if (!maker_.count(y) || maker_.at(y) <= ends_.back())
          o_.refuse("\"" + printable(y) + "\" is given before the last layer's end");
  }

  // Numbers of layers, counted from 1, behind which there may be an end.
  std::vector<size_t> exits() const {
    std::vector<size_t> out;
    const size_t exact = o_.whole("exact", 0, 65536), every = o_.whole("every", 1, 65536);
    for (size_t layer = exact; layer + 1 < ends_.size(); layer += every) out.push_back(layer + 1);
    return out;
  }

  format::ProgramT& new_program(const std::string& name) {
    b_.model.programs.push_back(std::make_unique<format::ProgramT>());
    b_.model.programs.back()->name = name;
    return *b_.model.programs.back();
  }
  std::unique_ptr<format::ValueT> copy_of(const std::string& name, const std::string& as) const {
    const format::ValueT& v = value_of(main_, name);
    auto out = std::make_unique<format::ValueT>();
    out->name = as, out->dtype = v.dtype, out->shape = v.shape;
    return out;
  }
  static format::OpT& add_op(format::ProgramT& p, const char* name, const Names& inputs, const Names& outputs) {
    p.ops.push_back(new_op(name, inputs, outputs));
    return *p.ops.back();
  }

  // Values of before the layers, and inputs, that operators behind the first exit read.
  Names seen_behind(size_t end) const {
    std::set<std::string> seen;
    for (size_t i = end + 1; i < main_.ops.size(); ++i)
      for (const std::string& x : op(i).inputs) {
        const auto made = maker_.find(x);
        if (find_value(main_, x) && (made == maker_.end() || made->second < first_)) seen.insert(x);
      }
    return {seen.begin(), seen.end()};
  }

  // Operators [begin, end) in another program, with their values.
  void copy_ops(size_t begin, size_t end, format::ProgramT& to, const std::map<std::string, std::string>& names) const {
    const auto named = [&](const std::string& x) { return names.count(x) ? names.at(x) : x; };
    for (size_t i = begin; i < end; ++i) {
      auto copy = std::make_unique<format::OpT>(op(i));
      for (std::string& x : copy->inputs) x = named(x);
      for (const std::string& y : copy->outputs) to.values.push_back(copy_of(y, y));
      to.ops.push_back(std::move(copy));
    }
  }

  // What the operators behind the layers make of x, and whether each row is sure.
  void write_head(const Names& seen, const Names& outputs) {
    format::ProgramT& p = new_program(kHead);
    p.inputs.push_back(copy_of(result(ends_[0]).name, kTokens));
    for (const std::string& s : seen) p.inputs.push_back(copy_of(s, s));
    copy_ops(ends_.back() + 1, main_.ops.size(), p, {{result(ends_.back()).name, kTokens}});
    const Names shape = value_of(main_, kLogits).shape;
    const std::string parts = add_value(p, "exit.parts", shape), most = add_value(p, "exit.most", {shape[0]}),
                      row = add_value(p, "exit.row", {"1", shape[0]}), least = add_value(p, "exit.least", {"1"}),
                      sure = add_value(p, "exit.flag", {"1"}, format::DType::i32);
    set_attrs(add_op(p, "softmax", {kLogits}, {parts}), format::SoftmaxAttrsT());
    format::ReduceAttrsT reduce;
    reduce.kind = format::ReduceKind::max, reduce.axis = 1;
    set_attrs(add_op(p, "reduce", {parts}, {most}), reduce);
    add_op(p, "reshape", {most}, {row});
    reduce.kind = format::ReduceKind::min;
    set_attrs(add_op(p, "reduce", {row}, {least}), reduce);
    format::ArithmeticAttrsT at_most;
    at_most.kind = format::ArithmeticKind::at_most;
    set_attrs(add_op(p, "arithmetic", {kSure, least}, {sure}), at_most);
    p.outputs = outputs, p.outputs.push_back(sure);
  }

  // What a stage is handed: the tokens, what was there before the layers, the outputs as the stage before has them.
  void take(format::ProgramT& p, const Names& seen, const Names& all) const {
    p.inputs.push_back(copy_of(result(ends_[0]).name, kTokens));
    for (const std::string& s : seen) p.inputs.push_back(copy_of(s, s));
    for (const std::string& y : all) p.inputs.push_back(output(y, y + ".before"));
  }
  std::unique_ptr<format::ValueT> output(const std::string& name, const std::string& as) const {
    if (name != kLayers) return copy_of(name, as);
    auto out = copy_of(kLogits, as);
    out->dtype = format::DType::i32, out->shape.resize(1);
    return out;
  }

  // The outputs of a program that has computed so many layers up to x: where they are sure, else those of `next`.
  void finish(format::ProgramT& p, const std::string& x, size_t layers, const std::string& next, const Names& seen,
              const Names& all) {
    const std::string suffix = next.empty() ? "" : ".now", flag = add_value(p, "exit.flag", {"1"}, format::DType::i32),
                      number = "exit.layers." + std::to_string(layers);
    Names in = {x}, out;
    in.insert(in.end(), seen.begin(), seen.end());
    for (const std::string& y : all) p.values.push_back(output(y, y + suffix)), out.push_back(y + suffix);
    const int32_t n = int32_t(layers);
    const auto* bytes = reinterpret_cast<const uint8_t*>(&n);
    b_.add_bytes(format::SegmentKind::weights, number, format::DType::i32, {1}, {bytes, bytes + 4});
    add_op(p, "expand", {number}, {out.back()});
    Names given(out.begin(), out.end() - 1);
    given.push_back(flag);
    p.ops.push_back(new_control("call", kHead, "", in, given));
    if (next.empty()) return;
    in.insert(in.begin(), flag);
    in.insert(in.end(), out.begin(), out.end());
    for (const std::string& y : all) p.values.push_back(output(y, y));
    p.ops.push_back(new_control("if", kGive, next, in, all));
  }

  // Programs stand behind those that name them.
  void write(const std::vector<size_t>& places) {
    b_.add_floats(kSure, {float(o_.number("sure"))}, {1});
    Names outputs = main_.outputs;
    outputs.insert(outputs.end(), main_.optional_outputs.begin(), main_.optional_outputs.end());
    Names all = outputs;
    all.push_back(kLayers);
    const Names seen = seen_behind(ends_[places[0] - 1]);
    const auto stage = [](size_t i) { return "exit.stage." + std::to_string(i); };
    for (size_t i = 0; i < places.size(); ++i) {
      const size_t to = i + 1 == places.size() ? ends_.size() : places[i + 1], before = ends_[places[i] - 1],
                   end = ends_[to - 1];
      format::ProgramT& p = new_program(stage(i));
      take(p, seen, all);
      copy_ops(before + 1, end + 1, p, {{op(before).outputs[0], kTokens}});
      finish(p, op(end).outputs[0], to, to == ends_.size() ? "" : stage(i + 1), seen, all);
      p.outputs = all;
    }
    format::ProgramT& give = new_program(kGive);
    take(give, seen, all);
    for (const std::string& y : all) give.outputs.push_back(y + ".before");
    write_head(seen, outputs);

    auto begin = std::make_unique<format::ProgramT>();
    const size_t end = ends_[places[0] - 1];
    begin->name = main_.name;
    for (const auto& v : main_.inputs) begin->inputs.push_back(std::make_unique<format::ValueT>(*v));
    copy_ops(0, end + 1, *begin, {});
    finish(*begin, op(end).outputs[0], places[0], stage(0), seen, all);
    begin->outputs = main_.outputs, begin->optional_outputs = main_.optional_outputs;
    begin->outputs.push_back(kLayers);
    b_.model.programs[0] = std::move(begin);
  }

  const MethodOptions& o_;
  ModelBuilder& b_;
  const format::ProgramT& main_;
  std::map<std::string, size_t> maker_, last_use_;
  size_t first_ = 0;          // operator that is the first layer's attention
  std::vector<size_t> ends_;  // operators that are the layers' last
};

}  // namespace

std::string exit_early(const MethodOptions& options, ModelBuilder& b) { return Exits(options, b).run(); }

}  // namespace runnel::convert
