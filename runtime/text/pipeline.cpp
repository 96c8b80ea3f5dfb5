#include "text/pipeline.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace runnel {
namespace {

// The alphabet of byte-level BPE: printable characters of Latin-1 for themselves, those from U+0100 on for the other
// bytes in order.
uint32_t letter_of(uint8_t b) {
  if (b < 0x21) return 256u + b;
  if (b >= 0x7F && b <= 0xA0) return 256u + 33 + b - 0x7F;
  return b == 0xAD ? 256u + 67 : b;
}

uint8_t byte_of(uint32_t letter) {
  if (letter < 256) return uint8_t(letter);
  const uint32_t other = letter - 256;
  return uint8_t(other < 33 ? other : other < 67 ? other - 33 + 0x7F : 0xAD);
}

constexpr uint32_t kControlTypes = piece_bit(PieceType::kControl) | piece_bit(PieceType::kUnknown);

class Pipeline {
 public:
  Pipeline(const Vocab& vocab, PipelineScratch* scratch, Vec<int32_t>* ids) : v_(vocab), s_(*scratch), ids_(*ids) {}
  Status open();
  Status run(const uint8_t* text, size_t size, const TextRange* special, size_t special_count);

 private:
  // Text in which added tokens are looked for.
  struct Place {
    const uint8_t* text;
    size_t size;
    const TextRange* special;
    size_t special_count;
    bool normalized;  // which added tokens
  };
  struct Found {
    int32_t id;
    size_t begin, end;
    size_t next;  // where the search goes on: also within white space that was stripped, as in the original
    // Nothing is left of one that lies within what the one before it stripped, and strips itself.
    bool is_there() const { return begin < end; }
  };
  bool next_added(const Place& p, size_t from, size_t after, Found* out) const;
  TrieMatch match_added(const Place& p, size_t at, size_t limit, bool with_control) const;
  bool stands_alone(const Place& p, size_t begin, size_t end) const;
  bool is_word(const uint8_t* p, size_t n) const {
    return v_.pre.word.page_count && v_.pre.word.of(code_point_at(p, n).value) == 1;
  }
  Status section(const uint8_t* text, size_t size, const TextRange* special, size_t special_count, bool first);
  Status normalized(const uint8_t* text, size_t size, bool special, bool first);
  Status pre_tokenize(uint32_t step, size_t begin, size_t end, bool first);
  Status rewrite(const PreStep& step, size_t* begin, size_t* end, bool first);
  Status word(size_t begin, size_t end);

  const Vocab& v_;
  PipelineScratch& s_;
  Vec<int32_t>& ids_;
  const uint8_t* text_ = nullptr;  // all of it, as it was given
  Regex regexes_[kMaxPreSteps];
  bool begins_[256] = {};                                     // bytes that added tokens begin with
  bool any_normalized_ = false, control_normalized_ = false;  // added tokens that are looked for in normalised text
};

Status Pipeline::open() {
  for (uint32_t i = 0; i < v_.pre.step_count; ++i)
    if (v_.pre.steps[i].kind == PreKind::kSplit)
      RNL_TRY(regex_open(v_.pre.tables, v_.pre.size, v_.pre.steps[i].offset, &regexes_[i]));
  const TrieNode& root = v_.nodes[0];
  for (uint32_t i = root.first_child; i < v_.header->node_count && i - root.first_child < root.child_count; ++i)
    begins_[v_.nodes[i].byte] = true;
  for (size_t i = 0; i < v_.added_size; ++i) {
    if (!(v_.added_flags[i] & kAddedNormalized)) continue;
    any_normalized_ = true;
    control_normalized_ |= (piece_bit(v_.type(v_.added[i])) & kControlTypes) != 0;
  }
  return Status::ok();
}

// The longest added token of the place's kind at `at`, which ends by `limit`.
TrieMatch Pipeline::match_added(const Place& p, size_t at, size_t limit, bool with_control) const {
  TrieMatch best;
  v_.walk(p.text + at, limit - at, [&](int32_t id, uint32_t length) {
    if (!(piece_bit(v_.type(id)) & (kControlTypes | piece_bit(PieceType::kUserDefined)))) return;
    if (!with_control && (piece_bit(v_.type(id)) & kControlTypes)) return;
    if (bool(v_.flags_of(id) & kAddedNormalized) == p.normalized) best = {id, length};
  });
  return best;
}

bool Pipeline::stands_alone(const Place& p, size_t begin, size_t end) const {
  if (end < p.size && is_word(p.text + end, p.size - end)) return false;
  if (begin == 0) return true;
  size_t last = begin - 1;
  while (last > 0 && (p.text[last] & 0xC0) == 0x80) --last;
  return !is_word(p.text + last, begin - last);
}

// The first added token that begins at `from` or later; what it strips does not reach before `after`.
bool Pipeline::next_added(const Place& p, size_t from, size_t after, Found* out) const {
  size_t range = 0;
  for (size_t at = from; at < p.size;) {
    if (!begins_[p.text[at]]) {
      ++at;
      continue;
    }
    while (range < p.special_count && p.special[range].end <= at) ++range;
    const bool inside = range < p.special_count && p.special[range].begin <= at;
    TrieMatch m = match_added(p, at, p.size, true);
    bool skip = m.id >= 0 && (piece_bit(v_.type(m.id)) & kControlTypes);
    if (inside && skip) {
      // A control piece lies within one range.
      skip = false;
      if (at + m.length > p.special[range].end) {
        const TrieMatch whole = match_added(p, at, p.special[range].end, true),
                        other = match_added(p, at, p.size, false);
        m = whole.length > other.length ? whole : other;
      }
    }
    if (m.id < 0) {
      ++at;
      continue;
    }
    const uint8_t flags = v_.flags_of(m.id);
    const size_t end = at + m.length;
    if (skip || ((flags & kAddedSingleWord) && !stands_alone(p, at, end))) {
      at = end;
      continue;
    }
    *out = {m.id, at, end, end};
    while ((flags & kAddedStripLeft) && out->begin > after) {
      size_t last = out->begin - 1;
      while (last > after && (p.text[last] & 0xC0) == 0x80) --last;
      if (!is_white_space(code_point_at(p.text + last, out->begin - last).value)) break;
      out->begin = last;
    }
    if (flags & kAddedStripLeft) out->begin = std::max(out->begin, after);
    while ((flags & kAddedStripRight) && out->end < p.size) {
      const CodePoint c = code_point_at(p.text + out->end, p.size - out->end);
      if (!is_white_space(c.value)) break;
      out->end += c.length;
    }
    return true;
  }
  return false;
}

Status Pipeline::run(const uint8_t* text, size_t size, const TextRange* special, size_t special_count) {
  text_ = text;
  s_.regex.work = kRegexStepsPerText + kRegexStepsPerByte * uint64_t(size);
  const Place place = {text, size, special, special_count, false};
  size_t begin = 0;
  Found found;
  for (size_t from = 0; next_added(place, from, begin, &found); begin = found.end, from = found.next) {
    if (found.begin > begin) RNL_TRY(section(text + begin, found.begin - begin, special, special_count, begin == 0));
    if (found.is_there()) RNL_TRY(ids_.push(found.id));
  }
  return section(text + begin, size - begin, special, special_count, begin == 0);
}

// Text between added tokens. Where ranges matter after the normaliser, which may move everything, it is cut at their
// ends.
Status Pipeline::section(const uint8_t* text, size_t size, const TextRange* special, size_t special_count, bool first) {
  if (size == 0) return Status::ok();
  const size_t offset = size_t(text - text_);
  if (!control_normalized_) return normalized(text, size, false, first);
  size_t begin = 0;
  for (size_t i = 0; i < special_count && begin < size; ++i) {
    const size_t from = std::clamp(special[i].begin, offset + begin, offset + size) - offset,
                 to = std::clamp(special[i].end, offset + begin, offset + size) - offset;
    RNL_TRY(normalized(text + begin, from - begin, false, first && begin == 0));
    RNL_TRY(normalized(text + from, to - from, true, first && from == 0));
    begin = to;
  }
  return normalized(text + begin, size - begin, false, first && begin == 0);
}

Status Pipeline::normalized(const uint8_t* text, size_t size, bool special, bool first) {
  if (size == 0) return Status::ok();
  const size_t base = s_.text.size();
  RNL_TRY(append_valid(text, size, &s_.text));
  RNL_TRY(normalize(v_.norm, base, &s_.text, &s_.norm, &s_.regex));
  size_t begin = base, end = s_.text.size(), from = 0;
  const TextRange all = {0, end - base};
  Found found;
  // The text may move while words are made of it.
  const auto place = [&] { return Place{s_.text.data() + base, end - base, &all, size_t(special), true}; };
  while (any_normalized_ && next_added(place(), from, begin - base, &found)) {
    if (base + found.begin > begin) RNL_TRY(pre_tokenize(0, begin, base + found.begin, first && begin == base));
    if (found.is_there()) RNL_TRY(ids_.push(found.id));
    begin = base + found.end;
    from = found.next;
  }
  RNL_TRY(pre_tokenize(0, begin, end, first && begin == base));
  s_.text.truncate(base);
  return Status::ok();
}

// Steps that change the text write it anew behind what there is.
Status Pipeline::rewrite(const PreStep& step, size_t* begin, size_t* end, bool first) {
  const uint8_t* string = v_.pre.tables + step.offset;
  const size_t size = *end - *begin, made = s_.text.size();
  if (step.kind == PreKind::kPrepend) {
    const bool has_it = size >= step.size && std::equal(string, string + step.size, s_.text.data() + *begin);
    if (has_it || (step.first_only && !first)) return Status::ok();
    RNL_TRY(s_.text.reserve(made + step.size + size));
    RNL_TRY(s_.text.append(string, step.size));
    RNL_TRY(s_.text.append(s_.text.data() + *begin, size));
  } else if (step.kind == PreKind::kToAlphabet) {
    for (size_t i = *begin; i < *end; ++i) {
      const uint32_t c = letter_of(s_.text[i]);
      if (c >= 0x80) RNL_TRY(s_.text.push(uint8_t(0xC0 | c >> 6)));
      RNL_TRY(s_.text.push(uint8_t(c < 0x80 ? c : 0x80 | (c & 0x3F))));
    }
  } else if (step.kind == PreKind::kFromAlphabet) {
    for (size_t i = *begin; i < *end;) {
      const CodePoint c = code_point_at(s_.text.data() + i, *end - i);
      RNL_TRY(s_.text.push(byte_of(c.value)));
      i += c.length;
    }
  } else {
    for (size_t i = *begin; i < *end; ++i) {
      const uint8_t byte = s_.text[i];
      if (byte == ' ') RNL_TRY(s_.text.append(string, step.size));
      else RNL_TRY(s_.text.push(byte));
    }
  }
  *begin = made;
  *end = s_.text.size();
  return Status::ok();
}

Status Pipeline::pre_tokenize(uint32_t step, size_t begin, size_t end, bool first) {
  if (begin == end) return Status::ok();
  if (step == v_.pre.step_count) return word(begin, end);
  const PreStep& s = v_.pre.steps[step];
  const size_t base = s_.text.size();
  if (s.kind != PreKind::kSplit) {
    RNL_TRY(rewrite(s, &begin, &end, first));
    RNL_TRY(pre_tokenize(step + 1, begin, end, first));
    s_.text.truncate(base);
    return Status::ok();
  }
  Splitter splitter(s, regexes_[step], begin, end, &s_.text, &s_.regex);
  for (size_t from = 0, to = 0;;) {
    bool more = false;
    RNL_TRY(splitter.next(&from, &to, &more));
    if (!more) return Status::ok();
    RNL_TRY(pre_tokenize(step + 1, from, to, first && from == begin));
  }
}

Status Pipeline::word(size_t begin, size_t end) {
  const uint8_t* text = s_.text.data() + begin;
  switch (v_.kind) {
    case TokenizerKind::kByteBpe: return bpe_encode(v_, text, end - begin, &s_.bpe, &ids_);
    case TokenizerKind::kUnigram: return unigram_encode(v_, text, end - begin, &s_.unigram, &ids_);
    case TokenizerKind::kWordPiece: return word_piece_encode(v_, text, end - begin, &ids_);
    default: return Status::make(Code::kInternal, "tokenizer: kind %d has no words", int(v_.kind));
  }
}

}  // namespace

Status pipeline_encode(const Vocab& vocab, const uint8_t* text, size_t size, const TextRange* special,
                       size_t special_count, PipelineScratch* scratch, Vec<int32_t>* ids) {
  scratch->text.clear();
  Pipeline pipeline(vocab, scratch, ids);
  RNL_TRY(pipeline.open());
  return pipeline.run(text, size, special, special_count);
}

}  // namespace runnel
