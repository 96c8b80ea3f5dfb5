#include "text/pretokenizer.h"

#include "text/utf8.h"

namespace runnel {

Status pre_open(const uint8_t* tables, size_t size, PreTokenizer* out) {
  const auto bad = [](const char* what) {
    return Status::make(Code::kInvalidModel, "tokenizer: the pre-tokenizer %s", what);
  };
  *out = {};
  if (size == 0) return Status::ok();
  if (size < sizeof(PreHeader) || reinterpret_cast<uintptr_t>(tables) % 8) return bad("is too small or misaligned");
  const auto* h = reinterpret_cast<const PreHeader*>(tables);
  if (h->magic != kPreMagic) return bad("has an unknown layout");
  if (h->step_count > kMaxPreSteps || (size - sizeof(PreHeader)) / sizeof(PreStep) < h->step_count)
    return bad("has too many steps");
  out->tables = tables;
  out->size = size;
  out->steps = reinterpret_cast<const PreStep*>(tables + sizeof(PreHeader));
  out->step_count = h->step_count;
  for (uint32_t i = 0; i < h->step_count; ++i) {
    const PreStep& s = out->steps[i];
    if (s.kind > PreKind::kFromAlphabet || s.behaviour > SplitBehaviour::kContiguous)
      return Status::make(Code::kUnsupported, "tokenizer: the pre-tokenizer's step %u is unknown to this version", i);
    if (s.kind != PreKind::kSplit && (s.offset > size || size - s.offset < s.size))
      return bad("has a string outside of its table");
  }
  return h->word_classes ? classes_open(tables, size, h->word_classes, h->word_page_count, &out->word) : Status::ok();
}

// The next match or the text before it, in the order of the text.
Status Splitter::item(Item* out, bool* more) {
  *more = true;
  if (!have_match_ && !done_) {
    for (;;) {
      if (from_ > end_) {
        found_.found = false;
        break;
      }
      RNL_TRY(regex_search(regex_, text_.data(), begin_, end_, from_, &scratch_, &found_));
      // An empty match right after a match would come for ever.
      if (!found_.found || found_.begin != found_.end || found_.end != last_match_) break;
      from_ = found_.end < end_ ? found_.end + code_point_at(text_.data() + found_.end, end_ - found_.end).length
                                : end_ + 1;
    }
    if (found_.found) from_ = last_match_ = found_.end, have_match_ = true;
    else done_ = true;
  }
  if (have_match_) {
    if (at_ < found_.begin) {
      *out = {at_, found_.begin, step_.invert != 0};
      at_ = found_.begin;
      return Status::ok();
    }
    *out = {found_.begin, found_.end, step_.invert == 0};
    at_ = found_.end;
    have_match_ = false;
    return Status::ok();
  }
  *more = at_ < end_;
  *out = {at_, end_, step_.invert != 0};
  at_ = end_;
  return Status::ok();
}

Status Splitter::next(size_t* part_begin, size_t* part_end, bool* more) {
  const auto give = [&](const Item& i) {
    *part_begin = i.begin, *part_end = i.end, *more = true;
    return Status::ok();
  };
  for (;;) {
    Item i;
    bool any = false;
    RNL_TRY(item(&i, &any));
    if (!any) {
      *more = have_pending_;
      have_pending_ = false;
      *part_begin = pending_.begin, *part_end = pending_.end;
      return Status::ok();
    }
    bool join = false;
    switch (step_.behaviour) {
      case SplitBehaviour::kIsolated: return give(i);
      case SplitBehaviour::kRemoved:
        if (i.match) continue;
        return give(i);
      case SplitBehaviour::kMergedWithPrevious: join = i.match && !previous_match_; break;
      case SplitBehaviour::kMergedWithNext: join = !i.match && previous_match_; break;
      case SplitBehaviour::kContiguous: join = i.match == previous_match_; break;
    }
    previous_match_ = i.match;
    if (have_pending_ && join) {
      pending_.end = i.end;
      continue;
    }
    const Item ready = pending_;
    const bool had = have_pending_;
    pending_ = i;
    have_pending_ = true;
    if (had) return give(ready);
  }
}

}  // namespace runnel
