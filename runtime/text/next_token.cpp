#include "text/next_token.h"

#include <algorithm>
#include <limits>

namespace runnel {
namespace {

// How many of the highest logits are tried for a choice among the best under a grammar, where the output matrix makes these alone for less: of k
// that decide, some may be refused.
constexpr int32_t kSpare = 24, kTried = 64;

}  // namespace

// How many tokens the grammar lets follow, in listed_, where only these matter whatever the logits are; else not above 0.
Result<int32_t> NextToken::list_first() {
  const SamplerOptions& s = options_.sampling;
  const bool greedy = deciding_logits(s) == 1;
  if (!options_.grammar || options_.logprobs_fn || s.bias_count || !(greedy || s.top_k > 0 || s.top_p < 1 || s.min_p > 0)) return 0;
  // The greedy choice may do without them.
  RNL_ASSIGN(listed, options_.grammar->list(at_, listed_.data(), greedy));
  return listed > 0 && listed_[size_t(listed - 1)] < logits_.count ? listed : 0;
}

Status NextToken::feed(const int32_t* ids, size_t count) {
  const IoTensor in{"ids", DType::kI32, 1, {int64_t(count)}, const_cast<int32_t*>(ids), count * 4};
  Session::RunOptions o;
  o.sink = [](void* context, uint32_t, const TensorView& block, int64_t) {
    auto& l = *static_cast<Logits*>(context);
    if (block.dtype == DType::kI32) {
      l.choice = *static_cast<const int32_t*>(block.data);
      return Status::ok();
    }
    l.data = static_cast<const float*>(block.data);
    l.count = int64_t(view_bytes(block) / sizeof(float));
    return Status::ok();
  };
  o.sink_context = &logits_;
  o.top_logits = asked_ = top_logits_;
  o.choose = top_logits_ == 1 && !options_.grammar;
  RNL_ASSIGN(listed, list_first());
  if (listed > 0) {
    o.wanted = listed_.data(), o.wanted_count = listed;
    asked_ = 0;
  }
  logits_ = Logits();
  const int64_t begin = session_.position();
  Status s = session_.run(&in, 1, o);
  SamplerState& sampler = state_.sampler;
  sampler.count = uint64_t(begin);
  for (int64_t p = begin; p < session_.position(); ++p) sampler.accept(ids[p - begin]);
  if (s.is_ok() && !logits_.data && logits_.choice < 0) return Status::make(Code::kUnsupported, "the model's program has no output for the last token");
  return s;
}

Status NextToken::check_grammar() const {
  RNL_CHECK_ARG(options_.grammar || !options_.grammar_goes_on, "an answer can only go on under its grammar, and none is given");
  if (!options_.grammar) return Status::ok();
  RNL_CHECK_ARG(!options_.ignore_end, "ignore_end and a grammar exclude each other: an end token is how an answer under a grammar ends");
  const Tokenizer& tokenizer = options_.grammar->order().tokenizer;
  auto own = Tokenizer::of_model(session_.model());
  if (!own.is_ok()) return own.take_status();
  RNL_CHECK_ARG(own.value().vocab().pieces == tokenizer.vocab().pieces, "the grammar was made for another model");
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
    return Status::make(Code::kRollbackRange, "the answer cannot go on under its grammar from position %lld: its tokens since %lld are not kept", static_cast<long long>(position),
                        static_cast<long long>(g.begin));
  at_ = mark.position;
  for (int64_t p = mark.at; p < position; ++p) RNL_TRY(options_.grammar->accept(&at_, state_.sampler.history[uint64_t(p) % SamplerState::kHistory]));
  for (size_t i = 0; i < count; ++i) RNL_TRY(options_.grammar->accept(&at_, prompt[i]));
  return Status::ok();
}

Status NextToken::begin(const int32_t* prompt, size_t count, bool new_text) {
  RNL_TRY(check_grammar());
  GrammarState& g = state_.grammar;
  const bool same = options_.grammar && g.grammar == options_.grammar->fingerprint() && g.begin <= session_.position();
  RNL_CHECK_ARG(same || !options_.grammar_goes_on, "no answer under this grammar is under way");
  const bool goes_on = same && (!new_text || options_.grammar_goes_on);
  if (goes_on) RNL_TRY(resume(prompt, count));
  // A refused or penalised token may be any of the highest.
  const int32_t deciding = deciding_logits(options_.sampling);
  top_logits_ = options_.logprobs_fn ? 0 : !options_.grammar || deciding <= 1 ? deciding : deciding <= kTried ? std::min(kTried, deciding + kSpare) : 0;
  least_ = std::max(1, deciding);
  if (options_.grammar) {
    RNL_TRY(listed_.assign(kMostListed));
    if (!goes_on) options_.grammar->start(&at_);
  }
  const int64_t before = session_.position();
  Status fed = feed(prompt, count);
  if (!goes_on && session_.position() != before) g.grammar = 0;
  RNL_TRY(std::move(fed));
  if (options_.grammar && !goes_on) {
    g.grammar = options_.grammar->fingerprint();
    g.begin = session_.position();
    for (GrammarState::Mark& m : g.marks) m = {g.begin, at_};
  }
  const TokenFilter f = filter(1);
  auto made = Sampler::create(options_.sampling, logits_.choice >= 0 ? 1 : int32_t(logits_.count), options_.grammar ? &f : nullptr);
  if (!made.is_ok()) return made.take_status();
  sampler_ = std::move(made.value());
  return options_.logprobs_fn ? logprobs_.prepare(options_.logprobs, int32_t(logits_.count)) : Status::ok();
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
          int32_t(kMostListed), least};
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

// Too few of the last token's highest logits fit: of what the grammar lets through when that is little, else more of them, then all.
Status NextToken::make_again() {
  RNL_ASSIGN(listed, options_.grammar->list(at_, listed_.data()));
  while (listed > 0 && listed_[size_t(listed - 1)] >= logits_.count) --listed;
  asked_ = listed < 0 && asked_ < kTried ? kTried : 0;
  if (listed == 0) return Status::ok();
  Session::RunOptions o;
  o.top_logits = asked_;
  if (listed > 0) o.wanted = listed_.data(), o.wanted_count = listed;
  o.sink = [](void* context, uint32_t, const TensorView& block, int64_t) {
    static_cast<Logits*>(context)->data = static_cast<const float*>(block.data);
    return Status::ok();
  };
  o.sink_context = &logits_;
  return session_.repeat_last_row(o);
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
                        options_.grammar->was_limited() ? ": its nesting or the number of its readings became too large" : "; the vocabulary or the biases leave none that fits");
  }
  if (options_.grammar && !options_.grammar->order().tokenizer.vocab().ends_turn(id)) RNL_TRY(options_.grammar->accept(&at_, id));
  if (options_.logprobs_fn) options_.logprobs_fn(options_.logprobs_context, logprobs_.of(logits_.data, id));
  return id;
}

}  // namespace runnel
