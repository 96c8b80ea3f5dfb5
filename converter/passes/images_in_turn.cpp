#include "converter/passes/images_in_turn.h"

#include <algorithm>

#include "converter/program/control.h"
#include "converter/program/pruning.h"

namespace runnel::convert {
namespace {

constexpr const char *kBatch = "batch", *kZero = "images.zero";

format::SymbolT* one_image(format::ModelT& model) {
  for (auto& s : model.symbols)
    if (s->name == kBatch && s->kind == format::SymbolKind::axis && s->bound == kOneImage) return s.get();
  return nullptr;
}

bool is_of_images(const format::ValueT& v) { return !v.shape.empty() && v.shape[0] == kBatch; }

std::unique_ptr<format::ValueT> value_like(const format::ValueT& v, const std::string& name, bool is_one = false) {
  auto out = std::make_unique<format::ValueT>();
  out->name = name, out->dtype = v.dtype, out->shape = v.shape;
  if (is_one) out->shape[0] = "1";
  return out;
}

format::OpT& add(format::ProgramT& program, const char* op, const Names& inputs, const Names& outputs) {
  program.ops.push_back(new_op(op, inputs, outputs));
  return *program.ops.back();
}

// Zeros of the result's shape, and where they stand.
std::string zeros(ModelBuilder& b, format::ProgramT& program, const format::ValueT& v) {
  const std::string zero = kZero + std::string(v.dtype == format::DType::i32 ? ".i32" : ".f32");
  if (!b.has_tensor(zero)) b.add_bytes(format::SegmentKind::weights, zero, v.dtype, {1}, std::vector<uint8_t>(4));
  program.values.push_back(value_like(v, v.name + ".none"));
  add(program, "expand", {zero}, {v.name + ".none"});
  return v.name + ".none";
}

}  // namespace

void take_images_in_turn(ModelBuilder& b) {
  auto& programs = b.model.programs;
  format::SymbolT* batch = one_image(b.model);
  if (!batch || programs.empty() || programs[0]->name != "main") return;
  format::ProgramT& image = *programs[0];
  Names outputs = image.outputs;
  outputs.insert(outputs.end(), image.optional_outputs.begin(), image.optional_outputs.end());
  const auto is_one_each = [&](const std::string& name) { return is_of_images(value_of(image, name)); };
  if (!std::all_of(image.inputs.begin(), image.inputs.end(), [](const auto& v) { return is_of_images(*v); }) ||
      !std::all_of(outputs.begin(), outputs.end(), is_one_each))
    return;
  batch->bound = "context";

  auto main = std::make_unique<format::ProgramT>(), round = std::make_unique<format::ProgramT>();
  main->name = "main", round->name = "images.round", image.name = "images.one";
  add_value(*main, "images.numbers", {std::string(kBatch) + "+1"}, format::DType::i32);
  add_value(*main, "images.count", {"1"}, format::DType::i32);
  add(*main, "index", {}, {"images.numbers"});
  set_attrs(*main->ops.back(), format::IndexAttrsT());
  format::SliceAttrsT last;
  last.begin = -1;
  set_attrs(add(*main, "slice", {"images.numbers"}, {"images.count"}), last);

  const std::string number = "images.number";
  format::ValueT of_round;
  of_round.name = number, of_round.dtype = format::DType::i32, of_round.shape = {"1"};
  round->inputs.push_back(value_like(of_round, number));
  Names loop = {"images.count", ""}, single, singles;
  for (const std::string& name : outputs) {
    const format::ValueT& v = value_of(image, name);
    loop.push_back(zeros(b, *main, v));
    main->values.push_back(value_like(v, name));
    round->inputs.push_back(value_like(v, name + ".before"));
    round->values.push_back(value_like(v, name + ".one", true));
    round->values.push_back(value_like(v, name));
    singles.push_back(name + ".one");
  }
  for (const auto& v : image.inputs) {
    loop.push_back(v->name);
    round->inputs.push_back(value_like(*v, v->name));
    round->values.push_back(value_like(*v, v->name + ".one", true));
    set_attrs(add(*round, "gather", {v->name, number}, {v->name + ".one"}), format::GatherAttrsT());
    single.push_back(v->name + ".one");
    main->inputs.push_back(std::make_unique<format::ValueT>(*v));
  }
  round->ops.push_back(new_control("call", "images.one", "", single, singles));
  for (const std::string& name : outputs)
    set_attrs(add(*round, "scatter", {name + ".before", number, name + ".one"}, {name}), format::ScatterAttrsT());
  round->outputs = outputs;
  main->ops.push_back(new_control("loop", "images.round", "", loop, outputs));
  main->outputs = image.outputs, main->optional_outputs = image.optional_outputs;

  image.outputs = outputs, image.optional_outputs.clear();
  for (auto& program : programs)
    for (auto* list : {&program->inputs, &program->values})
      for (auto& v : *list)
        for (std::string& size : v->shape) size = replaced_symbol(size, kBatch, "1");
  programs.insert(programs.begin(), std::move(round));
  programs.insert(programs.begin(), std::move(main));
}

}  // namespace runnel::convert
