// Documents under JSON Schemas, for schema_agreement.py:
//   schema_agreement SCHEMA.json walk COUNT SEED     prints COUNT random documents of the schema's grammar, a line of
//   JSON text each
//   schema_agreement SCHEMA.json check < LINES       prints for each line, a document, whether it is one of the
//   grammar: yes or no
// Exit code 3 and the reason on stderr where the schema or its grammar is refused; notes on stderr.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "converter/text/vocabulary.h"
#include "runnel/json_schema.hpp"
#include "text/grammar.h"

using namespace runnel;

namespace {

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
[[noreturn]] void refused(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(3);
}

// Mostly towards the end, so that documents are short: bytes that close something come first with some chance.
std::string walk(Grammar& g, std::mt19937& random) {
  std::string text;
  GrammarPosition at;
  g.start(&at);
  const unsigned calm = 1 + random() % 6;
  while (text.size() < 4000) {
    if (at.may_end && (random() % calm == 0 || text.size() > 1000)) return text;
    std::vector<uint8_t> possible;
    for (int b = 0; b < 256; ++b) {
      GrammarPosition moved = at;
      const auto byte = uint8_t(b);
      auto r = g.accept_bytes(&moved, &byte, 1);
      if (r.is_ok() && r.value()) possible.push_back(byte);
    }
    if (possible.empty()) return at.may_end ? text : "";
    uint8_t byte = possible[random() % possible.size()];
    if (random() % 3 == 0 || text.size() > 500)
      for (const uint8_t close : possible)
        if (close == '"' || close == '}' || close == ']') byte = close;
    g.accept_bytes(&at, &byte, 1).is_ok();
    text += char(byte);
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const convert::VocabSource source = convert::from_spm_proto(read(RNL_SOURCE_DIR "/tests/goldens/spm_small.model"));
  const convert::VocabData data = convert::build_vocab(source);
  Vocab vocab;
  TokenOrder order;
  if (!vocab_open(convert::tables_of(source, data), &vocab).is_ok() ||
      !TokenOrder::build(Tokenizer(vocab), &order).is_ok())
    return 1;
  std::string grammar, error;
  std::vector<std::string> notes;
  if (!rnl::json_schema_to_grammar(read(argv[1]), &grammar, &error, &notes)) refused(error);
  for (const std::string& n : notes) std::fprintf(stderr, "note: %s\n", n.c_str());
  if (std::getenv("SHOW_GRAMMAR")) std::fprintf(stderr, "%s", grammar.c_str());
  auto made = Grammar::create(order, grammar.data(), grammar.size());
  if (!made.is_ok()) refused(made.take_status().message());
  Grammar& g = *made.value();
  if (std::strcmp(argv[2], "walk") == 0) {
    std::mt19937 random(uint32_t(std::atoi(argv[4])));
    for (int i = 0; i < std::atoi(argv[3]); ++i) {
      std::string text = walk(g, random);
      for (char& c : text)
        if (c == '\n') c = ' ';  // space between tokens: strings have none
      std::printf("%s\n", text.c_str());
    }
    return 0;
  }
  for (std::string line; std::getline(std::cin, line);) {
    GrammarPosition at;
    g.start(&at);
    auto r = g.accept_bytes(&at, reinterpret_cast<const uint8_t*>(line.data()), line.size());
    std::printf("%s\n", r.is_ok() && r.value() && at.may_end ? "yes" : "no");
  }
  return 0;
}
