#include "text/token_order.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace runnel {
namespace {

struct Key {
  uint64_t head;  // the first eight bytes, the first one highest
  uint32_t begin;
  uint16_t size;
  uint16_t characters;  // 0: not plain
  int32_t id;
};

uint16_t plain_characters(const uint8_t* p, uint32_t n) {
  uint16_t count = 0;
  for (uint32_t i = 0; i < n; ++count) {
    const Utf8Step step = utf8_step(p + i, n - i);
    if (step.kind != Utf8::kValid || p[i] < 0x20 || p[i] == '"' || p[i] == '\\') return 0;
    i += step.length;
  }
  return count;
}

Status put_in_order(const Key* keys, size_t count, const uint8_t* all, TokenOrder::Pieces* out) {
  RNL_TRY(out->ids.assign(count));
  RNL_TRY(out->shared.assign(count));
  RNL_TRY(out->sizes.assign(count));
  RNL_TRY(out->rest.assign(count));
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* p = all + keys[i].begin;
    uint16_t same = 0;
    if (i) {
      const uint8_t* before = all + keys[i - 1].begin;
      while (same < keys[i].size && same < keys[i - 1].size && p[same] == before[same]) ++same;
    }
    out->ids[i] = keys[i].id;
    out->shared[i] = same;
    out->sizes[i] = keys[i].size;
    out->rest[i] = uint32_t(out->bytes.size());
    RNL_TRY(out->bytes.append(p + same, size_t(keys[i].size - same)));
  }
  uint32_t at = 0;
  for (uint32_t b = 0; b <= 256; ++b) {
    while (at < count && all[keys[at].begin] < b) ++at;
    out->first[b] = at;
  }
  return Status::ok();
}

// The sets of plain pieces by length.
Status mark_plain(const Key* keys, size_t count, TokenOrder* out) {
  const size_t words = out->words;
  RNL_TRY(out->plain_bits.assign((TokenOrder::kPlainSteps + 1) * words));
  uint64_t* bits = out->plain_bits.data();
  for (size_t i = 0; i < count; ++i) {
    const uint32_t n = keys[i].characters, id = uint32_t(keys[i].id);
    out->most_characters = std::max(out->most_characters, n);
    if (n > TokenOrder::kPlainSteps) RNL_TRY(out->long_plain.push({keys[i].id, n}));
    else bits[n * words + id / 64] |= uint64_t(1) << (id % 64);
    bits[id / 64] |= uint64_t(1) << (id % 64);
  }
  for (size_t i = 2 * words; i < out->plain_bits.size(); ++i) bits[i] |= bits[i - words];
  return Status::ok();
}

}  // namespace

Status TokenOrder::build(const Tokenizer& tokenizer, TokenOrder* out) {
  Vec<Key> keys;
  Vec<uint8_t> all;
  uint8_t piece[kMaxTokenBytes];
  for (int32_t id = 0; id < tokenizer.vocab().count; ++id) {
    const uint32_t n = tokenizer.token_bytes(id, piece);
    if (n == 0 || tokenizer.vocab().ends_turn(id)) continue;
    Key k{0, uint32_t(all.size()), uint16_t(n), plain_characters(piece, n), id};
    for (uint32_t i = 0; i < 8; ++i) k.head = k.head << 8 | (i < n ? piece[i] : 0u);
    RNL_TRY(all.append(piece, n));
    RNL_TRY(keys.push(k));
  }
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    if (!a.characters != !b.characters) return !b.characters;
    if (a.head != b.head) return a.head < b.head;
    const int c = std::memcmp(all.data() + a.begin, all.data() + b.begin, std::min(a.size, b.size));
    if (c) return c < 0;
    return a.size != b.size ? a.size < b.size : a.id < b.id;
  });
  size_t plain = 0;
  while (plain < keys.size() && keys[plain].characters) ++plain;
  out->tokenizer = tokenizer;
  out->words = size_t(tokenizer.vocab().count) / 64 + 1;
  out->most_characters = 0;
  RNL_TRY(mark_plain(keys.data(), plain, out));
  RNL_TRY(put_in_order(keys.data(), plain, all.data(), &out->plain));
  return put_in_order(keys.data() + plain, keys.size() - plain, all.data(), &out->other);
}

}  // namespace runnel
