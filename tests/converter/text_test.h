// What the tests of tokenizers share: the small vocabularies of tests/goldens and calls that fail the test instead of
// returning a status.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend.h"
#include "converter/text/vocabulary.h"
#include "text/tokenizer.h"

namespace runnel::convert {

inline std::string read_golden(const std::string& name) {
  std::ifstream in(std::string(test::kSourceDir) + "/tests/goldens/" + name, std::ios::binary);
  EXPECT_TRUE(in.good()) << name;
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Case {
  std::string bytes;
  std::vector<int32_t> ids;
  std::string text;
};

inline std::vector<Case> read_cases(const std::string& name) {
  std::vector<Case> out;
  std::ifstream in(std::string(test::kSourceDir) + "/tests/goldens/" + name);
  for (std::string line; std::getline(in, line);) {
    const auto j = nlohmann::json::parse(line);
    Case c;
    const std::string hex = j.at("bytes_hex");
    for (size_t i = 0; i < hex.size(); i += 2) c.bytes += char(std::stoi(hex.substr(i, 2), nullptr, 16));
    c.ids = j.at("ids").get<std::vector<int32_t>>();
    c.text = j.at("text");
    out.push_back(c);
  }
  EXPECT_GT(out.size(), 80u) << name;
  return out;
}

// A source with its tables, opened.
struct Loaded {
  VocabSource source;
  VocabData data;
  Tokenizer tokenizer;

  explicit Loaded(VocabSource s) : source(std::move(s)), data(build_vocab(source)) {
    Vocab vocab;
    const Status status = vocab_open(tables_of(source, data), &vocab);
    EXPECT_TRUE(status.is_ok()) << status.message();
    tokenizer = Tokenizer(vocab);
  }
  Loaded(const Loaded&) = delete;
};

inline std::vector<int32_t> encode(const Tokenizer& t, const std::string& text, bool special = false,
                                   EncodeOptions::Add ends = EncodeOptions::Add::kNo) {
  EncodeScratch scratch;
  EncodeOptions options;
  options.bos = options.eos = ends;
  options.special = special;
  Vec<int32_t> ids;
  const Status status = t.encode(text.data(), text.size(), options, &scratch, &ids);
  EXPECT_TRUE(status.is_ok()) << status.message();
  return {ids.begin(), ids.end()};
}

inline std::string decode(const Tokenizer& t, const std::vector<int32_t>& ids, bool special = false) {
  Vec<char> out;
  const Status status = t.decode_all(ids.data(), ids.size(), special, &out);
  EXPECT_TRUE(status.is_ok()) << status.message();
  return {out.begin(), out.end()};
}

}  // namespace runnel::convert
