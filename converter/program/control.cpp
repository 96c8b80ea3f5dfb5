#include "converter/program/control.h"

#include <cctype>

namespace runnel::convert {

std::unique_ptr<format::OpT> new_control(const std::string& name, const std::string& program,
                                         const std::string& otherwise, const Names& inputs, const Names& outputs) {
  auto o = new_op(name, inputs, outputs);
  format::ControlAttrsT attrs;
  attrs.program = program, attrs.otherwise = otherwise;
  o->attrs.Set(std::move(attrs));
  return o;
}

std::string replaced_symbol(const std::string& size, const std::string& symbol, const std::string& by) {
  std::string out;
  for (size_t i = 0; i < size.size();) {
    size_t end = i;
    while (end < size.size() && (std::isalnum(size[end]) || size[end] == '_' || size[end] == '.')) ++end;
    if (end == i) {
      out += size[i++];
      continue;
    }
    const std::string word = size.substr(i, end - i);
    out += word == symbol ? "(" + by + ")" : word;
    i = end;
  }
  return out;
}

}  // namespace runnel::convert
