#include "ops/attention/vulkan.h"
#include "ops/define.h"

namespace runnel::vulkan {
RNL_SHADER(attention)
RNL_SHADER(attention__append)
RNL_SHADER(attention__append_q8)
namespace {

struct AppendPush {
  uint32_t n, tokens, kv_heads, dim, slots, x, state, stride, is_key, stored;
};
constexpr int kK = 1, kV = 2, kKeyState = 3, kValueState = 4, kSinks = 5, kBias = 6, kSegments = 7, kRows = 8;

// Sizes of keys and values: of the call's own, or of the states when another operator wrote them.
uint32_t kv_heads_of(const OpCall& c) {
  return uint32_t(has_input(c, kV) ? c.in[kV].dims[1] : c.in[kValueState].dims[0]);
}
uint32_t value_of(const OpCall& c) { return uint32_t(c.in[has_input(c, kV) ? kV : kValueState].dims[2]); }

}  // namespace

const char* refuse_attention(const OpCall& c) {
  if (c.in[0].dims[2] > 1024 || value_of(c) > 1024) return "heads of more than 1024 dims";
  if (!has_input(c, kKeyState)) return nullptr;
  if (c.in[kKeyState].dtype == DType::kF16 && value_of(c) % 2 != 0) return "f16 values of an odd size";
  return nullptr;
}

// Tiles of 64 keys, for each of which an invocation multiplies quads of a key and adds up its dims of quads of values,
// both for up to 8 rows.
uint64_t attention_rounds(const OpCall& c) {
  const int64_t window = params_of<AttentionParams>(c).window,
                all = has_input(c, kKeyState) ? c.in[kValueState].dims[1] : c.in[kK].dims[0];
  const uint64_t tiles = rounds_of(window > 0 && window < all ? window : all) + 1, dims = rounds_of(value_of(c));
  return tiles * (9 * rounds_of(c.in[0].dims[2], 4) + dims * 16 * 9 + 64) + segments_of(c, kSegments);
}

namespace {

// Writes the call's keys or values into their slots.
void append(Recorder& r, const OpCall& c, int input, int state) {
  const TensorView &x = c.in[input], &s = c.in[state];
  const bool half = s.dtype == DType::kF16, is_key = input == 1;
  const uint32_t tokens = uint32_t(x.dims[0]), heads = uint32_t(x.dims[1]), dim = uint32_t(x.dims[2]);
  const uint32_t slots = uint32_t(is_key ? s.dims[1] * 16 : s.dims[1]);
  // Slots that a call may reach; in halves two neighbours are written together.
  const auto& p = params_of<AttentionParams>(c);
  const uint32_t stride = uint32_t(p.stride), stored = p.stored > 0 ? uint32_t(p.stored) : kAbsent;
  uint32_t entries = stride == 1 ? tokens : tokens / stride + 1, width = dim;
  if (entries > stored) entries = stored;
  if (half && is_key) entries = entries / 2 + 1;
  if (half && !is_key) width = dim / 2;
  if (s.dtype == DType::kQ8) {
    const uint32_t items = heads * (is_key ? (entries / 4 + 2) * ((dim + 31) / 32) : entries / 2 + 1);
    r.items(shader_attention__append_q8, {},
            AppendPush{items, tokens, heads, dim, slots, r.at(x), r.state(s), stride, is_key, stored}, items);
    return;
  }
  const AppendPush push{
      entries * heads * width, tokens, heads, dim, slots, r.at(x), r.state(s), stride, is_key, stored};
  r.items(shader_attention__append, {half}, push, push.n);
}

}  // namespace

AttentionPush record_attention(Recorder& r, const OpCall& c) {
  const auto& p = params_of<AttentionParams>(c);
  const TensorView& q = c.in[0];
  AttentionPush push{};
  push.tokens = uint32_t(q.dims[0]), push.heads = uint32_t(q.dims[1]), push.kv_heads = kv_heads_of(c),
  push.value = value_of(c);
  push.keys = has_input(c, kK) ? uint32_t(c.in[kK].dims[0]) : 0, push.window = uint32_t(p.window),
  push.stride = uint32_t(p.stride);
  push.k_state = push.v_state = kAbsent;
  if (has_input(c, kKeyState)) {
    r.window({&c.in[kKeyState], &c.in[kValueState]});
    if (has_input(c, kK)) {
      append(r, c, kK, kKeyState);
      append(r, c, kV, kValueState);
      r.barrier();
    }
    push.slots = uint32_t(c.in[kValueState].dims[1]);
    push.k_state = r.state(c.in[kKeyState]), push.v_state = r.state(c.in[kValueState]);
  }
  push.q = r.input(c, 0), push.k = r.input(c, kK), push.v = r.input(c, kV), push.sinks = r.input(c, kSinks),
  push.bias = r.input(c, kBias);
  if (push.bias != kAbsent) {
    const TensorView& b = c.in[kBias];
    push.bias_head = b.dims[0] == 1 ? 0 : uint32_t(b.dims[1] * b.dims[2]);
    push.bias_token = b.dims[1] == 1 ? 0 : uint32_t(b.dims[2]);
  }
  push.bounds = r.input(c, kSegments), push.segments = segments_of(c, kSegments);
  push.rows = r.input(c, kRows);
  push.y = r.output(c, 0), push.lse = r.output(c, 1);
  push.scale = p.scale, push.softcap = p.softcap;
  return push;
}

AttentionTile attention_tile(const OpCall& c, bool has_lists, bool has_lists_of_heads) {
  const TensorView& q = c.in[0];
  const uint32_t key = uint32_t(q.dims[2]), dims = (value_of(c) + 63) / 64, kv_heads = kv_heads_of(c),
                 share = uint32_t(q.dims[1]) / kv_heads;
  // At most 16 sums in an invocation, and 8 KiB of queries.
  uint32_t rows = 8;
  while (rows > 1 && (rows * dims > 16 || rows * key > 2048)) rows /= 2;
  AttentionTile tile{1, 1, 0};
  uint32_t parts = has_lists_of_heads ? share : (share + rows - 1) / rows;
  // One token of few heads: rather read keys again than leave most of a device without work.
  while (q.dims[0] == 1 && parts < share && parts * kv_heads < 16) parts = parts * 2 < share ? parts * 2 : share;
  tile.heads = (share + parts - 1) / parts;
  // Tokens of several segments, and those with lists, see other keys.
  if (q.dims[0] > 1 && !has_lists && !has_input(c, kSegments)) tile.tokens = rows / tile.heads;
  tile.groups = rounds_of(q.dims[0], tile.tokens) * kv_heads * parts;
  return tile;
}

Constants attention_constants(const OpCall& c, const AttentionTile& tile) {
  const auto& p = params_of<AttentionParams>(c);
  const uint32_t source = !has_input(c, kKeyState)               ? 0
                          : c.in[kKeyState].dtype == DType::kF32 ? 1
                          : c.in[kKeyState].dtype == DType::kF16 ? 2
                                                                 : 3;
  return {source, p.causal, uint32_t(c.in[0].dims[2]), (value_of(c) + 63) / 64, p.softcap > 0, tile.tokens, tile.heads};
}

namespace {

void record(Recorder& r, const OpCall& c) {
  const AttentionPush push = record_attention(r, c);
  const AttentionTile tile = attention_tile(c, false, false);
  r.groups(shader_attention, attention_constants(c, tile), push, tile.groups);
}

}  // namespace

extern const Kernel attention_vulkan_kernel = {
    refuse_attention, nullptr, record, 1u << kKeyState | 1u << kValueState, false, attention_rounds};

}  // namespace runnel::vulkan
