// Rows of a packed table lie scattered over tiles, so that looking one up is waiting for memory: threads wait side by
// side.
#include "cpu/call.h"
#include "format/packed.h"
#include "ops/embedding/embedding.h"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const int32_t* ids;
  const TensorView* table;
  float* y;
  EmbeddingParams params;
  int64_t channels;
};

void look_up(void* context, int64_t t, int) {
  const Job& j = *static_cast<const Job*>(context);
  float* y = j.y + t * j.channels;
  const int64_t id = j.ids[t] >= 0 && j.ids[t] < j.table->dims[0] ? j.ids[t] : j.params.outside;
  if (j.table->dtype == DType::kPacked) unpack_row(*j.table->packed, j.table->data, j.channels, id, y);
  else __builtin_memcpy(y, static_cast<const float*>(j.table->data) + id * j.channels, size_t(j.channels) * 4);
  for (int64_t i = 0; i < j.channels; ++i) y[i] *= j.params.scale;
}

void run(const OpCall& c) {
  Job j{input<int32_t>(c, 0), &c.in[1], output<float>(c, 0), params_of<EmbeddingParams>(c), c.in[1].dims[1]};
  const int64_t tokens = elements_of(c.in[0]);
  parallel_for(tokens > 8 ? c.pool : nullptr, tokens, look_up, &j);
}

constexpr Kernel kRows[] = {{"embedding_f32__" RNL_ISA_NAME, nullptr, nullptr, run}};

}  // namespace

extern constexpr KernelList embedding_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
