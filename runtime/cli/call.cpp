#include "cli/call.h"

#include <algorithm>
#include <cstring>

namespace runnel::cli {

rnl_tensor to_tensor(const NamedTensor& t) {
  if (t.dims.size() > 6) throw Failure("tensor \"" + t.name + "\" has more than 6 axes");
  rnl_tensor r{};
  r.name = t.name.c_str();
  r.dtype = t.dtype;
  r.rank = int32_t(t.dims.size());
  std::copy(t.dims.begin(), t.dims.end(), r.dims);
  r.data = const_cast<unsigned char*>(t.data);
  r.bytes = t.bytes;
  return r;
}

const ProgramInfo& find_program(const Model& model, const std::string& name) {
  const ProgramInfo* p = model.find_program(name.empty() ? nullptr : name.c_str());
  if (!p) throw Failure("the model has no program \"" + name + "\"");
  return *p;
}

CallBinding call_symbols(const Plan& plan, const PlannedProgram& program, const std::vector<rnl_tensor>& inputs) {
  CallBinding v = plan.bounds;
  v.absent = program.info->optional_inputs;
  bool rows_given = false;
  for (const rnl_tensor& t : inputs)
    for (uint32_t i = 0; i < program.info->input_count; ++i) {
      const ValueInfo& info = program.info->values[i];
      if (std::strcmp(info.name, t.name) != 0) continue;
      if (i < 64) v.absent &= ~(uint64_t(1) << i);
      for (int d = 0; d < std::min(t.rank, info.shape.rank); ++d) {
        const int s = plan.model->exprs().as_symbol(info.shape.dims[d]);
        if (s < 0 || plan.model->symbols()[size_t(s)].kind != format::SymbolKind::axis) continue;
        v.v[s] = t.dims[d];
        rows_given = rows_given || s == program.rows_symbol;
      }
    }
  if (!rows_given && program.rows_symbol >= 0 && program.stream_symbol >= 0)
    v.v[program.rows_symbol] = v.v[program.stream_symbol];
  return v;
}

int64_t longest_axis(const std::vector<NamedTensor>& tensors) {
  int64_t n = 1;
  for (const NamedTensor& t : tensors)
    if (!t.dims.empty()) n = std::max(n, t.dims[0]);
  return n;
}

}  // namespace runnel::cli
