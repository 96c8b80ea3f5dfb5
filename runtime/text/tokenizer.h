// Text to ids and back, for every kind of vocabulary. A tokenizer is a view of tables in the model file: opening one
// costs microseconds, and it may be shared by threads; scratch and decoder state belong to the caller.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"
#include "text/pipeline.h"
#include "text/spm_bpe.h"
#include "text/vocab.h"

namespace runnel {

// Longest text that one encode call takes, in bytes.
inline constexpr size_t kMaxTextBytes = size_t(1) << 30;

struct EncodeOptions {
  enum class Add : uint8_t { kModelDefault, kNo, kYes };
  Add bos = Add::kModelDefault, eos = Add::kModelDefault;
  // Control pieces written in the text become their ids. Off for anything that a user typed, or the user could forge a
  // turn.
  bool special = false;
};

// A text that is put together from trusted markup (special) and a user's words.
struct TextPart {
  const char* data;
  size_t size;
  bool special;  // control pieces written in this part become their ids
};

struct EncodeScratch {
  SpmScratch spm;
  PipelineScratch pipeline;
  Vec<uint8_t> joined;
  Vec<TextRange> special;
};

// What a stream of ids being decoded remembers. Plain data, so that it can lie in a session's state block.
struct DecodeState {
  uint8_t pending[4] = {};  // bytes of a character whose end has not come yet
  uint8_t pending_count = 0;
  // The next text is the first of a whole text that was encoded with a space prefix: that space is dropped. Clear it to
  // decode the continuation of a text.
  uint8_t at_start = 1;
  uint8_t special = 0;  // write control pieces out instead of skipping them
  uint8_t reserved = 0;
};
static_assert(sizeof(DecodeState) == 8);

// Room that decode() may need for one id, and finish() for the end.
inline constexpr size_t kMaxTokenText = 3 * (kMaxPieceBytes + 4);

// Room that token_bytes() may need.
inline constexpr size_t kMaxTokenBytes = kMaxPieceBytes + 1;

class Tokenizer {
 public:
  Tokenizer() = default;
  explicit Tokenizer(const Vocab& vocab) : vocab_(vocab) {}
  static Result<Tokenizer> of_model(const Model& model);
  const Vocab& vocab() const { return vocab_; }

  // Appends the ids of text[0 .. size), any bytes: each maximal invalid part of UTF-8 counts as one U+FFFD, but for
  // longest_match, which is defined on bytes.
  Status encode(const char* text, size_t size, const EncodeOptions& options, EncodeScratch* scratch,
                Vec<int32_t>* ids) const;
  // The parts as one text: pieces may span them, but control pieces lie within one special part. options.special is not
  // used.
  Status encode_parts(const TextPart* parts, size_t count, const EncodeOptions& options, EncodeScratch* scratch,
                      Vec<int32_t>* ids) const;
  // Writes the text that `id` completes to out[0 .. kMaxTokenText) and returns its bytes: whole characters only, always
  // valid UTF-8; what byte pieces leave open waits in `state`. kInvalidArgument for an id that is not a piece.
  Result<size_t> decode(int32_t id, DecodeState* state, char* out) const;
  // Writes the bytes that `id` adds to a text to out[0 .. kMaxTokenBytes) and returns how many: parts of characters
  // too, none for control pieces, for the unknown piece and for what is no piece.
  uint32_t token_bytes(int32_t id, uint8_t* out) const;
  // The end of the stream: a character that was left open becomes U+FFFD.
  size_t finish(DecodeState* state, char* out) const;
  // Appends the text of all ids, as one whole text.
  Status decode_all(const int32_t* ids, size_t count, bool special, Vec<char>* out) const;

 private:
  Status encode_ranges(const uint8_t* text, size_t size, const TextRange* special, size_t special_count,
                       const EncodeOptions& options, EncodeScratch* scratch, Vec<int32_t>* ids) const;
  Vocab vocab_;
};

// Encodes the check vectors that the converter wrote and compares. kInvalidModel names the first that differs.
Status tokenizer_self_check(const Model& model);

}  // namespace runnel
