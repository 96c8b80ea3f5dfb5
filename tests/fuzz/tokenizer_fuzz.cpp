// Damaged vocabulary tables and any text: every call ends, reads nothing out of range, and what is decoded is UTF-8.
// Input: a count of changes, then table, position (2 bytes) and value of each, then the text.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "converter/text/vocabulary.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

using namespace runnel;

namespace {

struct Good {
  convert::VocabSource source;
  convert::VocabData data;
};

const Good& good() {
  static const Good g = [] {
    std::ifstream in(RNL_SOURCE_DIR "/tests/goldens/spm_small.model", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    Good made{convert::from_spm_proto(bytes), {}};
    made.data = convert::build_vocab(made.source);
    return made;
  }();
  return g;
}

template <class T>
void change(std::vector<T>& table, size_t at, uint8_t value) {
  reinterpret_cast<uint8_t*>(table.data())[at % (table.size() * sizeof(T))] = value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  convert::VocabData d = good().data;
  size_t at = 1;
  for (uint32_t n = data[0] % 64; n > 0 && at + 4 <= size; --n, at += 4) {
    const size_t position = data[at + 1] | size_t(data[at + 2]) << 8;
    switch (data[at] % 5) {
      case 0: change(d.pieces, position, data[at + 3]); break;
      case 1: change(d.piece_offsets, position, data[at + 3]); break;
      case 2: change(d.scores, position, data[at + 3]); break;
      case 3: change(d.types, position, data[at + 3]); break;
      default: change(d.index, position, data[at + 3]); break;
    }
  }
  Vocab vocab;
  if (!vocab_open(convert::tables_of(good().source, d), &vocab).is_ok()) return 0;
  const Tokenizer t(vocab);
  EncodeScratch scratch;
  EncodeOptions options;
  options.special = data[0] & 64;
  Vec<int32_t> ids;
  if (!t.encode(reinterpret_cast<const char*>(data) + at, size - at, options, &scratch, &ids).is_ok()) return 0;
  Vec<char> text;
  if (!t.decode_all(ids.data(), ids.size(), data[0] & 128, &text).is_ok()) return 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(reinterpret_cast<const uint8_t*>(text.data()) + i, text.size() - i);
    if (step.kind != Utf8::kValid) std::abort();
    i += step.length;
  }
  return 0;
}
