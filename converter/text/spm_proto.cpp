// Reads a SentencePiece model file, the protobuf ModelProto of sentencepiece_model.proto, as far as BPE and unigram
// models need it.
#include <bit>
#include <cstring>

#include "converter/text/trie_models.h"

namespace runnel::convert {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("SentencePiece model: " + what); }

// One field of a protobuf message. Groups, which the format no longer uses, are refused.
struct Field {
  uint32_t number = 0, wire = 0;
  uint64_t value = 0;      // wire types 0, 1 and 5
  std::string_view bytes;  // wire type 2
};

class Message {
 public:
  explicit Message(std::string_view bytes) : rest_(bytes) {}

  bool next(Field* f) {
    if (rest_.empty()) return false;
    const uint64_t key = varint();
    f->number = uint32_t(key >> 3);
    f->wire = uint32_t(key & 7);
    if (f->number == 0 || key >> 3 > (1u << 29)) fail("a field has a bad number");
    switch (f->wire) {
      case 0: f->value = varint(); break;
      case 1: f->value = fixed(8); break;
      case 5: f->value = fixed(4); break;
      case 2: {
        const uint64_t size = varint();
        if (size > rest_.size())
          fail("truncated: a field of " + std::to_string(size) + " bytes with " + std::to_string(rest_.size()) +
               " left");
        f->bytes = rest_.substr(0, size_t(size));
        rest_.remove_prefix(size_t(size));
        break;
      }
      default: fail("a field has the unknown wire type " + std::to_string(f->wire));
    }
    return true;
  }

 private:
  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) fail("truncated in a number");
      const uint8_t b = uint8_t(rest_.front());
      rest_.remove_prefix(1);
      v |= uint64_t(b & 0x7F) << shift;
      if (b < 0x80) return v;
    }
    fail("a number is too long");
  }
  uint64_t fixed(size_t bytes) {
    if (rest_.size() < bytes) fail("truncated in a number");
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; ++i) v |= uint64_t(uint8_t(rest_[i])) << (8 * i);
    rest_.remove_prefix(bytes);
    return v;
  }
  std::string_view rest_;
};

void expect(const Field& f, uint32_t wire) {
  if (f.wire != wire) fail("field " + std::to_string(f.number) + " has the wrong wire type");
}

struct Trainer {
  uint64_t model_type = 1;  // unigram
  bool whitespace_as_suffix = false, byte_fallback = false;
  std::string bos = "<s>", eos = "</s>";
};

void read_piece(std::string_view bytes, VocabSource* s) {
  std::string piece;
  float score = 0;
  uint64_t type = 1;
  Message m(bytes);
  for (Field f; m.next(&f);) {
    if (f.number == 1) expect(f, 2), piece = f.bytes;
    else if (f.number == 2) expect(f, 5), score = std::bit_cast<float>(uint32_t(f.value));
    else if (f.number == 3) expect(f, 0), type = f.value;
  }
  if (piece.empty()) fail("piece " + std::to_string(s->pieces.size()) + " is empty");
  if (type < 1 || type > 6)
    fail("piece " + std::to_string(s->pieces.size()) + " has the unknown type " + std::to_string(type));
  s->pieces.push_back(std::move(piece));
  s->scores.push_back(score);
  s->types.push_back(uint8_t(type));
}

Trainer read_trainer(std::string_view bytes) {
  Trainer t;
  Message m(bytes);
  for (Field f; m.next(&f);) {
    if (f.number == 3) expect(f, 0), t.model_type = f.value;
    else if (f.number == 24) expect(f, 0), t.whitespace_as_suffix = f.value != 0;
    else if (f.number == 35) expect(f, 0), t.byte_fallback = f.value != 0;
    else if (f.number == 46) expect(f, 2), t.bos = f.bytes;
    else if (f.number == 47) expect(f, 2), t.eos = f.bytes;
  }
  return t;
}

SpmNormalizer read_normalizer(std::string_view bytes) {
  SpmNormalizer n;
  Message m(bytes);
  for (Field f; m.next(&f);) {
    if (f.number == 2) expect(f, 2), n.charsmap = f.bytes;
    else if (f.number == 3) expect(f, 0), n.add_dummy_prefix = f.value != 0;
    else if (f.number == 4) expect(f, 0), n.remove_extra_whitespaces = f.value != 0;
    else if (f.number == 5) expect(f, 0), n.escape_whitespaces = f.value != 0;
  }
  return n;
}

}  // namespace

VocabSource from_spm_proto(std::string_view bytes) {
  VocabSource s;
  Trainer trainer;
  std::string_view normalizer, denormalizer;
  Message m(bytes);
  for (Field f; m.next(&f);) {
    if (f.number < 1 || f.number > 5) continue;
    expect(f, 2);
    if (f.number == 1) read_piece(f.bytes, &s);
    else if (f.number == 2) trainer = read_trainer(f.bytes);
    else if (f.number == 3) normalizer = f.bytes;
    else if (f.number == 5) denormalizer = f.bytes;
  }
  if (s.pieces.empty()) fail("it has no pieces");
  static constexpr const char* kModels[] = {"?", "unigram", "bpe", "word", "char"};
  if (trainer.model_type != 1 && trainer.model_type != 2)
    throw UnsupportedTokenizer("SentencePiece models of type " +
                               std::string(trainer.model_type < 5 ? kModels[trainer.model_type] : "?") +
                               " are not supported yet, only unigram and bpe");
  if (!read_normalizer(denormalizer).charsmap.empty())
    throw UnsupportedTokenizer("SentencePiece's denormalizer is not supported yet");
  SpmNormalizer spec = read_normalizer(normalizer);
  spec.whitespace_as_suffix = trainer.whitespace_as_suffix;
  s.add_space_prefix = spec.add_dummy_prefix && !spec.whitespace_as_suffix;
  set_spm_normalizer(spec, &s);
  s.byte_fallback = trainer.byte_fallback;
  for (size_t i = 0; i < s.pieces.size(); ++i) {
    const PieceType type = PieceType(s.types[i]);
    if (type == PieceType::kUnknown) s.unk = int32_t(i);
    if (type == PieceType::kControl && s.pieces[i] == trainer.bos) s.bos = int32_t(i);
    if (type == PieceType::kControl && s.pieces[i] == trainer.eos) s.eos = int32_t(i);
  }
  if (trainer.model_type == 1) finish_spm_unigram(&s);
  s.add_bos = s.bos >= 0;  // tokenizer_config.json may say otherwise
  return s;
}

}  // namespace runnel::convert
