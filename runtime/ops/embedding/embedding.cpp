#include "ops/embedding/embedding.h"

#include <cmath>

#include "format/packed.h"
#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::EmbeddingAttrs*>(attrs);
  const float scale = a.scale();
  RNL_CHECK_ARG(std::isfinite(scale), "embedding: scale is not finite");
  const int32_t outside = a.outside();
  RNL_CHECK_ARG(outside >= -1, "embedding: outside is %d", int(outside));
  *params_of<EmbeddingParams>(out) = {scale, outside};
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const TensorView &ids = c.in[0], &table = c.in[1], &y = c.out[0];
  RNL_TRY(check_dense("embedding", "ids", ids));
  RNL_TRY(check_dense("embedding", "y", y));
  RNL_CHECK_ARG(ids.dtype == DType::kI32, "embedding: ids are %s, want i32", describe(ids, a, sizeof a));
  RNL_CHECK_ARG((table.dtype == DType::kF32 || table.dtype == DType::kPacked) && table.rank == 2,
                "embedding: table is %s, want packed or f32 [vocab, channels]", describe(table, a, sizeof a));
  const int32_t outside = params_of<EmbeddingParams>(c).outside;
  RNL_CHECK_ARG(outside < table.dims[0], "embedding: outside is %d but the table is %s", int(outside),
                describe(table, a, sizeof a));
  bool fits = y.dtype == DType::kF32 && y.rank == ids.rank + 1 && y.dims[y.rank - 1] == table.dims[1];
  for (int i = 0; fits && i < ids.rank; ++i) fits = y.dims[i] == ids.dims[i];
  RNL_CHECK_ARG(fits, "embedding: y is %s but ids are %s with %" PRId64 " channels", describe(y, a, sizeof a),
                describe(ids, b, sizeof b), table.dims[1]);
  return Status::ok();
}

Status check_data(const OpCall& c) {
  const int32_t* ids = static_cast<const int32_t*>(c.in[0].data);
  const int64_t n = element_count(c.in[0]), vocab = c.in[1].dims[0];
  if (params_of<EmbeddingParams>(c).outside >= 0) return Status::ok();
  for (int64_t i = 0; i < n; ++i)
    RNL_CHECK_ARG(ids[i] >= 0 && ids[i] < vocab,
                  "embedding: id %d at index %" PRId64 " is not in the vocabulary of %" PRId64 " rows", ids[i], i,
                  vocab);
  return Status::ok();
}

void reference(const OpCall& c) {
  const auto [scale, outside] = params_of<EmbeddingParams>(c);
  const TensorView& table = c.in[1];
  const int64_t channels = table.dims[1], n = element_count(c.in[0]);
  const int32_t* ids = static_cast<const int32_t*>(c.in[0].data);
  float* y = static_cast<float*>(c.out[0].data);
  for (int64_t t = 0; t < n; ++t, y += channels) {
    const int64_t id = ids[t] >= 0 && ids[t] < table.dims[0] ? ids[t] : outside;
    if (table.dtype == DType::kPacked) {
      unpack_row(*table.packed, table.data, channels, id, y);
      for (int64_t i = 0; i < channels; ++i) y[i] *= scale;
    } else {
      const float* row = static_cast<const float*>(table.data) + id * channels;
      for (int64_t i = 0; i < channels; ++i) y[i] = row[i] * scale;
    }
  }
}

}  // namespace

extern constexpr OpDef embedding_def = define_op(registry_row::embedding, parse, check, reference, check_data);

}  // namespace runnel
