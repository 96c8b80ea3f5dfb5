// Steps that generate, answer and embed; the dispatch of all steps, and what is compared at the end.
#pragma once

#include "models/streams/play_calls.h"

namespace runnel::streams {

inline Generation Play::some_generation(Dice& d) {
  Generation g;
  if (!oracle_.pending || d.one_in(2)) g.ids = some_ids(d, room());
  g.options.max_tokens = 1 + d.below(8);
  if (d.one_in(12) && w_.context() <= 64) g.options.max_tokens = 0;
  g.options.ignore_end = d.one_in(2);
  g.options.logprobs_count = d.one_in(3) ? int32_t(d.below(5)) : -1;
  rnl_sampling& s = g.options.sampling;
  s.temperature = d.of({0.0f, 0.0f, 0.7f, 1.5f});
  s.top_k = d.of({0, 0, 1, 5, 40});
  s.top_p = d.of({0.0f, 0.0f, 0.9f, 0.3f, 1.0f});
  s.min_p = d.of({0.0f, 0.0f, 0.1f});
  s.repetition_penalty = d.of({0.0f, 0.0f, 1.3f});
  s.presence_penalty = d.of({0.0f, 0.0f, 0.5f});
  s.frequency_penalty = d.of({0.0f, 0.0f, 0.5f});
  s.penalty_window = d.of({0, 0, 4, 300});
  s.seed = uint64_t(d.below(1000));
  for (int64_t n = d.one_in(4) ? d.below(4) : 0; n > 0; --n)
    g.bias.push_back({int32_t(d.below(w_.ids)), d.of({-INFINITY, -3.0f, 2.0f, 8.0f})});
  if (w_.setup.kind.has_chat && d.one_in(3)) g.stop = {d.of({"a", "th", "xyz", " ", "<|im_end|>"}), "e"};
  return g;
}

// As probe, with the token that waits.
inline void Play::probe_pending(const char* after) {
  if (!oracle_.pending) return probe(after);
  rnl_session* raw = nullptr;
  if (rnl_session_fork(s_.get(), &raw)) broken("fork after ", after, ": ", rnl_last_error());
  const SessionPtr fork(raw);
  Generation got, wanted;
  got.options.max_tokens = wanted.options.max_tokens = 3;
  got.options.logprobs_count = wanted.options.logprobs_count = 2;
  got.options.ignore_end = wanted.options.ignore_end = 1;
  ref_.sync_with_pending(oracle_);
  const rnl_status_code a = generate(raw, got);
  const std::string message = a ? rnl_last_error() : "";
  const rnl_status_code b = generate(ref_.session(), wanted);
  ref_.forget();
  if (a != b)
    broken("after ", after, " generating on from the pending token gives ", a, " (", message, "), in a new session ",
           b);
  if (got.chosen != wanted.chosen || got.logprobs != wanted.logprobs)
    broken("after ", after, " at ", oracle_.position(),
           " the pending token is continued in another way than in a new session");
}

inline void Play::generate_some(Dice& d) {
  if (!w_.has_logits) return;
  Generation g = some_generation(d);
  if (d.one_in(4)) g.stop_at = d.below(4);
  const int trouble = d.one_in(4) ? 1 + int(d.below(3)) : 0;
  int64_t passes = d.below(3);
  std::vector<int32_t> prompt = g.ids;
  if (oracle_.pending) prompt.insert(prompt.begin(), *oracle_.pending);
  say(g.ids.size(), " tokens", oracle_.pending ? " after a pending one" : "", ", max_tokens ", g.options.max_tokens,
      ", trouble ", trouble);
  if (trouble == 1)
    rnl_session_set_progress(
        s_.get(), [](void* left, int64_t, int64_t) { return (*static_cast<int64_t*>(left))-- <= 0 ? 1 : 0; }, &passes);
  if (trouble == 2) rnl_session_cancel(s_.get());
  std::thread other;
  if (trouble == 3)
    other = std::thread([s = s_.get(), at = d.below(3000)] {
      std::this_thread::sleep_for(std::chrono::microseconds(at));
      rnl_session_cancel(s);
    });
  const int64_t start = oracle_.position();
  rnl_status_code code = generate(s_.get(), g);
  if (!trouble && code == RNL_CANCELLED && may_be_stopped_ && rnl_session_position(s_.get()) == start &&
      g.generated == 0)
    may_be_stopped_ = false, code = generate(s_.get(), g);
  const std::string message = code ? rnl_last_error() : "";
  if (other.joinable()) other.join();
  rnl_session_set_progress(s_.get(), nullptr, nullptr);
  may_be_stopped_ = trouble == 3 || (trouble == 2 && code != RNL_CANCELLED) ||
                    (may_be_stopped_ && code != RNL_OK && code != RNL_CANCELLED);
  say(" -> ", code, ", ", g.generated, " generated");
  if (trouble == 2 && code == RNL_OK) broken("a cancel before generate does not stop it");
  if (code != RNL_OK && code != RNL_CONTEXT_FULL && !(code == RNL_CANCELLED && trouble))
    broken("generate from ", start, ": ", code, " ", message);
  Generation wanted = g;
  rnl_status_code wanted_code = code;
  if (!trouble) {
    ref_.sync_with_pending(oracle_);
    wanted_code = generate(ref_.session(), wanted);
    ref_.forget();
  }
  settle_generation(code, message, prompt, g);
  if (wanted_code != code)
    broken("generate at ", start, " gives ", code, " (", message, "), in a new session ", wanted_code, " (",
           rnl_last_error(), ")");
  if (wanted.chosen != g.chosen || wanted.generated != g.generated)
    broken("generate at ", start, " chooses other tokens than a new session");
  if (wanted.logprobs != g.logprobs) broken("generate at ", start, " tells other log-probabilities than a new session");
  if (!g.ids.empty() && wanted.text != g.text)
    broken("generate at ", start, " gives \"", g.text, "\", a new session \"", wanted.text, "\"");
  if (code != RNL_OK || d.one_in(2)) probe_pending("generate");
}

// The stream then holds the prompt and all chosen tokens but the last, which waits.
inline void Play::settle_generation(rnl_status_code code, const std::string& message,
                                    const std::vector<int32_t>& prompt, const Generation& g) {
  const int64_t start = oracle_.position(), moved = rnl_session_position(s_.get()) - start;
  for (int32_t id : g.chosen)
    if (id < 0 || (w_.info.vocabulary > 0 && id >= w_.info.vocabulary))
      broken("generate chooses ", id, "; the vocabulary has ", w_.info.vocabulary, " pieces");
  if (int64_t(g.chosen.size()) != g.generated)
    broken("generate tells ", g.generated, " tokens and has called back for ", g.chosen.size());
  std::vector<int32_t> fed = prompt;
  if (g.generated > 0 && fed.size() > 1 && fed[0] == fed[1] && oracle_.pending &&
      moved == int64_t(fed.size()) - 1 + g.generated - 1)
    fed.erase(fed.begin());
  if (moved > 0 || g.generated > 0) oracle_.is_chat = oracle_.is_chat && g.ids.empty();
  if (g.generated == 0) {
    const bool has_passes = int64_t(fed.size()) > w_.chunk() || w_.is_tight();
    if (moved < 0 && start + moved == 0 && has_passes && message.find("empt") != std::string::npos)
      return oracle_.clear();
    const bool is_whole = moved % w_.chunk() == 0 || moved == int64_t(fed.size()) || w_.is_tight();
    if (moved < 0 || moved > int64_t(fed.size()) || !is_whole)
      broken("generate chose nothing (", code, " ", message, ") and moved the position by ", moved);
    if (moved > 0) oracle_.pending.reset();
    oracle_.add_part(fed, moved);
    return check_position("generate");
  }
  oracle_.add(fed);
  const int64_t more = moved - int64_t(fed.size());
  if (more != g.generated - 1)
    broken("generate was given ", fed.size(), " tokens, chose ", g.generated, " and moved the position by ", moved);
  for (int64_t i = 0; i < more; ++i) oracle_.add({g.chosen[size_t(i)]});
  oracle_.pending = g.chosen.back();
  check_position("generate");
}

// ---- chats ----

struct Talk {
  std::vector<rnl_chat_message> messages;
  rnl_chat chat{};
  explicit Talk(const std::vector<std::pair<std::string, std::string>>& talk) {
    for (const auto& [role, content] : talk) messages.push_back({role.c_str(), content.c_str()});
    chat.struct_size = sizeof chat, chat.messages = messages.data(), chat.message_count = messages.size();
  }
};

inline void Play::chat(Dice& d) {
  if (!w_.setup.kind.has_chat) return;
  if (!oracle_.is_chat || d.one_in(8)) {
    rnl_session_reset(s_.get());
    oracle_.clear(), talk_.clear();
  }
  auto talk = talk_;
  if (!talk.empty() && d.one_in(5)) talk.resize(size_t(1 + d.below(int64_t(talk.size()))));
  if (!talk.empty() && d.one_in(6)) talk[size_t(d.below(int64_t(talk.size())))].second += "!";
  if (talk.empty() && d.one_in(3)) talk.push_back({"system", "Be brief."});
  if (talk.empty() || talk.back().first != "user")
    talk.push_back({"user", d.of({"Hi", "What is this?", "\xC3\xA4 <|im_end|>", "Go on", ""})});
  const Talk asked(talk);
  std::vector<int32_t> ids(2048);
  size_t count = 0;
  if (rnl_chat_ids(w_.model, &asked.chat, ids.data(), ids.size(), &count)) broken("chat_ids: ", rnl_last_error());
  ids.resize(count);
  Generation g = some_generation(d);
  g.ids.clear(), g.options.max_tokens = 1 + d.below(6);
  if (d.one_in(4)) g.stop_at = d.below(3);
  int64_t passes = d.below(3);
  const bool is_stopped = d.one_in(6);
  if (is_stopped)
    rnl_session_set_progress(
        s_.get(), [](void* left, int64_t, int64_t) { return (*static_cast<int64_t*>(left))-- <= 0 ? 1 : 0; }, &passes);
  say(talk.size(), " messages of ", count, " tokens");
  Asked options(g);
  rnl_chat_result r{};
  r.struct_size = sizeof r;
  if (may_be_stopped_) rnl_session_clear_cancel(s_.get()), may_be_stopped_ = false;
  const rnl_status_code code = rnl_session_chat(s_.get(), &asked.chat, &options.options, take_token, &g, &r);
  rnl_session_set_progress(s_.get(), nullptr, nullptr);
  g.generated = r.generated;
  g.chosen.resize(std::min(g.chosen.size(), size_t(r.generated)));
  say(" -> ", code, ", kept ", r.kept, ", dropped ", r.dropped, ", fed ", r.fed, ", generated ", r.generated);
  if (code == RNL_OK) {
    settle_chat(r, g, ids);
    talk_ = talk;
    talk_.push_back({"assistant", g.text});
    return;
  }
  if (code != RNL_CONTEXT_FULL && !(code == RNL_CANCELLED && is_stopped))
    broken("chat of ", count, " tokens: ", code, " ", rnl_last_error());
  const std::string message = rnl_last_error();
  if (code == RNL_CONTEXT_FULL && r.generated == 0 && rnl_session_position(s_.get()) != oracle_.position())
    broken("a chat that does not fit (", message, ") has moved the position from ", oracle_.position(), " to ",
           rnl_session_position(s_.get()));
  if (code == RNL_CONTEXT_FULL && r.generated == 0) return probe_pending("a chat that does not fit");
  if (message.find("empt") == std::string::npos) return settle_chat(r, g, ids);
  rnl_session_reset(s_.get());
  oracle_.clear(), talk_.clear();
}

// The ids that were fed are the conversation's last ones, the pending token in front where the stream goes on with it.
inline void Play::settle_chat(const rnl_chat_result& r, const Generation& g, const std::vector<int32_t>& conversation) {
  const int64_t before = oracle_.position(), after = rnl_session_position(s_.get());
  if (r.kept < 0 || r.kept > before || r.kept + r.dropped != before)
    broken("chat kept ", r.kept, " and dropped ", r.dropped, " of ", before, " tokens");
  const std::optional<int32_t> pending = r.dropped == 0 ? oracle_.pending : std::nullopt;
  r.kept == 0 ? oracle_.clear() : oracle_.drop(r.dropped);
  oracle_.pending.reset();
  // What was fed, as far as it was kept.
  const int64_t fed = g.generated ? after - r.kept - (g.generated - 1) : r.fed,
                kept = g.generated ? fed : after - r.kept;
  if (fed < 0 || fed > int64_t(conversation.size()) + 1 || kept < 0 || kept > fed)
    broken("chat kept ", kept, " of ", fed, " tokens that it fed of a conversation of ", conversation.size());
  const Oracle base = oracle_;
  std::string error;
  for (const bool with_pending : {true, false}) {
    if (with_pending ? !pending || fed < 1 : fed > int64_t(conversation.size())) continue;
    std::vector<int32_t> ids(conversation.end() - (fed - with_pending), conversation.end());
    if (with_pending) ids.insert(ids.begin(), *pending);
    oracle_ = base;
    oracle_.add_part(ids, kept);
    for (size_t i = 0; i + 1 < g.chosen.size(); ++i) oracle_.add({g.chosen[i]});
    if (!g.chosen.empty()) oracle_.pending = g.chosen.back();
    else if (kept == 0 && r.dropped == 0) oracle_.pending = pending;
    check_position("chat");
    try {
      return probe_pending("chat");
    } catch (const Broken& e) {
      error = e.what();
    }
  }
  throw Broken(error.empty() ? "chat fed what is not the conversation" : error);
}

inline void Play::embed(Dice& d) {
  if (!w_.has_hidden) return;
  const std::vector<int32_t> ids = some_ids(d, std::min<int64_t>(w_.context(), 60));
  rnl_embed_options o{};
  o.struct_size = sizeof o, o.pooling = d.of({0, 1, 2, 3}), o.normalise = d.of({0, 1, -1});
  std::vector<float> got(size_t(w_.info.embedding), NAN), wanted = got;
  rnl_status_code code = rnl_session_embed(s_.get(), ids.data(), ids.size(), &o, got.data(), got.size());
  if (code == RNL_CANCELLED && may_be_stopped_)
    code = rnl_session_embed(s_.get(), ids.data(), ids.size(), &o, got.data(), got.size());
  if (code == RNL_OK) may_be_stopped_ = false;
  const SessionPtr fresh = w_.make();
  if (rnl_session_embed(fresh.get(), ids.data(), ids.size(), &o, wanted.data(), wanted.size()) != code)
    broken("embedding ", ids.size(), " tokens: ", code, ", in a new session otherwise");
  oracle_.clear();
  if (code) return rnl_session_reset(s_.get());
  // An encoder has no stream.
  if (rnl_session_position(fresh.get()) > 0) oracle_.add(ids);
  oracle_.is_chat = false;
  check_position("embed");
  if (std::memcmp(got.data(), wanted.data(), got.size() * 4)) broken("an embedding differs from that of a new session");
  probe("embed");
}

// ---- all ----

inline void Play::take(const Step& step) {
  Dice d(step.seed);
  say("  ", op_name(step.op), ": ");
  switch (step.op) {
    case kRun: run(d); break;
    case kRollback: rollback(d); break;
    case kSnapshot: snapshot(d); break;
    case kRestore: restore(d, false); break;
    case kSave: save(d); break;
    case kLoad: restore(d, true); break;
    case kFork: fork(d); break;
    case kReset:
      rnl_session_reset(s_.get());
      oracle_.clear(), talk_.clear();
      check_position("reset");
      break;
    case kTroubled: troubled(d); break;
    case kFailing: failing(d); break;
    case kBad: bad(d); break;
    case kGenerate: generate_some(d); break;
    case kChat: chat(d); break;
    case kEmbed: embed(d); break;
    case kTopLogits:
      top_logits_ = d.of({0, 0, 1, 5, 64, 100});
      rnl_session_set_top_logits(s_.get(), top_logits_);
      break;
    case kRecover:
      // On a device it would go on on the CPU, whose bits are others (vulkan/recovery_test.cpp).
      if (w_.is_vulkan) break;
      if (rnl_session_recover(s_.get())) broken("recover: ", rnl_last_error());
      check_position("recover");
      break;
    default: probe_pending("all that");
  }
  say("\n");
  // A stream that is full begins anew.
  if (oracle_.position() > 330 || room() < 4) rnl_session_reset(s_.get()), oracle_.clear(), talk_.clear();
}

inline void Play::finish() {
  probe_pending("all steps");
  const bool is_exact = w_.setup.kind.weights == convert::Weights::kF32 && (w_.setup.kv == 0 || w_.setup.kv == RNL_F32);
  const std::vector<int32_t> ids = oracle_.tokens();
  if (!is_exact || ids.empty()) return;
  rnl_session_options o = w_.options();
  o.chunk = w_.chunk() == 16 ? 64 : 16;
  const SessionPtr other = w_.make(o);
  Blocks got, wanted;
  const Wish all{Wish::kAll, {}, false}, last{Wish::kLast, {}, false};
  if (feed(w_, other.get(), ids, all, {}, &got)) return;  // more than the context in one call
  ref_.forget();
  Oracle before = oracle_;
  const std::vector<int32_t> call = before.calls.back();
  before.drop(int64_t(call.size()));
  ref_.sync(before);
  if (feed(w_, ref_.session(), call, last, {}, &wanted))
    broken("the last call of ", call.size(), " in a new session: ", rnl_last_error());
  ref_.forget();
  const auto a = std::prev(got.end()), b = std::prev(wanted.end());
  const float d = convert::largest_difference(a->second, b->second);
  if (!(d <= 1e-4f * convert::largest(b->second)))
    broken(ids.size(), " tokens in one call with chunk ", o.chunk, " differ by ", d / convert::largest(b->second),
           " of the largest");
}

}  // namespace runnel::streams
