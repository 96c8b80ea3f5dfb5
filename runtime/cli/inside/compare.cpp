// inspect --dump and --compare: every value of a call into a file, or held against those of a file.
#include "cli/inside/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/half.h"
#include "cli/lines.h"
#include "cli/inside/observed_call.h"
#include "cli/inside/tensor_type.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

std::string dims_text(const int64_t* dims, int rank) {
  std::string out = "[";
  for (int d = 0; d < rank; ++d) out += (d ? ", " : "") + std::to_string(dims[d]);
  return out + "]";
}
std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

template <class T>
T load(const void* data, int64_t i) {
  T v;
  std::memcpy(&v, static_cast<const char*>(data) + i * int64_t(sizeof v), sizeof v);
  return v;
}
double element(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32: return double(load<float>(data, i));
    case DType::kF16: return double(half_to_float(load<uint16_t>(data, i)));
    case DType::kBF16: return double(bf16_to_float(load<uint16_t>(data, i)));
    case DType::kI32: return double(load<int32_t>(data, i));
    case DType::kI64: return double(load<int64_t>(data, i));
    case DType::kU8: return double(load<uint8_t>(data, i));
    case DType::kI8: return double(load<int8_t>(data, i));
    default: return 0;
  }
}

// A value of the reference and how far off ours is.
struct Compared {
  uint32_t value = 0;
  const NamedTensor* reference = nullptr;
  std::vector<int64_t> dims;  // of ours, whole
  bool is_by_head = false;    // the reference has the first two axes exchanged: [heads, tokens, ..] for [tokens, heads,
                              // ..]
  double largest = 0;         // |reference|, of the finite ones
  double allowed = 0;
  // What was found. off: infinite where one side alone is NaN or infinite.
  uint32_t op = UINT32_MAX;
  const char* kernel = "";
  double off = 0, ours = 0, wanted = 0;
  int64_t at = 0, first_row = -1;
  bool is_complete = false;

  // Where the reference has the element of this index.
  int64_t in_reference(int64_t index) const {
    if (!is_by_head) return index;
    int64_t inner = 1;
    for (size_t d = 2; d < dims.size(); ++d) inner *= dims[d];
    return (index / inner % dims[1] * dims[0] + index / inner / dims[1]) * inner + index % inner;
  }
  double relative() const { return largest > 0 ? off / largest : off; }
  bool agrees() const { return is_complete && off <= allowed; }
};

void compare_part(const ValuePart& part, Compared& c) {
  const int axis = std::max(part.axis, 0);
  int64_t inner = 1;
  for (int d = axis + 1; d < part.view.rank; ++d) inner *= part.view.dims[d];
  const int64_t rows = part.view.rank ? part.whole_dims[axis] : 1;
  c.op = part.op;
  c.kernel = part.kernel;
  part.for_each_run([&](int64_t index, int64_t count, int64_t first) {
    for (int64_t i = 0; i < count; ++i) {
      const double ours = element(part.view.data, part.view.dtype, first + i),
                   wanted = element(c.reference->data, DType(c.reference->dtype), c.in_reference(index + i));
      if (ours == wanted || (std::isnan(ours) && std::isnan(wanted))) continue;
      double off = std::fabs(ours - wanted);
      if (std::isnan(off)) off = INFINITY;
      if (off > c.allowed) {
        const int64_t row = (index + i) / inner % rows;
        if (c.first_row < 0 || row < c.first_row) c.first_row = row;
      }
      if (off > c.off) c.off = off, c.at = index + i, c.ours = ours, c.wanted = wanted;
    }
  });
}

// The value that a name of the reference means: the name itself, or what follows a prefix of the original's modules
// ("model.").
int find_value(const ProgramInfo& program, const std::string& name) {
  for (size_t begin = 0; begin != std::string::npos;) {
    for (size_t i = 0; i < program.values.size(); ++i)
      if (name.compare(begin, std::string::npos, program.values[i].name) == 0) return int(i);
    const size_t dot = name.find('.', begin);
    begin = dot == std::string::npos ? dot : dot + 1;
  }
  return -1;
}

std::vector<int64_t> without_batch(std::vector<int64_t> dims) {
  while (dims.size() > 1 && dims[0] == 1) dims.erase(dims.begin());
  return dims;
}

// Whether a reference of these dims has the elements of the value in its order: a batch axis of 1 may stand in front,
// and the axes behind the first may be joined ([tokens, heads * channels] for [tokens, heads, channels]).
bool fits(const std::vector<int64_t>& reference, const std::vector<int64_t>& ours) {
  const std::vector<int64_t> a = without_batch(reference), b = without_batch(ours);
  int64_t m = 1, n = 1;
  for (int64_t d : a) m *= d;
  for (int64_t d : b) n *= d;
  return m == n && (a.empty() || b.empty() || a[0] == b[0]);
}

// [heads, tokens, channels], as attention modules have it, for [tokens, heads, channels].
bool fits_by_head(const std::vector<int64_t>& reference, std::vector<int64_t> ours) {
  if (ours.size() < 3 || reference.size() < ours.size()) return false;
  std::swap(ours[0], ours[1]);
  return std::equal(ours.rbegin(), ours.rend(), reference.rbegin()) &&
         std::all_of(reference.begin(), reference.end() - long(ours.size()), [](int64_t d) { return d == 1; });
}

std::vector<Compared> match(const ObservedCall& call, const std::vector<NamedTensor>& tensors, const std::string& path,
                            double tolerance) {
  std::vector<Compared> out;
  std::string unknown;
  size_t unknown_count = 0;
  std::map<uint32_t, std::string> taken;
  for (const NamedTensor& t : tensors) {
    const int value = find_value(call.program(), t.name);
    if (value < 0) {
      if (++unknown_count <= 8) unknown += (unknown.empty() ? "\"" : ", \"") + t.name + "\"";
      continue;
    }
    if (uint32_t(value) < call.program().input_count) continue;
    const std::string name = call.program().values[size_t(value)].name;
    if (!taken.emplace(uint32_t(value), t.name).second)
      throw Failure(path + ": \"" + t.name + "\" and \"" + taken[uint32_t(value)] + "\" are both the value \"" + name +
                    "\"");
    const TensorView whole = call.whole(uint32_t(value));
    Compared c;
    c.value = uint32_t(value);
    c.reference = &t;
    c.dims.assign(whole.dims, whole.dims + whole.rank);
    c.is_by_head = !fits(t.dims, c.dims) && fits_by_head(t.dims, c.dims);
    if (!c.is_by_head && !fits(t.dims, c.dims))
      throw Failure(path + ": \"" + t.name + "\" is " + dims_text(t.dims.data(), int(t.dims.size())) +
                    " where the value \"" + name + "\" is " + dims_text(whole.dims, whole.rank));
    const int64_t n = int64_t(t.bytes / dtype_bytes(DType(t.dtype)));
    for (int64_t i = 0; i < n; ++i)
      if (const double v = std::fabs(element(t.data, DType(t.dtype), i)); std::isfinite(v))
        c.largest = std::max(c.largest, v);
    const bool is_whole_number =
        whole.dtype != DType::kF32 && whole.dtype != DType::kF16 && whole.dtype != DType::kBF16;
    c.allowed = is_whole_number ? 0 : tolerance * (c.largest > 0 ? c.largest : 1);
    out.push_back(c);
  }
  if (!unknown.empty())
    throw Failure(path + ": the program \"" + call.program().name + "\" has no value " + unknown +
                  (unknown_count > 8 ? " and " + std::to_string(unknown_count - 8) + " more" : "") +
                  "; `runnel inspect` prints those that it has");
  if (out.empty()) throw Failure(path + ": holds inputs alone, no value to compare with");
  return out;
}

// What stands before an operator: for each of its inputs whether it agrees, and where that is not known from which
// operators it comes.
class Before {
 public:
  Before(const ObservedCall& call, const std::vector<Compared>& compared)
      : call_(call), made_by_(call.program().values.size(), -1) {
    for (const Compared& c : compared) known_[c.value] = &c;
    for (size_t i = 0; i < call.program().ops.size(); ++i) {
      const OpInfo& op = call.program().ops[i];
      for (uint32_t k = 0; k < op.out_count; ++k)
        if (const Operand& o = call.program().operands[op.first_operand + op.in_count + k];
            o.kind == Operand::Kind::kValue)
          made_by_[o.index] = int(i);
    }
  }
  std::string state_of(uint32_t value) const {
    const auto it = known_.find(value);
    if (it != known_.end())
      return it->second->agrees() ? "agrees (" + number(it->second->relative()) + ")"
                                  : "differs (" + number(it->second->relative()) + ")";
    if (made_by_[value] < 0) return "an input";
    std::set<int> ops;
    std::set<std::string> ends;
    walk(value, ops, ends);
    std::string text = "not in the reference: made by operator", from;
    if (ops.size() > 1) text += "s";
    size_t shown = 0;
    for (const int op : ops)
      if (++shown <= 8) text += (shown > 1 ? ", " : " ") + std::to_string(op);
    if (ops.size() > 8) text += ", ... " + std::to_string(*ops.rbegin());
    for (const std::string& e : ends) from += (from.empty() ? " from " : ", ") + e;
    return text + from;
  }

 private:
  void walk(uint32_t value, std::set<int>& ops, std::set<std::string>& ends) const {
    const auto it = known_.find(value);
    const std::string name = call_.program().values[value].name;
    if (it != known_.end() || made_by_[value] < 0) {
      ends.insert(name + (it == known_.end() ? "" : it->second->agrees() ? " (agrees)" : " (differs)"));
      return;
    }
    if (!ops.insert(made_by_[value]).second) return;
    const OpInfo& op = call_.program().ops[size_t(made_by_[value])];
    for (uint32_t k = 0; k < op.in_count; ++k)
      if (const Operand& o = call_.program().operands[op.first_operand + k]; o.kind == Operand::Kind::kValue)
        walk(o.index, ops, ends);
  }
  const ObservedCall& call_;
  std::vector<int> made_by_;
  std::map<uint32_t, const Compared*> known_;
};

std::string place(const Compared& c) {
  std::vector<int64_t> at(c.dims.size());
  int64_t index = c.at;
  for (size_t d = c.dims.size(); d-- > 0; index /= std::max<int64_t>(c.dims[d], 1))
    at[d] = index % std::max<int64_t>(c.dims[d], 1);
  return dims_text(at.data(), int(at.size()));
}

std::string name_of(const ObservedCall& call, const Compared& c) { return call.program().values[c.value].name; }
std::string op_text(const ObservedCall& call, const Compared& c) {
  return "operator " + std::to_string(c.op) + " (" + call.program().ops[c.op].def->name + ")";
}
std::string difference(const Compared& c) {
  if (!c.is_complete) return "was not computed";
  const std::string size = std::isfinite(c.off)
                               ? "is off by " + number(c.relative()) + " of its largest |" + number(c.largest) + "|"
                               : "is not finite where the reference is, or the other way round";
  return size + ", worst at " + place(c) + ": " + number(c.ours) + " instead of " + number(c.wanted) +
         (c.first_row >= 0 ? "; first row that differs: " + std::to_string(c.first_row) : "");
}

void print_first(const ObservedCall& call, const std::vector<Compared>& compared, const Compared& first) {
  const OpInfo& op = call.program().ops[first.op];
  std::printf("%s, %s\n", op_text(call, first).c_str(), first.kernel);
  for (const Compared& c : compared)
    if (c.op == first.op)
      std::printf("  %s %s %s\n", printable(name_of(call, c)).c_str(),
                  dims_text(c.dims.data(), int(c.dims.size())).c_str(), c.agrees() ? "agrees" : difference(c).c_str());
  std::printf("  its inputs\n");
  const Before before(call, compared);
  for (uint32_t k = 0; k < op.in_count; ++k) {
    const Operand& o = call.program().operands[op.first_operand + k];
    if (o.kind == Operand::Kind::kValue)
      std::printf("    %s: %s\n", printable(call.program().values[o.index].name).c_str(),
                  before.state_of(o.index).c_str());
    if (o.kind == Operand::Kind::kTensor)
      std::printf("    %s: %s\n", printable(call.model().tensors()[o.index].name).c_str(),
                  tensor_type(call.model().tensors()[o.index]).c_str());
    if (o.kind == Operand::Kind::kState)
      std::printf("    %s: state\n", printable(call.model().states()[o.index].name).c_str());
  }
}

void print_text(const ObservedCall& call, const std::vector<Compared>& compared, const Compared* first,
                double tolerance) {
  if (first) print_first(call, compared, *first);
  size_t agree = 0;
  const Compared* worst = nullptr;
  for (const Compared& c : compared) {
    agree += c.agrees();
    if (c.agrees() && (!worst || c.relative() > worst->relative())) worst = &c;
  }
  if (first) std::printf("\n");
  std::printf("%zu of %zu values agree within %s of their largest", agree, compared.size(), number(tolerance).c_str());
  if (worst)
    std::printf(", at most %s off (%s)", number(worst->relative()).c_str(), printable(name_of(call, *worst)).c_str());
  std::printf("\n");
  constexpr size_t kShown = 12;
  size_t shown = 0;
  for (const Compared& c : compared) {
    if (c.agrees() || ++shown > kShown) continue;
    const std::string op = c.op == UINT32_MAX ? "-" : std::to_string(c.op) + " " + call.program().ops[c.op].def->name;
    std::printf("  %-24s %-40s %s\n", op.c_str(), printable(name_of(call, c)).c_str(),
                c.is_complete ? number(c.relative()).c_str() : "not computed");
  }
  if (shown > kShown) std::printf("  ... and %zu more; --json has all\n", shown - kShown);
}

void print_json(const ObservedCall& call, const std::vector<Compared>& compared, const Compared* first,
                double tolerance, const std::string& error) {
  json values = json::array();
  bool all = true;
  for (const Compared& c : compared) {
    all = all && c.agrees();
    json v = {{"name", name_of(call, c)}, {"reference", c.reference->name}, {"shape", c.dims},
              {"agrees", c.agrees()},     {"largest", c.largest},           {"computed", c.is_complete}};
    if (c.op != UINT32_MAX)
      v.update({{"operator", c.op},
                {"op", call.program().ops[c.op].def->name},
                {"kernel", c.kernel},
                {"difference", c.off},
                {"relative", c.relative()},
                {"at", c.at},
                {"value", c.ours},
                {"wanted", c.wanted},
                {"first_row", c.first_row}});
    values.push_back(v);
  }
  json out = {{"program", call.program().name},
              {"tolerance", tolerance},
              {"chunk", call.chunk()},
              {"agrees", all},
              {"values", values},
              {"first", nullptr}};
  if (first) out["first"] = first->op;
  if (!error.empty()) out["error"] = error;
  std::printf("%s\n", json_text(out, 1).c_str());
}

}  // namespace

int inspect_compare(const Options& o) {
  FileView file;
  const std::vector<NamedTensor> tensors = read_safetensors(o.compare, &file);
  ObservedCall call(o, tensors);
  std::vector<Compared> compared = match(call, tensors, o.compare, o.tolerance);
  std::map<uint32_t, Compared*> by_value;
  for (Compared& c : compared) by_value[c.value] = &c;
  const rnl::Status run = call.run([&](const ValuePart& part) {
    if (const auto it = by_value.find(part.value); it != by_value.end()) compare_part(part, *it->second);
  });
  const std::string error = run ? "" : run.message();
  for (Compared& c : compared) c.is_complete = call.is_complete(c.value);
  std::sort(compared.begin(), compared.end(),
            [](const Compared& a, const Compared& b) { return a.op != b.op ? a.op < b.op : a.value < b.value; });
  // Values that a failed call did not reach say nothing about their operators.
  const Compared* first = nullptr;
  const Compared* missing = nullptr;
  for (const Compared& c : compared) {
    if (!first && c.op != UINT32_MAX && c.off > c.allowed) first = &c;
    if (!missing && !c.is_complete) missing = &c;
  }
  if (o.json) print_json(call, compared, first, o.tolerance, error);
  else print_text(call, compared, first, o.tolerance);
  const std::string ended = error.empty() ? "" : "; the call ended with: " + error;
  if (first)
    throw Failure(op_text(call, *first) + " is the first that differs: \"" + name_of(call, *first) + "\" " +
                  difference(*first) + ended);
  if (!error.empty()) throw Failure(error);
  if (missing) throw Failure("value \"" + name_of(call, *missing) + "\" was not computed in this call");
  return 0;
}

int inspect_dump(const Options& o) {
  FileView file;
  const std::vector<NamedTensor> tensors = read_safetensors(o.in, &file);
  ObservedCall call(o, tensors);
  for (const NamedTensor& t : tensors)
    if (find_value(call.program(), t.name) < 0 || std::none_of(call.inputs().begin(), call.inputs().end(),
                                                               [&](const NamedTensor& i) { return i.name == t.name; }))
      throw Failure(o.in + ": the program \"" + call.program().name + "\" has no input \"" + t.name + "\"");
  std::vector<NamedTensor> out = call.inputs();
  const size_t first = out.size();
  for (uint32_t v = call.program().input_count; v < call.program().values.size(); ++v) {
    const TensorView view = call.whole(v);
    out.push_back({call.program().values[v].name, int32_t(view.dtype),
                   std::vector<int64_t>(view.dims, view.dims + view.rank), nullptr, view_bytes(view)});
  }
  SafetensorsWriter writer(o.dump, out);
  for (size_t i = 0; i < first; ++i) writer.write(i, 0, out[i].data, out[i].bytes);
  check(call.run([&](const ValuePart& part) {
    const size_t each = dtype_bytes(part.view.dtype), index = first + part.value - call.program().input_count;
    part.for_each_run([&](int64_t at, int64_t count, int64_t from) {
      writer.write(index, size_t(at) * each, static_cast<const char*>(part.view.data) + size_t(from) * each,
                   size_t(count) * each);
    });
  }));
  for (uint32_t v = call.program().input_count; v < call.program().values.size(); ++v)
    if (!call.is_complete(v))
      throw Failure(std::string("value \"") + call.program().values[v].name + "\" was not computed in this call");
  writer.commit();
  std::printf("%s: %zu inputs, %zu values\n", o.dump.c_str(), first, out.size() - first);
  return 0;
}

}  // namespace runnel::cli
