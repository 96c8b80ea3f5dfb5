#include "converter/passes/half_states.h"

#include <set>

namespace runnel::convert {
namespace {

// The input of an operator that is a state which may be f16 and is large; -1: none.
int large_state_of(const std::string& op) { return op == "selective_scan" ? 7 : op == "matrix_recurrence" ? 9 : -1; }

}  // namespace

void halve_states(ModelBuilder& b) {
  std::set<std::string> large;
  for (const auto& program : b.model.programs)
    for (const auto& op : program->ops)
      if (const int i = large_state_of(op->name); i >= 0 && size_t(i) < op->inputs.size())
        large.insert(op->inputs[size_t(i)]);
  for (auto& s : b.model.states)
    if (s->kind == format::StateKind::recurrent && s->initial.empty() && large.count(s->name))
      s->dtype = format::DType::f16;
}

}  // namespace runnel::convert
