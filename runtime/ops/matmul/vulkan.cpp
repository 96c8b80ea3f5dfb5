#include "ops/matmul/vulkan.h"

#include "ops/matmul/matmul.h"

namespace runnel::vulkan {
RNL_SHADER(matmul)
RNL_SHADER(matmul__int_dot)
RNL_SHADER(matmul__parts)
RNL_SHADER(matmul__round)
namespace {

constexpr uint32_t kRowsOfGroup = 64, kTokensOfGroup = 4;
// On a CPU a load of x is as dear as one of weights: it serves several rows.
constexpr uint32_t kRowsOnCpu = 4, kRowsOfTokensOnCpu = 6;
// A part of a sum has at least so many blocks of 32 columns; a device that computes side by side wants so many
// workgroups.
constexpr uint32_t kLeastBlocks = 4, kWantedGroups = 256;

// Words of a block of 32 columns that matmul__round made, and blocks of its workgroups.
constexpr uint32_t kRoundedWords = 10, kBlocksOfGroup = 8;

struct RoundPush {
  uint32_t n, columns, blocks, x, to;
};
struct PartsPush {
  uint32_t n, parts, part_words, from, y, bias;
};

uint32_t blocks_of(const TensorView& w) { return uint32_t((w.dims[1] + kBlockColumns - 1) / kBlockColumns); }

// Blocks of a part. It depends on the matrix and the kind of device alone, so that every bit of a row does.
uint32_t part_blocks(const TensorView& w, bool is_cpu) {
  const uint32_t blocks = blocks_of(w), groups = uint32_t((w.dims[0] + kRowsOfGroup - 1) / kRowsOfGroup);
  uint32_t parts = is_cpu ? 1 : (kWantedGroups + groups - 1) / (groups ? groups : 1);
  if (parts > blocks / kLeastBlocks) parts = blocks / kLeastBlocks;
  return parts < 2 ? (blocks ? blocks : 1) : (blocks + parts - 1) / parts;
}

uint64_t scratch_bytes(const OpCall& c) {
  uint64_t words = rounding_scratch(c, 1);
  for (int i = 0; i < c.out_count; ++i) words += products_scratch(c.in[1 + i]);
  return words * 4;
}

void record(Recorder& r, const OpCall& c) {
  const uint32_t columns = last_axis(c.in[0]);
  uint32_t tokens = 1, scratch = r.scratch();
  for (int i = 0; i + 1 < c.in[0].rank; ++i) tokens *= uint32_t(c.in[0].dims[i]);
  if (tokens == 0) return;
  const uint32_t rounded = record_rounding(r, c, 1, scratch);
  scratch += uint32_t(rounding_scratch(c, 1));
  for (int i = 0; i < c.out_count; ++i) {
    MatmulPush push{};
    push.x = r.input(c, 0), push.y = r.output(c, i), push.bias = r.input(c, RNL_MATMUL_BIAS(c.out_count, i));
    push.columns = columns, push.rows = uint32_t(c.in[1 + i].dims[0]), push.pairs = tokens;
    push.ids = kAbsent, push.slots = 1, push.x_token = columns;
    record_products(r, c.in[1 + i], push, rounded, scratch);
    scratch += products_scratch(c.in[1 + i]);
  }
}

}  // namespace

uint32_t products_scratch(const TensorView& w) {
  const uint32_t blocks = blocks_of(w), each = part_blocks(w, false);
  return each < blocks ? (blocks + each - 1) / each * uint32_t(w.dims[0]) : 0;
}

uint64_t rounding_scratch(const OpCall& c, int first_weight) {
  bool is_needed = false;
  for (int i = 0; i < c.out_count; ++i) is_needed = is_needed || !c.in[first_weight + i].packed->is_float();
  const int64_t columns = c.in[0].dims[c.in[0].rank - 1];
  return is_needed && columns
             ? uint64_t(element_count(c.in[0]) / columns) * blocks_of(c.in[first_weight]) * kRoundedWords
             : 0;
}

uint32_t record_rounding(Recorder& r, const OpCall& c, int first_weight, uint32_t scratch) {
  if (!r.has(kIntDot) || rounding_scratch(c, first_weight) == 0) return kAbsent;
  const uint32_t columns = last_axis(c.in[0]), blocks = blocks_of(c.in[first_weight]),
                 n = elements(c.in[0]) / columns * blocks;
  r.groups(shader_matmul__round, {}, RoundPush{n, columns, blocks, r.input(c, 0), scratch},
           (n + kBlocksOfGroup - 1) / kBlocksOfGroup);
  r.barrier();
  return scratch;
}

void record_products(Recorder& r, const TensorView& w, MatmulPush push, uint32_t rounded, uint32_t scratch) {
  const uint32_t tokens = push.experts || push.pairs == 1 ? 1 : kTokensOfGroup, blocks = blocks_of(w);
  Constants constants = format_constants(w);
  const uint32_t rows = !r.is_cpu()  ? 1
                        : tokens > 1 ? kRowsOfTokensOnCpu
                                     : kRowsOnCpu,
                 group_tiles = rows * kRowsOfGroup / kTileRows;
  constants.v[constants.count++] = tokens;
  constants.v[constants.count++] = rows;
  constants.v[constants.count++] = push.columns % kBlockColumns != 0;
  const bool is_rounded = rounded != kAbsent && !w.packed->is_float();
  if (is_rounded) {
    push.x = rounded;
    push.x_token = push.x_token / push.columns * blocks * kRoundedWords,
    push.x_slot = push.x_slot / push.columns * blocks * kRoundedWords;
  }
  push.part_blocks = part_blocks(w, r.is_cpu());
  const uint32_t parts = push.pairs == 1 && !push.experts && push.part_blocks < blocks
                             ? (blocks + push.part_blocks - 1) / push.part_blocks
                             : 1;
  push.part_words = parts > 1 ? push.rows : 0;
  const PartsPush sum{push.rows, parts, push.part_words, scratch, push.y, push.bias};
  if (parts > 1) push.y = scratch;
  for_each_window(r, w, [&](const WeightWindow& m) {
    push.at = m.at, push.tile_words = m.tile_words;
    push.window_first = m.first_tile, push.window_tiles = m.tiles;
    push.tile_offset = push.experts ? 0 : m.first_tile;
    const uint32_t tiles = push.experts ? push.expert_tiles : m.tiles;
    r.grid(is_rounded ? shader_matmul__int_dot : shader_matmul, constants, push,
           (tiles + group_tiles - 1) / group_tiles, (push.pairs + tokens - 1) / tokens, parts);
  });
  if (parts == 1) return;
  r.barrier();
  r.items(shader_matmul__parts, {}, sum, sum.n);
}

extern const Kernel matmul_vulkan_kernel = {refuse_nothing, scratch_bytes, record};

}  // namespace runnel::vulkan
