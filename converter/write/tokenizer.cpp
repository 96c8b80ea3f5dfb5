#include "converter/write/tokenizer.h"

#include <algorithm>
#include <cstring>

#include "converter/read/read.h"
#include "converter/recipes/facts.h"
#include "converter/text/vocabulary.h"

namespace runnel::convert {
namespace {

constexpr size_t kMaxTokenizerFile = size_t(128) << 20;
constexpr const char* kRwkvVocab = "rwkv_vocab_v20230424.txt";

template <class T, class Read>
std::vector<T> array_of(const Facts& f, const char* key, Read read) {
  std::vector<T> out;
  const Json* list = f.find(key);
  if (!list) return out;
  if (!list->is_array()) f.refuse(key, "is not an array");
  out.reserve(list->size());
  for (const Json& v : *list) out.push_back(read(v));
  return out;
}

std::optional<bool> flag(const Facts& f, const char* key) { return f.has(key) ? std::optional<bool>(f.boolean(key, false)) : std::nullopt; }

VocabSource gguf_vocabulary(const Checkpoint& c) {
  const Facts f(c.meta, c.path.string(), "tokenizer.");
  GgufTokenizer g;
  g.model = f.text("ggml.model", "");
  g.tokens = array_of<std::string>(f, "ggml.tokens", [&](const Json& v) {
    if (!v.is_string()) f.refuse("ggml.tokens", "holds something else than strings");
    return v.get<std::string>();
  });
  g.scores = array_of<float>(f, "ggml.scores", [&](const Json& v) {
    if (!v.is_number()) f.refuse("ggml.scores", "holds something else than numbers");
    return v.get<float>();
  });
  g.types = array_of<int32_t>(f, "ggml.token_type", [&](const Json& v) {
    if (!v.is_number_integer() || v.get<int64_t>() < 0 || v.get<int64_t>() > 255) f.refuse("ggml.token_type", "holds something else than small integers");
    return v.get<int32_t>();
  });
  g.merges = array_of<std::string>(f, "ggml.merges", [&](const Json& v) {
    if (!v.is_string()) f.refuse("ggml.merges", "holds something else than strings");
    return v.get<std::string>();
  });
  g.pre = f.text("ggml.pre", "");
  constexpr int64_t kNone = -1, kLast = INT32_MAX;
  g.bos = f.integer("ggml.bos_token_id", 0, kLast, kNone);
  g.eos = f.integer("ggml.eos_token_id", 0, kLast, kNone);
  g.unk = f.integer("ggml.unknown_token_id", 0, kLast, kNone);
  g.cls = f.integer("ggml.cls_token_id", 0, kLast, kNone);
  g.sep = f.integer("ggml.seperator_token_id", 0, kLast, kNone);
  for (const int32_t b : array_of<int32_t>(f, "ggml.precompiled_charsmap", [&](const Json& v) {
         if (!v.is_number_integer() || v.get<int64_t>() < -128 || v.get<int64_t>() > 255) f.refuse("ggml.precompiled_charsmap", "holds something else than bytes");
         return v.get<int32_t>();
       }))
    g.charsmap += char(b);
  g.add_bos = flag(f, "ggml.add_bos_token");
  g.add_eos = flag(f, "ggml.add_eos_token");
  g.add_space_prefix = flag(f, "ggml.add_space_prefix");
  g.remove_extra_whitespaces = flag(f, "ggml.remove_extra_whitespaces");
  g.chat_template = f.text("chat_template", "");
  VocabSource source = from_gguf(g);
  for (const char* key : {"ggml.eot_token_id", "ggml.eom_token_id"})
    if (const int64_t id = f.integer(key, 0, kLast, kNone); id >= 0 && id < int64_t(source.pieces.size())) source.ends.push_back(int32_t(id));
  return source;
}

// The first file of a directory whose name begins and ends so; empty: there is none.
std::string name_of(const std::filesystem::path& directory, std::string_view begin, std::string_view end) {
  std::string best;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.size() < begin.size() + end.size() || name.compare(0, begin.size(), begin) != 0 || name.compare(name.size() - end.size(), end.size(), end) != 0) continue;
    if (best.empty() || name < best) best = name;
  }
  return best;
}

// Empty optional: the directory has no tokenizer files.
std::optional<VocabSource> directory_vocabulary(const std::filesystem::path& directory) {
  const auto exists = [&](const char* name) { return std::filesystem::exists(directory / name); };
  const auto text = [&](const char* name) { return read_text(directory / name, kMaxTokenizerFile); };
  VocabSource source;
  const std::string model = exists("tokenizer.model") ? text("tokenizer.model") : std::string();
  const std::string ranks = name_of(directory, "", ".tiktoken"), tekken = name_of(directory, "tekken", ".json");
  if (!model.empty() && !is_rank_file(model)) source = from_spm_proto(model);
  else if (exists("tokenizer.json")) source = from_tokenizer_json(text("tokenizer.json"));
  else if (!model.empty()) source = from_ranks(model, "tokenizer.model");
  else if (!tekken.empty()) source = from_tekken(text(tekken.c_str()));
  else if (!ranks.empty()) source = from_ranks(text(ranks.c_str()), ranks);
  else if (exists("vocab.txt")) source = from_bert_vocab(text("vocab.txt"), exists("tokenizer_config.json") ? text("tokenizer_config.json") : std::string());
  else if (exists(kRwkvVocab)) return from_rwkv_vocab(text(kRwkvVocab));
  else return std::nullopt;
  if (exists("special_tokens_map.json")) apply_tokenizer_config(text("special_tokens_map.json"), &source);
  if (exists("tokenizer_config.json")) apply_tokenizer_config(text("tokenizer_config.json"), &source);
  if (exists("chat_template.jinja")) source.chat_template = text("chat_template.jinja");
  if (exists("generation_config.json")) apply_generation_config(text("generation_config.json"), &source);
  return source;
}

// RWKV's vocabulary names fewer ids than its models have rows.
void fit(const ModelBuilder& b, VocabSource* source) {
  for (const auto& op : b.model.programs.at(0)->ops) {
    if (op->name != "embedding") continue;
    for (const auto& t : b.model.tensors) {
      if (t->name != op->inputs.at(1)) continue;
      const size_t rows = size_t(t->shape.at(0));
      if (source->pieces.size() > rows) fail("%s has %zu ids and the model %zu: it belongs to another model", kRwkvVocab, source->pieces.size(), rows);
      source->pieces.resize(rows);
      source->scores.resize(rows);
      source->types.resize(rows, uint8_t(PieceType::kUnused));
    }
  }
}

template <class T>
std::vector<uint8_t> bytes_of(const std::vector<T>& values) {
  std::vector<uint8_t> out(values.size() * sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

void add_tables(const VocabData& data, ModelBuilder& b) {
  using format::DType;
  using format::SegmentKind;
  b.add_bytes(SegmentKind::tokenizer, kVocabTensorNames[0], DType::u8, {data.pieces.size()}, data.pieces);
  b.add_bytes(SegmentKind::tokenizer, kVocabTensorNames[1], DType::i32, {data.offsets.size()}, bytes_of(data.offsets));
  if (!data.scores.empty()) b.add_bytes(SegmentKind::tokenizer, kVocabTensorNames[2], DType::f32, {data.scores.size()}, bytes_of(data.scores));
  b.add_bytes(SegmentKind::tokenizer, kVocabTensorNames[3], DType::u8, {data.types.size()}, data.types);
  b.add_bytes(SegmentKind::index, kVocabTensorNames[4], DType::u8, {data.index.size()}, data.index);
  if (!data.pre_tokenizer.empty()) b.add_bytes(SegmentKind::tokenizer, kVocabTensorNames[5], DType::u8, {data.pre_tokenizer.size()}, data.pre_tokenizer);
  if (!data.merges.empty()) b.add_bytes(SegmentKind::index, kVocabTensorNames[6], DType::u8, {data.merges.size()}, data.merges);
  if (!data.normalizer.empty()) b.add_bytes(SegmentKind::tokenizer, kVocabTensorNames[7], DType::u8, {data.normalizer.size()}, data.normalizer);
  if (!data.piece_trie.empty()) b.add_bytes(SegmentKind::index, kVocabTensorNames[8], DType::u8, {data.piece_trie.size()}, data.piece_trie);
}

}  // namespace

std::vector<std::string> add_tokenizer(const Checkpoint& c, ModelBuilder& b) {
  try {
    std::optional<VocabSource> source;
    if (c.is_gguf() && c.meta.contains("tokenizer.ggml.model") && c.meta["tokenizer.ggml.model"] != "no_vocab" && c.meta["tokenizer.ggml.model"] != "none") source = gguf_vocabulary(c);
    if (c.kind == Checkpoint::Kind::kDirectory) source = directory_vocabulary(c.path);
    if (c.kind == Checkpoint::Kind::kFile && std::filesystem::exists(c.path.parent_path() / kRwkvVocab))
      source = from_rwkv_vocab(read_text(c.path.parent_path() / kRwkvVocab, kMaxTokenizerFile));
    if (!source) return {"the source has no vocabulary: eval, bench and perplexity of ids work, text does not"};
    if (source->kind == TokenizerKind::kLongestMatch) fit(b, &*source);
    const VocabData data = build_vocab(*source);
    Chat chat = compile_chat(*source);
    b.model.tokenizer = std::make_unique<format::TokenizerT>(tokenizer_table(*source, data, chat.end_of_turn));
    add_tables(data, b);
    b.model.chat_program = std::move(chat.program);
    return chat.notices;
  } catch (const UnsupportedTokenizer& e) {
    return {std::string(e.what()) + ": the model is written without a tokenizer"};
  }
}

}  // namespace runnel::convert
