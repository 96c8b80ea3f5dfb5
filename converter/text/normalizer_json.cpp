// The normalizer of tokenizer.json, and SentencePiece's precompiled table within it.
#include <unicode/uchar.h>

#include <algorithm>
#include <cstring>

#include "converter/text/json_access.h"
#include "converter/text/normalizer.h"
#include "converter/text/unicode.h"
#include "converter/text/vocabulary.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxNormalizers = 256;  // each may look at all of Unicode

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer.json: " + what); }

template <class F>
CharStrings where(F becomes) {
  CharStrings out;
  for (uint32_t c = 0; c < 0x110000; ++c)
    if (!is_surrogate(c)) becomes(c, out);
  return out;
}

bool has_category(uint32_t c, uint32_t mask, int version) {
  return (U_MASK(u_charType(UChar32(c))) & mask) && is_assigned_in(c, version);
}

constexpr int kMarksVersion = 9;  // of the tables that StripAccents asks
constexpr int kBertVersion = 8;   // of those that BertNormalizer asks

CharStrings accents() {
  return where([](uint32_t c, CharStrings& out) {
    const bool was_mark = c == 0x1CF2 || c == 0x1CF3, became_mark = c == 0x111C9;  // since that version
    if (was_mark || (has_category(c, U_GC_M_MASK, kMarksVersion) && !became_mark)) out[c] = "";
  });
}

CharStrings lower() {
  return where([](uint32_t c, CharStrings& out) {
    const std::string to = lower_case(c);
    if (to != utf8_of(c)) out[c] = to;
  });
}

CharStrings cleaned() {
  return where([](uint32_t c, CharStrings& out) {
    const bool space = c == '\t' || c == '\n' || c == '\r';
    if (c == 0 || c == 0xFFFD || (!space && has_category(c, U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK, kBertVersion)))
      out[c] = "";
    else if ((space || is_white_space(c)) && c != ' ') out[c] = " ";
  });
}

CharStrings spaced_ideographs() {
  static constexpr uint32_t kRanges[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                            {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF},
                                            {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  CharStrings out;
  for (const auto& range : kRanges)
    for (uint32_t c = range[0]; c <= range[1]; ++c) out[c] = " " + utf8_of(c) + " ";
  return out;
}

CharStrings nonspacing_marks() {
  return where([](uint32_t c, CharStrings& out) {
    const bool was_mark = c == 0x1734, became_mark = c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9;
    if (was_mark || (has_category(c, U_GC_MN_MASK, kBertVersion) && !became_mark)) out[c] = "";
  });
}

// Marian's and fairseq's cleaning, as SentencePiece has it.
CharStrings nmt() {
  CharStrings out;
  for (uint32_t c = 1; c <= 0x9F; ++c)
    if (c <= 8 || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) out[c] = "";
  for (const uint32_t c :
       {0x9, 0xA, 0xC, 0xD, 0x1680, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD})
    out[c] = " ";
  return out;
}

std::string from_base64(const std::string& text) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    const size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) fail("precompiled_charsmap is not base64");
    bits = bits << 6 | uint32_t(digit);
    if ((count += 6) >= 8) out += char(bits >> (count -= 8) & 0xFF);
  }
  return out;
}

void bert(const Json& j, NormalizerBuilder* b) {
  const bool lowers = flag_of(j, "lowercase", true);
  if (flag_of(j, "clean_text", true)) b->map(cleaned());
  if (flag_of(j, "handle_chinese_chars", true)) b->map(spaced_ideographs());
  if (flag_of(j, "strip_accents", lowers, Null::kAbsent)) {
    b->form(false, false);
    b->map(nonspacing_marks());
  }
  if (lowers) b->map(lower());
}

std::string needed_text(const Json& j, const char* key, const std::string& of) {
  if (!j.contains(key)) fail("the normalizer " + of + " has no " + key);
  return text_of(j, key);
}

void replace(const Json& j, NormalizerBuilder* b) {
  const Json& pattern = object_of(j, "pattern");
  const std::string string = text_of(pattern, "String"), regex = text_of(pattern, "Regex"),
                    content = needed_text(j, "content", "Replace");
  if (!string.empty()) b->replace(string, content);
  else if (!regex.empty()) b->replace_pattern(regex, content);
  else fail("a Replace normalizer has no pattern");
}

// How many there are, with those within others.
size_t count_of(const Json& j) {
  size_t count = 1;
  if (text_of(j, "type") == "Sequence")
    for (const Json& step : list_of(j, "normalizers")) count += count_of(step);
  return count;
}

void one_normalizer(const Json& j, NormalizerBuilder* b) {
  const std::string type = text_of(j, "type");
  if (type == "Sequence") {
    if (!j.contains("normalizers")) fail("its normalizer's sequence has no list");
    for (const Json& step : list_of(j, "normalizers")) one_normalizer(step, b);
  } else if (type == "NFC" || type == "NFD") {
    b->form(type == "NFC", false);
  } else if (type == "NFKC" || type == "NFKD") {
    b->form(type == "NFKC", true);
  } else if (type == "Lowercase") {
    b->map(lower());
  } else if (type == "StripAccents") {
    b->map(accents());
  } else if (type == "BertNormalizer") {
    bert(j, b);
  } else if (type == "Replace") {
    replace(j, b);
  } else if (type == "Prepend") {
    b->prepend(needed_text(j, "prepend", "Prepend"));
  } else if (type == "Strip") {
    b->strip(flag_of(j, "strip_left", true), flag_of(j, "strip_right", true));
  } else if (type == "Nmt") {
    b->map(nmt());
  } else if (type == "Precompiled") {
    b->chars_map(from_base64(needed_text(j, "precompiled_charsmap", "Precompiled")));
  } else {
    throw UnsupportedTokenizer("tokenizer.json: the normalizer " + (type.empty() ? "without a type" : type) +
                               " is not supported yet");
  }
}

constexpr size_t kMaxCharsmapKey = 64;                 // bytes
constexpr size_t kMaxCharsmapNodes = size_t(1) << 20;  // walked over; SentencePiece's own tables have some 260,000

// The trie of a precompiled_charsmap, Darts' double array of u32 units. Nodes with the same endings behind them are
// one: the trie is a graph, and a node is come to on many ways.
class CharsmapReader {
 public:
  explicit CharsmapReader(std::string_view blob) : blob_(blob) {
    if (blob.size() < 8) broken("is too short");
    const size_t bytes = u32(0);
    if (bytes % 4 || bytes == 0 || bytes > blob.size() - 4) broken("has a trie outside of it");
    count_ = bytes / 4;
    strings_ = blob.substr(4 + bytes);
  }
  std::map<std::string, std::string> all() {
    walk(offset(unit(0)));
    return std::move(out_);
  }

 private:
  [[noreturn]] static void broken(const char* what) {
    throw std::runtime_error(std::string("the precompiled charsmap ") + what);
  }
  uint32_t u32(size_t at) const {
    uint32_t v = 0;
    for (int i = 3; i >= 0; --i) v = v << 8 | uint8_t(blob_[at + size_t(i)]);
    return v;
  }
  uint32_t unit(size_t at) const { return u32(4 + at * 4); }
  static uint32_t offset(uint32_t u) { return (u >> 10) << ((u & (1u << 9)) >> 6); }
  // The children of a node are at base ^ byte. As deep as a key is long.
  void walk(uint32_t base) {
    if (std::find(way_.begin(), way_.end(), base) != way_.end()) broken("has a trie that leads in circles");
    if (way_.size() > kMaxCharsmapKey) broken("has a string of more than 64 bytes");
    if (++walked_ > kMaxCharsmapNodes) broken("has more strings than any that is known");
    way_.push_back(base);
    for (uint32_t byte = 1; byte < 256; ++byte) {
      const uint32_t at = base ^ byte;
      if (at >= count_) continue;
      const uint32_t u = unit(at);
      if ((u & (1u << 31 | 0xFF)) != byte) continue;
      key_ += char(byte);
      const uint32_t next = at ^ offset(u);
      if (u >> 8 & 1) value(next);
      walk(next);
      key_.pop_back();
    }
    way_.pop_back();
  }
  void value(uint32_t at) {
    if (at >= count_) broken("has a trie that leads outside");
    const size_t begin = unit(at) & 0x7FFFFFFF;
    if (begin >= strings_.size()) broken("has a string outside of it");
    const size_t end = strings_.find('\0', begin);
    out_[key_] = std::string(strings_.substr(begin, end == strings_.npos ? end : end - begin));
  }

  std::string_view blob_, strings_;
  size_t count_ = 0, walked_ = 0;
  std::vector<uint32_t> way_;  // nodes from the root to here
  std::string key_;
  std::map<std::string, std::string> out_;
};

}  // namespace

void read_normalizer(const Json& normalizer, NormalizerBuilder* b) {
  if (normalizer.is_null()) return;
  if (count_of(normalizer) > kMaxNormalizers)
    throw UnsupportedTokenizer("tokenizer.json: more than " + std::to_string(kMaxNormalizers) +
                               " normalizers are not supported");
  one_normalizer(normalizer, b);
}

// u32 bytes of the trie; the trie; the strings, each with a zero byte behind it.
std::map<std::string, std::string> decode_charsmap(std::string_view blob) { return CharsmapReader(blob).all(); }

}  // namespace runnel::convert
