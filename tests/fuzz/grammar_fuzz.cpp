// Any text as a grammar: it compiles or is refused, in bounded time. Where it compiles: what a text of bytes leads to,
// and what a token may be there, agree with each other; positions with wrong cells are refused or followed, never read
// out of range. Input: the grammar's size (2 bytes), the grammar, a text that is to follow it.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "converter/text/vocabulary.h"
#include "text/grammar.h"

using namespace runnel;

namespace {

struct Vocabulary {
  convert::VocabSource source;
  convert::VocabData data;
  TokenOrder order;
};

const Vocabulary& vocabulary() {
  static const Vocabulary& v = *[] {
    std::ifstream in(RNL_SOURCE_DIR "/tests/goldens/spm_small.model", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    auto* made = new Vocabulary{convert::from_spm_proto(bytes), {}, {}};
    made->data = convert::build_vocab(made->source);
    Vocab vocab;
    if (!vocab_open(convert::tables_of(made->source, made->data), &vocab).is_ok() ||
        !TokenOrder::build(Tokenizer(vocab), &made->order).is_ok())
      std::abort();
    return made;
  }();
  return v;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 4000) return 0;
  const size_t grammar_size = std::min<size_t>(data[0] | data[1] << 8, size - 2);
  const TokenOrder& order = vocabulary().order;
  auto made = Grammar::create(order, reinterpret_cast<const char*>(data) + 2, grammar_size);
  if (!made.is_ok()) return 0;
  Grammar& g = *made.value();
  const uint8_t* text = data + 2 + grammar_size;
  const size_t text_size = std::min<size_t>(size - 2 - grammar_size, 64);
  const int32_t vocab = order.tokenizer.vocab().count;
  GrammarPosition at;
  g.start(&at);
  std::vector<float> logits(size_t(vocab) + 3);
  for (size_t i = 0; i < text_size; ++i) {
    std::fill(logits.begin(), logits.end(), 0.0f);
    if (i % 8 == 0 && g.mask(at, logits.data(), int32_t(logits.size())).is_ok())
      for (int32_t id = int32_t(text[i]); id < vocab + 3; id += 13) {
        auto allowed = g.allows(at, id);
        if (allowed.is_ok() && allowed.value() != (logits[size_t(id)] == 0)) std::abort();
      }
    auto moved = g.accept_bytes(&at, text + i, 1);
    if (moved.is_ok() && moved.value()) continue;
    GrammarPosition wrong = at;
    wrong.cells[text[i] % kGrammarCells] = uint16_t(text[i] * 257);
    wrong.size = uint16_t(wrong.size + text[i] % 3);
    (void)g.accept_bytes(&wrong, text, text_size).is_ok();
  }
  return 0;
}
