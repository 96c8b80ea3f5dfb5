#include "base/vec.h"

namespace runnel {

Status grow_raw(void** data, size_t* capacity, size_t used, size_t n, size_t size, size_t alignment) {
  void* fresh =
      n > size_t(-1) / 2 / size ? nullptr : ::operator new(n* size, std::align_val_t(alignment), std::nothrow);
  if (!fresh) return Status::make(Code::kOutOfMemory, "cannot allocate %zu elements of %zu bytes", n, size);
  if (used) std::memcpy(fresh, *data, used);
  if (*data) ::operator delete(*data, std::align_val_t(alignment));
  *data = fresh;
  *capacity = n;
  return Status::ok();
}

}  // namespace runnel
