#include "text/spm_bpe.h"

#include <algorithm>
#include <bit>

#include "text/utf8.h"

namespace runnel {
namespace {

const uint8_t* bytes_of(const char* s) { return reinterpret_cast<const uint8_t*>(s); }

// An integer that sorts as the score does; both zeros are equal and NaN has its place, so a broken table cannot upset
// the heap.
uint32_t ordered(float score) {
  const uint32_t x = std::bit_cast<uint32_t>(score + 0.0f);
  return x & 0x80000000u ? ~x : x | 0x80000000u;
}

struct LowerFirst {
  bool operator()(const SpmScratch::Pair& a, const SpmScratch::Pair& b) const { return a.order < b.order; }
};

class Encoder {
 public:
  Encoder(const Vocab& vocab, SpmScratch* scratch, Vec<int32_t>* ids) : v_(vocab), s_(*scratch), ids_(*ids) {}
  Status plain(const uint8_t* text, size_t size);

 private:
  Status escape(const uint8_t* text, size_t size);
  Status stretch(uint32_t begin, uint32_t end);
  Status offer(int32_t left, int32_t right);
  Status emit(uint32_t begin, uint32_t size, int32_t id, int depth);
  Status emit_unknown(uint32_t begin, uint32_t size);
  Status remember_split(int32_t id, uint32_t left_bytes);

  const Vocab& v_;
  SpmScratch& s_;
  Vec<int32_t>& ids_;
  bool after_unknown_ = false;
};

// Spaces become U+2581, each maximal invalid part U+FFFD. A normaliser, where there is one, does all of the former.
Status Encoder::escape(const uint8_t* text, size_t size) {
  s_.text.clear();
  if (v_.norm.step_count) {
    RNL_TRY(append_valid(text, size, &s_.text));
    s_.regex.work = kRegexStepsPerText + kRegexStepsPerByte * uint64_t(size);
    return normalize(v_.norm, 0, &s_.text, &s_.norm, &s_.regex);
  }
  RNL_TRY(s_.text.reserve(size + kSpaceMarkBytes));
  if (v_.add_space_prefix) RNL_TRY(s_.text.append(bytes_of(kSpaceMark), kSpaceMarkBytes));
  for (size_t i = 0; i < size;) {
    size_t run = i;
    while (run < size && text[run] < 0x80 && text[run] != ' ') ++run;
    if (run > i) RNL_TRY(s_.text.append(text + i, run - i));
    i = run;
    if (i == size) break;
    if (text[i] == ' ') {
      RNL_TRY(s_.text.append(bytes_of(kSpaceMark), kSpaceMarkBytes));
      ++i;
      continue;
    }
    const Utf8Step step = utf8_step(text + i, size - i);
    if (step.kind == Utf8::kValid) RNL_TRY(s_.text.append(text + i, step.length));
    else RNL_TRY(s_.text.append(bytes_of(kReplacement), kReplacementBytes));
    i += step.length;
  }
  return Status::ok();
}

// User-defined pieces stand for themselves and never merge, so the text falls into stretches between them. It is also
// cut before every U+2581 that no piece joins to the character before it: what is left is about a word, whatever the
// length of the text.
Status Encoder::plain(const uint8_t* text, size_t size) {
  after_unknown_ = false;
  if (size == 0) return Status::ok();
  RNL_TRY(escape(text, size));
  const uint8_t* t = s_.text.data();
  const uint32_t n = uint32_t(s_.text.size());
  uint32_t begin = 0, i = 0;
  while (i < n) {
    const TrieMatch match = v_.match(t + i, n - i, piece_bit(PieceType::kUserDefined), false);
    const bool mark = n - i >= kSpaceMarkBytes && std::equal(t + i, t + i + kSpaceMarkBytes, bytes_of(kSpaceMark));
    if (match.id >= 0 || (mark && i > begin && !v_.joins_space(t[i - 1]))) {
      RNL_TRY(stretch(begin, i));
      begin = i;
    }
    if (match.id >= 0) {
      RNL_TRY(ids_.push(match.id));
      after_unknown_ = false;
      begin = i += match.length;
    } else {
      i += utf8_step(t + i, n - i).length;
    }
  }
  return stretch(begin, n);
}

Status Encoder::offer(int32_t left, int32_t right) {
  if (left < 0 || right < 0) return Status::ok();
  const SpmScratch::Symbol& a = s_.symbols[size_t(left)];
  const uint32_t size = a.size + s_.symbols[size_t(right)].size;
  const int32_t id = v_.find(s_.text.data() + a.begin, size, kMergeTypes);
  if (id < 0) return Status::ok();
  if (v_.type(id) == PieceType::kUnused) RNL_TRY(remember_split(id, a.size));
  const uint64_t order = uint64_t(ordered(v_.scores[id])) << 32 | uint32_t(~left);
  RNL_TRY(s_.heap.push({order, uint32_t(right), size, id}));
  std::push_heap(s_.heap.begin(), s_.heap.end(), LowerFirst());
  return Status::ok();
}

// Merges text[begin .. end), in which no character belongs to a user-defined piece.
Status Encoder::stretch(uint32_t begin, uint32_t end) {
  if (begin == end) return Status::ok();
  const uint8_t* t = s_.text.data();
  s_.symbols.clear();
  s_.heap.clear();
  for (uint32_t i = begin; i < end;) {
    const uint32_t size = utf8_step(t + i, end - i).length;
    const int32_t at = int32_t(s_.symbols.size());
    RNL_TRY(s_.symbols.push({i, size, at - 1, i + size < end ? at + 1 : -1, -1}));
    i += size;
  }
  for (int32_t i = 0; i + 1 < int32_t(s_.symbols.size()); ++i) RNL_TRY(offer(i, i + 1));
  while (!s_.heap.empty()) {
    std::pop_heap(s_.heap.begin(), s_.heap.end(), LowerFirst());
    const SpmScratch::Pair top = s_.heap.back();
    s_.heap.pop();
    const int32_t left = int32_t(~uint32_t(top.order));
    SpmScratch::Symbol& a = s_.symbols[size_t(left)];
    SpmScratch::Symbol& b = s_.symbols[top.right];
    if (a.size == 0 || b.size == 0 || a.size + b.size != top.size) continue;  // one of them has merged since
    a.size = top.size;
    a.id = top.id;
    a.next = b.next;
    if (b.next >= 0) s_.symbols[size_t(b.next)].prev = left;
    b.size = 0;
    RNL_TRY(offer(a.prev, left));
    RNL_TRY(offer(left, a.next));
  }
  for (int32_t i = 0; i >= 0; i = s_.symbols[size_t(i)].next) {
    const SpmScratch::Symbol& a = s_.symbols[size_t(i)];
    RNL_TRY(emit(a.begin, a.size, a.id >= 0 ? a.id : v_.find(t + a.begin, a.size, kMergeTypes), 0));
  }
  return Status::ok();
}

Status Encoder::remember_split(int32_t id, uint32_t left_bytes) {
  if (s_.splits.size() != size_t(v_.count)) RNL_TRY(s_.splits.assign(size_t(v_.count)));
  s_.splits[size_t(id)] = uint16_t(left_bytes);
  return Status::ok();
}

// A piece of type kUnused took part in merging but is not an id of the model: it falls back into the halves it was made
// of.
Status Encoder::emit(uint32_t begin, uint32_t size, int32_t id, int depth) {
  if (id < 0) return emit_unknown(begin, size);
  if (v_.type(id) == PieceType::kUnused && s_.splits.size() == size_t(v_.count) && depth < 64) {
    const uint32_t left = s_.splits[size_t(id)];
    if (left > 0 && left < size) {
      const uint8_t* t = s_.text.data() + begin;
      RNL_TRY(emit(begin, left, v_.find(t, left, kMergeTypes), depth + 1));
      return emit(begin + left, size - left, v_.find(t + left, size - left, kMergeTypes), depth + 1);
    }
  }
  after_unknown_ = false;
  return ids_.push(id);
}

Status Encoder::emit_unknown(uint32_t begin, uint32_t size) {
  if (v_.byte_fallback) {
    for (uint32_t i = 0; i < size; ++i) {
      const int32_t id = v_.header->byte_ids[s_.text[begin + i]];
      const int32_t known = id >= 0 && id < v_.count ? id : v_.unk;
      if (known < 0)
        return Status::make(Code::kInvalidModel, "tokenizer: there is no piece for byte 0x%02X", s_.text[begin + i]);
      RNL_TRY(ids_.push(known));
    }
    return Status::ok();
  }
  if (v_.unk < 0)
    return Status::make(Code::kInvalidModel, "tokenizer: a character has no piece, and there is no unknown piece");
  if (!after_unknown_) RNL_TRY(ids_.push(v_.unk));  // a run of unknown characters is one id
  after_unknown_ = true;
  return Status::ok();
}

}  // namespace

Status spm_encode(const Vocab& vocab, const uint8_t* text, size_t size, const TextRange* special, size_t special_count,
                  SpmScratch* scratch, Vec<int32_t>* ids) {
  Encoder encoder(vocab, scratch, ids);
  constexpr uint32_t kSpecial = piece_bit(PieceType::kControl) | piece_bit(PieceType::kUnknown);
  size_t begin = 0;
  for (size_t r = 0; r < special_count; ++r) {
    for (size_t i = special[r].begin; i < special[r].end;) {
      const TrieMatch match = vocab.match(text + i, special[r].end - i, kSpecial, true);
      if (match.id < 0) {
        ++i;
        continue;
      }
      RNL_TRY(encoder.plain(text + begin, i - begin));
      RNL_TRY(ids->push(match.id));
      begin = i += match.length;
    }
  }
  return encoder.plain(text + begin, size - begin);
}

}  // namespace runnel
