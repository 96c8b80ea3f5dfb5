#include "text/normal_form.h"

#include <algorithm>

#include "text/utf8.h"

namespace runnel {
namespace {

template <class T>
const T* view(const uint8_t* tables, size_t size, uint64_t offset, uint64_t count) {
  if (offset > size || reinterpret_cast<uintptr_t>(tables + offset) % alignof(T) || (size - offset) / sizeof(T) < count)
    return nullptr;
  return reinterpret_cast<const T*>(tables + offset);
}

}  // namespace

bool map_open(const uint8_t* tables, size_t size, uint32_t offset, CharMap* out) {
  const auto* head = view<uint32_t>(tables, size, offset, 2);
  if (!head) return false;
  out->page_count = head[0];
  out->string_count = head[1];
  uint64_t at = uint64_t(offset) + 8;
  out->ascii = view<uint8_t>(tables, size, at, 128);
  out->page_of = view<uint16_t>(tables, size, at += 128, kMapPages);
  out->entries = view<uint32_t>(tables, size, at += kMapPages * 2, uint64_t(out->page_count) * kMapPage);
  out->ends =
      view<uint32_t>(tables, size, at += uint64_t(out->page_count) * kMapPage * 4, uint64_t(out->string_count) + 1);
  if (!out->ascii || !out->page_of || !out->entries || !out->ends) return false;
  at += (uint64_t(out->string_count) + 1) * 4;
  out->text = tables + at;
  out->text_size = size - size_t(at);
  return true;
}

bool class_table_open(const uint8_t* tables, size_t size, uint32_t offset, uint32_t page_count, ClassTable* out) {
  out->page_of = view<uint16_t>(tables, size, offset, kMapPages);
  out->pages = view<uint8_t>(tables, size, uint64_t(offset) + kMapPages * 2, uint64_t(page_count) * kMapPage);
  out->page_count = page_count;
  return out->page_of && out->pages;
}

bool form_open(const uint8_t* tables, size_t size, const NormStep& step, NormalForm* out) {
  out->pairs = view<NormPair>(tables, size, step.args[3], step.args[4]);
  out->pair_count = step.args[4];
  out->compose = step.flags & kNormCompose;
  return map_open(tables, size, step.args[0], &out->decompositions) &&
         class_table_open(tables, size, step.args[1], step.args[2], &out->classes) && out->pairs;
}

namespace {

// Hangul's syllables follow from their numbers.
constexpr uint32_t kS = 0xAC00, kL = 0x1100, kV = 0x1161, kT = 0x11A7, kLCount = 19, kVCount = 21, kTCount = 28,
                   kSCount = kLCount * kVCount * kTCount;

class Form {
 public:
  Form(const NormalForm& form, Vec<uint64_t>* marks, Vec<uint8_t>* out) : f_(form), chars_(*marks), out_(*out) {}
  Status run(const uint8_t* text, size_t size, bool* changed);

 private:
  // chars_: combining class << 53, then place << 21, then the character; sorting keeps those of one class in order.
  static uint32_t char_of(uint64_t key) { return uint32_t(key & 0x1FFFFF); }
  static uint32_t class_of(uint64_t key) { return uint32_t(key >> 53); }
  Status segment(const uint8_t* text, size_t size);
  Status put(uint32_t c);
  Status decompose(uint32_t c);
  void sort() {
    // Runs are short; a heap is less code than std::sort.
    std::make_heap(chars_.begin() + run_, chars_.end());
    std::sort_heap(chars_.begin() + run_, chars_.end());
    run_ = chars_.size();
  }
  uint32_t join(uint32_t first, uint32_t second) const;
  void compose();
  Status write(uint32_t c);

  const NormalForm& f_;
  Vec<uint64_t>& chars_;
  Vec<uint8_t>& out_;
  size_t run_ = 0;  // from here on they are not in order yet
};

Status Form::put(uint32_t c) {
  const uint8_t cls = f_.classes.of(c);
  const uint64_t combining = cls == kNormStarter ? 0 : cls;
  if (combining == 0) sort();
  RNL_TRY(chars_.push(combining << 53 | uint64_t(chars_.size() & 0xFFFFFFFF) << 21 | c));
  if (combining == 0) run_ = chars_.size();
  return Status::ok();
}

Status Form::decompose(uint32_t c) {
  if (c >= kS && c < kS + kSCount) {
    const uint32_t i = c - kS;
    RNL_TRY(put(kL + i / (kVCount * kTCount)));
    RNL_TRY(put(kV + i / kTCount % kVCount));
    return i % kTCount ? put(kT + i % kTCount) : Status::ok();
  }
  StringView to;
  if (!f_.decompositions.find(c, &to)) return put(c);
  for (size_t i = 0; i < to.size;) {
    const CodePoint part = code_point_at(to.data + i, to.size - i);
    RNL_TRY(put(part.value));
    i += part.length;
  }
  return Status::ok();
}

// 0: they do not join.
uint32_t Form::join(uint32_t first, uint32_t second) const {
  if (first >= kL && first < kL + kLCount && second >= kV && second < kV + kVCount)
    return kS + ((first - kL) * kVCount + second - kV) * kTCount;
  if (first >= kS && first < kS + kSCount && (first - kS) % kTCount == 0 && second > kT && second < kT + kTCount)
    return first + second - kT;
  const auto less = [](const NormPair& a, const NormPair& b) {
    return a.first != b.first ? a.first < b.first : a.second < b.second;
  };
  const NormPair key = {first, second, 0};
  const NormPair* at = std::lower_bound(f_.pairs, f_.pairs + f_.pair_count, key, less);
  return at != f_.pairs + f_.pair_count && at->first == first && at->second == second && at->joined < kCodePoints
             ? at->joined
             : 0;
}

void Form::compose() {
  size_t kept = 0, starter = SIZE_MAX;
  uint32_t last_class = 0;  // of what was kept since the starter; 0: nothing
  for (size_t i = 0; i < chars_.size(); ++i) {
    const uint32_t c = char_of(chars_[i]), cls = class_of(chars_[i]);
    if (starter != SIZE_MAX && (last_class == 0 || last_class < cls)) {
      if (const uint32_t joined = join(char_of(chars_[starter]), c)) {
        chars_[starter] = joined;
        continue;
      }
    }
    if (cls == 0) starter = kept, last_class = 0;
    else last_class = cls;
    chars_[kept++] = chars_[i];
  }
  chars_.truncate(kept);
}

Status Form::write(uint32_t c) {
  uint8_t b[4];
  size_t n = 0;
  if (c < 0x80) b[n++] = uint8_t(c);
  else if (c < 0x800) b[n++] = uint8_t(0xC0 | c >> 6), b[n++] = uint8_t(0x80 | (c & 63));
  else if (c < 0x10000)
    b[n++] = uint8_t(0xE0 | c >> 12), b[n++] = uint8_t(0x80 | (c >> 6 & 63)), b[n++] = uint8_t(0x80 | (c & 63));
  else
    b[n++] = uint8_t(0xF0 | c >> 18), b[n++] = uint8_t(0x80 | (c >> 12 & 63)), b[n++] = uint8_t(0x80 | (c >> 6 & 63)),
    b[n++] = uint8_t(0x80 | (c & 63));
  return out_.append(b, n);
}

Status Form::segment(const uint8_t* text, size_t size) {
  chars_.clear();
  run_ = 0;
  for (size_t i = 0; i < size;) {
    const CodePoint c = code_point_at(text + i, size - i);
    RNL_TRY(decompose(c.value));
    i += c.length;
  }
  sort();
  if (f_.compose) compose();
  for (const uint64_t key : chars_) {
    const uint32_t c = char_of(key);
    RNL_TRY(write(c < kCodePoints && (c < 0xD800 || c > 0xDFFF) ? c : 0xFFFD));
  }
  return Status::ok();
}

// Characters of class 0 stay as they are and nothing crosses the place before one. All others are worked on together
// with the character of class 0 before them, which may join with them.
Status Form::run(const uint8_t* text, size_t size, bool* changed) {
  size_t done = 0, begin = 0;
  for (size_t at = 0; at < size;) {
    uint64_t eight = 0;
    if (at + 8 <= size) {
      std::memcpy(&eight, text + at, 8);
      if ((eight & 0x8080808080808080) == 0) {
        at += 8, begin = at - 1;
        continue;
      }
    }
    CodePoint c = code_point_at(text + at, size - at);
    if (c.value < 0x80 || f_.classes.of(c.value) == 0) {
      begin = at;
      at += c.length;
      continue;
    }
    size_t end = at + c.length;
    for (; end < size; end += c.length) {
      c = code_point_at(text + end, size - end);
      if (c.value < 0x80 || f_.classes.of(c.value) == 0) break;
    }
    const size_t before = out_.size() + begin - done;
    RNL_TRY(out_.append(text + done, begin - done));
    RNL_TRY(segment(text + begin, end - begin));
    *changed |=
        out_.size() - before != end - begin || std::memcmp(out_.data() + before, text + begin, end - begin) != 0;
    done = begin = at = end;
  }
  return *changed ? out_.append(text + done, size - done) : Status::ok();
}

}  // namespace

Status normal_form(const NormalForm& form, const uint8_t* text, size_t size, Vec<uint64_t>* marks, Vec<uint8_t>* out,
                   bool* changed) {
  return Form(form, marks, out).run(text, size, changed);
}

}  // namespace runnel
