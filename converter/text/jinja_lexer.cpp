#include <algorithm>
#include <cstring>

#include "converter/text/jinja.h"
#include "text/utf8.h"

namespace runnel::convert::jinja {
namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || uint8_t(c) >= 0x80;
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Bytes of the white space character at the end (back) or the beginning of text, as Python sees it; 0: none.
size_t space_at(std::string_view text, bool back) {
  static constexpr std::string_view kWide[] = {"\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
                                               "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
                                               "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  if (text.empty()) return 0;
  const unsigned char c = static_cast<unsigned char>(back ? text.back() : text.front());
  if (c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31)) return 1;
  for (const std::string_view w : kWide)
    if (back ? text.size() >= w.size() && text.substr(text.size() - w.size()) == w : text.substr(0, w.size()) == w)
      return w.size();
  return 0;
}

void append_code_point(uint32_t c, std::string* out) {
  if (c < 0x80) *out += char(c);
  else if (c < 0x800) *out += char(0xC0 | c >> 6), *out += char(0x80 | (c & 63));
  else if (c < 0x10000) *out += char(0xE0 | c >> 12), *out += char(0x80 | (c >> 6 & 63)), *out += char(0x80 | (c & 63));
  else
    *out += char(0xF0 | c >> 18), *out += char(0x80 | (c >> 12 & 63)), *out += char(0x80 | (c >> 6 & 63)),
        *out += char(0x80 | (c & 63));
}

class Lexer {
 public:
  explicit Lexer(std::string source) : s_(std::move(source)) {}
  std::vector<Lexeme> run() {
    while (at_ < s_.size()) data();
    add(Token::kEnd, "");
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) { throw TemplateError(line_, what); }
  void add(Token kind, std::string text) { out_.push_back({kind, std::move(text), line_}); }
  std::string_view rest() const { return std::string_view(s_).substr(at_); }
  bool starts(std::string_view what) const { return rest().substr(0, what.size()) == what; }
  void skip(size_t n) {
    line_ += int(std::count(s_.begin() + long(at_), s_.begin() + long(at_ + n), '\n'));
    at_ += n;
    line_start_ = n ? s_[at_ - 1] == '\n' : line_start_;
  }
  void skip_spaces() {
    while (const size_t n = space_at(rest(), false)) skip(n);
  }
  // Behind a tag: a sign - takes all white space, else a block or comment takes one line's end.
  void behind(char sign, bool is_variable) {
    if (sign == '-') skip_spaces();
    else if (sign != '+' && !is_variable && starts("\n")) skip(1);
  }
  void data();
  void comment();
  void raw();
  void tag(bool is_variable);
  bool token(bool is_variable);
  void string();
  void number();

  std::string s_;
  size_t at_ = 0;
  int line_ = 1, depth_ = 0;
  bool line_start_ = true;
  std::vector<Lexeme> out_;
};

void Lexer::data() {
  size_t end = at_;
  while (end < s_.size() && !(s_[end] == '{' && end + 1 < s_.size() && std::strchr("{%#", s_[end + 1]))) ++end;
  std::string_view text = std::string_view(s_).substr(at_, end - at_);
  const bool is_tag = end < s_.size(), is_variable = is_tag && s_[end + 1] == '{';
  const char sign = is_tag && end + 2 < s_.size() ? s_[end + 2] : 0;
  const bool was_start = line_start_;
  if (is_tag && sign == '-') {
    while (const size_t n = space_at(text, true)) text.remove_suffix(n);
  } else if (is_tag && sign != '+' && !is_variable) {
    const size_t newline = text.rfind('\n'), line = newline == text.npos ? 0 : newline + 1;
    std::string_view indent = text.substr(line);
    while (const size_t n = space_at(indent, false)) indent.remove_prefix(n);
    if (indent.empty() && (line > 0 || was_start)) text = text.substr(0, line);
  }
  if (!text.empty()) add(Token::kData, std::string(text));
  skip(end - at_);
  if (!is_tag) return;
  skip(2);
  if (sign == '-' || (sign == '+' && !is_variable)) skip(1);
  if (s_[end + 1] == '#') return comment();
  tag(is_variable);
}

void Lexer::comment() {
  const size_t end = s_.find("#}", at_);
  if (end == s_.npos) fail("a comment without end");
  const char sign = end > at_ ? s_[end - 1] : 0;
  skip(end + 2 - at_);
  behind(sign, false);
}

void Lexer::raw() {
  for (size_t from = at_;; ++from) {
    from = s_.find("{%", from);
    if (from == s_.npos) fail("raw without endraw");
    size_t p = from + 2;
    const bool strips = p < s_.size() && s_[p] == '-';
    if (p < s_.size() && (s_[p] == '-' || s_[p] == '+')) ++p;
    while (p < s_.size() && std::strchr(" \t\n", s_[p])) ++p;
    if (s_.compare(p, 6, "endraw") != 0) continue;
    p += 6;
    while (p < s_.size() && std::strchr(" \t\n", s_[p])) ++p;
    const char sign = p < s_.size() && (s_[p] == '-' || s_[p] == '+') ? s_[p++] : 0;
    if (s_.compare(p, 2, "%}") != 0) continue;
    std::string_view text = std::string_view(s_).substr(at_, from - at_);
    if (strips) {
      while (const size_t n = space_at(text, true)) text.remove_suffix(n);
    } else {
      const size_t newline = text.rfind('\n'), line = newline == text.npos ? 0 : newline + 1;
      if (line && text.find_first_not_of(" \t", line) == text.npos) text = text.substr(0, line);
    }
    if (!text.empty()) add(Token::kData, std::string(text));
    skip(p + 2 - at_);
    return behind(sign, false);
  }
}

void Lexer::tag(bool is_variable) {
  add(is_variable ? Token::kVariableBegin : Token::kBlockBegin, "");
  const size_t begin = out_.size();
  depth_ = 0;
  while (!token(is_variable))
    if (at_ >= s_.size()) fail("a tag without end");
  if (is_variable || out_.size() != begin + 2 || out_[begin].text != "raw" || out_[begin].kind != Token::kName) return;
  out_.resize(begin - 1);
  raw();
}

// True at the tag's end.
bool Lexer::token(bool is_variable) {
  skip_spaces();
  if (at_ >= s_.size()) fail("a tag without end");
  const std::string_view close = is_variable ? "}}" : "%}";
  const char c = s_[at_];
  const bool signs = (c == '-' || (c == '+' && !is_variable)) && rest().substr(1, 2) == close;
  // A dict's closing braces are no end of a variable.
  if (signs || (starts(close) && (!is_variable || depth_ == 0))) {
    add(is_variable ? Token::kVariableEnd : Token::kBlockEnd, "");
    skip(signs ? 3 : 2);
    behind(signs ? c : 0, is_variable);
    return true;
  }
  if (c == '"' || c == '\'') {
    string();
  } else if (is_digit(c)) {
    number();
  } else if (is_name_start(c)) {
    size_t end = at_;
    while (end < s_.size() && (is_name_start(s_[end]) || is_digit(s_[end]))) ++end;
    add(Token::kName, s_.substr(at_, end - at_));
    skip(end - at_);
  } else {
    static constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    size_t n = 1;
    for (const std::string_view two : kTwo)
      if (starts(two)) n = 2;
    if (!std::strchr("+-/*%~[](){}<>=.:|,;!", c) || (c == '!' && n == 1))
      fail(std::string("the character \"") + c + "\"");
    if (std::strchr("([{", c)) ++depth_;
    if (std::strchr(")]}", c)) depth_ = std::max(depth_ - 1, 0);
    add(Token::kOperator, s_.substr(at_, n));
    skip(n);
  }
  return false;
}

// Escapes as Python has them.
void Lexer::string() {
  const char quote = s_[at_];
  std::string text;
  size_t p = at_ + 1;
  for (; p < s_.size() && s_[p] != quote; ++p) {
    if (s_[p] != '\\' || p + 1 >= s_.size()) {
      text += s_[p];
      continue;
    }
    const char e = s_[++p];
    static constexpr char kShort[] = "n\nt\tr\ra\ab\bf\fv\v\\\\''\"\"";
    const char* found = nullptr;
    for (const char* k = kShort; *k; k += 2)
      if (*k == e) found = k + 1;
    const size_t digits = e == 'x' ? 2 : e == 'u' ? 4 : e == 'U' ? 8 : 0;
    if (found) {
      text += *found;
    } else if (digits) {
      const std::string hex = s_.substr(p + 1, digits);
      if (hex.size() != digits || hex.find_first_not_of("0123456789abcdefABCDEF") != hex.npos)
        fail("a broken escape in a string");
      const unsigned long code = std::stoul(hex, nullptr, 16);
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("a broken escape in a string");
      append_code_point(uint32_t(code), &text);
      p += digits;
    } else if (e >= '0' && e <= '7') {
      uint32_t code = 0;
      size_t n = 0;
      for (; n < 3 && p + n < s_.size() && s_[p + n] >= '0' && s_[p + n] <= '7'; ++n)
        code = code * 8 + uint32_t(s_[p + n] - '0');
      append_code_point(code, &text);
      p += n - 1;
    } else if (e != '\n') {
      if (e == 'N') fail("an escape by a character's name");
      text += '\\', text += e;
    }
  }
  if (p >= s_.size()) fail("a string without end");
  add(Token::kString, text);
  skip(p + 1 - at_);
}

void Lexer::number() {
  size_t end = at_;
  bool is_float = false;
  while (end < s_.size() &&
         (is_digit(s_[end]) || s_[end] == '_' || (s_[end] == '.' && end + 1 < s_.size() && is_digit(s_[end + 1]))))
    is_float = is_float || s_[end] == '.', ++end;
  if (end < s_.size() && is_name_start(s_[end])) fail("the number \"" + s_.substr(at_, end + 1 - at_) + "\"");
  std::string text = s_.substr(at_, end - at_);
  text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
  if (text.size() > 18) fail("the number " + text);
  add(is_float ? Token::kFloat : Token::kInteger, text);
  skip(end - at_);
}

}  // namespace

std::vector<Lexeme> tokenize(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text += source[i] == '\r' ? '\n' : source[i];
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return Lexer(std::move(text)).run();
}

}  // namespace runnel::convert::jinja
