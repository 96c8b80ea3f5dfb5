// Vocabularies as files of ranks: tiktoken's, of which the file says nothing but pieces and their ranks, and Mistral's
// tekken.json.
#include <charconv>
#include <nlohmann/json.hpp>

#include "converter/read/json_text.h"
#include "converter/text/byte_bpe.h"
#include "converter/text/patterns.h"

namespace runnel::convert {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("file of ranks: " + what); }

// False: it is not base64.
bool from_base64(std::string_view text, std::string* out) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) return false;
    bits = bits << 6 | uint32_t(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    *out += char(bits >> count & 0xFF);
  }
  return true;
}

// One line; false: it is none.
bool rank_line(std::string_view line, std::string* piece, int64_t* rank) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  const size_t space = line.find(' ');
  if (space == line.npos || space == 0) return false;
  piece->clear();
  const std::string_view digits = line.substr(space + 1);
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), *rank);
  return read.ec == std::errc() && read.ptr == digits.data() + digits.size() && *rank >= 0 &&
         from_base64(line.substr(0, space), piece);
}

void add_special(VocabSource* s, const std::string& piece, bool control = true) {
  s->added[int32_t(s->pieces.size())] = 0;
  s->pieces.push_back(piece);
  s->types.push_back(uint8_t(control ? PieceType::kControl : PieceType::kUserDefined));
}

void add_pattern(VocabSource* s, std::string pattern) {
  PreTokenizerStep step;
  step.text = std::move(pattern);
  step.flavour = RegexFlavour::kRust;
  s->pre_tokenizer.push_back(step);
}

void finish_llama3(VocabSource* s) {
  add_pattern(s, kLlama3Pattern);
  const int32_t first = int32_t(s->pieces.size());
  for (const char* name :
       {"begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1", "finetune_right_pad_id",
        "step_id", "start_header_id", "end_header_id", "eom_id", "eot_id", "python_tag", "image"})
    add_special(s, "<|" + std::string(name) + "|>");
  for (int i = 2; s->pieces.size() < size_t(first) + 256; ++i)
    add_special(s, "<|reserved_special_token_" + std::to_string(i) + "|>");
  s->bos = first, s->eos = first + 1;
  s->add_bos = true;
  s->ends = {first + 8, first + 9};  // ends of a message and of a turn
}

void finish_qwen(VocabSource* s) {
  add_pattern(s, kQwen2Pattern);
  s->normalizer = R"({"type":"NFC"})";
  const int32_t first = int32_t(s->pieces.size());
  for (const char* name : {"endoftext", "im_start", "im_end"}) add_special(s, "<|" + std::string(name) + "|>");
  for (int i = 0; i < 205; ++i) add_special(s, "<|extra_" + std::to_string(i) + "|>");
  s->eos = first;
  s->ends = {first + 2};
}

// Whisper's: the languages that it knows are what its two vocabularies differ in.
void finish_whisper(VocabSource* s) {
  static constexpr const char* kLanguages[] = {
      "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt",  "tr", "pl", "ca", "nl", "ar", "sv", "it", "id",
      "hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro",  "da", "hu", "ta", "no", "th", "ur", "hr", "bg",
      "lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv",  "bn", "sr", "az", "sl", "kn", "et", "mk", "br",
      "eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw",  "gl", "mr", "pa", "si", "km", "sn", "yo", "so",
      "af", "oc", "ka", "be", "tg", "sd", "gu", "am", "yi",  "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt",
      "sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su"};
  add_pattern(s, kGpt2Pattern);
  s->eos = int32_t(s->pieces.size());
  for (const char* name : {"endoftext", "startoftranscript"}) add_special(s, "<|" + std::string(name) + "|>");
  for (const char* name : kLanguages) add_special(s, "<|" + std::string(name) + "|>");
  for (const char* name : {"translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"})
    add_special(s, "<|" + std::string(name) + "|>");
  for (int i = 0; i <= 1500; ++i) {
    char name[16];
    std::snprintf(name, sizeof name, "<|%d.%02d|>", i / 50, i % 50 * 2);
    add_special(s, name);
  }
}

// What tells families apart: how many ranks their files have.
struct Family {
  size_t ranks;
  void (*finish)(VocabSource*);
};
constexpr Family kFamilies[] = {
    {128000, finish_llama3}, {151643, finish_qwen}, {50256, finish_whisper}, {50257, finish_whisper}};

}  // namespace

bool is_rank_file(std::string_view text) {
  std::string piece;
  int64_t rank = 0;
  return rank_line(text.substr(0, text.find('\n')), &piece, &rank);
}

VocabSource from_ranks(std::string_view text, const std::string& name) {
  VocabSource s;
  s.kind = TokenizerKind::kByteBpe;
  s.whole_words_first = true;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view l = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (l.empty()) continue;
    std::string piece;
    int64_t rank = 0;
    if (!rank_line(l, &piece, &rank))
      fail("line " + std::to_string(line) + " of " + name + " is not a piece in base64 and its rank");
    if (rank != int64_t(s.pieces.size()))
      fail("line " + std::to_string(line) + " of " + name + " has rank " + std::to_string(rank) + " where " +
           std::to_string(s.pieces.size()) + " comes next");
    s.pieces.push_back(std::move(piece));
    s.types.push_back(uint8_t(PieceType::kNormal));
  }
  s.merges = merges_of_ranks(s.pieces, 0, s.pieces.size());
  for (const Family& f : kFamilies)
    if (f.ranks == s.pieces.size()) {
      f.finish(&s);
      return s;
    }
  throw UnsupportedTokenizer(name + " has " + std::to_string(s.pieces.size()) +
                             " ranks, which is no family whose pattern and special tokens are known");
}

VocabSource from_tekken(std::string_view text) {
  const Json root = parse_json(text, "tekken.json");
  const auto bad = [](const std::string& what) { throw std::runtime_error("tekken.json: " + what); };
  if (!root.is_object() || !root.contains("config") || !root["config"].is_object() || !root.contains("vocab") ||
      !root["vocab"].is_array())
    bad("it has no config or no vocab");
  const Json& config = root["config"];
  const auto number = [&](const char* key) -> size_t {
    if (!config.contains(key) || !config[key].is_number_integer() || config[key].get<int64_t>() < 0 ||
        config[key].get<int64_t>() >= int64_t(kMaxPieces))
      bad(std::string("config.") + key + " is not a number of pieces");
    return config[key].get<size_t>();
  };
  if (!config.contains("pattern") || !config["pattern"].is_string()) bad("config.pattern is missing");
  const size_t size = number("default_vocab_size"), special = number("default_num_special_tokens");
  const Json& vocab = root["vocab"];
  if (size < special || size - special > vocab.size()) bad("it has fewer pieces than config.default_vocab_size says");
  static constexpr const char* kOlder[] = {"<unk>",
                                           "<s>",
                                           "</s>",
                                           "[INST]",
                                           "[/INST]",
                                           "[AVAILABLE_TOOLS]",
                                           "[/AVAILABLE_TOOLS]",
                                           "[TOOL_RESULTS]",
                                           "[/TOOL_RESULTS]",
                                           "[TOOL_CALLS]",
                                           "[IMG]",
                                           "<pad>",
                                           "[IMG_BREAK]",
                                           "[IMG_END]",
                                           "[PREFIX]",
                                           "[MIDDLE]",
                                           "[SUFFIX]",
                                           "[SYSTEM_PROMPT]",
                                           "[/SYSTEM_PROMPT]",
                                           "[TOOL_CONTENT]"};
  VocabSource s;
  s.kind = TokenizerKind::kByteBpe;
  s.whole_words_first = true;
  const Json listed = root.contains("special_tokens") ? root["special_tokens"] : Json();
  if (!listed.is_array() && !listed.is_null()) bad("special_tokens is not a list");
  if (listed.is_array()) {
    for (const Json& t : listed) {
      if (!t.is_object() || !t.contains("token_str") || !t["token_str"].is_string() || !t.contains("rank") ||
          t["rank"] != s.pieces.size())
        bad("special token " + std::to_string(s.pieces.size()) + " is not in its place");
      add_special(&s, t["token_str"].get<std::string>());
    }
  } else {
    for (const char* name : kOlder) add_special(&s, name);
  }
  if (s.pieces.size() > special) bad("it has more special tokens than config.default_num_special_tokens says");
  while (s.pieces.size() < special) add_special(&s, "<SPECIAL_" + std::to_string(s.pieces.size()) + ">");
  for (size_t i = 0; i < size - special; ++i) {
    const Json& t = vocab[i];
    std::string piece;
    if (!t.is_object() || !t.contains("token_bytes") || !t["token_bytes"].is_string() || !t.contains("rank") ||
        t["rank"] != i || !from_base64(t["token_bytes"].get<std::string>(), &piece))
      bad("piece " + std::to_string(i) + " is not in its place or not base64");
    s.pieces.push_back(std::move(piece));
    s.types.push_back(uint8_t(PieceType::kNormal));
  }
  s.merges = merges_of_ranks(s.pieces, special, size - special);
  add_pattern(&s, config["pattern"].get<std::string>());
  s.bos = s.find("<s>"), s.eos = s.find("</s>");
  s.add_bos = s.bos >= 0;
  return s;
}

}  // namespace runnel::convert
