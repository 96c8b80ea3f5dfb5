// Damaged tables of a byte-level BPE vocabulary, its pre-tokenizer and its added tokens, and any text: every call ends,
// reads nothing out of range, and gives ids of the vocabulary. Input: a count of changes, then table, position (3
// bytes) and value of each, then the text.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "converter/text/vocabulary.h"
#include "text/tokenizer.h"

using namespace runnel;

namespace {

struct Good {
  convert::VocabSource source;
  convert::VocabData data;
};

std::string read(const char* name) {
  std::ifstream in(std::string(RNL_SOURCE_DIR "/tests/goldens/") + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Good made(const char* variant) {
  nlohmann::json j = nlohmann::json::parse(read("bpe_small.json"));
  j["pre_tokenizer"] = j["variants"][variant]["pre_tokenizer"];
  j.erase("variants");
  j["added_tokens"] = nlohmann::json::parse(read("bpe_added.json"));
  Good good{convert::from_tokenizer_json(j.dump()), {}};
  good.data = convert::build_vocab(good.source);
  return good;
}

// Of many instructions; of several steps; of steps that change the text.
const Good& good(unsigned which) {
  static const Good all[] = {made("odd"), made("falcon"), made("metaspace"), made("o200k")};
  return all[which % 4];
}

void change(std::vector<uint8_t>& table, size_t at, uint8_t value) {
  if (!table.empty()) table[at % table.size()] = value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const Good& g = good(data[0] >> 6);
  convert::VocabData d = g.data;
  size_t at = 1;
  for (uint32_t n = data[0] % 32; n > 0 && at + 5 <= size; --n, at += 5) {
    const size_t position = data[at + 1] | size_t(data[at + 2]) << 8 | size_t(data[at + 3]) << 16;
    switch (data[at] % 6) {
      case 0: change(d.pre_tokenizer, position, data[at + 4]); break;
      // Steps stand in front, the instructions of the last pattern at the end.
      case 1: change(d.pre_tokenizer, position % 256, data[at + 4]); break;
      case 2:
        change(d.pre_tokenizer, d.pre_tokenizer.size() - 1 - position % std::min<size_t>(d.pre_tokenizer.size(), 2048),
               data[at + 4]);
        break;
      case 3: change(d.merges, position, data[at + 4]); break;
      case 4: change(d.index, position, data[at + 4]); break;
      default: d.added[position % d.added.size()] = int32_t(data[at + 4]) - 3; break;
    }
  }
  Vocab vocab;
  if (!vocab_open(convert::tables_of(g.source, d), &vocab).is_ok()) return 0;
  const Tokenizer t(vocab);
  EncodeScratch scratch;
  EncodeOptions options;
  options.special = data[0] & 32;
  Vec<int32_t> ids;
  if (!t.encode(reinterpret_cast<const char*>(data) + at, size - at, options, &scratch, &ids).is_ok()) return 0;
  for (const int32_t id : ids)
    if (id < 0 || id >= vocab.count) std::abort();
  Vec<char> text;
  (void)t.decode_all(ids.data(), ids.size(), true, &text).is_ok();
  return 0;
}
