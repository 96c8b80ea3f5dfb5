#include "contract/view.h"

#include <cinttypes>
#include <cstdio>

namespace runnel {
namespace {

// Of flatbuffers: bytes of the table of fields and of the fields, and where the former begins.
struct NoFields {
  uint16_t sizes[2];
  int32_t back;
};
constexpr NoFields kNoFields{{4, 4}, 4};

}  // namespace

const void* const kNoAttributes = &kNoFields.back;

const char* dtype_name(DType t) {
  switch (t) {
    case DType::kNone: return "none";
    case DType::kF32: return "f32";
    case DType::kF16: return "f16";
    case DType::kBF16: return "bf16";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
    case DType::kU8: return "u8";
    case DType::kI8: return "i8";
    case DType::kPacked: return "packed";
    case DType::kQ8: return "q8";
  }
  return "unknown";
}

const char* describe(const TensorView& t, char* buffer, size_t size) {
  size_t n = size_t(std::snprintf(buffer, size, "%s[", dtype_name(t.dtype)));
  for (int i = 0; i < t.rank && n < size; ++i)
    n += size_t(std::snprintf(buffer + n, size - n, i ? ", %lld" : "%lld", static_cast<long long>(t.dims[i])));
  if (n < size) std::snprintf(buffer + n, size - n, "]");
  return buffer;
}

bool same_shape(const TensorView& a, const TensorView& b) {
  if (a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; ++i)
    if (a.dims[i] != b.dims[i]) return false;
  return true;
}

int64_t element_count(const TensorView& t) {
  int64_t n = 1;
  for (int i = 0; i < t.rank; ++i) n *= t.dims[i];
  return n;
}

Status check_dense(const char* op, const char* what, const TensorView& t) {
  RNL_CHECK_ARG(dtype_bytes(t.dtype) != 0, "%s: %s is %s, want a dense array", op, what,
                t.dtype == DType::kNone ? "absent" : dtype_name(t.dtype));
  RNL_CHECK_ARG(t.rank >= 0 && t.rank <= kMaxRank, "%s: %s has rank %d", op, what, int(t.rank));
  constexpr int64_t kLimit = int64_t(1) << 40;
  int64_t n = 1;
  for (int i = 0; i < t.rank; ++i) {
    const int64_t d = t.dims[i];
    RNL_CHECK_ARG(d >= 0, "%s: axis %d of %s is %" PRId64, op, i, what, d);
    RNL_CHECK_ARG(d <= kLimit / n, "%s: %s has too many elements", op, what);
    n *= d > 1 ? d : 1;
  }
  return Status::ok();
}

}  // namespace runnel
