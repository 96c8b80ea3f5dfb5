// Known numbers, tensors of the file and operators of the program.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/status.h"
#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

constexpr int64_t kMostFolded = int64_t(1) << 26;  // elements
constexpr uint64_t kMostIntegers = uint64_t(1) << 22, kMostBytesAsIntegers = 64;

template <class T>
T at(const uint8_t* p, uint64_t i) {
  T v;
  std::memcpy(&v, p + i * sizeof v, sizeof v);
  return v;
}

int32_t saturated(const Size& s) { return int32_t(std::clamp<int64_t>(s.constant(), INT32_MIN, INT32_MAX)); }

int64_t count_of(const Sizes& shape) { return product(shape).constant(); }

bool has_constant_shape(const Sizes& shape) {
  return std::all_of(shape.begin(), shape.end(), [](const Size& s) { return s.is_constant(); });
}

DType dtype_of(Elem e) { return e == Elem::kFloat ? DType::kF32 : DType::kI32; }

}  // namespace

Value Lowering::floats(std::vector<float> values, Sizes shape) {
  Value v;
  v.shape = std::move(shape);
  v.floats = std::make_shared<const std::vector<float>>(std::move(values));
  return v;
}
Value Lowering::ints(Sizes values, Sizes shape, Elem elem) {
  Value v;
  v.elem = elem;
  v.shape = std::move(shape);
  v.ints = std::make_shared<const Sizes>(std::move(values));
  return v;
}

Value Lowering::tensor_value(const SourceTensor& t) {
  Value v;
  for (uint64_t d : t.shape) v.shape.push_back(int64_t(d));
  if (is_float(t.type)) {
    v.source = &t;
    return v;
  }
  const uint64_t n = t.count();
  v.tensor = &t;
  // Weights and the like: whole numbers that nobody counts with.
  if (n > kMostBytesAsIntegers && (t.type == SourceType::kU8 || t.type == SourceType::kI8)) {
    std::vector<float> list;
    list.reserve(size_t(n));
    for (uint64_t i = 0; i < n; ++i)
      list.push_back(t.type == SourceType::kI8 ? float(at<int8_t>(t.data, i)) : float(t.data[i]));
    v.floats = std::make_shared<const std::vector<float>>(std::move(list));
    return v;
  }
  if (n > kMostIntegers) fail("tensor %s holds more integers than are read", t.describe().c_str());
  Sizes values;
  values.reserve(size_t(n));
  for (uint64_t i = 0; i < n; ++i) switch (t.type) {
      case SourceType::kI64: values.push_back(at<int64_t>(t.data, i)); break;
      case SourceType::kI32: values.push_back(at<int32_t>(t.data, i)); break;
      case SourceType::kI16: values.push_back(at<int16_t>(t.data, i)); break;
      case SourceType::kI8: values.push_back(at<int8_t>(t.data, i)); break;
      default: values.push_back(t.data[i]); break;
    }
  v.elem = t.type == SourceType::kBool ? Elem::kBool : Elem::kInt;
  v.ints = std::make_shared<const Sizes>(std::move(values));
  return v;
}

const std::vector<float>& Lowering::numbers(const Value& v) {
  if (v.floats) return *v.floats;
  if (v.ints) {  // whole numbers
    kept_.push_back(v);
    auto list = std::make_shared<std::vector<float>>();
    for (const Size& s : *v.ints) list->push_back(float(s.constant()));
    kept_.back().floats = list;
    return *kept_.back().floats;
  }
  auto& list = read_[v.source];
  if (list) return *list;
  const SourceTensor& t = *v.source;
  std::vector<float> out(size_t(t.count()));
  for (uint64_t i = 0; i < out.size(); ++i) switch (t.type) {
      case SourceType::kF64: out[i] = float(at<double>(t.data, i)); break;
      case SourceType::kF16: out[i] = half_to_float(at<uint16_t>(t.data, i)); break;
      case SourceType::kBF16: out[i] = std::bit_cast<float>(uint32_t(at<uint16_t>(t.data, i)) << 16); break;
      default: out[i] = at<float>(t.data, i); break;
    }
  list = std::make_shared<const std::vector<float>>(std::move(out));
  return *list;
}

std::shared_ptr<const Sizes> Lowering::sizes_of(const Value& v) {
  if (v.ints) return v.ints;
  if (!v.is_constant() || !has_constant_shape(v.shape) || count_of(v.shape) > 4096) return nullptr;
  auto out = std::make_shared<Sizes>();
  for (const float x : numbers(v)) {
    if (!(std::fabs(x) < 16777216.0f) || x != std::floor(x)) return nullptr;
    out->push_back(int64_t(x));
  }
  return out;
}

std::vector<int64_t> Lowering::known_shape(const Value& v, const char* what) const {
  std::vector<int64_t> out;
  for (const Size& s : v.shape) {
    if (!s.is_constant()) fail("the shape of %s hangs on the call: %s", what, text(v.shape).c_str());
    out.push_back(s.constant());
  }
  return out;
}

std::string Lowering::tensor_of(const Value& v) {
  const void* place = v.source   ? static_cast<const void*>(v.source)
                      : v.floats ? static_cast<const void*>(v.floats.get())
                                 : v.ints.get();
  const bool is_float_tensor = v.elem == Elem::kFloat;
  const std::string key =
      std::to_string(reinterpret_cast<uintptr_t>(place)) + text(v.shape) + (is_float_tensor ? "f" : "i");
  if (const auto it = tensors_.find(key); it != tensors_.end()) return it->second;
  std::vector<uint64_t> shape;
  for (const Size& s : v.shape) shape.push_back(uint64_t(s.constant()));
  const std::string name = unique(v.source && !v.source->name.empty() ? v.source->name : "number");
  if (is_float_tensor) {
    builder_.add_floats(name, numbers(v), shape);
  } else {
    std::vector<uint8_t> bytes;
    for (const Size& s : *v.ints) {
      const int32_t x = saturated(s);
      bytes.insert(bytes.end(), reinterpret_cast<const uint8_t*>(&x), reinterpret_cast<const uint8_t*>(&x) + 4);
    }
    builder_.add_bytes(format::SegmentKind::weights, name, format::DType::i32, shape, std::move(bytes));
  }
  kept_.push_back(v);
  return tensors_[key] = name;
}

// Sizes of a call as numbers of the program: as many steps as the size says, and then the last of them.
std::string Lowering::integers_of_call(const Value& v) {
  if (v.ints->size() > 16) fail("more than 16 sizes of a call are used as numbers");
  std::vector<Value> parts;
  for (const Size& s : *v.ints) {
    if (s.is_constant()) {
      parts.push_back(ints({s}, {1}, v.elem));
      continue;
    }
    format::SliceAttrsT last;
    last.begin = -1;
    parts.push_back(emit("slice", {emit("index", {}, {s + 1}, format::IndexAttrsT(), v.elem)}, {1}, last, v.elem));
  }
  Value all = parts[0];
  if (parts.size() > 1) all = emit("concat", parts, {int64_t(parts.size())}, format::ConcatAttrsT(), v.elem);
  return reshape(all, v.shape).name;
}

std::string Lowering::name_of(const Value& v) {
  if (v.items) fail("a sequence stands where a value belongs");
  if (!v.is_known()) return v.name;
  return v.is_constant() ? tensor_of(v) : integers_of_call(v);
}

bool Lowering::fold(const format::OpT& op, const std::vector<Value>& in, const std::vector<Result>& results,
                    std::vector<Value>* out) {
  for (const Value& v : in)
    if (!v.is_absent() && !v.is_constant()) return false;
  for (const Result& r : results) {
    if (!has_constant_shape(r.shape)) return false;
    for (const Size& s : r.shape)
      if (s.constant() < 0) fail("a result with an axis of %lld", static_cast<long long>(s.constant()));
    if (count_of(r.shape) > kMostFolded) return false;
  }
  std::deque<std::vector<int32_t>> integers;
  std::vector<TensorView> views;
  const auto view_of = [](const Sizes& shape, DType type, void* data) {
    TensorView t{};
    t.data = data;
    t.dtype = type;
    t.rank = int32_t(shape.size());
    for (size_t i = 0; i < shape.size(); ++i) t.dims[i] = shape[i].constant();
    return t;
  };
  for (const Value& v : in) {
    if (v.is_absent()) {
      views.push_back(TensorView{});
    } else if (v.elem == Elem::kFloat) {
      views.push_back(view_of(v.shape, DType::kF32, const_cast<float*>(numbers(v).data())));
    } else {
      std::vector<int32_t>& list = integers.emplace_back();
      for (const Size& s : *v.ints) list.push_back(saturated(s));
      views.push_back(view_of(v.shape, DType::kI32, list.data()));
    }
  }
  std::deque<std::vector<float>> words;  // of either type
  for (const Result& r : results)
    views.push_back(view_of(r.shape, dtype_of(r.elem), words.emplace_back(size_t(count_of(r.shape))).data()));
  flatbuffers::FlatBufferBuilder buffer;
  format::OpT copy = op;
  buffer.Finish(format::CreateOp(buffer, &copy));
  const void* attrs = flatbuffers::GetRoot<format::Op>(buffer.GetBufferPointer())->attrs();
  const OpDef* def = find_op_by_name(op.name.c_str());
  OpParams params{};
  OpCall call{};
  call.in = views.data(), call.out = views.data() + in.size();
  call.in_count = int32_t(in.size()), call.out_count = int32_t(results.size());
  call.params = &params;
  Status s = def->parse(attrs ? attrs : kNoAttributes, &params);
  if (s.is_ok()) s = def->check(call);
  if (s.is_ok() && def->check_data) s = def->check_data(call);
  if (!s.is_ok()) fail("%s", s.message());
  def->reference(call);
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].elem == Elem::kFloat) {
      out->push_back(floats(std::move(words[i]), results[i].shape));
      continue;
    }
    Sizes list;
    for (const float& w : words[i]) list.push_back(std::bit_cast<int32_t>(w));
    out->push_back(ints(std::move(list), results[i].shape, results[i].elem));
  }
  return true;
}

std::vector<Value> Lowering::finish(std::unique_ptr<format::OpT> op, const std::vector<Value>& in,
                                    const std::vector<Result>& results) {
  std::vector<Value> out;
  for (const Result& r : results)
    if (r.shape.size() > size_t(kMaxRank))
      fail("%s would make %zu axes, the limit is %d", op->name.c_str(), r.shape.size(), kMaxRank);
  if (!in.empty() && fold(*op, in, results, &out)) return out;
  for (const Value& v : in) op->inputs.push_back(v.is_absent() ? "" : local_name(v));
  while (!op->inputs.empty() && op->inputs.back().empty()) op->inputs.pop_back();
  op->version = version_needed(*op);
  return append(std::move(op), results);
}

std::vector<Value> Lowering::append(std::unique_ptr<format::OpT> op, const std::vector<Result>& results) {
  std::vector<Value> out;
  for (const Result& r : results) {
    Value v;
    v.elem = r.elem;
    v.shape = r.shape;
    v.perm = identity(int(r.shape.size()));
    v.name = unique(now_ ? now_->name : op->name);
    if (levels_.size() > 1) level_of_[v.name] = levels_.size() - 1;
    Names shape;
    for (const Size& s : r.shape) shape.push_back(s.text());
    op->outputs.push_back(
        add_value(*program_, v.name, shape, r.elem == Elem::kFloat ? format::DType::f32 : format::DType::i32));
    out.push_back(std::move(v));
  }
  if (now_) {
    const std::string kind = (now_->domain.empty() ? "" : now_->domain + ".") + now_->op;
    ++lowered_[kind].operators[op->name];
    kind_of_[op.get()] = kind;
  }
  program_->ops.push_back(std::move(op));
  return out;
}

format::OpT* Lowering::maker(const Value& v) {
  if (v.is_known()) return nullptr;
  for (auto it = program_->ops.rbegin(); it != program_->ops.rend(); ++it)
    for (const std::string& name : (*it)->outputs)
      if (name == v.name) return it->get();
  return nullptr;
}

std::string Lowering::matrix(const Value& v, int64_t rows, int64_t columns, int64_t row_step, int64_t column_step,
                             bool is_delicate) {
  const void* place = v.source ? static_cast<const void*>(v.source) : v.floats.get();
  std::string key = std::to_string(reinterpret_cast<uintptr_t>(place));
  for (int64_t n : {rows, columns, row_step, column_step}) key += "," + std::to_string(n);
  if (const auto it = matrices_.find(key); it != matrices_.end()) return it->second;
  SourceTensor t{"", SourceType::kF32, {uint64_t(rows), uint64_t(columns)}, nullptr, 0};
  const uint8_t* from = nullptr;
  if (v.source) t.type = v.source->type, t.name = v.source->name, from = v.source->data;
  else from = reinterpret_cast<const uint8_t*>(numbers(v).data());
  const size_t each = info(t.type).bytes;
  t.bytes = uint64_t(rows * columns) * each;
  if (row_step == columns && column_step == 1) {
    t.data = from;
  } else {
    std::vector<uint8_t>& bytes = bytes_.emplace_back(size_t(t.bytes));
    size_t to = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c, to += each)
        std::memcpy(bytes.data() + to, from + size_t(r * row_step + c * column_step) * each, each);
    t.data = bytes.data();
  }
  kept_.push_back(v);
  const std::string name = unique(t.name.empty() ? "matrix" : t.name);
  t.name = name;
  sources_.push_back(t);
  builder_.add_matrix(name, sources_.back(), is_delicate);
  return matrices_[key] = name;
}

std::string Lowering::matrix(std::vector<float> values, int64_t rows, int64_t columns, bool is_delicate) {
  return matrix(floats(std::move(values), {rows, columns}), rows, columns, columns, 1, is_delicate);
}

}  // namespace runnel::convert
