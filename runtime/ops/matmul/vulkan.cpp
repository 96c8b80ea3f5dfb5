#include "ops/matmul/vulkan.h"

#include "ops/matmul/matmul.h"

namespace runnel::vulkan {
RNL_SHADER(matmul)
RNL_SHADER(matmul__int_dot)
RNL_SHADER(matmul__round)
namespace {

// What an invocation takes at once; rows in fours. 16 sums are what a Mali's 64 registers hold beside the operands, 8
// where each has an integer beside it; on a CPU a load of x is as dear as one of weights.
struct Tile {
  uint32_t tokens, quads;
};
constexpr Tile kWords = {4, 1}, kHalves = {2, 2}, kRounded = {2, 1}, kOneToken = {1, 2};
constexpr Tile kOnCpu = {4, 2}, kOneTokenOnCpu = {1, 2};
constexpr uint32_t kInvocations = 64, kQuadsOfTile = kTileRows / 4;
// A sum has at most so many parts, each of at least so many blocks of 32 columns; so many invocations are wanted for
// one token.
constexpr uint32_t kMostParts = 16, kLeastBlocks = 4, kWantedInvocations = 16384;
// Lanes of a workgroup that take other tokens.
constexpr uint32_t kMostShares = 4;
enum Parts : uint32_t { kOnePart, kOneByOne, kSideBySide };  // kParts of the shader

// Words of a block of 32 columns that matmul__round made, and blocks of its workgroups.
constexpr uint32_t kRoundedWords = 10, kBlocksOfGroup = 8;

struct RoundPush {
  uint32_t n, columns, blocks, x, to;
};
uint32_t blocks_of(const TensorView& w) { return uint32_t((w.dims[1] + kBlockColumns - 1) / kBlockColumns); }

// Blocks of a part. It depends on the matrix and the kind of device alone, so that every bit of a row does.
uint32_t part_blocks(const TensorView& w, bool is_cpu) {
  const uint64_t blocks = blocks_of(w), invocations = uint64_t(w.dims[0]) / (4 * kOneToken.quads);
  uint64_t parts = is_cpu ? 1 : kWantedInvocations / (invocations ? invocations : 1);
  if (parts > kMostParts) parts = kMostParts;
  if (parts > blocks / kLeastBlocks) parts = blocks / kLeastBlocks;
  return uint32_t(parts < 2 ? (blocks ? blocks : 1) : (blocks + parts - 1) / parts);
}

uint64_t scratch_bytes(const OpCall& c) { return rounding_scratch(c, 1) * 4; }

void record(Recorder& r, const OpCall& c) {
  const uint32_t columns = last_axis(c.in[0]);
  uint32_t tokens = 1;
  for (int i = 0; i + 1 < c.in[0].rank; ++i) tokens *= uint32_t(c.in[0].dims[i]);
  if (tokens == 0) return;
  const uint32_t rounded = record_rounding(r, c, 1, r.scratch());
  for (int i = 0; i < c.out_count; ++i) {
    MatmulPush push{};
    push.x = r.input(c, 0), push.y = r.output(c, i), push.bias = r.input(c, RNL_MATMUL_BIAS(c.out_count, i));
    push.columns = columns, push.rows = uint32_t(c.in[1 + i].dims[0]), push.pairs = tokens;
    push.ids = kAbsent, push.slots = 1, push.x_token = columns;
    record_products(r, c.in[1 + i], push, rounded);
  }
}

}  // namespace

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

void record_products(Recorder& r, const TensorView& w, MatmulPush push, uint32_t rounded) {
  const PackedKind kind = w.packed->kind;
  const bool is_rounded = rounded != kAbsent && !w.packed->is_float(),
             has_halves = kind == PackedKind::kF16 || kind == PackedKind::kBF16;
  Tile tile = r.is_cpu() ? kOnCpu : is_rounded ? kRounded : has_halves ? kHalves : kWords;
  push.blocks = blocks_of(w);
  // Sums that come one by one have at least one part.
  const bool is_single = push.experts || push.pairs < tile.tokens || push.blocks == 0;
  if (is_single) tile = r.is_cpu() ? kOneTokenOnCpu : kOneToken;
  push.part_blocks = part_blocks(w, r.is_cpu());
  const uint32_t turns = is_single ? push.pairs : (push.pairs + tile.tokens - 1) / tile.tokens,
                 parts = push.blocks ? (push.blocks + push.part_blocks - 1) / push.part_blocks : 1;
  push.shares = r.is_cpu() ? 1 : is_single ? parts : turns < kMostShares ? turns : kMostShares;
  bool is_ragged = false;
  uint32_t unit = 2;  // words that x is counted in
  if (is_rounded) {
    push.x = rounded;
    push.x_token = push.x_token / push.columns * push.blocks * kRoundedWords,
    push.x_slot = push.x_slot / push.columns * push.blocks * kRoundedWords;
  } else {
    is_ragged = push.columns % kBlockColumns || push.x % 4;
    unit = is_ragged ? 1 : 4;
  }
  push.x /= unit, push.x_token /= unit, push.x_slot /= unit;
  Constants constants = format_constants(w);
  for (uint32_t v : {tile.tokens, tile.quads, uint32_t(is_ragged),
                     uint32_t(r.is_cpu()  ? kOnePart
                              : is_single ? kSideBySide
                                          : kOneByOne)})
    constants.v[constants.count++] = v;
  const uint32_t lanes = kInvocations / push.shares, pieces = kQuadsOfTile / tile.quads,
                 y = is_single || r.is_cpu() ? turns : (turns + push.shares - 1) / push.shares;
  for_each_window(r, w, [&](const WeightWindow& m) {
    push.at = m.at / 4, push.tile_place = m.tile_words / 4;
    push.window_first = m.first_tile, push.window_tiles = m.tiles;
    push.tile_offset = push.experts ? 0 : m.first_tile;
    const uint32_t tiles = push.experts ? push.expert_tiles : m.tiles;
    r.grid(is_rounded ? shader_matmul__int_dot : shader_matmul, constants, push, (tiles * pieces + lanes - 1) / lanes,
           y, 1);
  });
}

extern const Kernel matmul_vulkan_kernel = {refuse_nothing, scratch_bytes, record};

}  // namespace runnel::vulkan
