#include "converter/passes/sparse_keys.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>

#include "converter/program/graph.h"

namespace runnel::convert {

namespace {

using Options = std::map<std::string, double>;
const Options kXattention = {{"threshold", 0.9}, {"stride", 8}, {"block", 128}, {"first", 1}, {"least", 256}};

[[noreturn]] void refuse(const std::string& method, const std::string& why) {
  fail("--sparse %s: %s", printable(method).c_str(), why.c_str());
}

double number_of(const std::string& method, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    refuse(method, "\"" + printable(text) + "\" is no number");
  return value;
}

// The options after the colon, in place of the defaults.
Options options_of(const std::string& method, Options options) {
  size_t at = method.find(':');
  while (at != std::string::npos) {
    const size_t next = method.find(',', at + 1);
    const std::string pair = method.substr(at + 1, next == std::string::npos ? next : next - at - 1);
    const size_t equals = pair.find('=');
    const auto found = options.find(pair.substr(0, equals));
    if (equals == std::string::npos || found == options.end())
      refuse(method, "\"" + printable(pair) + "\" is no option of it; there is " + sparse_methods());
    found->second = number_of(method, pair.substr(equals + 1));
    at = next;
  }
  return options;
}

uint32_t whole(const std::string& method, const Options& options, const char* name, double least, double most) {
  const double v = options.at(name);
  if (!(v >= least && v <= most) || v != double(uint32_t(v)))
    refuse(method, std::string(name) + " is not a whole number from " + std::to_string(int64_t(least)) + " to " +
                       std::to_string(int64_t(most)));
  return uint32_t(v);
}

format::SelectBlocksAttrsT xattention(const std::string& method) {
  const Options o = options_of(method, kXattention);
  format::SelectBlocksAttrsT a;
  a.threshold = float(o.at("threshold"));
  if (!(a.threshold > 0 && a.threshold <= 1)) refuse(method, "threshold is not above 0 and at most 1");
  a.block = whole(method, o, "block", 16, 4096);
  a.stride = whole(method, o, "stride", 1, a.block);
  if (a.block % a.stride != 0) refuse(method, "block is not a multiple of stride");
  a.first = whole(method, o, "first", 0, 65536);
  a.least = whole(method, o, "least", 0, 1 << 30);
  return a;
}

class Chooser {
 public:
  Chooser(const format::SelectBlocksAttrsT& select, ModelBuilder& builder) : select_(select), b_(builder) {}

  size_t run() {
    for (auto& program : b_.model.programs) {
      std::vector<std::unique_ptr<format::OpT>> old;
      old.swap(program->ops);
      for (auto& op : old) {
        if (applies(*op)) change(*program, *op);
        program->ops.push_back(std::move(op));
      }
    }
    return changed_;
  }

 private:
  // Attention over all of a stream, that writes the call's own keys.
  bool applies(const format::OpT& op) const {
    if (op.name != "attention" || op.inputs.size() < 5 || op.inputs[1].empty() || op.inputs[3].empty()) return false;
    const auto* a = op.attrs.AsAttentionAttrs();
    if (a && (a->window > 0 || a->stride > 1)) return false;
    return std::any_of(b_.model.states.begin(), b_.model.states.end(),
                       [&](const auto& s) { return s->name == op.inputs[3] && s->kind == format::StateKind::append; });
  }

  void change(format::ProgramT& program, format::OpT& op) {
    format::AttentionAttrsT dense;
    if (const auto* a = op.attrs.AsAttentionAttrs()) dense = *a;
    const std::string ranges = op.outputs[0] + ".ranges", block = std::to_string(select_.block);
    const Names q = value_of(program, op.inputs[0]).shape;
    add_value(program, ranges,
              {q[1], "floordiv(" + q[0] + "+" + std::to_string(select_.block - 2) + "," + block + ")+1",
               "floordiv(ceildiv(context," + block + "),2)+1", "3"},
              format::DType::i32);

    format::SelectBlocksAttrsT select = select_;
    select.scale = dense.scale;
    program.ops.push_back(new_op("select_blocks", {op.inputs[0], op.inputs[1], op.inputs[3]}, {ranges}));
    set_attrs(*program.ops.back(), select);

    format::SparseAttentionAttrsT sparse;
    sparse.scale = dense.scale, sparse.softcap = dense.softcap, sparse.causal = dense.causal;
    sparse.range_block = select_.block;
    Names inputs = op.inputs;
    inputs.resize(9);
    inputs.push_back(ranges);
    op = std::move(*new_op("sparse_attention", inputs, op.outputs));
    set_attrs(op, sparse);
    ++changed_;
  }

  const format::SelectBlocksAttrsT select_;
  ModelBuilder& b_;
  size_t changed_ = 0;
};

}  // namespace

std::string sparse_methods() {
  std::string options;
  for (const auto& [name, value] : kXattention) {
    char text[64];
    std::snprintf(text, sizeof text, "%s%s=%g", options.empty() ? "" : ",", name.c_str(), value);
    options += text;
  }
  return "xattention[:" + options +
         "]: blocks of keys that hold `threshold` of the attention, as every stride-th antidiagonal estimates it, the "
         "`first` blocks always; calls of fewer than `least` tokens see all";
}

std::string choose_keys(const std::string& method, ModelBuilder& b) {
  if (method.substr(0, method.find(':')) != "xattention") refuse(method, "not a method; there is " + sparse_methods());
  const size_t changed = Chooser(xattention(method), b).run();
  if (changed == 0) refuse(method, "no attention of this model sees all of a stream");
  return "sparse " + method + ": " + std::to_string(changed) + " attentions";
}

}  // namespace runnel::convert
