// States of attention and parts of streams, for the tests of its operators.
#pragma once

#include "format/states.h"
#include "ops/op_test.h"

namespace runnel::test {

// Key and value states full of NaN: what was never written must never be read.
inline Array key_state(DType type, int64_t kv_heads, int64_t slots, int64_t key) {
  const int64_t dims[4] = {kv_heads, slots / 16, key, 16};
  Array a(type, {kv_heads, slots / 16, key, 16}, state_bytes(type, dims, 4, 2));
  std::memset(a.data<char>(), 0xff, a.bytes());
  return a;
}
inline Array value_state(DType type, int64_t kv_heads, int64_t slots, int64_t value) {
  const int64_t dims[3] = {kv_heads, slots, value};
  Array a(type, {kv_heads, slots, value}, state_bytes(type, dims, 3, 2));
  std::memset(a.data<char>(), 0xff, a.bytes());
  return a;
}

// Tokens [begin, begin + n) of an array of tokens.
inline Array rows_of(const Array& a, int64_t begin, int64_t n) {
  const TensorView v = a.view();
  std::vector<int64_t> dims(v.dims, v.dims + v.rank);
  size_t row = dtype_bytes(a.dtype());
  for (size_t i = 1; i < dims.size(); ++i) row *= size_t(dims[i]);
  dims[0] = n;
  Array out(a.dtype(), dims);
  std::memcpy(out.data<char>(), a.data<char>() + size_t(begin) * row, size_t(n) * row);
  return out;
}

}  // namespace runnel::test
