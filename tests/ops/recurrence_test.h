// Bodies that the tests of operators along a sequence share.
#pragma once

#include "ops/op_test.h"

namespace runnel::test {

inline const Array& input_of(const Case& t, int i) { return t.in[size_t(i)]; }

// Rows [begin, end) of axis 0 of an f32 array.
inline Array rows_of(const Array& a, int64_t begin, int64_t end) {
  std::vector<int64_t> dims;
  const TensorView v = a.view();
  int64_t row = 1;
  for (int i = 0; i < v.rank; ++i) {
    dims.push_back(i ? v.dims[i] : end - begin);
    if (i) row *= v.dims[i];
  }
  return Array::f32(dims, std::vector<float>(a.data<float>() + begin * row, a.data<float>() + end * row));
}

// Runs the case whole and cut at every place in `cuts`, the states handed on from call to call (also in place); the
// outputs must be the same bits on every kernel. streams: inputs with a row a token. states: pairs of (input, output)
// numbers.
inline void expect_cuts_keep_bits(const Case& t, int64_t tokens, const std::vector<int>& streams,
                                  const std::vector<std::pair<int, int>>& states,
                                  const std::vector<std::vector<int64_t>>& cuts) {
  for_each_kernel(t, [&](const Kernel& k, const std::string&) {
    const Ran whole = run_kernel(t, k, nullptr);
    for (const std::vector<int64_t>& cut : cuts) {
      Case part = t;
      std::vector<float> y;
      int64_t begin = 0;
      for (size_t n = 0; n <= cut.size(); ++n) {
        const int64_t end = n < cut.size() ? cut[n] : tokens;
        for (int s : streams) part.in[size_t(s)] = rows_of(t.in[size_t(s)], begin, end);
        std::vector<int64_t> dims;
        const TensorView v = t.out[0].view();
        for (int i = 0; i < v.rank; ++i) dims.push_back(i ? v.dims[i] : end - begin);
        part.out[0] = Array(DType::kF32, dims);
        part.position = t.position + begin;
        const Ran r = run_kernel(part, k, nullptr);
        y.insert(y.end(), r.out[0].data<float>(), r.out[0].data<float>() + r.out[0].bytes() / 4);
        for (const auto& [in, out] : states) part.in[size_t(in)] = r.out[size_t(out)];
        begin = end;
      }
      EXPECT_EQ(0, std::memcmp(y.data(), whole.out[0].data<char>(), whole.out[0].bytes()))
          << k.name << ": bits depend on the cut";
      for (const auto& [in, out] : states)
        EXPECT_EQ(0, std::memcmp(part.in[size_t(in)].data<char>(), whole.out[size_t(out)].data<char>(),
                                 whole.out[size_t(out)].bytes()))
            << k.name << ": the state depends on the cut";
    }
  });
}

// A state that goes out into the memory that it came in from gives the same as one that goes elsewhere.
inline void expect_in_place_is_the_same(const Case& t, int state_in, int state_out) {
  for_each_kernel(t, [&](const Kernel& k, const std::string&) {
    const Ran apart = run_kernel(t, k, nullptr);
    Ran same{t.in, t.out};
    std::vector<TensorView> views;
    OpCall c = t.call(same.in, same.out, views);
    views[same.in.size() + size_t(state_out)].data = views[size_t(state_in)].data;
    Array scratch(DType::kU8, {int64_t(k.scratch_bytes ? k.scratch_bytes(c, 1) : 0)});
    c.scratch = scratch.data<unsigned char>();
    k.run(c);
    EXPECT_EQ(0, std::memcmp(same.out[0].data<char>(), apart.out[0].data<char>(), apart.out[0].bytes())) << k.name;
    EXPECT_EQ(0, std::memcmp(same.in[size_t(state_in)].data<char>(), apart.out[size_t(state_out)].data<char>(),
                             apart.out[size_t(state_out)].bytes()))
        << k.name;
  });
}

inline std::string refusal(const Case& t) {
  std::vector<Array> in = t.in, out = t.out;
  std::vector<TensorView> views;
  const OpCall c = t.call(in, out, views);
  const OpDef* def = find_op_by_name(t.op.c_str());
  Status s = def->check(c);
  if (s.is_ok() && def->check_data) s = def->check_data(c);
  return s.is_ok() ? "" : s.message();
}

}  // namespace runnel::test
