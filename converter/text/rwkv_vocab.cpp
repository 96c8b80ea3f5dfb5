// RWKV's vocabulary: a text file with a line for each id, `ID LITERAL BYTES`, the literal being a string or bytes as
// Python writes them. A GGUF holds the inside of such bytes literals.
#include <charconv>

#include "converter/text/unicode.h"
#include "converter/text/vocabulary.h"

namespace runnel::convert {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("RWKV vocabulary: " + what); }

// What stands between the quotes. \x is a byte in bytes and a character in strings.
std::string unescaped(std::string_view text, bool is_bytes, const std::string& where) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) fail(where + " ends in a lone backslash");
    const char kind = text[i];
    const size_t digits = kind == 'x' ? 2 : kind == 'u' && !is_bytes ? 4 : kind == 'U' && !is_bytes ? 8 : 0;
    if (digits) {
      uint32_t value = 0;
      const char *begin = text.data() + i + 1, *end = begin + std::min(digits, text.size() - i - 1);
      const auto read = std::from_chars(begin, end, value, 16);
      if (read.ec != std::errc() || read.ptr != begin + digits || value > 0x10FFFF)
        fail(where + " has a broken \\" + kind);
      if (is_bytes) out += char(value);
      else append_utf8(out, value);
      i += digits;
      continue;
    }
    switch (kind) {
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case 'r': out += '\r'; break;
      case '\\':
      case '\'':
      case '"': out += kind; break;
      default: fail(where + " has the unknown escape \\" + kind);
    }
  }
  return out;
}

int64_t number(std::string_view text, const std::string& where) {
  int64_t value = -1;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size() || value < 0) fail(where + " lacks a number");
  return value;
}

void put(VocabSource& s, int64_t id, std::string piece) {
  if (id >= int64_t(kMaxPieces)) fail("id " + std::to_string(id) + " is more than the format holds");
  if (size_t(id) >= s.pieces.size())
    s.pieces.resize(size_t(id) + 1), s.types.resize(s.pieces.size(), uint8_t(PieceType::kUnused));
  s.pieces[size_t(id)] = std::move(piece);
  s.types[size_t(id)] = uint8_t(PieceType::kNormal);
}

// Id 0 stands between documents and has no text.
VocabSource finished(VocabSource s) {
  s.kind = TokenizerKind::kLongestMatch;
  s.scores.assign(s.pieces.size(), 0);
  if (s.pieces.empty()) fail("it is empty");
  if (PieceType(s.types[0]) != PieceType::kNormal) {
    s.pieces[0] = "<s>";
    s.types[0] = uint8_t(PieceType::kControl);
    s.eos = 0;
  }
  return s;
}

}  // namespace

VocabSource from_rwkv_vocab(std::string_view text) {
  VocabSource s;
  size_t line = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view l = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string where = "line " + std::to_string(++line);
    if (!l.empty() && l.back() == '\r') l.remove_suffix(1);
    if (l.empty()) continue;
    const size_t first = l.find(' '), last = l.rfind(' ');
    if (first == l.npos || last <= first + 1) fail(where + " is not ID LITERAL BYTES");
    std::string_view literal = l.substr(first + 1, last - first - 1);
    const bool is_bytes = literal[0] == 'b';
    if (is_bytes) literal.remove_prefix(1);
    if (literal.size() < 2 || literal.front() != literal.back() || (literal[0] != '\'' && literal[0] != '"'))
      fail(where + " has a literal without quotes");
    std::string piece = unescaped(literal.substr(1, literal.size() - 2), is_bytes, where);
    if (int64_t(piece.size()) != number(l.substr(last + 1), where))
      fail(where + " has a piece of " + std::to_string(piece.size()) + " bytes and says otherwise");
    if (piece.empty()) fail(where + " has a piece without text");
    put(s, number(l.substr(0, first), where), std::move(piece));
  }
  s.chat_template = "rwkv-world";  // models with this vocabulary were trained on such turns
  return finished(std::move(s));
}

VocabSource from_gguf_rwkv(const std::vector<std::string>& tokens, const std::vector<int32_t>& types) {
  VocabSource s;
  s.pieces.resize(tokens.size());
  s.types.assign(tokens.size(), uint8_t(PieceType::kUnused));
  for (size_t i = 0; i < tokens.size(); ++i)
    if (types.empty() ? i > 0 : PieceType(types[i]) == PieceType::kNormal)
      put(s, int64_t(i), unescaped(tokens[i], true, "token " + std::to_string(i)));
  return finished(std::move(s));
}

}  // namespace runnel::convert
