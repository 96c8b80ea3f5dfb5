// Pre-tokenizers: what tokenizer.json says, as steps, and steps as tables.
#include <cstring>

#include "converter/text/byte_bpe.h"
#include "converter/text/json_access.h"
#include "converter/text/patterns.h"
#include "converter/text/unicode.h"
#include "text/utf8.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer.json: " + what); }
[[noreturn]] void unsupported(const std::string& what) {
  throw UnsupportedTokenizer("tokenizer.json: " + what + " is not supported yet");
}

SplitBehaviour behaviour_of(const Json& j, SplitBehaviour otherwise) {
  static const std::map<std::string, SplitBehaviour> kNames = {{"Isolated", SplitBehaviour::kIsolated},
                                                               {"Removed", SplitBehaviour::kRemoved},
                                                               {"MergedWithPrevious",
                                                                SplitBehaviour::kMergedWithPrevious},
                                                               {"MergedWithNext", SplitBehaviour::kMergedWithNext},
                                                               {"Contiguous", SplitBehaviour::kContiguous}};
  const std::string name = text_of(j, "behavior");
  if (name.empty()) return otherwise;
  const auto at = kNames.find(name);
  if (at == kNames.end()) unsupported("the split behaviour " + name);
  return at->second;
}

PreTokenizerStep split(std::string pattern, SplitBehaviour behaviour, bool invert = false,
                       RegexFlavour flavour = RegexFlavour::kOniguruma) {
  PreTokenizerStep s;
  s.text = std::move(pattern);
  s.behaviour = behaviour;
  s.invert = invert;
  s.flavour = flavour;
  return s;
}

PreTokenizerStep text_step(PreKind kind, std::string text, bool first_only = false) {
  PreTokenizerStep s;
  s.kind = kind;
  s.text = std::move(text);
  s.first_only = first_only;
  return s;
}

void read_metaspace(const Json& j, VocabSource* s) {
  std::vector<PreTokenizerStep>* steps = &s->pre_tokenizer;
  const std::string mark = text_of(j, "replacement").empty() ? kSpaceMark : text_of(j, "replacement");
  std::string scheme = text_of(j, "prepend_scheme");
  if (scheme.empty()) scheme = flag_of(j, "add_prefix_space", true) ? "always" : "never";
  if (scheme != "always" && scheme != "first" && scheme != "never") unsupported("the prepend_scheme " + scheme);
  steps->push_back(text_step(PreKind::kReplaceSpace, mark));
  if (scheme != "never") steps->push_back(text_step(PreKind::kPrepend, mark, scheme == "first"));
  s->add_space_prefix = scheme != "never";
  if (flag_of(j, "split", true)) steps->push_back(split(regex_escape(mark), SplitBehaviour::kMergedWithNext));
}

void read_step(const Json& j, VocabSource* s, bool* byte_level) {
  std::vector<PreTokenizerStep>* steps = &s->pre_tokenizer;
  const std::string type = text_of(j, "type");
  static const std::string punctuation = "[!-/:-@\\[-`{-~" + old_punctuation() + "]";
  // Steps after ByteLevel see its letters in place of bytes.
  const bool after = *byte_level;
  if (after && (type == "ByteLevel" || type == "Metaspace"))
    unsupported("the pre-tokenizer " + type + " after ByteLevel");
  if (after && !steps->empty() && steps->back().kind == PreKind::kFromAlphabet) steps->pop_back();
  else if (after) steps->push_back(text_step(PreKind::kToAlphabet, ""));
  if (type == "Split") {
    const Json& pattern = object_of(j, "pattern");
    const std::string text = text_of(pattern, "String"), regex = text_of(pattern, "Regex");
    if (text.empty() && regex.empty()) fail("a Split pre-tokenizer has no pattern");
    steps->push_back(split(text.empty() ? regex : regex_escape(text), behaviour_of(j, SplitBehaviour::kIsolated),
                           flag_of(j, "invert", false)));
  } else if (type == "ByteLevel") {
    if (flag_of(j, "add_prefix_space", true)) steps->push_back(text_step(PreKind::kPrepend, " "));
    if (flag_of(j, "use_regex", true)) steps->push_back(split(kGpt2Pattern, SplitBehaviour::kIsolated));
    *byte_level = true;
  } else if (type == "Digits") {
    steps->push_back(split("\\p{N}", flag_of(j, "individual_digits", false) ? SplitBehaviour::kIsolated
                                                                            : SplitBehaviour::kContiguous));
  } else if (type == "Punctuation") {
    steps->push_back(split(punctuation, behaviour_of(j, SplitBehaviour::kIsolated)));
  } else if (type == "Whitespace") {
    steps->push_back(split("\\w+|[^\\w\\s]+", SplitBehaviour::kRemoved, true, RegexFlavour::kRust));
  } else if (type == "WhitespaceSplit") {
    steps->push_back(split("\\s", SplitBehaviour::kRemoved));
  } else if (type == "BertPreTokenizer") {
    steps->push_back(split("\\s", SplitBehaviour::kRemoved));
    steps->push_back(split(punctuation, SplitBehaviour::kIsolated));
  } else if (type == "CharDelimiterSplit") {
    steps->push_back(split(regex_escape(text_of(j, "delimiter")), SplitBehaviour::kRemoved));
  } else if (type == "FixedLength") {
    const Json& length = member(j, "length");
    if (!length.is_number_integer() || length.get<int64_t>() < 1 || length.get<int64_t>() > 1000)
      unsupported("a FixedLength pre-tokenizer of this length");
    steps->push_back(split("[\\s\\S]{1," + std::to_string(length.get<int64_t>()) + "}", SplitBehaviour::kIsolated));
  } else if (type == "Metaspace") {
    read_metaspace(j, s);
  } else {
    unsupported("the pre-tokenizer " + (type.empty() ? "?" : type));
  }
  if (after) steps->push_back(text_step(PreKind::kFromAlphabet, ""));
}

}  // namespace

void read_pre_tokenizer(const Json& pre, VocabSource* s, bool* byte_level) {
  if (pre.is_null()) return;
  if (text_of(pre, "type") != "Sequence") return read_step(pre, s, byte_level);
  if (!pre.contains("pretokenizers")) fail("its pre-tokenizer's sequence has no list");
  for (const Json& j : list_of(pre, "pretokenizers")) read_pre_tokenizer(j, s, byte_level);
}

std::vector<uint8_t> build_pre_tokenizer(const VocabSource& s) {
  bool words = false;
  for (const auto& [id, flags] : s.added) words |= (flags & kAddedSingleWord) != 0;
  if (s.pre_tokenizer.empty() && !words) return {};
  if (s.pre_tokenizer.size() > kMaxPreSteps)
    throw UnsupportedTokenizer("a pre-tokenizer of " + std::to_string(s.pre_tokenizer.size()) +
                               " steps is not supported");
  std::vector<uint8_t> out(sizeof(PreHeader) + s.pre_tokenizer.size() * sizeof(PreStep));
  PreHeader h = {};
  h.magic = kPreMagic;
  h.step_count = uint32_t(s.pre_tokenizer.size());
  std::vector<PreStep> steps;
  for (const PreTokenizerStep& p : s.pre_tokenizer) {
    PreStep step = {};
    step.kind = p.kind, step.behaviour = p.behaviour;
    step.invert = p.invert, step.first_only = p.first_only;
    if (p.kind == PreKind::kSplit) {
      step.offset = append_regex(p.text, p.flavour, &out);
    } else {
      step.offset = uint32_t(out.size());
      step.size = uint32_t(p.text.size());
      out.insert(out.end(), p.text.begin(), p.text.end());
    }
    steps.push_back(step);
  }
  if (words) {
    CodeSet set, more;
    property_set("Alphabetic", &set);
    for (const char* name : {"M", "Nd", "Pc"}) property_set(name, &more), set = set | more;
    h.word_classes = append_classes(set | CodeSet(0x200C, 0x200D), &out, &h.word_page_count);
  }
  std::memcpy(out.data(), &h, sizeof h);
  if (!steps.empty()) std::memcpy(out.data() + sizeof h, steps.data(), steps.size() * sizeof(PreStep));
  return out;
}

}  // namespace runnel::convert
