#include "text/tokenizer.h"

#include <cstring>

#include "text/longest_match.h"
#include "text/utf8.h"

namespace runnel {

Status Tokenizer::encode(const char* text, size_t size, const EncodeOptions& options, EncodeScratch* scratch,
                         Vec<int32_t>* ids) const {
  const TextRange all = {0, size};
  return encode_ranges(reinterpret_cast<const uint8_t*>(text), size, &all, options.special ? 1 : 0, options, scratch,
                       ids);
}

Status Tokenizer::encode_parts(const TextPart* parts, size_t count, const EncodeOptions& options,
                               EncodeScratch* scratch, Vec<int32_t>* ids) const {
  scratch->joined.clear();
  scratch->special.clear();
  for (size_t i = 0; i < count; ++i) {
    const size_t begin = scratch->joined.size();
    RNL_TRY(scratch->joined.append(reinterpret_cast<const uint8_t*>(parts[i].data), parts[i].size));
    if (parts[i].special) RNL_TRY(scratch->special.push({begin, begin + parts[i].size}));
  }
  return encode_ranges(scratch->joined.data(), scratch->joined.size(), scratch->special.data(), scratch->special.size(),
                       options, scratch, ids);
}

Status Tokenizer::encode_ranges(const uint8_t* text, size_t size, const TextRange* special, size_t special_count,
                                const EncodeOptions& options, EncodeScratch* scratch, Vec<int32_t>* ids) const {
  RNL_CHECK_ARG(size <= kMaxTextBytes, "a text of %zu bytes is longer than the %zu bytes that one call takes", size,
                kMaxTextBytes);
  using Add = EncodeOptions::Add;
  const bool bos = options.bos == Add::kYes || (options.bos == Add::kModelDefault && vocab_.add_bos);
  const bool eos = options.eos == Add::kYes || (options.eos == Add::kModelDefault && vocab_.add_eos);
  RNL_CHECK_ARG(!bos || vocab_.bos >= 0 || vocab_.prefix_size, "this vocabulary has no bos token");
  RNL_CHECK_ARG(!eos || vocab_.eos >= 0 || vocab_.suffix_size, "this vocabulary has no eos token");
  if (bos) RNL_TRY(vocab_.prefix_size ? ids->append(vocab_.prefix, vocab_.prefix_size) : ids->push(vocab_.bos));
  switch (vocab_.kind) {
    case TokenizerKind::kSpmBpe:
      RNL_TRY(spm_encode(vocab_, text, size, special, special_count, &scratch->spm, ids));
      break;
    case TokenizerKind::kLongestMatch:
      RNL_TRY(longest_match_encode(vocab_, text, size, special, special_count, ids));
      break;
    default: RNL_TRY(pipeline_encode(vocab_, text, size, special, special_count, &scratch->pipeline, ids)); break;
  }
  if (eos) RNL_TRY(vocab_.suffix_size ? ids->append(vocab_.suffix, vocab_.suffix_size) : ids->push(vocab_.eos));
  return Status::ok();
}

namespace {

// Takes bytes of any kind and writes valid UTF-8.
struct Writer {
  DecodeState* state;
  char* out;
  size_t size = 0;

  void put(const uint8_t* data, size_t n) {
    std::memcpy(out + size, data, n);
    size += n;
  }
  void replacement() { put(reinterpret_cast<const uint8_t*>(kReplacement), kReplacementBytes); }
  void byte(uint8_t b) {
    state->pending[state->pending_count++] = b;
    while (state->pending_count) {
      const Utf8Step step = utf8_step(state->pending, state->pending_count);
      if (step.kind == Utf8::kIncomplete) return;
      if (step.kind == Utf8::kValid) put(state->pending, step.length);
      else replacement();
      state->pending_count = uint8_t(state->pending_count - step.length);
      std::memmove(state->pending, state->pending + step.length, state->pending_count);
    }
  }
  void text(const char* s) {
    for (; *s; ++s) byte(uint8_t(*s));
  }
};

// The value of a piece written <0xXX>, or -1.
int byte_value(const PieceView& p) {
  if (p.size != 6 || std::memcmp(p.data, "<0x", 3) != 0 || p.data[5] != '>') return -1;
  int value = 0;
  for (int i = 3; i < 5; ++i) {
    const int c = p.data[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// Pieces are the bytes of the text, with no notation of their own.
bool has_plain_bytes(const Vocab& v) {
  return v.kind == TokenizerKind::kLongestMatch || (v.kind == TokenizerKind::kByteBpe && !v.char_units);
}

// The cleaning of word_piece's decoder, on one piece with the space before it; nothing gets longer.
size_t clean_up(char* text, size_t size) {
  static constexpr char kRules[][2][8] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                          {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                          {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& rule : kRules) {
    const size_t from = std::strlen(rule[0]), to = std::strlen(rule[1]);
    size_t kept = 0;
    for (size_t i = 0; i < size;) {
      if (size - i >= from && std::memcmp(text + i, rule[0], from) == 0) {
        std::memcpy(text + kept, rule[1], to);
        kept += to, i += from;
      } else {
        text[kept++] = text[i++];
      }
    }
    size = kept;
  }
  return size;
}

// Pieces within a word without their prefix, others after a space unless they are the first of a text.
uint32_t word_piece_bytes(const Vocab& vocab, const PieceView& p, bool first, uint8_t* out) {
  const PieceTrieHeader& h = *vocab.piece_trie.header;
  const bool within = !first && p.size >= h.prefix_size && std::memcmp(p.data, h.prefix, h.prefix_size) == 0;
  size_t size = 0;
  if (!first && !within) out[size++] = ' ';
  const uint32_t skip = within ? h.prefix_size : 0;
  if (p.size > skip) std::memcpy(out + size, p.data + skip, p.size - skip);
  size += p.size - skip;
  return uint32_t(vocab.clean_up ? clean_up(reinterpret_cast<char*>(out), size) : size);
}

}  // namespace

uint32_t Tokenizer::token_bytes(int32_t id, uint8_t* out) const {
  const PieceView p = vocab_.piece(id);
  const PieceType type = vocab_.type(id);
  const bool plain = has_plain_bytes(vocab_);
  if (type == PieceType::kControl || (type == PieceType::kUnknown && !plain) || p.size == 0) return 0;
  if (plain) {
    std::memcpy(out, p.data, p.size);
    return p.size;
  }
  const int byte = type == PieceType::kByte ? byte_value(p) : -1;
  if (byte >= 0) {
    out[0] = uint8_t(byte);
    return 1;
  }
  if (vocab_.kind == TokenizerKind::kWordPiece) return word_piece_bytes(vocab_, p, false, out);
  uint32_t n = 0;
  for (uint32_t i = 0; i < p.size;) {
    const bool mark = p.size - i >= kSpaceMarkBytes && std::memcmp(p.data + i, kSpaceMark, kSpaceMarkBytes) == 0;
    out[n++] = mark ? uint8_t(' ') : p.data[i];
    i += mark ? uint32_t(kSpaceMarkBytes) : 1;
  }
  return n;
}

Result<size_t> Tokenizer::decode(int32_t id, DecodeState* state, char* out) const {
  RNL_CHECK_ARG(id >= 0 && id < vocab_.count, "id %d is not one of the %d pieces of the vocabulary", id, vocab_.count);
  if (state->pending_count > 3)
    return Status::make(Code::kStateMismatch, "a decoder's state holds %d pending bytes", state->pending_count);
  const PieceType type = vocab_.type(id);
  Writer w{state, out};
  if (type == PieceType::kControl) {
    const PieceView p = vocab_.piece(id);
    for (uint32_t i = 0; state->special && i < p.size; ++i) w.byte(p.data[i]);
    return w.size;
  }
  uint8_t bytes[kMaxTokenBytes];
  if (has_plain_bytes(vocab_) || (type == PieceType::kByte && byte_value(vocab_.piece(id)) >= 0)) {
    const uint32_t n = token_bytes(id, bytes);
    for (uint32_t i = 0; i < n; ++i) w.byte(bytes[i]);
    state->at_start = 0;
    return w.size;
  }
  const PieceView p = vocab_.piece(id);
  if (vocab_.kind == TokenizerKind::kWordPiece) {
    const uint32_t n = word_piece_bytes(vocab_, p, state->at_start, bytes);
    for (uint32_t i = 0; i < n; ++i) w.byte(bytes[i]);
    state->at_start = 0;
    return w.size;
  }
  if (type == PieceType::kUnknown) {
    w.text(" \xE2\x81\x87 ");  // U+2047, as SentencePiece shows it
    state->at_start = 0;
    return w.size;
  }
  const auto mark_at = [&](uint32_t i) {
    return p.size - i >= kSpaceMarkBytes && std::memcmp(p.data + i, kSpaceMark, kSpaceMarkBytes) == 0;
  };
  FirstSpace first = vocab_.first_space;
  if (first == FirstSpace::kPrefix) first = vocab_.add_space_prefix ? FirstSpace::kOne : FirstSpace::kNone;
  const bool drop = state->at_start && first != FirstSpace::kNone;
  uint32_t i = drop && mark_at(0) ? uint32_t(kSpaceMarkBytes) : 0;
  // With kEach the next piece is still the first one when this one was a space alone.
  if (p.size && (first != FirstSpace::kEach || i < p.size)) state->at_start = 0;
  while (i < p.size) {
    const bool mark = mark_at(i);
    if (!(mark && drop && first == FirstSpace::kAll)) w.byte(mark ? uint8_t(' ') : p.data[i]);
    i += mark ? uint32_t(kSpaceMarkBytes) : 1;
  }
  return w.size;
}

size_t Tokenizer::finish(DecodeState* state, char* out) const {
  Writer w{state, out};
  if (state->pending_count) w.replacement();  // a valid beginning, so one invalid part
  state->pending_count = 0;
  return w.size;
}

Status Tokenizer::decode_all(const int32_t* ids, size_t count, bool special, Vec<char>* out) const {
  DecodeState state;
  state.special = special;
  char text[kMaxTokenText];
  for (size_t i = 0; i < count; ++i) {
    RNL_ASSIGN(n, decode(ids[i], &state, text));
    RNL_TRY(out->append(text, n));
  }
  const size_t n = finish(&state, text);
  return out->append(text, n);
}

}  // namespace runnel
