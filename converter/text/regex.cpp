#include "converter/text/regex.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "converter/text/regex_tree.h"
#include "converter/text/vocabulary.h"

namespace runnel::convert {
namespace {

using Kind = RegexNode::Kind;
constexpr size_t kMaxInstructions = 20000;
constexpr uint64_t kAllClasses = ~uint64_t(0);

// Characters that are in the same sets of the pattern share a class.
class Classes {
 public:
  void collect(const RegexNode& n) {
    if (n.kind == Kind::kSet || n.kind == Kind::kBegin || n.kind == Kind::kEnd) sets_.push_back(&n.set);
    for (const auto& c : n.children) collect(*c);
  }
  // False: there are too many of them.
  bool number();
  uint64_t mask(const CodeSet& set) const;
  uint32_t append(std::vector<uint8_t>* out, uint32_t* page_count) const;

 private:
  std::vector<const CodeSet*> sets_;
  std::map<uint32_t, uint32_t> class_from_;  // code point where a class begins
  std::vector<uint32_t> sample_;             // a code point of each class
};

bool Classes::number() {
  class_from_[0];
  for (const CodeSet* s : sets_)
    for (const CodeSet::Range& r : s->ranges()) class_from_[r.first], class_from_[r.last + 1];
  class_from_.erase(0x110000);
  std::map<std::vector<bool>, uint32_t> known;
  for (auto& [first, cls] : class_from_) {
    std::vector<bool> in;
    for (const CodeSet* s : sets_) in.push_back(s->has(first));
    const auto [at, fresh] = known.emplace(in, uint32_t(known.size()));
    cls = at->second;
    if (fresh) sample_.push_back(first);
    if (sample_.size() > kMaxClasses) return false;
  }
  return true;
}

uint64_t Classes::mask(const CodeSet& set) const {
  uint64_t m = 0;
  for (size_t c = 0; c < sample_.size(); ++c)
    if (set.has(sample_[c])) m |= uint64_t(1) << c;
  return m;
}

void align(std::vector<uint8_t>* out) { out->resize((out->size() + 7) / 8 * 8); }

template <class T>
void append_pod(const T& value, std::vector<uint8_t>* out) {
  const size_t at = out->size();
  out->resize(at + sizeof(T));
  std::memcpy(out->data() + at, &value, sizeof(T));
}

uint32_t append_table(const std::vector<uint8_t>& class_of, std::vector<uint8_t>* out, uint32_t* page_count) {
  align(out);
  const uint32_t offset = uint32_t(out->size());
  std::map<std::vector<uint8_t>, uint16_t> known;
  std::vector<uint8_t> pages;
  for (uint32_t p = 0; p < kClassPages; ++p) {
    std::vector<uint8_t> page(class_of.begin() + p * kClassPage, class_of.begin() + (p + 1) * kClassPage);
    const auto [at, fresh] = known.emplace(page, uint16_t(known.size()));
    if (fresh) pages.insert(pages.end(), page.begin(), page.end());
    append_pod(at->second, out);
  }
  *page_count = uint32_t(known.size());
  out->insert(out->end(), pages.begin(), pages.end());
  return offset;
}

uint32_t Classes::append(std::vector<uint8_t>* out, uint32_t* page_count) const {
  std::vector<uint8_t> class_of(kCodePoints);
  for (auto at = class_from_.begin(); at != class_from_.end(); ++at) {
    const uint32_t end = std::next(at) == class_from_.end() ? kCodePoints : std::next(at)->first;
    std::fill(class_of.begin() + at->first, class_of.begin() + end, uint8_t(at->second));
  }
  return append_table(class_of, out, page_count);
}

class Compiler {
 public:
  Compiler(std::string_view pattern, const Classes& classes) : pattern_(pattern), classes_(classes) {}
  void emit(const RegexNode& n);
  void finish() { add(RegexOp::kMatch); }
  bool nullable(const RegexNode& n) const;
  uint64_t first(const RegexNode& n) const;
  const std::vector<RegexInstruction>& code() const { return code_; }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw UnsupportedTokenizer("the pattern " + shown_pattern(pattern_) + " " + what + ", which is not supported");
  }
  RegexInstruction& add(RegexOp op) {
    if (code_.size() == kMaxInstructions) refuse("is too long");
    code_.push_back({op, 0, 0, 0, 0, 0, 0});
    return code_.back();
  }
  uint32_t here() const { return uint32_t(code_.size()); }
  // A choice whose first way is `n`; the caller sets the other way's target.
  uint32_t split(const RegexNode& n) {
    RegexInstruction& i = add(RegexOp::kSplit);
    i.mode = nullable(n);
    i.set = i.mode ? kAllClasses : first(n);
    return here() - 1;
  }
  uint32_t jump() {
    add(RegexOp::kJump);
    return here() - 1;
  }
  void alternate(const RegexNode& n);
  void repeat(const RegexNode& n);
  void optional(const RegexNode& body, bool lazy, std::vector<uint32_t>* exits);
  void look(const RegexNode& n);
  void condition(RegexOp op, uint64_t set, bool edge) {
    RegexInstruction& i = add(op);
    i.set = set;
    i.mode = edge;
  }

  std::string_view pattern_;
  const Classes& classes_;
  std::vector<RegexInstruction> code_;
};

bool Compiler::nullable(const RegexNode& n) const {
  switch (n.kind) {
    case Kind::kSet: return false;
    case Kind::kConcat:
      for (const auto& c : n.children)
        if (!nullable(*c)) return false;
      return true;
    case Kind::kAlternate:
      for (const auto& c : n.children)
        if (nullable(*c)) return true;
      return false;
    case Kind::kRepeat: return n.low == 0 || nullable(*n.children[0]);
    case Kind::kAtomic: return nullable(*n.children[0]);
    default: return true;
  }
}

uint64_t Compiler::first(const RegexNode& n) const {
  uint64_t m = 0;
  switch (n.kind) {
    case Kind::kSet: return classes_.mask(n.set);
    case Kind::kConcat:
      for (const auto& c : n.children) {
        m |= first(*c);
        if (!nullable(*c)) break;
      }
      return m;
    case Kind::kAlternate:
      for (const auto& c : n.children) m |= first(*c);
      return m;
    case Kind::kRepeat:
    case Kind::kAtomic: return first(*n.children[0]);
    default: return 0;  // takes nothing
  }
}

void Compiler::alternate(const RegexNode& n) {
  std::vector<uint32_t> exits;
  for (size_t i = 0; i + 1 < n.children.size(); ++i) {
    const uint32_t choice = split(*n.children[i]);
    emit(*n.children[i]);
    exits.push_back(jump());
    code_[choice].target = here();
  }
  emit(*n.children.back());
  for (const uint32_t e : exits) code_[e].target = here();
}

// Goes past the body; `exits` then get the target of the way without it.
void Compiler::optional(const RegexNode& body, bool lazy, std::vector<uint32_t>* exits) {
  if (!lazy) {
    exits->push_back(split(body));
  } else {
    RegexInstruction& i = add(RegexOp::kSplit);
    i.mode = 1;
    i.set = kAllClasses;
    exits->push_back(jump());
    code_[here() - 2].target = here();
  }
  emit(body);
}

void Compiler::repeat(const RegexNode& n) {
  const RegexNode& body = *n.children[0];
  if (body.kind == Kind::kSet) {
    RegexInstruction& i = add(RegexOp::kRun);
    i.mode = uint8_t(n.mode);
    i.low = n.low, i.high = n.high;
    i.set = classes_.mask(body.set);
    return;
  }
  if (n.mode == RegexMode::kPossessive) add(RegexOp::kAtomic);
  const bool lazy = n.mode == RegexMode::kLazy;
  for (uint32_t i = 0; i < n.low; ++i) {
    const uint32_t before = here();
    emit(body);
    if (here() == before) break;  // it matches the empty text alone
  }
  std::vector<uint32_t> exits;
  if (n.high == kRegexUnlimited) {
    if (nullable(body)) refuse("repeats what can be empty");
    const uint32_t again = here();
    optional(body, lazy, &exits);
    code_[jump()].target = again;
  } else {
    for (uint32_t i = n.low; i < n.high; ++i) optional(body, lazy, &exits);
  }
  for (const uint32_t e : exits) code_[e].target = here();
  if (n.mode == RegexMode::kPossessive) add(RegexOp::kEnd);
}

void Compiler::look(const RegexNode& n) {
  const RegexNode* body = n.children[0].get();
  while (body->kind == Kind::kConcat && body->children.size() == 1) body = body->children[0].get();
  if (body->kind == Kind::kSet) {
    const uint64_t set = classes_.mask(body->set);
    condition(n.behind ? RegexOp::kPrevious : RegexOp::kNext, n.negative ? ~set : set, n.negative);
    return;
  }
  if (n.behind) refuse("looks back at more than one character");
  const uint32_t open = here();
  add(RegexOp::kLook).mode = n.negative;
  emit(*body);
  add(RegexOp::kEnd);
  code_[open].target = here();
}

void Compiler::emit(const RegexNode& n) {
  switch (n.kind) {
    case Kind::kSet: add(RegexOp::kSet).set = classes_.mask(n.set); break;
    case Kind::kConcat:
      for (const auto& c : n.children) emit(*c);
      break;
    case Kind::kAlternate: alternate(n); break;
    case Kind::kRepeat: repeat(n); break;
    case Kind::kLook: look(n); break;
    case Kind::kAtomic:
      add(RegexOp::kAtomic);
      emit(*n.children[0]);
      add(RegexOp::kEnd);
      break;
    case Kind::kBegin: condition(RegexOp::kPrevious, classes_.mask(n.set), true); break;
    case Kind::kEnd: condition(RegexOp::kNext, classes_.mask(n.set), true); break;
  }
}

}  // namespace

uint32_t append_regex(std::string_view pattern, RegexFlavour flavour, std::vector<uint8_t>* out) {
  const RegexTree tree = parse_regex(pattern, flavour);
  Classes classes;
  classes.collect(*tree);
  if (!classes.number())
    throw UnsupportedTokenizer("the pattern " + shown_pattern(pattern) + " tells more than " +
                               std::to_string(kMaxClasses) + " kinds of characters apart");
  Compiler compiler(pattern, classes);
  compiler.emit(*tree);
  compiler.finish();
  RegexHeader h = {};
  h.instruction_count = uint32_t(compiler.code().size());
  h.classes = classes.append(out, &h.page_count);
  h.empty = compiler.nullable(*tree);
  h.first = compiler.first(*tree);
  align(out);
  const uint32_t offset = uint32_t(out->size());
  append_pod(h, out);
  for (const RegexInstruction& i : compiler.code()) append_pod(i, out);
  return offset;
}

uint32_t append_classes(const CodeSet& set, std::vector<uint8_t>* out, uint32_t* page_count) {
  std::vector<uint8_t> class_of(kCodePoints);
  for (const CodeSet::Range& r : set.ranges())
    std::fill(class_of.begin() + r.first, class_of.begin() + r.last + 1, uint8_t(1));
  return append_table(class_of, out, page_count);
}

std::string shown_pattern(std::string_view pattern) {
  size_t end = std::min<size_t>(pattern.size(), 200);
  while (end < pattern.size() && end > 0 && (pattern[end] & 0xC0) == 0x80) --end;
  return std::string(pattern.substr(0, end)) + (end < pattern.size() ? "..." : "");
}

std::string regex_escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace runnel::convert
