// Calls of any model in memory through runnel.h: inputs made to the shapes that it declares, outputs gathered by their
// rows.
#pragma once

#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "api/handles.h"
#include "unit/model_builder.h"

namespace runnel::test {

struct Freed {
  void operator()(void* p) const { std::free(p); }
  void operator()(rnl_session* s) const { rnl_session_destroy(s); }
};
using SessionPtr = std::unique_ptr<rnl_session, Freed>;
using MemoryPtr = std::unique_ptr<void, Freed>;
// Of exactly that size, so that the sanitizer sees a step outside.
inline MemoryPtr exact_memory(size_t bytes, size_t alignment = 256) {
  void* p = nullptr;
  if (posix_memalign(&p, alignment, bytes ? bytes : 1)) __builtin_trap();
  return MemoryPtr(p);
}

// One engine a number of threads, for as long as the program runs.
inline rnl_engine* engine_of(int threads) {
  struct Destroyed {
    void operator()(rnl_engine* e) const { rnl_engine_destroy(e); }
  };
  static std::map<int, std::unique_ptr<rnl_engine, Destroyed>> all;
  const rnl_engine_options o{sizeof o, threads};
  rnl_engine* made = nullptr;
  if (!all[threads] && rnl_engine_create(&o, &made)) __builtin_trap();
  if (made) all[threads].reset(made);
  return all[threads].get();
}

class OpenModel {
 public:
  OpenModel(const std::vector<unsigned char>& file, int threads) : bytes_(file) {
    if (rnl_model_open_memory(engine_of(threads), bytes_.data(), bytes_.size(), &model_))
      model_ = nullptr, error = rnl_last_error();
  }
  ~OpenModel() { rnl_model_close(model_); }
  OpenModel(const OpenModel&) = delete;
  explicit operator bool() const { return model_; }
  const rnl_model* get() const { return model_; }
  const Model& info() const { return *model_->model; }
  std::string error;

 private:
  AlignedBytes bytes_;
  rnl_model* model_ = nullptr;
};

struct Planned {
  MemoryPtr state, arena;
  SessionPtr session;
  std::string error;  // of the plan, or of a session that was planned
  bool is_planned = false;
};

// A session whose memory is the caller's. budget_bytes of the options bounds what is allocated.
inline Planned plan_session(const OpenModel& model, rnl_session_options o) {
  Planned p;
  rnl_memory need{};
  need.struct_size = sizeof need;
  o.struct_size = sizeof o;
  if (rnl_session_plan(model.get(), &o, &need)) return p.error = rnl_last_error(), std::move(p);
  p.is_planned = true;
  p.state = exact_memory(need.state), p.arena = exact_memory(need.arena);
  o.state_memory = p.state.get(), o.arena_memory = p.arena.get();
  rnl_session* s = nullptr;
  if (rnl_session_create(model.get(), &o, &s)) return p.error = rnl_last_error(), std::move(p);
  p.session.reset(s);
  return p;
}

// Small numbers that depend on their place in the stream alone.
class Numbers {
 public:
  explicit Numbers(uint64_t seed) : x_(seed * 0x9E3779B97F4A7C15ull + 0x1234567) {}
  uint32_t operator()() {
    x_ ^= x_ << 13, x_ ^= x_ >> 7, x_ ^= x_ << 17;
    return uint32_t(x_ >> 24);
  }

 private:
  uint64_t x_;
};

struct AnyCall {
  uint32_t program = 0;
  int64_t first = 0, tokens = 1;  // of the stream
  int64_t rows = -1;              // -1: an input of role rows is left out
  bool gives_roles = false;       // positions and context too
  uint64_t absent = 0;            // optional inputs that are left out
  uint64_t seed = 1;
  int64_t ids = 4;  // below which ids are
};

// The input tensors of a call, each with memory of its exact size.
class AnyInputs {
 public:
  // o: with defaults filled in. False: some size has no value or is too large.
  bool make(const OpenModel& model, const rnl_session_options& o, const AnyCall& call) {
    const Model& m = model.info();
    const ProgramInfo& p = m.programs()[call.program];
    SymbolValues v{};
    if (!bind(m, o, call, &v)) return false;
    size_t total = 0;
    for (uint32_t i = 0; i < p.input_count; ++i) {
      const ValueInfo& info = p.values[i];
      if (info.is_filled_in() && (info.role == format::Role::rows ? call.rows < 0 : !call.gives_roles)) continue;
      if (p.is_optional(i) && (call.absent >> i & 1)) continue;
      rnl_tensor t{};
      t.name = info.name, t.dtype = int32_t(info.dtype), t.rank = info.shape.rank;
      int64_t n = 1;
      for (int d = 0; d < t.rank; ++d) {
        auto size = m.exprs().evaluate(info.shape.dims[d], v);
        if (!size.is_ok() || size.value() < 0 || __builtin_mul_overflow(n, size.value(), &n) || n > 1 << 20)
          return false;
        t.dims[d] = size.value();
      }
      t.bytes = size_t(n) * dtype_bytes(info.dtype);
      if ((total += t.bytes) > 4 << 20) return false;
      memory_.push_back(exact_memory(t.bytes, 8));
      t.data = memory_.back().get();
      const int symbol = t.rank ? m.exprs().as_symbol(info.shape.dims[0]) : -1;
      const int option = symbol >= 0 && m.symbols()[size_t(symbol)].kind == format::SymbolKind::axis
                             ? m.exprs().as_symbol(m.symbols()[size_t(symbol)].bound)
                             : -1;
      fill(t, info, call, n, option >= 0 && std::strcmp(m.symbols()[size_t(option)].name, "chunk") == 0);
      tensors.push_back(t);
    }
    return tensors.size() < 32;
  }
  std::vector<rnl_tensor> tensors;

 private:
  static bool bind(const Model& m, const rnl_session_options& o, const AnyCall& call, SymbolValues* v) {
    for (size_t i = 0; i < m.symbols().size(); ++i) {
      const SymbolInfo& s = m.symbols()[i];
      if (s.kind == format::SymbolKind::option) {
        const std::string name = s.name;
        v->v[i] = name == "context" ? o.context
                  : name == "chunk" ? o.chunk
                  : name == "rows"  ? o.rows
                                    : std::max<int64_t>(o.rollback_window, 0);
        continue;
      }
      auto bound = m.exprs().evaluate(s.bound, *v);
      if (!bound.is_ok()) return false;
      const int option = m.exprs().as_symbol(s.bound);
      const std::string name = option >= 0 ? m.symbols()[size_t(option)].name : "";
      v->v[i] = name == "chunk"  ? call.tokens
                : name == "rows" ? std::max<int64_t>(call.rows, 1)
                                 : std::min<int64_t>(bound.value(), 8);
    }
    return true;
  }
  static void fill(const rnl_tensor& t, const ValueInfo& info, const AnyCall& call, int64_t n, bool streams) {
    const int64_t row = t.rank && t.dims[0] ? n / t.dims[0] : 1;
    uint64_t name = 7;
    for (const char* c = info.name; *c; ++c) name = name * 31 + uint64_t(*c);
    for (int64_t i = 0; i < n; ++i) {
      Numbers r(call.seed * 1000003 + name + uint64_t((streams ? call.first : 0) * row + i) * 977);
      const uint32_t x = r();
      const int64_t id = info.role == format::Role::rows ? (n > 1 ? i * (call.tokens - 1) / (n - 1) : call.tokens - 1)
                         : info.role == format::Role::positions ? call.first + i
                                                                : int64_t(x % uint64_t(call.ids));
      if (info.dtype == runnel::DType::kF32)
        static_cast<float*>(t.data)[i] = info.role == format::Role::none ? float(x % 2001) / 1000 - 1 : float(id);
      else if (info.dtype == runnel::DType::kI32) static_cast<int32_t*>(t.data)[i] = int32_t(id);
      else
        for (size_t k = 0; k < dtype_bytes(info.dtype); ++k)
          static_cast<uint8_t*>(t.data)[size_t(i) * dtype_bytes(info.dtype) + k] = uint8_t(k ? 0 : id);
    }
  }
  std::vector<MemoryPtr> memory_;
};

// Rows of outputs by name and place in the stream.
struct Gathered {
  int64_t first = 0;
  std::map<std::string, std::map<int64_t, std::vector<float>>> rows;
};
inline int gather(void* user, const rnl_tensor* t, int64_t first_row) {
  auto& to = *static_cast<Gathered*>(user);
  const int64_t n = t->rank ? t->dims[0] : 1;
  const size_t row = n ? t->bytes / size_t(n) : 0;
  const auto* p = static_cast<const unsigned char*>(t->data);
  for (int64_t r = 0; r < n; ++r) {
    std::vector<float>& v = to.rows[t->name][to.first + first_row + r];
    if (t->dtype == RNL_F32) {
      v.resize(row / 4);
      if (row) std::memcpy(v.data(), p + size_t(r) * row, row);
    } else {
      for (size_t i = 0; i + 4 <= row; i += 4) {
        int32_t x;
        std::memcpy(&x, p + size_t(r) * row + i, 4);
        v.push_back(float(x));
      }
    }
  }
  return 0;
}

inline rnl_status_code run_any(rnl_session* s, const OpenModel& model, const rnl_session_options& o,
                               const AnyCall& call, bool all_rows, Gathered* out) {
  AnyInputs in;
  if (!in.make(model, o, call)) return RNL_UNSUPPORTED;
  out->first = call.first;
  return rnl_session_run_blocks(s, model.info().programs()[call.program].name, in.tensors.data(), in.tensors.size(),
                                all_rows, gather, out);
}

}  // namespace runnel::test
