#include "cli/call.h"

#include <algorithm>
#include <cctype>

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

int64_t longest_axis(const rnl::Model& model, const char* program, const std::vector<NamedTensor>& tensors) {
  int64_t n = 1;
  for (const rnl_value_info& v : model.inputs(program))
    for (const NamedTensor& t : tensors)
      for (size_t i = 0; t.name == v.name && i < t.dims.size() && i < size_t(v.rank); ++i)
        if (!std::isdigit(static_cast<unsigned char>(v.sizes[i][0]))) n = std::max(n, t.dims[i]);
  return n;
}

}  // namespace runnel::cli
