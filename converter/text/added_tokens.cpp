#include "converter/text/added_tokens.h"

#include <algorithm>
#include <unordered_map>

#include "converter/text/json_access.h"
#include "converter/text/trie_models.h"

namespace runnel::convert {
namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("tokenizer: " + what); }
[[noreturn]] void unsupported(const std::string& what) {
  throw UnsupportedTokenizer("tokenizer: " + what + " is not supported yet");
}

uint8_t flags_of(const Json& t, bool special) {
  return uint8_t((flag_of(t, "lstrip", false) ? kAddedStripLeft : 0) |
                 (flag_of(t, "rstrip", false) ? kAddedStripRight : 0) |
                 (flag_of(t, "single_word", false) ? kAddedSingleWord : 0) |
                 (flag_of(t, "normalized", !special) ? kAddedNormalized : 0));
}

// The normaliser of a source, opened.
class Normal {
 public:
  explicit Normal(const VocabSource& s) {
    const std::vector<uint8_t> bytes = build_normalizer(s);
    store_.resize(bytes.size() / 8 + 1);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t*>(store_.data()));
    if (const Status status = norm_open(reinterpret_cast<const uint8_t*>(store_.data()), bytes.size(), &normalizer_);
        !status.is_ok())
      fail(status.message());
  }
  std::string of(const std::string& piece) {
    Vec<uint8_t> text;
    regex_.work = 1 << 20;
    Status status = text.append(reinterpret_cast<const uint8_t*>(piece.data()), piece.size());
    if (status.is_ok()) status = normalize(normalizer_, 0, &text, &scratch_, &regex_);
    if (!status.is_ok()) fail(status.message());
    return {text.begin(), text.end()};
  }

 private:
  std::vector<uint64_t> store_;
  Normalizer normalizer_;
  NormScratch scratch_;
  RegexScratch regex_;
};

}  // namespace

void read_added_tokens(const Json& added, size_t size, VocabSource* s) {
  std::unordered_map<std::string, int32_t> ids;
  for (size_t i = 0; i < s->pieces.size(); ++i) ids.emplace(s->pieces[i], int32_t(i));
  int64_t last = -1;
  for (const Json& t : added) {
    const std::string piece = text_of(t, "content");
    // The number that the file gives is not looked at, but it must be one.
    if (t.is_object() && t.contains("id")) id_of(t["id"], "the id of the added token \"" + piece + '"');
    if (piece.empty()) continue;  // the original skips it too
    int32_t id;
    if (const auto at = ids.find(piece); at != ids.end()) {
      id = at->second;
    } else {
      id = int32_t(std::max<int64_t>(last + 1, int64_t(size)));
      if (size_t(id) >= s->pieces.size())
        s->pieces.resize(size_t(id) + 1), s->types.resize(size_t(id) + 1, uint8_t(PieceType::kUnused));
      s->pieces[size_t(id)] = piece;
      ids.emplace(piece, id);
    }
    last = std::max<int64_t>(last, id);
    const bool special = flag_of(t, "special", false);
    // Listed twice, it stays special, and has the flags of the second.
    const bool was_special = s->added.count(id) && PieceType(s->types[size_t(id)]) == PieceType::kControl;
    s->types[size_t(id)] = uint8_t(special || was_special ? PieceType::kControl : PieceType::kUserDefined);
    s->added[id] = flags_of(t, special);
  }
}

void apply_added_tokens(const Json& decoder, VocabSource* s) {
  if (!decoder.is_object() && !decoder.is_null()) refuse_json("\"added_tokens_decoder\"", decoder, "an object");
  std::unordered_map<std::string, int32_t> ids;
  for (size_t i = 0; i < s->pieces.size() && !decoder.empty(); ++i) ids.emplace(s->pieces[i], int32_t(i));
  for (const auto& [key, t] : decoder.items()) {
    const auto at = ids.find(text_of(t, "content"));
    const bool special = flag_of(t, "special", false);
    const uint8_t flags = flags_of(t, special);
    if (at == ids.end() || key != std::to_string(at->second)) continue;
    s->types[size_t(at->second)] = uint8_t(special ? PieceType::kControl : PieceType::kUserDefined);
    s->added[at->second] = flags;
  }
}

void normalize_added_tokens(VocabSource* s) {
  if (s->normalizer.empty() ||
      std::none_of(s->added.begin(), s->added.end(), [](const auto& a) { return a.second & kAddedNormalized; }))
    return;
  Normal normal(*s);
  std::map<std::string, int32_t> raw, made_by;  // texts that are looked for before and after the normaliser
  for (const auto& [id, flags] : s->added)
    if (!(flags & kAddedNormalized)) raw.emplace(s->pieces[size_t(id)], id);
  for (auto at = s->added.begin(); at != s->added.end();) {
    const auto [id, flags] = *at;
    if (!(flags & kAddedNormalized)) {
      ++at;
      continue;
    }
    std::string& piece = s->pieces[size_t(id)];
    const std::string made = normal.of(piece);
    if (made.empty()) unsupported("the added token \"" + piece + "\", of which the normaliser leaves nothing,");
    if (raw.count(made))
      unsupported("the added token \"" + piece + "\", which the normaliser changes to \"" + made +
                  "\", another added token's text,");
    // Of several that become the same the original takes any.
    const bool found = made_by.emplace(made, id).second;
    const bool stays = PieceType(s->types[size_t(id)]) == PieceType::kControl || size_t(id) < s->model_pieces;
    if (made != piece && stays) s->found_as[id] = made;
    else piece = made;
    at = found ? std::next(at) : s->added.erase(at);
  }
}

}  // namespace runnel::convert
