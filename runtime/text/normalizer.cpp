#include "text/normalizer.h"

#include <algorithm>
#include <cstring>

#include "text/normal_form.h"
#include "text/utf8.h"

namespace runnel {

Status norm_open(const uint8_t* tables, size_t size, Normalizer* out) {
  const auto bad = [](const char* what) {
    return Status::make(Code::kInvalidModel, "tokenizer: the normaliser %s", what);
  };
  *out = {};
  if (size == 0) return Status::ok();
  if (size < sizeof(NormHeader) || reinterpret_cast<uintptr_t>(tables) % 8) return bad("is too small or misaligned");
  const auto* h = reinterpret_cast<const NormHeader*>(tables);
  if (h->magic != kNormMagic) return bad("has an unknown layout");
  if (h->step_count > kMaxNormSteps || (size - sizeof(NormHeader)) / sizeof(NormStep) < h->step_count)
    return bad("has too many steps");
  *out = {tables, size, reinterpret_cast<const NormStep*>(tables + sizeof(NormHeader)), h->step_count};
  for (uint32_t i = 0; i < h->step_count; ++i)
    if (out->steps[i].kind > NormKind::kCharsMap)
      return Status::make(Code::kUnsupported, "tokenizer: the normaliser's step %u is unknown to this version", i);
  return Status::ok();
}

Status append_valid(const uint8_t* text, size_t size, Vec<uint8_t>* out) {
  for (size_t i = 0; i < size;) {
    size_t run = i;
    Utf8Step step = {Utf8::kValid, 0};
    while (run < size) {
      step = text[run] < 0x80 ? Utf8Step{Utf8::kValid, 1} : utf8_step(text + run, size - run);
      if (step.kind != Utf8::kValid) break;
      run += step.length;
    }
    RNL_TRY(out->append(text + i, run - i));
    i = run;
    if (i == size) break;
    RNL_TRY(out->append(reinterpret_cast<const uint8_t*>(kReplacement), kReplacementBytes));
    i += step.length;
  }
  return Status::ok();
}

namespace {

Status broken() {
  return Status::make(Code::kInvalidModel, "tokenizer: the normaliser has a table outside of its tensor");
}

struct Strings {
  const uint8_t* data;
  size_t size;
  // The string at `offset`: u16 bytes, then they.
  StringView at(size_t offset) const {
    if (offset > size || size - offset < 2) return {nullptr, 0};
    const size_t n = data[offset] | size_t(data[offset + 1]) << 8;
    return size - offset - 2 < n ? StringView{nullptr, 0} : StringView{data + offset + 2, n};
  }
};

class Steps {
 public:
  Steps(const Normalizer& n, NormScratch* scratch, RegexScratch* regex)
      : n_(n), s_(*scratch), regex_(*regex), out_(s_.to) {}
  // Leaves the changed text in the scratch's `to`; changed is false when it would be the same.
  Status run(const NormStep& step, const uint8_t* text, size_t size, bool* changed);

 private:
  Status string_arg(const NormStep& step, int at, StringView* out) const {
    if (step.args[at] > n_.size || n_.size - step.args[at] < step.args[at + 1]) return broken();
    *out = {n_.tables + step.args[at], step.args[at + 1]};
    return Status::ok();
  }
  Status map(const NormStep& step, bool* changed);
  Status replace(const NormStep& step, bool* changed);
  Status replace_pattern(const NormStep& step, bool* changed);
  Status strip(const NormStep& step, bool* changed);
  Status sentence_piece(const NormStep& step);
  Status chars_map(const NormStep& step, bool* changed);

  const Normalizer& n_;
  NormScratch& s_;
  RegexScratch& regex_;
  Vec<uint8_t>& out_;
  const uint8_t* text_ = nullptr;
  size_t size_ = 0;
};

Status Steps::map(const NormStep& step, bool* changed) {
  CharMap m;
  if (!map_open(n_.tables, n_.size, step.args[0], &m)) return broken();
  size_t done = 0;  // text before it has been written
  uint8_t run[256];
  for (size_t at = 0; at < size_;) {
    size_t n = 0, from = at;
    while (n < sizeof run && at < size_ && text_[at] < 0x80 && m.ascii[text_[at]] < 0x80)
      run[n++] = m.ascii[text_[at++]];
    if (n && std::memcmp(run, text_ + from, n) != 0) {
      RNL_TRY(out_.append(text_ + done, from - done));
      RNL_TRY(out_.append(run, n));
      done = at;
      *changed = true;
    }
    if (n) continue;
    const CodePoint c = code_point_at(text_ + at, size_ - at);
    StringView to;
    if (m.find(c.value, &to)) {
      RNL_TRY(out_.append(text_ + done, at - done));
      RNL_TRY(out_.append(to.data, to.size));
      done = at + c.length;
      *changed = true;
    }
    at += c.length;
  }
  return *changed ? out_.append(text_ + done, size_ - done) : Status::ok();
}

Status Steps::replace(const NormStep& step, bool* changed) {
  StringView from, to;
  RNL_TRY(string_arg(step, 0, &from));
  RNL_TRY(string_arg(step, 2, &to));
  size_t done = 0;
  for (size_t at = 0; from.size && at + from.size <= size_;) {
    const void* hit = std::memchr(text_ + at, from.data[0], size_ - at - from.size + 1);
    if (!hit) break;
    at = size_t(static_cast<const uint8_t*>(hit) - text_);
    if (std::memcmp(text_ + at, from.data, from.size) != 0) {
      ++at;
      continue;
    }
    RNL_TRY(out_.append(text_ + done, at - done));
    RNL_TRY(out_.append(to.data, to.size));
    done = at += from.size;
    *changed = true;
  }
  return *changed ? out_.append(text_ + done, size_ - done) : Status::ok();
}

Status Steps::replace_pattern(const NormStep& step, bool* changed) {
  if (size_ == 0) return Status::ok();  // also where the pattern matches nothing at all
  Regex r;
  StringView to;
  RNL_TRY(regex_open(n_.tables, n_.size, step.args[0], &r));
  RNL_TRY(string_arg(step, 2, &to));
  size_t done = 0, last = SIZE_MAX;
  for (size_t from = 0; from <= size_;) {
    RegexFound f = {};
    RNL_TRY(regex_search(r, text_, 0, size_, from, &regex_, &f));
    if (!f.found) break;
    // An empty match right after a match would come for ever.
    if (f.begin == f.end && f.end == last) {
      from = f.end < size_ ? f.end + code_point_at(text_ + f.end, size_ - f.end).length : size_ + 1;
      continue;
    }
    RNL_TRY(out_.append(text_ + done, f.begin - done));
    RNL_TRY(out_.append(to.data, to.size));
    done = from = last = f.end;
    *changed = true;
  }
  return *changed ? out_.append(text_ + done, size_ - done) : Status::ok();
}

Status Steps::strip(const NormStep& step, bool* changed) {
  size_t begin = 0, end = size_;
  while ((step.flags & kStripLeft) && begin < end) {
    const CodePoint c = code_point_at(text_ + begin, end - begin);
    if (!is_white_space(c.value)) break;
    begin += c.length;
  }
  while ((step.flags & kStripRight) && begin < end) {
    size_t last = end - 1;
    while (last > begin && (text_[last] & 0xC0) == 0x80) --last;
    if (!is_white_space(code_point_at(text_ + last, end - last).value)) break;
    end = last;
  }
  *changed = end - begin != size_;
  return *changed ? out_.append(text_ + begin, end - begin) : Status::ok();
}

// SentencePiece's normaliser: at each place a user-defined piece as it is, else the longest string of the table by what
// replaces it.
Status Steps::sentence_piece(const NormStep& step) {
  ByteTrie table, user;
  StringView blob;
  if (step.args[1] && !trie_open(n_.tables, n_.size, step.args[0], step.args[1], &table)) return broken();
  RNL_TRY(string_arg(step, 2, &blob));
  if (step.args[5] && !trie_open(n_.tables, n_.size, step.args[4], step.args[5], &user)) return broken();
  const Strings strings = {blob.data, blob.size};
  const bool extra = step.flags & kSpmRemoveExtra, escape = step.flags & kSpmEscape;
  const auto* mark = reinterpret_cast<const uint8_t*>(escape ? kSpaceMark : " ");
  const size_t mark_size = escape ? kSpaceMarkBytes : 1;
  // What stands at `at` becomes `to`; returns its bytes.
  const auto prefix = [&](size_t at, StringView* to) {
    const uint8_t* p = text_ + at;
    size_t longest = 0;
    user.walk(p, size_ - at, [&](uint32_t, size_t n) { longest = n; });
    *to = {p, longest};
    if (longest) return longest;
    table.walk(p, size_ - at, [&](uint32_t value, size_t n) { longest = n, *to = strings.at(value - 1); });
    if (longest) return longest;
    to->size = code_point_at(p, size_ - at).length;
    return to->size;
  };
  size_t at = 0;
  for (StringView to; extra && at < size_;) {
    const size_t n = prefix(at, &to);
    if (to.size != 1 || to.data[0] != ' ') break;
    at += n;
  }
  if (at == size_) return Status::ok();
  if (step.flags & kSpmPrefix) RNL_TRY(out_.append(mark, mark_size));
  bool after_space = extra;
  while (at < size_) {
    StringView to;
    at += prefix(at, &to);
    while (after_space && to.size && to.data[0] == ' ') ++to.data, --to.size;
    for (size_t i = 0; i < to.size;) {
      size_t run = i;
      while (run < to.size && to.data[run] != ' ') ++run;
      RNL_TRY(out_.append(to.data + i, run - i));
      if (run < to.size) RNL_TRY(out_.append(mark, mark_size));
      i = run + 1;
    }
    if (to.size) after_space = extra && to.data[to.size - 1] == ' ';
    if (!extra) after_space = false;
  }
  while (extra && out_.size() >= mark_size && std::memcmp(out_.end() - mark_size, mark, mark_size) == 0)
    out_.truncate(out_.size() - mark_size);
  if (step.flags & kSpmSuffix) RNL_TRY(out_.append(mark, mark_size));
  return Status::ok();
}

// Where the extended grapheme cluster ends that begins at `at`.
size_t cluster_end(const ClassTable& classes, const uint8_t* text, size_t size, size_t at) {
  CodePoint c = code_point_at(text + at, size - at);
  Cluster before = Cluster(classes.of(c.value));
  bool picture = before == Cluster::kPicture, consonant = before == Cluster::kConsonant, linked = false;
  uint32_t regional = before == Cluster::kRegional;
  for (at += c.length; at < size; at += c.length) {
    c = code_point_at(text + at, size - at);
    const Cluster now = Cluster(classes.of(c.value));
    const auto is = [](Cluster x, auto... of) { return ((x == of) || ...); };
    if (before == Cluster::kCr && now == Cluster::kLf) return at + c.length;
    if (is(before, Cluster::kCr, Cluster::kLf, Cluster::kControl) ||
        is(now, Cluster::kCr, Cluster::kLf, Cluster::kControl))
      return at;
    const bool extends = is(now, Cluster::kExtend, Cluster::kLinker, Cluster::kJoiner);
    const bool joined = extends || now == Cluster::kSpacing || before == Cluster::kPrepend ||
                        (before == Cluster::kL && is(now, Cluster::kL, Cluster::kV, Cluster::kLv, Cluster::kLvt)) ||
                        (is(before, Cluster::kLv, Cluster::kV) && is(now, Cluster::kV, Cluster::kT)) ||
                        (is(before, Cluster::kLvt, Cluster::kT) && now == Cluster::kT) ||
                        (consonant && linked && now == Cluster::kConsonant) ||
                        (picture && before == Cluster::kJoiner && now == Cluster::kPicture) ||
                        (now == Cluster::kRegional && before == Cluster::kRegional && regional % 2 == 1);
    if (!joined) return at;
    if (now == Cluster::kConsonant) consonant = true, linked = false;
    else if (now == Cluster::kLinker) linked = true;
    else if (!extends) consonant = false;
    if (now == Cluster::kPicture) picture = true;
    else if (!extends) picture = false;
    regional = now == Cluster::kRegional ? regional + 1 : 0;
    before = now;
  }
  return at;
}

// The tokenizers library looks a whole cluster of less than 6 bytes up and takes the first, shortest hit for all of it;
// else it looks each character up.
Status Steps::chars_map(const NormStep& step, bool* changed) {
  ByteTrie table;
  StringView blob;
  ClassTable classes;
  if (!trie_open(n_.tables, n_.size, step.args[0], step.args[1], &table)) return broken();
  RNL_TRY(string_arg(step, 2, &blob));
  if (!class_table_open(n_.tables, n_.size, step.args[4], step.args[5], &classes)) return broken();
  const Strings strings = {blob.data, blob.size};
  const auto look_up = [&](size_t begin, size_t end, StringView* to) {
    uint32_t node = 0;
    for (size_t i = begin; i < end && table.step(&node, text_[i]); ++i)
      if (const uint32_t v = table.value(node)) {
        *to = strings.at(v - 1);
        return true;
      }
    return false;
  };
  size_t done = 0;
  for (size_t at = 0; at < size_;) {
    const bool alone = text_[at] < 0x80 && text_[at] != '\r' && (at + 1 == size_ || text_[at + 1] < 0x80);
    const size_t end = alone ? at + 1 : cluster_end(classes, text_, size_, at);
    StringView to;
    if (end - at < 6 && look_up(at, end, &to)) {
      RNL_TRY(out_.append(text_ + done, at - done));
      RNL_TRY(out_.append(to.data, to.size));
      done = at = end;
      *changed = true;
      continue;
    }
    while (at < end) {
      const size_t next = at + code_point_at(text_ + at, end - at).length;
      if (look_up(at, next, &to)) {
        RNL_TRY(out_.append(text_ + done, at - done));
        RNL_TRY(out_.append(to.data, to.size));
        done = next;
        *changed = true;
      }
      at = next;
    }
  }
  return *changed ? out_.append(text_ + done, size_ - done) : Status::ok();
}

Status Steps::run(const NormStep& step, const uint8_t* text, size_t size, bool* changed) {
  text_ = text;
  size_ = size;
  out_.clear();
  *changed = false;
  switch (step.kind) {
    case NormKind::kMap: return map(step, changed);
    case NormKind::kForm: {
      NormalForm form;
      if (!form_open(n_.tables, n_.size, step, &form)) return broken();
      return normal_form(form, text, size, &s_.marks, &out_, changed);
    }
    case NormKind::kReplace: return replace(step, changed);
    case NormKind::kReplacePattern: return replace_pattern(step, changed);
    case NormKind::kPrepend: {
      StringView string;
      RNL_TRY(string_arg(step, 0, &string));
      if (size == 0) return Status::ok();
      *changed = true;
      RNL_TRY(out_.append(string.data, string.size));
      return out_.append(text, size);
    }
    case NormKind::kStrip: return strip(step, changed);
    case NormKind::kSentencePiece: *changed = true; return sentence_piece(step);
    case NormKind::kCharsMap: return chars_map(step, changed);
  }
  return Status::ok();
}

}  // namespace

Status normalize(const Normalizer& normalizer, size_t begin, Vec<uint8_t>* text, NormScratch* scratch,
                 RegexScratch* regex) {
  if (normalizer.step_count == 0) return Status::ok();
  Steps steps(normalizer, scratch, regex);
  bool any = false;
  for (uint32_t i = 0; i < normalizer.step_count; ++i) {
    bool changed = false;
    const uint8_t* from = any ? scratch->from.data() : text->data() + begin;
    RNL_TRY(steps.run(normalizer.steps[i], from, any ? scratch->from.size() : text->size() - begin, &changed));
    if (!changed) continue;
    std::swap(scratch->from, scratch->to);
    any = true;
  }
  if (!any) return Status::ok();
  text->truncate(begin);
  return text->append(scratch->from.data(), scratch->from.size());
}

}  // namespace runnel
