#include "converter/text/normalizer.h"

#include <cstring>

#include "converter/text/byte_trie.h"
#include "converter/text/regex.h"
#include "converter/text/unicode.h"
#include "converter/text/vocabulary.h"

namespace runnel::convert {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("normaliser: " + what); }

// first, then second.
CharStrings joined(const CharStrings& first, const CharStrings& second) {
  const auto after = [&](const std::string& text) {
    std::string out;
    for (const uint32_t c : code_points_of(text)) {
      const auto at = second.find(c);
      if (at == second.end()) append_utf8(out, c);
      else out += at->second;
    }
    return out;
  };
  CharStrings out = second;
  for (const auto& [c, text] : first) out[c] = after(text);
  return out;
}

}  // namespace

uint32_t NormalizerBuilder::add_bytes(const void* data, size_t size, size_t alignment) {
  if (tables_.empty()) tables_.resize(sizeof(NormHeader) + kMaxNormSteps * sizeof(NormStep));
  while (tables_.size() % alignment) tables_.push_back(0);
  const size_t at = tables_.size();
  if (at + size > uint32_t(INT32_MAX)) fail("its tables are larger than 2 GiB");
  tables_.resize(at + size);
  if (size) std::memcpy(tables_.data() + at, data, size);
  return uint32_t(at);
}

void NormalizerBuilder::add_string(std::string_view text, NormStep* step, int at) {
  step->args[at] = add_bytes(text.data(), text.size(), 1);
  step->args[at + 1] = uint32_t(text.size());
}

void NormalizerBuilder::add_trie(const std::map<std::string, uint32_t>& strings, NormStep* step, int at) {
  const std::vector<uint64_t> nodes = build_byte_trie(strings);
  step->args[at] = add_bytes(nodes.data(), nodes.size() * 8, 8);
  step->args[at + 1] = uint32_t(nodes.size());
}

uint32_t NormalizerBuilder::add_map(const CharStrings& strings) {
  std::map<std::string, uint32_t> numbers;
  std::vector<uint32_t> ends = {0};
  std::string text;
  std::vector<uint16_t> page_of(kMapPages, 0);
  std::vector<uint32_t> entries(kMapPage, 0);  // page 0: all stay
  std::vector<uint8_t> ascii(128);
  for (uint32_t c = 0; c < 128; ++c) ascii[c] = uint8_t(c);
  for (const auto& [c, to] : strings) {
    if (c < 128) ascii[c] = to.size() == 1 && uint8_t(to[0]) < 0x80 ? uint8_t(to[0]) : 0xFF;
    const auto [at, fresh] = numbers.emplace(to, uint32_t(numbers.size() + 1));
    if (fresh) {
      text += to;
      ends.push_back(uint32_t(text.size()));
    }
    uint16_t& page = page_of[c / kMapPage];
    if (page == 0) page = uint16_t(entries.size() / kMapPage), entries.resize(entries.size() + kMapPage, 0);
    entries[size_t(page) * kMapPage + c % kMapPage] = at->second;
  }
  const uint32_t head[2] = {uint32_t(entries.size() / kMapPage), uint32_t(ends.size() - 1)};
  const uint32_t offset = add_bytes(head, sizeof head, 8);
  add_bytes(ascii.data(), ascii.size(), 1);
  add_bytes(page_of.data(), page_of.size() * 2, 1);
  add_bytes(entries.data(), entries.size() * 4, 1);
  add_bytes(ends.data(), ends.size() * 4, 1);
  add_bytes(text.data(), text.size(), 1);
  return offset;
}

void NormalizerBuilder::add_classes(const std::map<uint32_t, uint8_t>& classes, NormStep* step, int at) {
  using Page = std::vector<uint8_t>;
  std::map<uint32_t, Page> pages;
  for (const auto& [c, cls] : classes)
    pages.try_emplace(c / kMapPage, kMapPage, uint8_t(0)).first->second[c % kMapPage] = cls;
  std::map<Page, uint16_t> numbers = {{Page(kMapPage, 0), uint16_t(0)}};
  Page all(kMapPage, 0);
  std::vector<uint16_t> page_of(kMapPages, 0);
  for (const auto& [number, page] : pages) {
    const auto [known, fresh] = numbers.emplace(page, uint16_t(numbers.size()));
    if (fresh) all.insert(all.end(), page.begin(), page.end());
    page_of[number] = known->second;
  }
  step->args[at] = add_bytes(page_of.data(), page_of.size() * 2, 2);
  step->args[at + 1] = uint32_t(all.size() / kMapPage);
  add_bytes(all.data(), all.size(), 1);
}

void NormalizerBuilder::map(const CharStrings& strings) {
  if (!steps_.empty() && steps_.back().step.kind == NormKind::kMap) {
    steps_.back().strings = joined(steps_.back().strings, strings);
    return;
  }
  steps_.push_back({{}, strings});
  steps_.back().step.kind = NormKind::kMap;
}

void NormalizerBuilder::form(bool compose, bool compatibility) {
  constexpr int kVersion = 9;
  const FormTables t = form_tables(compose, compatibility, kVersion);
  NormStep step = {};
  step.kind = NormKind::kForm;
  step.flags = compose ? kNormCompose : 0;
  step.args[0] = add_map(t.decompositions);
  add_classes(t.classes, &step, 1);
  std::vector<NormPair> pairs;
  for (const auto& [parts, whole] : t.pairs) pairs.push_back({parts.first, parts.second, whole});
  step.args[3] = add_bytes(pairs.data(), pairs.size() * sizeof(NormPair), 4);
  step.args[4] = uint32_t(pairs.size());
  steps_.push_back({step, {}});
}

void NormalizerBuilder::replace(std::string_view from, std::string_view to) {
  const std::vector<uint32_t> characters = code_points_of(from);
  if (characters.size() == 1) return map({{characters[0], std::string(to)}});
  NormStep step = {};
  step.kind = NormKind::kReplace;
  add_string(from, &step, 0);
  add_string(to, &step, 2);
  steps_.push_back({step, {}});
}

void NormalizerBuilder::replace_pattern(std::string_view pattern, std::string_view to) {
  NormStep step = {};
  step.kind = NormKind::kReplacePattern;
  add_bytes(nullptr, 0, 8);
  step.args[0] = append_regex(pattern, RegexFlavour::kOniguruma, &tables_);
  add_string(to, &step, 2);
  steps_.push_back({step, {}});
}

void NormalizerBuilder::prepend(std::string_view text) {
  NormStep step = {};
  step.kind = NormKind::kPrepend;
  add_string(text, &step, 0);
  steps_.push_back({step, {}});
}

void NormalizerBuilder::strip(bool left, bool right) {
  NormStep step = {};
  step.kind = NormKind::kStrip;
  step.flags = uint8_t((left ? kStripLeft : 0) | (right ? kStripRight : 0));
  if (step.flags) steps_.push_back({step, {}});
}

// Trie and strings as arguments 0 to 3.
void NormalizerBuilder::add_charsmap(std::string_view precompiled, NormStep* step) {
  std::map<std::string, uint32_t> offsets, trie;
  std::string text;
  for (const auto& [from, to] : decode_charsmap(precompiled)) {
    const auto [at, fresh] = offsets.emplace(to, uint32_t(text.size()));
    if (fresh) {
      if (to.size() > 0xFFFF) fail("a string of the charsmap is too long");
      text += char(to.size() & 0xFF), text += char(to.size() >> 8);
      text += to;
    }
    trie[from] = at->second;
  }
  if (text.size() >= (1u << 24) - 1) fail("the strings of the charsmap take more than 16 MiB");
  add_trie(trie, step, 0);
  add_string(text, step, 2);
}

void NormalizerBuilder::sentence_piece(const SpmNormalizer& spec, const std::vector<std::string>& user_defined) {
  NormStep step = {};
  step.kind = NormKind::kSentencePiece;
  if (spec.add_dummy_prefix) step.flags |= spec.whitespace_as_suffix ? kSpmSuffix : kSpmPrefix;
  if (spec.remove_extra_whitespaces) step.flags |= kSpmRemoveExtra;
  if (spec.escape_whitespaces) step.flags |= kSpmEscape;
  if (!spec.charsmap.empty()) add_charsmap(spec.charsmap, &step);
  std::map<std::string, uint32_t> user;
  for (const std::string& piece : user_defined) user[piece] = 0;
  if (!user.empty()) add_trie(user, &step, 4);
  steps_.push_back({step, {}});
}

void NormalizerBuilder::chars_map(std::string_view precompiled) {
  NormStep step = {};
  step.kind = NormKind::kCharsMap;
  add_charsmap(precompiled, &step);
  add_classes(cluster_classes(), &step, 4);
  steps_.push_back({step, {}});
}

std::vector<uint8_t> NormalizerBuilder::build() {
  if (steps_.empty()) return {};
  if (steps_.size() > kMaxNormSteps)
    throw UnsupportedTokenizer("a normaliser of " + std::to_string(steps_.size()) + " steps is not supported");
  add_bytes(nullptr, 0, 8);
  for (Step& s : steps_)
    if (s.step.kind == NormKind::kMap) s.step.args[0] = add_map(s.strings);
  const NormHeader h = {kNormMagic, uint32_t(steps_.size())};
  std::memcpy(tables_.data(), &h, sizeof h);
  for (size_t i = 0; i < steps_.size(); ++i)
    std::memcpy(tables_.data() + sizeof h + i * sizeof(NormStep), &steps_[i].step, sizeof(NormStep));
  return tables_;
}

}  // namespace runnel::convert
