#include "ops/window.h"

#include <cinttypes>

#include "contract/view.h"
#include "format/model_generated.h"
#include "ops/unary/unary.h"

namespace runnel {
namespace {

constexpr uint32_t kMost = 1u << 16;

// `count` numbers, each `otherwise` where the file has none of them.
Status read_list(const char* op, const char* what, const flatbuffers::Vector<uint32_t>* list, uint32_t count,
                 uint32_t otherwise, uint32_t least, int32_t* to) {
  RNL_CHECK_ARG(!list || list->size() == count, "%s: %s has %u numbers, want %u", op, what, list->size(), count);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t v = list ? list->Get(i) : otherwise;
    RNL_CHECK_ARG(v >= least && v <= kMost, "%s: %s has the number %u", op, what, v);
    to[i] = int32_t(v);
  }
  return Status::ok();
}

}  // namespace

Status parse_window(const char* op, const void* attrs, WindowParams* p) {
  const auto& a = *static_cast<const format::WindowAttrs*>(attrs);
  RNL_TRY(read_list(op, "kernel", a.kernel(), 2, 1, 1, p->kernel));
  RNL_TRY(read_list(op, "stride", a.stride(), 2, 1, 1, p->stride));
  RNL_TRY(read_list(op, "dilation", a.dilation(), 2, 1, 1, p->dilation));
  int32_t pad[4];
  RNL_TRY(read_list(op, "pad", a.pad(), 4, 0, 0, pad));
  for (int i = 0; i < 2; ++i) p->before[i] = pad[i], p->behind[i] = pad[i + 2];
  RNL_CHECK_ARG(a.groups() >= 1 && a.groups() <= (1u << 24), "%s: %u groups", op, a.groups());
  RNL_CHECK_ARG(int(a.activation()) < int(UnaryKind::kScale),
                "%s: activation %d is not one of unary's without parameters", op, int(a.activation()));
  RNL_CHECK_ARG(int(a.pool()) <= int(format::PoolKind::MAX), "%s: pool %d is not known", op, int(a.pool()));
  RNL_CHECK_ARG(a.least() <= a.most(), "%s: results from %g to %g", op, double(a.least()), double(a.most()));
  p->groups = int32_t(a.groups());
  p->least = a.least(), p->most = a.most();
  p->activation = uint8_t(a.activation()), p->pool = uint8_t(a.pool()), p->count_padding = a.count_padding();
  return Status::ok();
}

Status check_window(const char* op, const WindowParams& p, const TensorView& x, const TensorView& y) {
  char a[96], b[96];
  RNL_TRY(check_dense(op, "x", x));
  RNL_TRY(check_dense(op, "y", y));
  describe(x, a, sizeof a), describe(y, b, sizeof b);
  RNL_CHECK_ARG(x.dtype == DType::kF32 && y.dtype == DType::kF32 && x.rank == 4 && y.rank == 4 &&
                    x.dims[0] == y.dims[0],
                "%s: x is %s and y is %s, want f32 [batch, height, width, channels]", op, a, b);
  for (int i = 0; i < 2; ++i) {
    const int64_t reach = int64_t(p.kernel[i] - 1) * p.dilation[i] + 1,
                  room = x.dims[1 + i] + p.before[i] + p.behind[i] - reach;
    RNL_CHECK_ARG(room >= 0 && y.dims[1 + i] == room / p.stride[i] + 1,
                  "%s: x is %s and y is %s, which is not what windows of %" PRId64 " make", op, a, b, reach);
  }
  return Status::ok();
}

}  // namespace runnel
