// The normalizer of tokenizer.json, and SentencePiece's precompiled table within it.
#include <unicode/uchar.h>

#include <cstring>

#include "converter/text/json_access.h"
#include "converter/text/normalizer.h"
#include "converter/text/unicode.h"
#include "converter/text/vocabulary.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer.json: " + what); }

template <class F>
CharStrings where(F becomes) {
  CharStrings out;
  for (uint32_t c = 0; c < 0x110000; ++c)
    if (!is_surrogate(c)) becomes(c, out);
  return out;
}

bool has_category(uint32_t c, uint32_t mask, int version) { return (U_MASK(u_charType(UChar32(c))) & mask) && is_assigned_in(c, version); }

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
    if (c == 0 || c == 0xFFFD || (!space && has_category(c, U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK, kBertVersion))) out[c] = "";
    else if ((space || is_white_space(c)) && c != ' ') out[c] = " ";
  });
}

CharStrings spaced_ideographs() {
  static constexpr uint32_t kRanges[][2] = {{0x4E00, 0x9FFF}, {0x3400, 0x4DBF}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF}, {0x2F800, 0x2FA1F}};
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
  for (const uint32_t c : {0x9, 0xA, 0xC, 0xD, 0x1680, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD}) out[c] = " ";
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
  if (flag_of(j, "strip_accents", lowers)) {
    b->form(false, false);
    b->map(nonspacing_marks());
  }
  if (lowers) b->map(lower());
}

void replace(const Json& j, NormalizerBuilder* b) {
  const auto pattern = j.find("pattern");
  if (pattern == j.end() || !pattern->is_object()) fail("a Replace normalizer has no pattern");
  const std::string string = text_of(*pattern, "String"), regex = text_of(*pattern, "Regex"), content = text_of(j, "content");
  if (!string.empty()) b->replace(string, content);
  else if (!regex.empty()) b->replace_pattern(regex, content);
  else fail("a Replace normalizer has an empty pattern");
}

}  // namespace

void read_normalizer(const Json& j, NormalizerBuilder* b) {
  if (!j.is_object()) return;
  const std::string type = text_of(j, "type");
  if (type == "Sequence") {
    const auto list = j.find("normalizers");
    if (list == j.end() || !list->is_array()) fail("its normalizer's sequence is not a list");
    for (const Json& step : *list) read_normalizer(step, b);
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
    b->prepend(text_of(j, "prepend"));
  } else if (type == "Strip") {
    b->strip(flag_of(j, "strip_left", true), flag_of(j, "strip_right", true));
  } else if (type == "Nmt") {
    b->map(nmt());
  } else if (type == "Precompiled") {
    b->chars_map(from_base64(text_of(j, "precompiled_charsmap")));
  } else {
    throw UnsupportedTokenizer("tokenizer.json: the normalizer " + (type.empty() ? "without a type" : type) + " is not supported yet");
  }
}

// u32 bytes of the trie; the trie, Darts' double array of u32 units; the strings, each with a zero byte behind it.
std::map<std::string, std::string> decode_charsmap(std::string_view blob) {
  const auto broken = [](const char* what) { throw std::runtime_error(std::string("the precompiled charsmap ") + what); };
  const auto u32 = [&](size_t at) {
    uint32_t v = 0;
    for (int i = 3; i >= 0; --i) v = v << 8 | uint8_t(blob[at + size_t(i)]);
    return v;
  };
  if (blob.size() < 8) broken("is too short");
  const size_t bytes = u32(0), count = bytes / 4;
  if (bytes % 4 || bytes == 0 || bytes > blob.size() - 4) broken("has a trie outside of it");
  const std::string_view strings = blob.substr(4 + bytes);
  const auto unit = [&](size_t at) { return u32(4 + at * 4); };
  const auto offset = [](uint32_t u) { return (u >> 10) << ((u & (1u << 9)) >> 6); };
  std::map<std::string, std::string> out;
  struct Node {
    uint32_t base;  // children are at base ^ byte
    std::string key;
  };
  std::vector<Node> todo = {{offset(unit(0)), ""}};
  for (size_t visited = 0; !todo.empty(); ++visited) {
    if (visited > count) broken("has a trie that leads in circles");
    const Node node = std::move(todo.back());
    todo.pop_back();
    if (node.key.size() > 64) broken("has a string that is too long");
    for (uint32_t byte = 1; byte < 256; ++byte) {
      const uint32_t at = node.base ^ byte;
      if (at >= count) continue;
      const uint32_t u = unit(at);
      if ((u & (1u << 31 | 0xFF)) != byte) continue;
      const uint32_t base = at ^ offset(u);
      const std::string key = node.key + char(byte);
      if (u >> 8 & 1) {
        if (base >= count) broken("has a trie that leads outside");
        const size_t begin = unit(base) & 0x7FFFFFFF;
        if (begin >= strings.size()) broken("has a string outside of it");
        const size_t end = strings.find('\0', begin);
        out[key] = std::string(strings.substr(begin, end == strings.npos ? end : end - begin));
      }
      todo.push_back({base, key});
    }
  }
  return out;
}

}  // namespace runnel::convert
