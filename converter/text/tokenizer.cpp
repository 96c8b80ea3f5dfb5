#include "converter/text/tokenizer.h"

#include <algorithm>
#include <cstring>

#include "converter/read/facts.h"
#include "converter/read/read.h"
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

std::optional<bool> flag(const Facts& f, const char* key) {
  return f.has(key) ? std::optional<bool>(f.boolean(key, false)) : std::nullopt;
}

constexpr int64_t kNone = -1, kLast = INT32_MAX;

Facts tokenizer_facts(const Checkpoint& c) { return Facts(c.meta, c.path.string(), "tokenizer."); }

// Further ids that end an answer.
void add_gguf_ends(const Facts& f, VocabSource* source) {
  for (const char* key : {"ggml.eot_token_id", "ggml.eom_token_id"})
    if (const int64_t id = f.integer(key, 0, kLast, kNone); id >= 0) {
      if (id >= int64_t(source->pieces.size()))
        f.refuse(key, "is " + std::to_string(id) + ", the vocabulary has " + std::to_string(source->pieces.size()) +
                          " pieces");
      source->ends.push_back(int32_t(id));
    }
}

VocabSource gguf_vocabulary(const Checkpoint& c) {
  const Facts f = tokenizer_facts(c);
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
    if (!v.is_number_integer() || v.get<int64_t>() < 0 || v.get<int64_t>() > 255)
      f.refuse("ggml.token_type", "holds something else than small integers");
    return v.get<int32_t>();
  });
  g.merges = array_of<std::string>(f, "ggml.merges", [&](const Json& v) {
    if (!v.is_string()) f.refuse("ggml.merges", "holds something else than strings");
    return v.get<std::string>();
  });
  g.pre = f.text("ggml.pre", "");
  g.bos = f.integer("ggml.bos_token_id", 0, kLast, kNone);
  g.eos = f.integer("ggml.eos_token_id", 0, kLast, kNone);
  g.unk = f.integer("ggml.unknown_token_id", 0, kLast, kNone);
  g.cls = f.integer("ggml.cls_token_id", 0, kLast, kNone);
  g.sep = f.integer("ggml.seperator_token_id", 0, kLast, kNone);
  for (const int32_t b : array_of<int32_t>(f, "ggml.precompiled_charsmap", [&](const Json& v) {
         if (!v.is_number_integer() || v.get<int64_t>() < -128 || v.get<int64_t>() > 255)
           f.refuse("ggml.precompiled_charsmap", "holds something else than bytes");
         return v.get<int32_t>();
       }))
    g.charsmap += char(b);
  g.add_bos = flag(f, "ggml.add_bos_token");
  g.add_eos = flag(f, "ggml.add_eos_token");
  g.add_space_prefix = flag(f, "ggml.add_space_prefix");
  g.remove_extra_whitespaces = flag(f, "ggml.remove_extra_whitespaces");
  g.chat_template = f.text("chat_template", "");
  VocabSource source = from_gguf(g);
  add_gguf_ends(f, &source);
  return source;
}

// What a tokenizer's own files leave open, from the GGUF whose tokenizer they replace.
void fill_from_gguf(const Checkpoint& c, VocabSource* s) {
  const Facts f = tokenizer_facts(c);
  const auto fill = [&](const char* key, int32_t* id) {
    if (const int64_t given = f.integer(key, 0, kLast, kNone); *id < 0 && given < int64_t(s->pieces.size()))
      *id = int32_t(given);
  };
  fill("ggml.bos_token_id", &s->bos);
  fill("ggml.eos_token_id", &s->eos);
  if (s->ends.empty()) add_gguf_ends(f, s);
  if (s->chat_template.empty()) s->chat_template = f.text("chat_template", "");
}

// The first file of a directory whose name begins and ends so; empty: there is none.
std::string name_of(const std::filesystem::path& directory, std::string_view begin, std::string_view end) {
  std::string best;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.size() < begin.size() + end.size() || name.compare(0, begin.size(), begin) != 0 ||
        name.compare(name.size() - end.size(), end.size(), end) != 0)
      continue;
    if (best.empty() || name < best) best = name;
  }
  return best;
}

// A tokenizer's file by what is in it; `name` tells families of rank files apart.
VocabSource vocabulary_of_file(const std::filesystem::path& file, const std::string& config) {
  const std::string text = read_text(file, kMaxTokenizerFile), name = file.filename().string();
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != text.npos && text[first] == '{') {
    const Json root = parse_json(text, name);
    if (root.is_object() && root.contains("vocab") && root.contains("config")) return from_tekken(text);
    return from_tokenizer_json(text, config);
  }
  if (is_rank_file(text)) return from_ranks(text, name);
  if (file.extension() != ".txt") return from_spm_proto(text);
  return name.rfind("rwkv_vocab", 0) == 0 ? from_rwkv_vocab(text) : from_bert_vocab(text, config);
}

// Names of files that say something about a tokenizer but are none that is read.
bool tells_of_tokenizer(const std::string& name) {
  for (const char* known :
       {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    if (name == known) return true;
  const auto ends = [&](std::string_view with) {
    return name.size() > with.size() && name.compare(name.size() - with.size(), with.size(), with) == 0;
  };
  return ends(".model") || ends(".spm") || ends(".tiktoken") || ends(".vocab") || name.rfind("rwkv_vocab", 0) == 0;
}

// Which file of a directory is its tokenizer; empty: there is none.
std::filesystem::path tokenizer_file(const std::filesystem::path& directory) {
  const auto exists = [&](const std::string& name) {
    return !name.empty() && std::filesystem::exists(directory / name);
  };
  const bool has_model = exists("tokenizer.model"),
             has_ranks = has_model && is_rank_file(read_text(directory / "tokenizer.model", kMaxTokenizerFile));
  const std::string ranks = name_of(directory, "", ".tiktoken"), tekken = name_of(directory, "tekken", ".json");
  if (has_model && !has_ranks) return directory / "tokenizer.model";
  if (exists("tokenizer.json")) return directory / "tokenizer.json";
  if (has_ranks) return directory / "tokenizer.model";
  for (const std::string& name : {tekken, ranks, std::string("vocab.txt"), std::string(kRwkvVocab)})
    if (exists(name)) return directory / name;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (const std::string name = entry.path().filename().string(); tells_of_tokenizer(name))
      throw UnsupportedTokenizer(name +
                                 " belongs to a tokenizer, but there is no file of one that is read (tokenizer.json, "
                                 "tokenizer.model, tekken.json, *.tiktoken, vocab.txt, " +
                                 kRwkvVocab + ")");
  return {};
}

// A tokenizer's file with what stands beside it.
VocabSource read_vocabulary(const std::filesystem::path& file) {
  const std::filesystem::path directory = file.parent_path();
  const auto exists = [&](const char* name) { return std::filesystem::exists(directory / name); };
  const auto text = [&](const char* name) { return read_text(directory / name, kMaxTokenizerFile); };
  VocabSource source =
      vocabulary_of_file(file, exists("tokenizer_config.json") ? text("tokenizer_config.json") : std::string());
  if (source.kind == TokenizerKind::kLongestMatch) return source;
  if (exists("special_tokens_map.json")) apply_tokenizer_config(text("special_tokens_map.json"), &source);
  if (exists("tokenizer_config.json")) apply_tokenizer_config(text("tokenizer_config.json"), &source);
  if (exists("chat_template.jinja")) source.chat_template = text("chat_template.jinja");
  if (exists("generation_config.json")) apply_generation_config(text("generation_config.json"), &source);
  return source;
}

// Empty optional: the source has none.
std::optional<VocabSource> source_vocabulary(const Checkpoint& c) {
  if (c.is_gguf()) {
    const Facts f = tokenizer_facts(c);
    const std::string model = f.text("ggml.model", "");
    if (model.empty() && f.has("ggml.tokens"))
      throw UnsupportedTokenizer("the GGUF has tokens but does not say of what kind (tokenizer.ggml.model)");
    if (model.empty() || model == "no_vocab" || model == "none") return std::nullopt;
    return gguf_vocabulary(c);
  }
  std::filesystem::path file;
  if (c.kind == Checkpoint::Kind::kDirectory) file = tokenizer_file(c.path);
  if (c.kind == Checkpoint::Kind::kFile && std::filesystem::exists(c.path.parent_path() / kRwkvVocab))
    file = c.path.parent_path() / kRwkvVocab;
  if (file.empty()) return std::nullopt;
  return read_vocabulary(file);
}

VocabSource chosen_vocabulary(const Checkpoint& c, const std::filesystem::path& choice) {
  const std::filesystem::path file = std::filesystem::is_directory(choice) ? tokenizer_file(choice) : choice;
  if (file.empty()) fail("%s: no tokenizer in this directory", choice.c_str());
  VocabSource source = read_vocabulary(file);
  if (c.is_gguf()) fill_from_gguf(c, &source);
  else if (source.ends.empty() && std::filesystem::exists(c.path / "generation_config.json"))
    apply_generation_config(read_text(c.path / "generation_config.json", kMaxTokenizerFile), &source);
  return source;
}

// Rows of the table of tokens; 0: the model has none.
size_t embedding_rows(const ModelBuilder& b) {
  for (const auto& op : b.model.programs.at(0)->ops)
    if (op->name == "embedding")
      for (const auto& t : b.model.tensors)
        if (t->name == op->inputs.at(1)) return size_t(t->shape.at(0));
  return 0;
}

// RWKV's vocabulary names fewer ids than its models have rows.
void fit(size_t rows, VocabSource* source) {
  if (rows == 0 || source->pieces.size() >= rows) return;
  source->pieces.resize(rows);
  source->scores.resize(rows);
  source->types.resize(rows, uint8_t(PieceType::kUnused));
}

template <class T>
constexpr format::DType kTypeOf = format::DType::u8;
template <>
constexpr format::DType kTypeOf<int32_t> = format::DType::i32;
template <>
constexpr format::DType kTypeOf<float> = format::DType::f32;

template <class T>
void add_table(const char* name, const std::vector<T>& values, bool is_needed, format::SegmentKind segment,
               ModelBuilder& b) {
  if (values.empty() && !is_needed) return;
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  b.add_bytes(segment, std::string("tokenizer.") + name, kTypeOf<T>, {values.size()}, std::move(bytes));
}

void add_tables(TokenizerKind kind, const VocabData& data, ModelBuilder& b) {
#define RNL_VOCAB_VALUE(name)
#define RNL_VOCAB_LIST(name, holder)
#define RNL_VOCAB_TABLE(name, view, view_size, segment, is_needed) \
  add_table(#name, data.name, is_needed, format::SegmentKind::segment, b);
#include "text/vocab_fields.inc"
}

}  // namespace

std::vector<std::string> add_tokenizer(const Checkpoint& c, const TokenizerChoice& choice, ModelBuilder& b) {
  if (choice.is_left_out) return {};
  const std::string where = (choice.file.empty() ? c.path : choice.file).string();
  try {
    std::optional<VocabSource> source = choice.file.empty() ? source_vocabulary(c) : chosen_vocabulary(c, choice.file);
    if (!source) return {"the source has no vocabulary: eval, bench and perplexity of ids work, text does not"};
    const size_t rows = embedding_rows(b), pieces = source->pieces.size();
    if (rows && pieces > rows)
      fail("%s: the tokenizer has %zu pieces and the model %zu rows for them: it belongs to another model",
           where.c_str(), pieces, rows);
    std::vector<std::string> notices = source->notices;
    if (!choice.file.empty() && pieces < rows)
      notices.push_back("the tokenizer has " + std::to_string(pieces) + " pieces, the model " + std::to_string(rows) +
                        " rows for them");
    if (source->kind == TokenizerKind::kLongestMatch) fit(rows, &*source);
    VocabData data = build_vocab(*source);
    Chat chat = compile_chat(*source);
    data.end_of_turn = std::move(chat.end_of_turn);
    b.model.tokenizer = std::make_unique<format::TokenizerT>(tokenizer_table(*source, data));
    add_tables(source->kind, data, b);
    b.model.chat_program = std::move(chat.program);
    for (const std::string& notice : chat.notices) notices.push_back(printable_quotes(notice));
    return notices;
  } catch (const Error&) {
    throw;
  } catch (const UnsupportedTokenizer& e) {
    fail(
        "%s: %s; --tokenizer FILE takes another in its place (tokenizer.json, tokenizer.model, tekken.json or a folder "
        "with one), --without-tokenizer goes on without",
        where.c_str(), printable_quotes(e.what()).c_str());
  } catch (const Json::exception&) {
    fail("%s: its tokenizer holds a value of a kind that does not belong where it stands", where.c_str());
  } catch (const std::runtime_error& e) {
    fail("%s: %s", where.c_str(), printable_quotes(e.what()).c_str());
  }
}

}  // namespace runnel::convert
