// One body for every operator test: the same call runs through the reference and through every kernel of every CPU
// target that this machine has, alone and with two workers, and the results are compared. In Vulkan mode
// (vulkan_kernel.h) a device takes their place.
#pragma once

#include <gtest/gtest.h>

#include "backend.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/status.h"
#include "contract/op.h"
#include "cpu/kernels.h"
#include "cpu/thread_pool.h"
#include "ops/define.h"
#if RNL_TEST_VULKAN
#include "vulkan_kernel.h"
#endif

namespace runnel::test {

// An array that owns its bytes, 64-byte aligned, with 64 guard bytes behind it.
class Array {
 public:
  Array() = default;  // an absent input
  Array(DType dtype, std::vector<int64_t> dims, size_t bytes = 0) : dtype_(dtype), dims_(std::move(dims)) {
    int64_t n = 1;
    for (int64_t d : dims_) n *= d;
    bytes_ = bytes ? bytes : size_t(n) * dtype_bytes(dtype);
    store_.assign(bytes_ + 128, 0);
    std::memset(data<unsigned char>() + bytes_, 0xa5, 64);
  }
  static Array f32(std::vector<int64_t> dims, std::vector<float> values) {
    Array a(DType::kF32, std::move(dims));
    if (!values.empty()) std::memcpy(a.data<float>(), values.data(), std::min(values.size() * 4, a.bytes_));
    return a;
  }
  static Array i32(std::vector<int64_t> dims, std::vector<int32_t> values) {
    Array a(DType::kI32, std::move(dims));
    if (!values.empty()) std::memcpy(a.data<int32_t>(), values.data(), std::min(values.size() * 4, a.bytes_));
    return a;
  }
  // Normal values times scale; the same for the same seed on every machine.
  static Array random(std::vector<int64_t> dims, uint32_t seed, float scale = 1.0f) {
    Array a(DType::kF32, std::move(dims));
    std::mt19937 rng(seed);
    for (size_t i = 0; i < a.bytes_ / 4; ++i) {
      float s = 0;
      for (int k = 0; k < 4; ++k) s += float(rng() >> 8) * 0x1p-24f - 0.5f;
      a.data<float>()[i] = s * 1.7320508f * scale;
    }
    return a;
  }

  template <class T>
  T* data() {
    return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(store_.data()) + 63) & ~uintptr_t(63));
  }
  template <class T>
  const T* data() const {
    return const_cast<Array*>(this)->data<T>();
  }
  size_t bytes() const { return bytes_; }
  DType dtype() const { return dtype_; }
  bool guard_intact() const {
    for (int i = 0; i < 64; ++i)
      if (data<unsigned char>()[bytes_ + size_t(i)] != 0xa5) return false;
    return true;
  }
  void set_packed(const PackedFormat* f) { packed_ = f; }
  TensorView view() const {
    TensorView v{};
    v.dtype = dtype_;
    if (dtype_ == DType::kNone) return v;
    v.data = const_cast<unsigned char*>(data<unsigned char>());
    v.packed = packed_;
    v.rank = int32_t(dims_.size());
    for (size_t i = 0; i < dims_.size(); ++i) v.dims[i] = dims_[i];
    return v;
  }

 private:
  DType dtype_ = DType::kNone;
  std::vector<int64_t> dims_;
  size_t bytes_ = 0;
  std::vector<unsigned char> store_;
  const PackedFormat* packed_ = nullptr;

 public:
  // Copies keep the contents although the alignment offset of the new memory differs.
  Array(const Array& o) : dtype_(o.dtype_), dims_(o.dims_), bytes_(o.bytes_), packed_(o.packed_) {
    if (dtype_ == DType::kNone) return;
    store_.assign(bytes_ + 128, 0);
    std::memcpy(data<unsigned char>(), o.data<unsigned char>(), bytes_ + 64);
  }
  Array& operator=(const Array& o) {
    Array c(o);
    std::swap(dtype_, c.dtype_);
    std::swap(dims_, c.dims_);
    std::swap(bytes_, c.bytes_);
    std::swap(packed_, c.packed_);
    store_.swap(c.store_);
    return *this;
  }
  Array(Array&&) = default;
  Array& operator=(Array&&) = default;
};

// A call with everything that it owns. States are inputs that kernels write: each run starts from a copy.
struct Case {
  std::string op;
  OpParams params{};
  std::vector<Array> in;
  std::vector<Array> out;  // shapes; contents are ignored
  int64_t position = 0;
  int32_t best = 0;
  std::vector<int32_t> wanted;

  OpCall call(std::vector<Array>& ins, std::vector<Array>& outs, std::vector<TensorView>& views) const {
    views.clear();
    for (const Array& a : ins) views.push_back(a.view());
    for (const Array& a : outs) views.push_back(a.view());
    OpCall c{};
    c.in = views.data();
    c.out = views.data() + ins.size();
    c.in_count = int32_t(ins.size());
    c.out_count = int32_t(outs.size());
    c.params = &params;
    c.position = position;
    c.best = best;
    c.wanted = wanted.empty() ? nullptr : wanted.data();
    c.wanted_count = int32_t(wanted.size());
    return c;
  }
};

struct Ran {
  std::vector<Array> in, out;
};

inline void compare_kernel(const Case& t, const Kernel& k, const Ran& want, double tolerance);

inline Ran run_reference(const Case& t) {
  Ran r{t.in, t.out};
  std::vector<TensorView> views;
  OpCall c = t.call(r.in, r.out, views);
  const OpDef* def = find_op_by_name(t.op.c_str());
  if (!def) {
    ADD_FAILURE() << "no operator " << t.op;
    return r;
  }
  Status s = def->check(c);
  EXPECT_TRUE(s.is_ok()) << s.message();
  if (s.is_ok()) def->reference(c);
#if RNL_TEST_VULKAN
  if (s.is_ok() && is_vulkan_mode() && is_compared_by_reference(*def))
    if (const Kernel* k = vulkan_kernel(*def))
      compare_kernel(t, *k, r, t.op == "solve" ? 1e-4 : 1e-6);  // solve: the condition counts
#endif
  return r;
}

inline Ran run_kernel(const Case& t, const Kernel& k, ThreadPool* pool) {
  Ran r{t.in, t.out};
  std::vector<TensorView> views;
  OpCall c = t.call(r.in, r.out, views);
  Array scratch(DType::kU8, {int64_t(k.scratch_bytes ? k.scratch_bytes(c, pool ? thread_pool_size(pool) : 1) : 0)});
  // Memory that a kernel must not read before it wrote there holds NaN.
  std::memset(scratch.data<unsigned char>(), 0xff, scratch.bytes());
  for (Array& a : r.out) std::memset(a.data<unsigned char>(), 0xff, a.bytes());
  c.scratch = scratch.data<unsigned char>();
  c.pool = pool;
  k.run(c);
  EXPECT_TRUE(scratch.guard_intact()) << k.name << " wrote behind its scratch";
  for (const Array& a : r.out)
    EXPECT_TRUE(a.guard_intact() || a.dtype() == DType::kNone) << k.name << " wrote behind its output";
  for (const Array& a : r.in)
    EXPECT_TRUE(a.dtype() == DType::kNone || a.guard_intact()) << k.name << " wrote behind a state";
  return r;
}

// |got - want| <= tolerance * max|want| for f32 outputs; other dtypes must be equal.
inline void expect_close(const Array& got, const Array& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.bytes(), want.bytes()) << what;
  if (got.dtype() != DType::kF32) {
    EXPECT_EQ(0, std::memcmp(got.data<char>(), want.data<char>(), got.bytes())) << what;
    return;
  }
  const size_t n = got.bytes() / 4;
  double largest = 0, worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < n; ++i)
    if (std::isfinite(want.data<float>()[i])) largest = std::max(largest, std::fabs(double(want.data<float>()[i])));
  for (size_t i = 0; i < n; ++i) {
    const double g = got.data<float>()[i], w = want.data<float>()[i];
    const double e = g == w || (std::isnan(g) && std::isnan(w)) ? 0 : std::fabs(g - w);
    if (!(e <= worst)) worst = e, at = i;
  }
  EXPECT_LE(worst, tolerance * largest + 1e-30) << what << " at element " << at << ": " << got.data<float>()[at]
                                                << " but the reference has " << want.data<float>()[at];
}

inline void compare_kernel(const Case& t, const Kernel& k, const Ran& want, double tolerance) {
  std::vector<Array> in = t.in, out = t.out;
  std::vector<TensorView> views;
  if (k.supports && !k.supports(t.call(in, out, views))) return;
  const Ran got = run_kernel(t, k, nullptr);
  for (size_t i = 0; i < want.out.size(); ++i) expect_close(got.out[i], want.out[i], tolerance, k.name);
}

// Calls body(kernel, target name) for each kernel of the operator that supports the case, on each available target.
inline int for_each_kernel(const Case& t, const std::function<void(const Kernel&, const std::string&)>& body) {
  int targets = 0, ran = 0;
  const CpuTarget* list = cpu_targets(&targets);
  const OpDef* def = find_op_by_name(t.op.c_str());
#if RNL_TEST_VULKAN
  if (is_vulkan_mode()) {
    const Kernel* k = vulkan_kernel(*def);
    std::vector<Array> in = t.in, out = t.out;
    std::vector<TensorView> views;
    if (!k || !k->supports(t.call(in, out, views))) return 0;
    body(*k, "vulkan");
    return 1;
  }
#endif
  for (int i = 0; i < targets; ++i) {
    if (!list[i].available) continue;
    const KernelList kernels = list[i].kernels(def->number);
    for (int k = 0; k < kernels.count; ++k) {
      std::vector<Array> in = t.in, out = t.out;
      std::vector<TensorView> views;
      if (kernels.rows[k].supports && !kernels.rows[k].supports(t.call(in, out, views))) continue;
      body(kernels.rows[k], list[i].name);
      ++ran;
    }
  }
  return ran;
}

// The whole comparison; tolerance as in the operator's contract. states: indices of inputs that the operator writes.
inline void compare_all(const Case& t, double tolerance, const std::vector<int>& states = {}) {
  const Ran want = run_reference(t);
  if (::testing::Test::HasFailure()) return;
  ThreadPool* pool = thread_pool_create(2);
  const int ran = for_each_kernel(t, [&](const Kernel& k, const std::string&) {
    const Ran one = run_kernel(t, k, nullptr), two = run_kernel(t, k, pool);
    for (size_t i = 0; i < want.out.size(); ++i) {
      expect_close(one.out[i], want.out[i], tolerance, k.name);
      EXPECT_EQ(0, std::memcmp(one.out[i].data<char>(), two.out[i].data<char>(), one.out[i].bytes()))
          << k.name << ": bits depend on threads";
    }
    for (int s : states) expect_close(one.in[size_t(s)], want.in[size_t(s)], tolerance, std::string(k.name) + " state");
  });
  // A device may refuse a case; the floor of CPU targets takes every one of an operator that has kernels there.
  int targets = 0;
  const CpuTarget* list = cpu_targets(&targets);
  EXPECT_TRUE(ran > 0 || is_vulkan_mode() ||
              list[targets - 1].kernels(find_op_by_name(t.op.c_str())->number).count == 0)
      << t.op << ": no kernel ran";
  thread_pool_destroy(pool);
}

}  // namespace runnel::test
