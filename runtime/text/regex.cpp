#include "text/regex.h"

#include "text/utf8.h"

namespace runnel {
namespace {

enum FrameKind : uint32_t { kChoice, kGreedyRun, kLazyRun, kOpen };

struct Char {
  uint32_t cls, length;  // length 0: the end of the text
};

class Matcher {
 public:
  Matcher(const Regex& regex, const uint8_t* text, size_t begin, size_t end, RegexScratch* scratch)
      : r_(regex), t_(text), begin_(begin), end_(end), s_(*scratch) {}
  // `at` becomes the end of the match that begins there.
  Status match(size_t* at, bool* found);
  bool can_begin(size_t at) const {
    const Char c = next(at);
    return c.length && (r_.header.first >> c.cls & 1);
  }

 private:
  Char next(size_t at) const {
    if (at >= end_) return {0, 0};
    const uint8_t lead = t_[at];
    if (lead < 0x80) return {r_.classes.of(lead), 1};
    const CodePoint c = code_point_at(t_ + at, end_ - at);
    return {r_.classes.of(c.value), c.length};
  }
  size_t back(size_t at) const {
    --at;
    while (at > begin_ && (t_[at] & 0xC0) == 0x80) --at;
    return at;
  }
  // Up to `high` characters of the set from `at` on.
  size_t run(uint64_t set, uint32_t high, size_t at, uint32_t* count) {
    uint32_t n = 0;
    for (; n < high; ++n) {
      const Char c = next(at);
      if (c.length == 0 || !(set >> c.cls & 1)) break;
      at += c.length;
    }
    *count = n;
    return at;
  }
  Status push(uint32_t pc, uint32_t kind, size_t at, size_t low) { return s_.frames.push({pc, kind, at, low}); }
  Status run_op(const RegexInstruction& i, uint32_t* pc, size_t* at, bool* ok);
  bool close(uint32_t* pc, size_t* at);
  Status backtrack(uint32_t* pc, size_t* at, bool* ok);
  Status spend(uint64_t steps) {
    if (s_.work < steps)
      return Status::make(Code::kInvalidModel, "tokenizer: a pattern takes too many steps on this text");
    s_.work -= steps;
    return Status::ok();
  }

  const Regex& r_;
  const uint8_t* t_;
  size_t begin_, end_;
  RegexScratch& s_;
};

Status Matcher::run_op(const RegexInstruction& i, uint32_t* pc, size_t* at, bool* ok) {
  const RegexMode mode = RegexMode(i.mode);
  uint32_t count = 0;
  size_t low = run(i.set, i.low, *at, &count);
  *ok = count == i.low;
  if (!*ok) return spend(count);
  ++*pc;
  if (mode == RegexMode::kLazy) {
    if (i.high > i.low) RNL_TRY(push(*pc - 1, kLazyRun, low, i.high == kRegexUnlimited ? SIZE_MAX : i.high - i.low));
    *at = low;
    return spend(count);
  }
  uint32_t more = 0;
  const size_t high = run(i.set, i.high - i.low, low, &more);
  *at = high;
  if (mode == RegexMode::kGreedy && high > low) RNL_TRY(push(*pc, kGreedyRun, high, low));
  return spend(uint64_t(count) + more);
}

// The end of a look or of an atomic group: ways to match it that are left are dropped.
bool Matcher::close(uint32_t* pc, size_t* at) {
  while (!s_.frames.empty()) {
    const RegexScratch::Frame f = s_.frames.back();
    s_.frames.pop();
    if (f.kind != kOpen || f.pc >= r_.header.instruction_count) continue;
    const RegexInstruction& open = r_.code[f.pc];
    if (open.op == RegexOp::kAtomic) {
      ++*pc;
      return true;
    }
    *at = f.at;
    *pc = open.target;
    return open.mode == 0;
  }
  return false;
}

// To the newest choice that is left; ok is false when there is none.
Status Matcher::backtrack(uint32_t* pc, size_t* at, bool* ok) {
  *ok = true;
  while (!s_.frames.empty()) {
    RNL_TRY(spend(1));
    RegexScratch::Frame& f = s_.frames.back();
    *pc = f.pc;
    *at = f.at;
    if (f.kind == kGreedyRun) {
      *at = back(f.at);
      if (*at <= f.low) s_.frames.pop();
      else f.at = *at;
      return Status::ok();
    }
    if (f.kind == kLazyRun) {
      const Char c = next(f.at);
      if (f.low == 0 || c.length == 0 || !(r_.code[f.pc].set >> c.cls & 1)) {
        s_.frames.pop();
        continue;
      }
      *at = f.at += c.length;
      --f.low;
      ++*pc;
      return Status::ok();
    }
    const bool was_open = f.kind == kOpen;
    s_.frames.pop();
    if (!was_open) return Status::ok();
    const RegexInstruction& open = r_.code[*pc];
    if (open.op != RegexOp::kLook || open.mode == 0) continue;
    *pc = open.target;
    return Status::ok();
  }
  *ok = false;
  return Status::ok();
}

Status Matcher::match(size_t* begin, bool* found) {
  s_.frames.clear();
  size_t at = *begin;
  uint32_t pc = 0;
  for (;;) {
    if (pc >= r_.header.instruction_count)
      return Status::make(Code::kInvalidModel, "tokenizer: a pattern leaves its instructions");
    RNL_TRY(spend(1));
    const RegexInstruction& i = r_.code[pc];
    bool ok = true;
    switch (i.op) {
      case RegexOp::kMatch:
        *begin = at;
        *found = true;
        return Status::ok();
      case RegexOp::kSet: {
        const Char c = next(at);
        ok = c.length && (i.set >> c.cls & 1);
        at += c.length, ++pc;
        break;
      }
      case RegexOp::kRun: RNL_TRY(run_op(i, &pc, &at, &ok)); break;
      case RegexOp::kSplit: {
        const Char c = next(at);
        const bool may = c.length ? i.set >> c.cls & 1 : i.mode;
        if (may) RNL_TRY(push(i.target, kChoice, at, 0));
        pc = may ? pc + 1 : i.target;
        break;
      }
      case RegexOp::kJump: pc = i.target; break;
      case RegexOp::kNext: {
        const Char c = next(at);
        ok = c.length ? i.set >> c.cls & 1 : i.mode;
        ++pc;
        break;
      }
      case RegexOp::kPrevious:
        ok = at > begin_ ? i.set >> next(back(at)).cls & 1 : i.mode;
        ++pc;
        break;
      case RegexOp::kLook:
      case RegexOp::kAtomic: RNL_TRY(push(pc++, kOpen, at, 0)); break;
      case RegexOp::kEnd: ok = close(&pc, &at); break;
      default:
        return Status::make(Code::kInvalidModel, "tokenizer: a pattern has the unknown instruction %d", int(i.op));
    }
    if (ok) continue;
    RNL_TRY(backtrack(&pc, &at, &ok));
    if (!ok) break;
  }
  *found = false;
  return Status::ok();
}

Status broken() { return Status::make(Code::kInvalidModel, "tokenizer: a pattern lies outside of its table"); }

}  // namespace

Status classes_open(const uint8_t* tables, size_t size, uint32_t offset, uint32_t page_count, CharClasses* out) {
  constexpr size_t kHead = size_t(kClassPages) * 2;
  if (offset % 2 || offset > size || size - offset < kHead || page_count == 0 ||
      (size - offset - kHead) / kClassPage < page_count)
    return broken();
  out->page_of = reinterpret_cast<const uint16_t*>(tables + offset);
  out->pages = tables + offset + kHead;
  out->page_count = page_count;
  if (out->page_of[0] >= page_count) return broken();
  out->ascii = out->pages + size_t(out->page_of[0]) * kClassPage;
  return Status::ok();
}

Status regex_open(const uint8_t* tables, size_t size, uint32_t offset, Regex* out) {
  if (offset % 8 || offset > size || size - offset < sizeof(RegexHeader)) return broken();
  out->header = *reinterpret_cast<const RegexHeader*>(tables + offset);
  out->code = reinterpret_cast<const RegexInstruction*>(tables + offset + sizeof(RegexHeader));
  if ((size - offset - sizeof(RegexHeader)) / sizeof(RegexInstruction) < out->header.instruction_count) return broken();
  return classes_open(tables, size, out->header.classes, out->header.page_count, &out->classes);
}

Status regex_search(const Regex& regex, const uint8_t* text, size_t begin, size_t end, size_t from,
                    RegexScratch* scratch, RegexFound* out) {
  Matcher matcher(regex, text, begin, end, scratch);
  for (size_t at = from; at <= end;) {
    size_t stop = at;
    bool found = false;
    if (regex.header.empty || matcher.can_begin(at)) RNL_TRY(matcher.match(&stop, &found));
    if (found) {
      *out = {true, at, stop};
      return Status::ok();
    }
    at += at < end ? code_point_at(text + at, end - at).length : 1;
  }
  *out = {false, end, end};
  return Status::ok();
}

}  // namespace runnel
