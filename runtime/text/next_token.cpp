#include "text/next_token.h"

#include <algorithm>
#include <limits>

#include "text/stream.h"

namespace runnel {
namespace {

// How many of the highest logits are tried for a choice among the best under a grammar, where the output matrix makes
// these alone for less: of k that decide, some may be refused.
constexpr int32_t kSpare = 24, kTried = 64;

}  // namespace

// How many tokens the grammar lets follow, in listed_, where only these matter whatever the logits are; else not above
// 0.
Result<int32_t> NextToken::list_first() {
  const SamplerOptions& s = options_.sampling;
  const bool greedy = deciding_logits(s) == 1;
  if (!options_.grammar || options_.logprobs_fn || s.bias_count ||
      !(greedy || s.top_k > 0 || s.top_p < 1 || s.min_p > 0))
    return 0;
  // The greedy choice may do without them.
  RNL_ASSIGN(listed, options_.grammar->list(at_, listed_.data(), greedy));
  return listed > 0 && listed_[size_t(listed - 1)] < logits_.count ? listed : 0;
}

// Takes the logits of the last token out of a call.
Session::RunOptions NextToken::options_of_call() {
  Session::RunOptions o;
  o.sink = [](void* context, uint32_t output, const TensorView& block, int64_t) {
    NextToken& t = *static_cast<NextToken*>(context);
    if (t.output_ != int(output)) return Status::ok();
    t.logits_.data = static_cast<const float*>(block.data);
    t.logits_.count = std::min<int64_t>(block.dims[1], t.vocab_);
    return Status::ok();
  };
  o.sink_context = this;
  return o;
}

Status NextToken::feed(const int32_t* ids, size_t count) {
  const IoTensor in{"ids", DType::kI32, 1, {int64_t(count)}, const_cast<int32_t*>(ids), count * 4};
  Session::RunOptions o = options_of_call();
  o.top_logits = asked_ = top_logits_;
  if (top_logits_ == 1 && !options_.grammar) o.choice = &logits_.choice, o.choose_among = vocab_;
  RNL_ASSIGN(listed, list_first());
  if (listed > 0) {
    o.wanted = listed_.data(), o.wanted_count = listed;
    asked_ = 0;
  }
  logits_ = Logits();
  const int64_t begin = session_.position();
  Status s = session_.run(&in, 1, o);
  note_tokens(state_, begin, ids, session_.position());
  if (s.is_ok() && !logits_.data && logits_.choice < 0)
    return Status::make(Code::kInternal, "the call gave no logits of its last token");
  return s.is_ok() ? drop_padding() : std::move(s);
}

// Where some rows behind the vocabulary are among the highest that were computed, fewer tokens than asked for may be
// left: then all are computed.
Status NextToken::drop_padding() {
  if (asked_ <= 0 || !logits_.data || vocab_ == width_ || session_.plan().programs[0].screened_op < 0)
    return Status::ok();
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const float* end = logits_.data + width_;
  const bool has_padding = std::any_of(logits_.data + vocab_, end, [](float x) { return x != kNone; });
  if (!has_padding || std::find(logits_.data, end, kNone) == end) return Status::ok();
  asked_ = 0;
  return session_.repeat_last_row(options_of_call());
}

Status NextToken::find_logits() {
  const PlannedProgram& p = session_.plan().programs[0];
  for (uint32_t i = 0; i < p.info->outputs.size(); ++i)
    if (int(p.info->outputs[i]) == p.logits_value) output_ = int(i);
  if (output_ < 0)
    return Status::make(Code::kUnsupported, "program \"%s\" has no logits: no output [rows, vocabulary] of f32",
                        p.info->name);
  const ExprId width = p.info->values[size_t(p.logits_value)].shape.dims[1];
  RNL_ASSIGN(n, session_.model().exprs().evaluate(width, session_.plan().bounds));
  if (n < 1 || n > INT32_MAX)
    return Status::make(Code::kUnsupported, "program \"%s\" has %lld logits", p.info->name, static_cast<long long>(n));
  width_ = n;
  vocab_ = tokenizer_ && tokenizer_->vocab().count > 0 ? std::min<int64_t>(n, tokenizer_->vocab().count) : n;
  return Status::ok();
}

Status NextToken::check_grammar() const {
  RNL_CHECK_ARG(options_.grammar || !options_.grammar_goes_on,
                "an answer can only go on under its grammar, and none is given");
  if (!options_.grammar) return Status::ok();
  RNL_CHECK_ARG(!options_.ignore_end,
                "ignore_end and a grammar exclude each other: an end token ends answers under a grammar");
  RNL_CHECK_ARG(tokenizer_ && tokenizer_->vocab().pieces == options_.grammar->order().tokenizer.vocab().pieces,
                "the grammar was made for another model");
  return Status::ok();
}

// Works out at_ from the newest mark that is not behind the stream, the tokens since and those that are to be fed.
Status NextToken::resume(const int32_t* prompt, size_t count) {
  GrammarState& g = state_.grammar;
  const int64_t position = session_.position();
  if (g.marks[1].at > position) g.marks[1] = g.marks[0];
  const GrammarState::Mark& mark = g.marks[1];
  if (mark.at < 0 || mark.at > position || mark.at < g.begin || position - mark.at > int64_t(SamplerState::kHistory) ||
      state_.sampler.peak > uint64_t(mark.at) + SamplerState::kHistory)
    return Status::make(
        Code::kRollbackRange,
        "the answer cannot go on under its grammar from position %lld: its tokens since %lld are not kept",
        static_cast<long long>(position), static_cast<long long>(g.begin));
  at_ = mark.position;
  for (int64_t p = mark.at; p < position; ++p) {
    const int32_t id = state_.sampler.history[uint64_t(p) % SamplerState::kHistory];
    if (id < 0)
      return Status::make(Code::kUnsupported,
                          "the answer cannot go on under its grammar: position %lld of the stream is no token",
                          static_cast<long long>(p));
    RNL_TRY(options_.grammar->accept(&at_, id));
  }
  for (size_t i = 0; i < count; ++i) RNL_TRY(options_.grammar->accept(&at_, prompt[i]));
  return Status::ok();
}

Status NextToken::prepare(bool new_text) {
  RNL_TRY(find_logits());
  RNL_TRY(check_grammar());
  const GrammarState& g = state_.grammar;
  const bool same = options_.grammar && g.grammar == options_.grammar->fingerprint() && g.begin <= session_.position();
  RNL_CHECK_ARG(same || !options_.grammar_goes_on, "no answer under this grammar is under way");
  goes_on_ = same && (!new_text || options_.grammar_goes_on);
  // A refused or penalised token may be any of the highest.
  const int32_t deciding = deciding_logits(options_.sampling);
  top_logits_ = options_.logprobs_fn                 ? 0
                : !options_.grammar || deciding <= 1 ? deciding
                : deciding <= kTried                 ? std::min(kTried, deciding + kSpare)
                                                     : 0;
  least_ = std::max(1, deciding);
  if (options_.grammar) RNL_TRY(listed_.assign(kMostListed));
  const TokenFilter f = filter(1);
  auto made = Sampler::create(options_.sampling, int32_t(vocab_), options_.grammar ? &f : nullptr, int32_t(width_));
  if (!made.is_ok()) return made.take_status();
  sampler_ = std::move(made.value());
  return options_.logprobs_fn ? logprobs_.prepare(options_.logprobs, int32_t(width_)) : Status::ok();
}

Status NextToken::begin(const int32_t* prompt, size_t first, size_t count) {
  GrammarState& g = state_.grammar;
  if (goes_on_) RNL_TRY(resume(prompt, count));
  else if (options_.grammar) options_.grammar->start(&at_);
  const int64_t before = session_.position();
  const auto feed_ids = [](void* t, const int32_t* ids, size_t n) { return static_cast<NextToken*>(t)->feed(ids, n); };
  Status fed =
      options_.parts ? options_.parts->feed(session_, prompt, first, count, feed_ids, this) : feed(prompt, count);
  if (!goes_on_ && session_.position() != before) g.grammar = 0;
  RNL_TRY(std::move(fed));
  if (options_.grammar && !goes_on_) {
    g.grammar = options_.grammar->fingerprint();
    g.begin = session_.position();
    for (GrammarState::Mark& m : g.marks) m = {g.begin, at_};
  }
  return Status::ok();
}

TokenFilter NextToken::filter(int32_t least) {
  return {this,
          [](void* context, int32_t id) {
            const NextToken& t = *static_cast<const NextToken*>(context);
            return t.options_.grammar->allows(t.at_, id);
          },
          [](void* context, int32_t* ids) {
            const NextToken& t = *static_cast<const NextToken*>(context);
            return t.options_.grammar->list(t.at_, ids);
          },
          [](void* context, float* logits, int32_t vocab) {
            const NextToken& t = *static_cast<const NextToken*>(context);
            return t.options_.grammar->mask(t.at_, logits, vocab);
          },
          int32_t(kMostListed),
          least};
}

Result<int32_t> NextToken::sample() {
  if (logits_.choice >= 0) return logits_.choice;
  if (!options_.grammar) return sampler_.sample(logits_.data, state_.sampler);
  for (;;) {
    const TokenFilter f = filter(asked_ ? least_ : 1);
    RNL_ASSIGN(id, sampler_.sample(logits_.data, state_.sampler, &f));
    if (id != kNoToken || asked_ == 0) return id;
    const float* end = logits_.data + logits_.count;
    const bool has_all = std::find(logits_.data, end, -std::numeric_limits<float>::infinity()) == end;
    if (has_all) asked_ = 0;
    else RNL_TRY(make_again());
  }
}

// Too few of the last token's highest logits fit: of what the grammar lets through when that is little, else more of
// them, then all.
Status NextToken::make_again() {
  RNL_ASSIGN(listed, options_.grammar->list(at_, listed_.data()));
  while (listed > 0 && listed_[size_t(listed - 1)] >= logits_.count) --listed;
  asked_ = listed < 0 && asked_ < kTried ? kTried : 0;
  if (listed == 0) return Status::ok();
  Session::RunOptions o = options_of_call();
  o.top_logits = asked_;
  if (listed > 0) o.wanted = listed_.data(), o.wanted_count = listed;
  RNL_TRY(session_.repeat_last_row(o));
  return listed > 0 ? Status::ok() : drop_padding();
}

Result<int32_t> NextToken::choose() {
  GrammarState& g = state_.grammar;
  const int64_t position = session_.position();
  if (options_.grammar && position >= g.marks[1].at + GrammarState::kMarkEvery) {
    g.marks[0] = g.marks[1];
    g.marks[1] = {position, at_};
  }
  RNL_ASSIGN(id, sample());
  if (id == kNoToken) {
    if (at_.may_end) return id;
    return Status::make(Code::kUnsupported, "the grammar lets no token follow here%s",
                        options_.grammar->was_limited() ? ": its nesting or the number of its readings became too large"
                                                        : "; the vocabulary or the biases leave none that fits");
  }
  if (options_.grammar && !options_.grammar->order().tokenizer.vocab().ends_turn(id))
    RNL_TRY(options_.grammar->accept(&at_, id));
  if (options_.logprobs_fn) options_.logprobs_fn(options_.logprobs_context, logprobs_.of(logits_.data, id));
  return id;
}

}  // namespace runnel
