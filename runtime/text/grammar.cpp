#include "text/grammar.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/xxh64.h"
#include "text/grammar_syntax.h"

namespace runnel {
namespace {

constexpr uint16_t kOpen = GrammarAutomaton::kOpen;  // in the place of the states below those that were kept
constexpr uint32_t kContextStates = 5;               // of a stack that masks are kept by
constexpr uint32_t kMostStates = kGrammarCells - 2;  // of a stack
// Remembered work: above the first numbers all is dropped before the next call, at the second a call fails.
constexpr size_t kManyPositions = 1u << 15, kMostPositions = 1u << 18;
constexpr size_t kManyMaskBytes = 32u << 20;
constexpr uint32_t kQuickPieces = 1u << 14;  // plain pieces that are walked over without hesitation

// Of two stacks, each behind its number of states: how many states they begin with alike.
uint32_t shared_states(const uint16_t* a, const uint16_t* b) {
  uint32_t n = 0;
  while (n < a[0] && n < b[0] && a[1 + n] == b[1 + n]) ++n;
  return n;
}

// The bytes of plain characters.
struct PlainForm {
  uint8_t count;
  uint8_t range[4][2];
};
constexpr PlainForm kPlainForms[] = {
    {1, {{0x20, 0x21}}},
    {1, {{0x23, 0x5B}}},
    {1, {{0x5D, 0x7F}}},
    {2, {{0xC2, 0xDF}, {0x80, 0xBF}}},
    {3, {{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}},
    {3, {{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {3, {{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}},
    {3, {{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}},
    {4, {{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}},
};

// A few positions, each once.
struct Few {
  int32_t at[8];
  uint32_t count = 0;
  bool overflows = false;
  void add(int32_t position) {
    if (std::find(at, at + count, position) != at + count) return;
    if (count < 8) at[count++] = position;
    else overflows = true;
  }
};

}  // namespace

Result<std::unique_ptr<Grammar>> Grammar::create(const TokenOrder& order, const char* text, size_t size) {
  std::unique_ptr<Grammar> g(new (std::nothrow) Grammar);
  if (!g) return Status::make(Code::kOutOfMemory, "no memory for a grammar");
  GrammarTree tree;
  RNL_TRY(parse_grammar(text, size, &tree));
  RNL_TRY(compile_grammar(tree, &g->automaton_));
  g->order_ = &order;
  for (const TokenOrder::Pieces* pieces : {&order.plain, &order.other})
    for (const uint16_t bytes : pieces->sizes) g->longest_ = std::max<uint32_t>(g->longest_, bytes);
  g->fingerprint_ = xxh64(text, size) | 1;
  RNL_TRY(g->path_.assign(kMaxTokenBytes + 1));
  RNL_TRY(g->make_room());
  g->work_.clear();
  g->stacks_.clear();
  RNL_TRY(g->add_stack(nullptr, 0, &g->automaton_.start, 1));
  bool may_end = false, open = false;
  RNL_TRY(g->settle(&may_end, &open));
  RNL_ASSIGN(at, g->intern(may_end, open));
  if (at == 0) return Status::make(Code::kInvalidArgument, "grammar: its beginning can be read in too many ways");
  g->write(at, &g->start_);
  return g;
}

void Grammar::start(GrammarPosition* out) const { *out = start_; }

size_t Grammar::cache_bytes() const {
  return mask_bytes_ + known_.bytes() + cells_.bytes() + next_.bytes() + automaton_.next.bytes() +
         automaton_.states.bytes() + automaton_.calls.bytes() + automaton_.repeats.bytes();
}

// Before a call: drops what was remembered when it has become much. The positions of callers do not depend on it.
Status Grammar::make_room() {
  if (!known_.empty() && known_.size() < kManyPositions && mask_bytes_ < kManyMaskBytes) return Status::ok();
  mask_bytes_ = 0;
  known_ = {};
  cells_ = {};
  next_ = {};
  masks_ = {};
  index_.clear();
  RNL_TRY(known_.push({0, 0, 0, 0, -1, 0}));
  for (uint32_t c = 0; c < automaton_.class_count; ++c) RNL_TRY(next_.push(0));
  return Status::ok();
}

void Grammar::write(int32_t at, GrammarPosition* out) const {
  const Known& k = known_[size_t(at)];
  const uint16_t* cells = cells_.data() + k.first;
  out->may_end = k.may_end;
  out->size = 0;
  uint32_t before = 0;  // where the stack before stands
  for (uint32_t i = 0; i < k.size; i += cells[i] + 1u) {
    const uint32_t same = i ? shared_states(cells + before, cells + i) : 0;
    out->cells[out->size++] = uint16_t(same);
    out->cells[out->size++] = uint16_t(cells[i] - same);
    for (uint32_t s = same; s < cells[i]; ++s) out->cells[out->size++] = cells[i + 1 + s];
    before = i;
  }
}

// Positions come from saved states too: everything is checked.
Result<int32_t> Grammar::number_of(const GrammarPosition& at) {
  const auto bad = [] {
    return Status::make(Code::kStateMismatch, "the state's position in the grammar does not fit the grammar");
  };
  RNL_TRY(make_room());
  sorted_.clear();
  if (at.size > kGrammarCells || at.may_end > 1) return bad();
  size_t before = 0;
  for (uint32_t i = 0, stacks = 0; i < at.size; ++stacks) {
    if (at.size - i < 3 || stacks == kMaxStacks) return bad();
    const uint32_t same = at.cells[i], fresh = at.cells[i + 1];
    i += 2;
    const size_t here = sorted_.size();
    if (fresh == 0 || fresh > at.size - i || same + fresh > kMostStates || same > (here ? sorted_[before] : 0u))
      return bad();
    RNL_TRY(sorted_.push(uint16_t(same + fresh)));
    for (uint32_t s = 0; s < same; ++s) RNL_TRY(sorted_.push(sorted_[before + 1 + s]));
    RNL_TRY(sorted_.append(at.cells + i, fresh));
    i += fresh;
    if (!is_stack(sorted_.data() + here + 1, same + fresh)) return bad();
    before = here;
  }
  return intern(at.may_end, false);
}

bool Grammar::is_stack(const uint16_t* cells, uint32_t depth) const {
  for (uint32_t i = depth; i-- > 0;) {
    if (cells[i] == 0) return false;
    if (cells[i] < automaton_.states.size()) continue;
    if (i + 1 == depth || i < 2 || cells[i] < GrammarAutomaton::kFirstRepeat ||
        cells[i] >= GrammarAutomaton::kFirstRepeat + automaton_.repeats.size())
      return false;
    if (cells[i - 2] > cells[i - 1] || cells[i - 1] >= automaton_.repeat(cells[i])->most) return false;
    i -= 2;
  }
  return true;
}

// The number of the position whose cells are in sorted_.
Result<int32_t> Grammar::intern(bool may_end, bool open) {
  if (sorted_.empty() && !may_end && !open) return 0;
  const uint64_t hash = xxh64(sorted_.data(), sorted_.size() * sizeof(uint16_t)) + 2 * may_end + open;
  const int64_t found = index_.find(hash, [&](uint32_t n) {
    const Known& k = known_[n];
    return k.may_end == may_end && k.open == open && k.size == sorted_.size() &&
           (k.size == 0 || std::memcmp(cells_.data() + k.first, sorted_.data(), k.size * sizeof(uint16_t)) == 0);
  });
  if (found >= 0) return int32_t(found);
  if (known_.size() >= kMostPositions)
    return Status::make(Code::kOutOfMemory, "grammar: one token can lead to more than %zu positions", kMostPositions);
  const uint32_t n = uint32_t(known_.size());
  RNL_TRY(known_.push({uint32_t(cells_.size()), uint32_t(sorted_.size()), may_end, open, -1, -1}));
  RNL_TRY(cells_.append(sorted_.data(), sorted_.size()));
  for (uint32_t c = 0; c < automaton_.class_count; ++c) RNL_TRY(next_.push(-1));
  RNL_TRY(index_.add(hash, n));
  return int32_t(n);
}

// Adds a stack to those under construction unless it is there. One that is too deep is left out.
Status Grammar::add_stack(const uint16_t* states, uint32_t depth, const uint16_t* more, uint32_t more_count) {
  const uint32_t n = depth + more_count;
  if (n > kMostStates || stacks_.size() >= kMaxStacks) {
    limited_.store(true, std::memory_order_relaxed);
    return Status::ok();
  }
  const uint32_t first = uint32_t(work_.size());
  RNL_TRY(work_.reserve(first + n));  // `states` may lie in it: it must not move while it is read
  for (uint32_t i = 0; i < n; ++i) RNL_TRY(work_.push(i < depth ? states[i] : more[i - depth]));
  for (const Stack& s : stacks_) {
    if (s.depth != n || std::memcmp(work_.data() + s.first, work_.data() + first, n * sizeof(uint16_t)) != 0) continue;
    for (uint32_t i = 0; i < n; ++i) work_.pop();
    return Status::ok();
  }
  return stacks_.push({first, uint16_t(n), false});
}

// The stacks that one leads to whose rule, or repeated body, ends; below: its cells without the last state.
Status Grammar::take_back(const uint16_t* below, uint32_t depth, bool* may_end, bool* open) {
  if (depth == 0) *may_end = true;
  else if (below[depth - 1] == kOpen) *open = true;
  else if (const GrammarAutomaton::Repeat* r = automaton_.repeat(below[depth - 1]); !r)
    return add_stack(below, depth, nullptr, 0);
  else {
    const uint16_t low = below[depth - 3], high = below[depth - 2];
    if (high + 1 >= r->least) RNL_TRY(add_stack(below, depth - 3, &r->back, 1));
    const uint16_t again[4] = {uint16_t(low + 1), std::min(uint16_t(high + 1), uint16_t(r->most - 1)), below[depth - 1],
                               r->start};
    if (low + 1 < r->most) return add_stack(below, depth - 3, again, 4);
  }
  return Status::ok();
}

// Whether two stacks are the same but for a count, and the numbers that it may be follow on each other: then the first
// becomes both.
bool Grammar::join(uint16_t* a, const uint16_t* b, uint32_t depth) const {
  for (uint32_t i = depth; i-- > 0;) {
    if (a[i] != b[i]) return false;
    if (!automaton_.repeat(a[i])) continue;
    i -= 2;
    if (a[i] == b[i] && a[i + 1] == b[i + 1]) continue;
    if (std::max(a[i], b[i]) > std::min(a[i + 1], b[i + 1]) + 1 || std::memcmp(a, b, i * sizeof *a) != 0) return false;
    a[i] = std::min(a[i], b[i]), a[i + 1] = std::max(a[i + 1], b[i + 1]);
    return true;
  }
  return false;
}

// The first `count` stacks under construction in order, and joined where they can be; returns how many are left.
size_t Grammar::sort_stacks(size_t count) {
  for (size_t i = 0; i < count && !automaton_.repeats.empty(); ++i)
    for (size_t k = i + 1; k < count;) {
      if (stacks_[k].depth != stacks_[i].depth ||
          !join(work_.data() + stacks_[i].first, work_.data() + stacks_[k].first, stacks_[i].depth)) {
        ++k;
        continue;
      }
      stacks_[k] = stacks_[--count];
      k = i + 1;
    }
  std::sort(stacks_.data(), stacks_.data() + count, [&](const Stack& a, const Stack& b) {
    const uint16_t *x = work_.data() + a.first, *y = work_.data() + b.first;
    return std::lexicographical_compare(x, x + a.depth, y, y + b.depth);
  });
  return count;
}

// Follows calls and returns from the stacks under construction; leaves in sorted_ those that read a byte.
Status Grammar::settle(bool* may_end, bool* open) {
  for (size_t i = 0; i < stacks_.size(); ++i) {
    const uint32_t first = stacks_[i].first, depth = stacks_[i].depth;
    const GrammarAutomaton::State& state = automaton_.states[work_[first + depth - 1]];
    stacks_[i].stays = state.reads;
    RNL_TRY(work_.reserve(work_.size() + (state.call_count + 2) * size_t(depth + 3)));
    const uint16_t* below = work_.data() + first;  // without the last state
    if (state.ends) RNL_TRY(take_back(below, depth - 1, may_end, open));
    for (uint32_t k = 0; k < state.call_count; ++k) {
      const GrammarAutomaton::Call call = automaton_.calls[state.first_call + k];
      const uint16_t pushed[4] = {0, 0, call.back, call.start};
      const uint32_t from = automaton_.repeat(call.back) ? 0 : automaton_.states[call.back].is_last() ? 3 : 2;
      RNL_TRY(add_stack(below, depth - 1, pushed + from, 4 - from));
    }
  }
  size_t kept = 0;
  for (const Stack& s : stacks_)
    if (s.stays) stacks_[kept++] = s;
  kept = sort_stacks(kept);
  sorted_.clear();
  uint32_t written = 0;
  size_t last = 0;
  for (size_t i = 0; i < kept; ++i) {
    const size_t here = sorted_.size();
    RNL_TRY(sorted_.push(stacks_[i].depth));
    RNL_TRY(sorted_.append(work_.data() + stacks_[i].first, stacks_[i].depth));
    written += 2 + stacks_[i].depth - (i ? shared_states(sorted_.data() + last, sorted_.data() + here) : 0);
    if (written > kGrammarCells) {
      sorted_.truncate(here);
      limited_.store(true, std::memory_order_relaxed);
      break;
    }
    last = here;
  }
  return Status::ok();
}

Result<int32_t> Grammar::make_step(int32_t at, uint32_t byte_class) {
  work_.clear();
  stacks_.clear();
  const Known k = known_[size_t(at)];
  for (uint32_t i = 0; i < k.size;) {
    const uint16_t* stack = cells_.data() + k.first + i + 1;
    const uint32_t depth = stack[-1];
    i += depth + 1;
    const uint16_t to = automaton_.step(stack[depth - 1], byte_class);
    if (to) RNL_TRY(add_stack(stack, depth - 1, &to, 1));
  }
  bool may_end = false, open = false;
  RNL_TRY(settle(&may_end, &open));
  RNL_ASSIGN(to, intern(may_end, open));
  next_[size_t(at) * automaton_.class_count + byte_class] = to;
  return to;
}

Result<int32_t> Grammar::walk(int32_t at, const uint8_t* bytes, size_t size) {
  for (size_t i = 0; i < size && at; ++i) {
    RNL_ASSIGN(to, step(at, bytes[i]));
    at = to;
  }
  return at;
}

Result<bool> Grammar::allows(const GrammarPosition& at, int32_t token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Tokenizer& tokenizer = order_->tokenizer;
  if (tokenizer.vocab().ends_turn(token)) return at.may_end != 0;
  uint8_t bytes[kMaxTokenBytes];
  const uint32_t n = tokenizer.token_bytes(token, bytes);
  if (n == 0) return false;
  RNL_ASSIGN(from, number_of(at));
  RNL_ASSIGN(to, walk(from, bytes, n));
  return to != 0;
}

Status Grammar::accept(GrammarPosition* at, int32_t token) {
  uint8_t bytes[kMaxTokenBytes];
  const uint32_t n = order_->tokenizer.token_bytes(token, bytes);
  RNL_ASSIGN(fits, accept_bytes(at, bytes, n));
  RNL_CHECK_ARG(n && fits, "token %d does not fit the grammar here", token);
  return Status::ok();
}

Result<bool> Grammar::accept_bytes(GrammarPosition* at, const uint8_t* bytes, size_t size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RNL_ASSIGN(from, number_of(*at));
  RNL_ASSIGN(to, walk(from, bytes, size));
  if (to) write(to, at);
  return to != 0;
}

// How many of a stack's last cells masks are kept by: kContextStates states and repeats.
uint32_t Grammar::inner_cells(const uint16_t* cells, uint32_t depth) const {
  uint32_t at = depth;
  for (uint32_t i = 0; i < kContextStates && at; ++i) at -= automaton_.repeat(cells[at - 1]) ? 3 : 1;
  return depth - at;
}

// Counts that no token can bring to a bound become those that are as far from both.
void Grammar::forget_counts(uint16_t* cells, uint32_t depth) const {
  for (uint32_t i = depth; i-- > 0;) {
    const GrammarAutomaton::Repeat* const r = automaton_.repeat(cells[i]);
    if (!r) continue;
    i -= 2;
    uint16_t &low = cells[i], &high = cells[i + 1];
    if (high + longest_ < r->least) low = high = 0;
    else if (high + 1 >= r->least && low + longest_ < r->most) low = 0, high = uint16_t(r->least - 1);
  }
}

// The position whose stacks hold the innermost states alone.
Result<int32_t> Grammar::context_of(int32_t at) {
  if (known_[size_t(at)].context >= 0) return known_[size_t(at)].context;
  const Known k = known_[size_t(at)];
  work_.clear();
  stacks_.clear();
  for (uint32_t i = 0; i < k.size;) {
    uint16_t inner[3 * kContextStates];
    const uint16_t* stack = cells_.data() + k.first + i + 1;
    const uint32_t depth = stack[-1], kept = inner_cells(stack, depth);
    i += depth + 1;
    std::copy(stack + depth - kept, stack + depth, inner);
    forget_counts(inner, kept);
    RNL_TRY(add_stack(&kOpen, kept < depth, inner, kept));
  }
  const size_t count = sort_stacks(stacks_.size());
  sorted_.clear();
  for (size_t i = 0; i < count; ++i) {
    RNL_TRY(sorted_.push(stacks_[i].depth));
    RNL_TRY(sorted_.append(work_.data() + stacks_[i].first, stacks_[i].depth));
  }
  RNL_ASSIGN(context, intern(k.may_end, k.open));
  known_[size_t(at)].context = context;
  return context;
}

// The position after entry number `entry`, 0 when there is none; then *alive is how many of its first bytes could be
// read. path_ holds the positions along the entry before, up to its shared bytes. *open_at: the first place on the path
// that is open, large when there is none.
Result<int32_t> Grammar::walk_entry(const TokenOrder::Pieces& pieces, size_t entry, size_t* alive, size_t* open_at) {
  const size_t shared = pieces.shared[entry], size = pieces.sizes[entry];
  const uint8_t* bytes = pieces.bytes.data() + pieces.rest[entry] - shared;
  if (*open_at > shared) *open_at = kMaxTokenBytes + 1;
  const uint32_t classes = automaton_.class_count;
  int32_t at = path_[shared];
  for (size_t i = shared; i < size; ++i) {
    int32_t to = next_[size_t(at) * classes + automaton_.class_of[bytes[i]]];
    if (to < 0) {
      RNL_ASSIGN(made, make_step(at, automaton_.class_of[bytes[i]]));
      to = made;
    }
    if (to == 0) {
      *alive = i;
      return 0;
    }
    path_[i + 1] = at = to;
    if (known_[size_t(at)].open && *open_at > i + 1) *open_at = i + 1;
  }
  *alive = size;
  return at;
}

Status Grammar::Mask::add(int32_t id, size_t words) {
  if (bits.empty()) {
    if (few.size() < kMostListed) return few.push(id);
    RNL_TRY(bits.assign(words));
    for (const int32_t f : few) bits[size_t(f) / 64] |= uint64_t(1) << (f % 64);
    few = {};
  }
  bits[size_t(id) / 64] |= uint64_t(1) << (id % 64);
  return Status::ok();
}

// number: of the first entry among `deeper`.
Status Grammar::walk_pieces(int32_t at, const TokenOrder::Pieces& pieces, uint32_t number, Mask* out) {
  const size_t n = pieces.ids.size();
  path_[0] = at;
  size_t open_at = known_[size_t(at)].open ? 0 : kMaxTokenBytes + 1;
  for (size_t i = 0; i < n;) {
    size_t alive = 0;
    RNL_ASSIGN(to, walk_entry(pieces, i, &alive, &open_at));
    if (to) {
      RNL_TRY(out->add(pieces.ids[i], order_->words));
      ++i;
      continue;
    }
    // Every entry that goes on with the byte that could not be read shares its fate.
    size_t end = i + 1;
    if (alive == 0 && open_at > 0) end = pieces.first[pieces.bytes[pieces.rest[i]] + 1u];
    else
      while (end < n && pieces.shared[end] > alive) ++end;
    for (; open_at <= alive && i < end; ++i) RNL_TRY(out->deeper.push(number + uint32_t(i)));
    i = end;
  }
  return Status::ok();
}

// How many plain characters (token_order.h) a text can go on with, whichever they are, up to the longest plain piece.
// -1: some of them can follow and others not, or what lies deeper decides.
Result<int32_t> Grammar::plain_run(int32_t at) {
  Few here;
  here.add(at);
  const int32_t most = int32_t(order_->most_characters);
  for (int32_t length = 0; length < most; ++length) {
    Few after;
    bool some_cannot = false;
    for (const PlainForm& form : kPlainForms) {
      Few from = here;
      for (int i = 0; i < form.count; ++i) {
        Few to;
        for (uint32_t k = 0; k < from.count; ++k) {
          if (known_[size_t(from.at[k])].open) return -1;
          for (uint32_t c = automaton_.class_of[form.range[i][0]]; c <= automaton_.class_of[form.range[i][1]]; ++c) {
            RNL_ASSIGN(s, step_class(from.at[k], c));
            if (s) to.add(s);
            else some_cannot = true;
          }
        }
        from = to;
      }
      for (uint32_t k = 0; k < from.count; ++k) after.add(from.at[k]);
      if (from.overflows || after.overflows || (some_cannot && after.count)) return -1;
    }
    if (some_cannot) return length;
    if (after.count == here.count && std::equal(after.at, after.at + after.count, here.at)) return most;
    here = after;
  }
  return most;
}

Status Grammar::make_mask(int32_t at, Mask* out) {
  const TokenOrder& o = *order_;
  RNL_ASSIGN(run, plain_run(at));
  RNL_TRY(walk_pieces(at, o.other, 0, out));
  if (run < 0) {
    RNL_TRY(walk_pieces(at, o.plain, uint32_t(o.other.ids.size()), out));
  } else if (run > 0 && uint32_t(run) < o.most_characters) {
    out->plain = std::min(uint32_t(run), TokenOrder::kPlainSteps);
    for (const TokenOrder::Long& l : o.long_plain)
      if (l.characters <= uint32_t(run)) RNL_TRY(out->add(l.id, o.words));
  } else {
    out->plain = uint32_t(run);
  }
  if (known_[size_t(at)].may_end)
    for (int32_t id = 0; id < o.tokenizer.vocab().count; ++id)
      if (o.tokenizer.vocab().ends_turn(id)) RNL_TRY(out->add(id, o.words));
  std::sort(out->few.begin(), out->few.end());
  return Status::ok();
}

// Whether the mask is known, or made without walking over many plain pieces.
Result<bool> Grammar::is_quick(int32_t context) {
  if (known_[size_t(context)].mask >= 0) return true;
  RNL_ASSIGN(run, plain_run(context));
  if (run >= 0) return true;
  uint32_t pieces = 0;
  for (uint32_t b = 0; b < 256 && pieces <= kQuickPieces; ++b) {
    RNL_ASSIGN(to, step(context, uint8_t(b)));
    if (to) pieces += order_->plain.first[b + 1] - order_->plain.first[b];
  }
  return pieces <= kQuickPieces;
}

Result<const Grammar::Mask*> Grammar::mask_of(int32_t context) {
  if (known_[size_t(context)].mask < 0) {
    Mask made;
    RNL_TRY(make_mask(context, &made));
    mask_bytes_ += sizeof(Mask) + made.bits.bytes() + made.few.bytes() + made.deeper.bytes();
    known_[size_t(context)].mask = int32_t(masks_.size());
    RNL_TRY(masks_.push(std::move(made)));
  }
  return &masks_[size_t(known_[size_t(context)].mask)];
}

Status Grammar::look_deeper(int32_t at, const Mask& mask) {
  deeper_.clear();
  const size_t others = order_->other.ids.size();
  for (const uint32_t entry : mask.deeper) {
    uint8_t bytes[kMaxTokenBytes];
    const int32_t id = entry < others ? order_->other.ids[entry] : order_->plain.ids[entry - others];
    RNL_ASSIGN(to, walk(at, bytes, order_->tokenizer.token_bytes(id, bytes)));
    if (to) RNL_TRY(deeper_.push(id));
  }
  return Status::ok();
}

Result<int32_t> Grammar::list(const GrammarPosition& at, int32_t* ids, bool quickly) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RNL_ASSIGN(from, number_of(at));
  RNL_ASSIGN(context, context_of(from));
  if (quickly) {
    RNL_ASSIGN(quick, is_quick(context));
    if (!quick) return -1;
  }
  RNL_ASSIGN(m, mask_of(context));
  if (m->plain || !m->bits.empty()) return -1;
  RNL_TRY(look_deeper(from, *m));
  const size_t n = m->few.size() + deeper_.size();
  if (n > kMostListed) return -1;
  std::copy(deeper_.begin(), deeper_.end(), std::copy(m->few.begin(), m->few.end(), ids));
  if (!deeper_.empty()) std::sort(ids, ids + n);
  return int32_t(n);
}

Status Grammar::mask(const GrammarPosition& at, float* logits, int32_t vocab) {
  const std::lock_guard<std::mutex> lock(mutex_);
  RNL_ASSIGN(from, number_of(at));
  RNL_ASSIGN(context, context_of(from));
  RNL_ASSIGN(m, mask_of(context));
  RNL_TRY(look_deeper(from, *m));
  constexpr float kRefused = -std::numeric_limits<float>::infinity();
  kept_.clear();
  const auto keep = [&](int32_t id) { return id < vocab ? kept_.push({id, logits[id]}) : Status::ok(); };
  for (const int32_t id : deeper_) RNL_TRY(keep(id));
  for (const int32_t id : m->few) RNL_TRY(keep(id));
  const uint64_t* plain = m->plain ? order_->plain_up_to(m->plain) : nullptr;
  for (int32_t i = 0; i < vocab; i += 64) {
    const size_t w = size_t(i) / 64;
    uint64_t word = plain && w < order_->words ? plain[w] : 0;
    if (w < m->bits.size()) word |= m->bits[w];
    const int32_t n = std::min(64, vocab - i);
    if (word == 0) {
      for (int32_t k = 0; k < n; ++k) logits[i + k] = kRefused;
      continue;
    }
    // Mostly a few are refused.
    uint64_t refused = n < 64 ? ~word & ((uint64_t(1) << n) - 1) : ~word;
    for (; refused; refused &= refused - 1) logits[i + std::countr_zero(refused)] = kRefused;
  }
  for (const Kept& k : kept_) logits[k.id] = k.logit;
  return Status::ok();
}

}  // namespace runnel
