#include "converter/passes/add_features.h"

#include <algorithm>

namespace runnel::convert {
namespace {

template <class List, class Test>
auto take(List& list, Test test) {
  const auto at = std::find_if(list.begin(), list.end(), test);
  if (at == list.end()) return typename List::value_type();
  auto found = std::move(*at);
  list.erase(at);
  return found;
}

}  // namespace

void add_features(format::ModelT& model) {
  auto program = std::make_unique<format::ProgramT>(*model.programs.at(0));
  const auto ids = take(program->inputs, [](const auto& v) { return v->role == format::Role::tokens; });
  const auto reads = [&](const auto& op) {
    return ids && std::find(op->inputs.begin(), op->inputs.end(), ids->name) != op->inputs.end();
  };
  const auto readers = std::count_if(program->ops.begin(), program->ops.end(), reads);
  const auto embedding = take(program->ops, reads);
  if (readers != 1 || embedding->name != "embedding" || embedding->inputs[0] != ids->name)
    fail("the model takes no features: more than one embedding reads its ids, or nothing does");
  auto rows = take(program->values, [&](const auto& v) { return v->name == embedding->outputs[0]; });
  program->name = "features";
  for (const auto& op : program->ops)
    std::replace(op->inputs.begin(), op->inputs.end(), rows->name, std::string("inputs_embeds"));
  rows->name = "inputs_embeds";
  program->inputs.insert(program->inputs.begin(), std::move(rows));
  model.programs.push_back(std::move(program));
}

}  // namespace runnel::convert
