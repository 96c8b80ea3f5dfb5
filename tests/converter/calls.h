// Calls with any inputs, and outputs beside those of a golden.
#pragma once

#include <cstring>
#include <map>

#include "kit.h"

namespace runnel::convert {

struct Array {
  DType dtype = DType::kF32;
  std::vector<int64_t> dims;
  std::vector<float> floats;
  std::vector<int32_t> integers;
  IoTensor as_input(const std::string& name) const {
    IoTensor t{name.c_str(), dtype, int32_t(dims.size()), {}, nullptr, 0};
    for (size_t i = 0; i < dims.size(); ++i) t.dims[i] = dims[i];
    if (dtype == DType::kI32) t.data = const_cast<int32_t*>(integers.data()), t.bytes = integers.size() * 4;
    else t.data = const_cast<float*>(floats.data()), t.bytes = floats.size() * 4;
    return t;
  }
  // Of item i on the first axis.
  Array item(int64_t i) const {
    Array a = *this;
    a.dims[0] = 1;
    const auto part = [&](auto& all) {
      const size_t n = all.size() / size_t(dims[0]);
      all = {all.begin() + long(n) * i, all.begin() + long(n) * (i + 1)};
    };
    part(a.floats), part(a.integers);
    return a;
  }
};
using Arrays = std::map<std::string, Array>;

// The tensors whose names begin with prefix, without it.
inline Arrays arrays_of(Checkpoint& c, const std::string& prefix) {
  Arrays out;
  for (const SourceTensor& t : c.tensors()) {
    if (!t.name.starts_with(prefix)) continue;
    Array& a = out[t.name.substr(prefix.size())];
    a.dims.assign(t.shape.begin(), t.shape.end());
    a.dtype = t.type == SourceType::kI32 ? DType::kI32 : DType::kF32;
    if (a.dtype == DType::kI32) a.integers = integers_of(c, t.name);
    else a.floats.resize(t.bytes / 4), std::memcpy(a.floats.data(), t.data, t.bytes);  // NaN among them
  }
  return out;
}

inline std::unique_ptr<Session> session_of(const Model& model, int64_t context) {
  PlanOptions options = test::plan_options();
  options.context = context;
  options.rows = 16;
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  return std::move(session.value());
}

// Outputs of these names of one call of a program.
inline Arrays run(Session& session, const char* name, const Arrays& inputs, const Arrays& wanted) {
  const ProgramInfo* program = session.model().find_program(name);
  if (!program) throw std::runtime_error("no such program");
  std::vector<IoTensor> in;
  for (const auto& [input, a] : inputs) in.push_back(a.as_input(input));
  struct Sink {
    const ProgramInfo* program;
    Arrays out;
  } sink{program, {}};
  Session::RunOptions options;
  options.program = name;
  options.wanted_outputs = 0;
  for (size_t k = 0; k < program->outputs.size(); ++k)
    if (wanted.count(program->values[program->outputs[k]].name)) options.wanted_outputs |= uint64_t(1) << k;
  options.sink_context = &sink;
  options.sink = [](void* context, uint32_t number, const TensorView& block, int64_t) {
    auto& s = *static_cast<Sink*>(context);
    Array& a = s.out[s.program->values[s.program->outputs[number]].name];
    int64_t n = 1;
    for (int d = 0; d < block.rank; ++d) n *= block.dims[d];
    const int64_t before = a.dims.empty() ? 0 : a.dims[0];  // of blocks of rows
    a.dims.assign(block.dims, block.dims + block.rank);
    a.dims[0] += before;
    a.dtype = block.dtype;
    if (block.dtype == DType::kI32) {
      const auto* p = static_cast<const int32_t*>(block.data);
      a.integers.insert(a.integers.end(), p, p + n);
    } else {
      const auto* p = static_cast<const float*>(block.data);
      a.floats.insert(a.floats.end(), p, p + n);
    }
    return Status::ok();
  };
  const Status s = session.run(in.data(), in.size(), options);
  if (!s.is_ok()) throw std::runtime_error(s.message());
  return sink.out;
}

inline void expect_like(const Arrays& got, const Arrays& wanted, float difference) {
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [name, want] : wanted) {
    const Array& a = got.at(name);
    EXPECT_EQ(a.dims, want.dims) << name;
    EXPECT_EQ(a.integers, want.integers) << name;
    EXPECT_LE(largest_difference(a.floats, want.floats), std::max(1e-4f, 10 * difference) * largest(want.floats))
        << name;
  }
}

}  // namespace runnel::convert
