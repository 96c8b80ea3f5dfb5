#include "text/token_order.h"

#include <algorithm>
#include <cstring>

namespace runnel {

Status TokenOrder::build(const Tokenizer& tokenizer, TokenOrder* out) {
  struct Key {
    uint64_t head;  // the first eight bytes, the first one highest
    uint32_t begin;
    uint16_t size;
    int32_t id;
  };
  Vec<Key> keys;
  Vec<uint8_t> all;
  uint8_t piece[kMaxTokenBytes];
  for (int32_t id = 0; id < tokenizer.vocab().count; ++id) {
    const uint32_t n = tokenizer.token_bytes(id, piece);
    if (n == 0) continue;
    Key k{0, uint32_t(all.size()), uint16_t(n), id};
    for (uint32_t i = 0; i < 8; ++i) k.head = k.head << 8 | (i < n ? piece[i] : 0u);
    RNL_TRY(all.append(piece, n));
    RNL_TRY(keys.push(k));
  }
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    if (a.head != b.head) return a.head < b.head;
    const int c = std::memcmp(all.data() + a.begin, all.data() + b.begin, std::min(a.size, b.size));
    if (c) return c < 0;
    return a.size != b.size ? a.size < b.size : a.id < b.id;
  });
  out->tokenizer = tokenizer;
  RNL_TRY(out->ids.assign(keys.size()));
  RNL_TRY(out->shared.assign(keys.size()));
  RNL_TRY(out->sizes.assign(keys.size()));
  RNL_TRY(out->rest.assign(keys.size()));
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint8_t* p = all.data() + keys[i].begin;
    uint16_t same = 0;
    if (i) {
      const uint8_t* before = all.data() + keys[i - 1].begin;
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
    while (at < keys.size() && all[keys[at].begin] < b) ++at;
    out->first[b] = at;
  }
  return Status::ok();
}

}  // namespace runnel
