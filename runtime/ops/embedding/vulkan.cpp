#include "ops/embedding/embedding.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(embedding__f32)
RNL_SHADER(embedding__packed)
namespace {

struct DensePush {
  uint32_t n, ids, y, channels, vocab, table, outside;
  float scale;
};
struct PackedPush {
  uint32_t n, ids, y, channels, first, end, vocab, outside;
  float scale;
  uint32_t table, tile_words;
};

void record(Recorder& r, const OpCall& c) {
  const float scale = params_of<EmbeddingParams>(c).scale;
  const uint32_t outside = uint32_t(params_of<EmbeddingParams>(c).outside);  // -1: no row
  const TensorView& table = c.in[1];
  const uint32_t tokens = elements(c.in[0]), channels = uint32_t(table.dims[1]), vocab = uint32_t(table.dims[0]);
  if (table.dtype != DType::kPacked) {
    r.items(shader_embedding__f32, {},
            DensePush{tokens * channels, r.input(c, 0), r.output(c, 0), channels, vocab, r.input(c, 1), outside, scale},
            uint64_t(tokens) * channels);
    return;
  }
  const uint32_t n = tokens * ((channels + 3) / 4);
  for_each_window(r, table, [&](const WeightWindow& w) {
    const uint32_t first = w.first_tile * kTileRows, end = first + w.tiles * kTileRows;
    r.items(shader_embedding__packed, format_constants(table),
            PackedPush{n, r.input(c, 0), r.output(c, 0), channels, first, end < vocab ? end : vocab, vocab, outside,
                       scale, w.at, w.tile_words},
            n);
  });
}

}  // namespace

extern const Kernel embedding_vulkan_kernel = {refuse_nothing, nullptr, record};

}  // namespace runnel::vulkan
