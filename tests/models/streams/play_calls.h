// Steps that feed, take back, copy and spoil.
#pragma once

#include "models/streams/play.h"

namespace runnel::streams {

inline std::vector<int32_t> Play::some_ids(Dice& d, int64_t most) {
  const int64_t n = d.one_in(3) ? 1 : d.one_in(4) ? 1 + d.below(100) : 1 + d.below(12);
  // Beyond the context only to see it refused, where it is.
  const bool may_exceed = w_.counts && w_.setup.kind.longest == 400 && d.one_in(16);
  std::vector<int32_t> ids(size_t(std::max<int64_t>(1, may_exceed ? n : std::min(n, most))));
  for (int32_t& id : ids) id = int32_t(d.below(w_.ids));
  return ids;
}

inline Wish Play::some_wish(Dice& d, int64_t tokens) {
  Wish wish;
  wish.mode = d.of({Wish::kLast, Wish::kAll, Wish::kPicked, Wish::kCopied, Wish::kNothing, Wish::kHidden});
  if (!w_.counts && wish.mode == Wish::kPicked) wish.mode = Wish::kAll;
  wish.is_wide = d.one_in(4);
  for (int64_t i = 0; i < tokens; ++i)
    while (d.one_in(3)) wish.rows.push_back(int32_t(i));
  return wish;
}

inline void Play::check_position(const char* after) {
  const int64_t position = rnl_session_position(s_.get());
  if (position != oracle_.position())
    broken("after ", after, " the position is ", position, ", ", oracle_.position(), " was expected");
  rnl_stats stats{};
  stats.struct_size = sizeof stats;
  rnl_session_stats(s_.get(), &stats);
  if (stats.position != position)
    broken("after ", after, " stats tell position ", stats.position, ", the session ", position);
}

// A fork and a new session that was fed the same give the same.
inline void Play::probe(const char* after) {
  rnl_session* raw = nullptr;
  if (rnl_session_fork(s_.get(), &raw)) broken("fork after ", after, ": ", rnl_last_error());
  const SessionPtr fork(raw);
  if (rnl_session_position(raw) != oracle_.position())
    broken("after ", after, " a fork stands at ", rnl_session_position(raw), " instead of ", oracle_.position());
  ref_.sync(oracle_);
  rnl_session_set_top_logits(raw, 0);
  const std::vector<int32_t> ids = {1, 2, 3};
  Blocks got, wanted;
  const Wish wish{Wish::kAll, {}, false};
  const rnl_status_code a = feed(w_, raw, ids, wish, {}, &got), b = feed(w_, ref_.session(), ids, wish, {}, &wanted);
  if (a != b) broken("after ", after, " a probe gives ", a, " (", rnl_last_error(), "), a new session ", b);
  if (b == RNL_OK) ref_.note(ids);
  if (const std::string e = difference(got, wanted); !e.empty())
    broken("after ", after, ", at ", oracle_.position(), ": ", e);
}

// The call's outcome on the stream.
inline void Play::settle(rnl_status_code code, const std::vector<int32_t>& ids, const char* what) {
  const std::string message = code ? rnl_last_error() : "";
  const int64_t start = oracle_.position(), now = rnl_session_position(s_.get()), kept = now - start;
  if (code) say(" -> ", code, " (", message, "), ", kept, " kept");
  if (!w_.counts) return check_position(what);
  // The pending token goes first.
  std::vector<int32_t> fed = ids;
  if (oracle_.pending) fed.insert(fed.begin(), *oracle_.pending);
  const int64_t n = int64_t(fed.size());
  if (code == RNL_OK && kept != n) broken(what, " of ", n, " tokens moved the position by ", kept);
  const bool has_passes = n > w_.chunk() || w_.is_tight();
  if (code != RNL_OK && kept < 0 && now == 0 && has_passes && message.find("empt") != std::string::npos)
    return oracle_.clear();
  if (kept < 0 || kept > n) broken(what, " of ", n, " tokens failed (", message, ") and moved the position by ", kept);
  if (code == RNL_CANCELLED && kept % w_.chunk() && !w_.is_tight())
    broken(what, " was cancelled and kept ", kept, " tokens, no whole passes of ", w_.chunk());
  if (code != RNL_OK && code != RNL_CANCELLED && kept > 0 &&
      (message.find("now holds") == std::string::npos || !has_passes))
    broken(what, " of ", n, " failed (", message, ") and kept ", kept);
  if (code == RNL_CONTEXT_FULL && (kept || start + n <= w_.context()))
    broken(what, " of ", n, " tokens at ", start, ": ", message);
  if (kept > 0) {
    oracle_.pending.reset();
    oracle_.is_chat = false;
    oracle_.add_part(fed, kept);
  }
  check_position(what);
}

inline rnl_status_code Play::feed_once_more_if_stopped(const std::vector<int32_t>& ids, const Wish& wish,
                                                       const Trouble& trouble, Blocks* blocks) {
  rnl_status_code code = feed(w_, s_.get(), ids, wish, trouble, blocks);
  if (code == RNL_CANCELLED && may_be_stopped_ && rnl_session_position(s_.get()) == oracle_.position()) {
    if (blocks) blocks->clear();
    code = feed(w_, s_.get(), ids, wish, trouble, blocks);
    may_be_stopped_ = false;
  }
  // What is refused does not take the cancel.
  if (code == RNL_OK) may_be_stopped_ = false;
  return code;
}

// The same call of a session that was fed the pending token with it.
inline void Play::compare_run(const std::vector<int32_t>& ids, const Wish& wish, const Blocks& got) {
  std::vector<int32_t> fed = ids;
  Wish shifted = wish;
  const bool has_pending = oracle_.pending.has_value();
  if (has_pending) {
    fed.insert(fed.begin(), *oracle_.pending);
    for (int32_t& row : shifted.rows) ++row;
  }
  ref_.sync(oracle_);
  Blocks all, wanted;
  if (feed(w_, ref_.session(), fed, shifted, {}, &all))
    broken("run of ", fed.size(), " in a new session: ", rnl_last_error());
  ref_.note(fed);
  for (auto& [key, row] : all)
    if (!has_pending || wish.mode != Wish::kAll) wanted[key] = std::move(row);
    else if (key.second > 0) wanted[{key.first, key.second - 1}] = std::move(row);
  if (top_logits_ > 0) return check_top(got, wanted);
  if (const std::string e = difference(got, wanted); !e.empty())
    broken("run of ", ids.size(), " at ", oracle_.position(), ": ", e);
}

inline void Play::run(Dice& d) {
  const std::vector<int32_t> ids = some_ids(d, room());
  const Wish wish = some_wish(d, int64_t(ids.size()));
  Trouble trouble;
  if (d.one_in(6)) trouble.mode = Trouble::kReenter;
  say(ids.size(), " tokens, wish ", int(wish.mode), oracle_.pending ? ", one pending" : "",
      trouble.mode ? ", calls from within" : "");
  Blocks got;
  const rnl_status_code code = feed_once_more_if_stopped(ids, wish, trouble, &got);
  const std::string message = code ? rnl_last_error() : "";
  if (code == RNL_CONTEXT_FULL) w_.has_fixed_context = true;
  else if (code != RNL_OK) broken("run of ", ids.size(), " tokens at ", oracle_.position(), ": ", code, " ", message);
  else compare_run(ids, wish, got);
  if (code) (void)feed(w_, s_.get(), ids, wish, {}, nullptr);  // as before, and for its message
  settle(code, ids, "run");
}

// The highest are exact; others may be minus infinity.
inline void Play::check_top(const Blocks& got, const Blocks& wanted) {
  if (got.size() != wanted.size()) broken(got.size(), " rows of the highest logits instead of ", wanted.size());
  for (auto a = got.begin(), b = wanted.begin(); a != got.end(); ++a, ++b) {
    std::vector<float> sorted = b->second;
    std::sort(sorted.rbegin(), sorted.rend());
    const float least = sorted[std::min<size_t>(sorted.size(), size_t(top_logits_)) - 1];
    for (size_t i = 0; i < b->second.size(); ++i) {
      const float x = a->second[i], y = b->second[i];
      if (std::memcmp(&x, &y, 4) && !(x == -INFINITY && y < least && a->first.first == "logits"))
        broken("logit ", i, " is ", x, " instead of ", y, "; the ", top_logits_, " highest are wanted");
    }
  }
}

// Calls that are stopped.
inline void Play::troubled(Dice& d) {
  const std::vector<int32_t> ids = some_ids(d, room());
  const Wish wish = some_wish(d, int64_t(ids.size()));
  Trouble trouble;
  trouble.mode = d.of({Trouble::kCancelBefore, Trouble::kCancelFromThread, Trouble::kStopProgress,
                       Trouble::kStopProgress, Trouble::kStopOutput, Trouble::kStopOutput});
  trouble.at = trouble.mode == Trouble::kCancelFromThread ? d.below(400) : d.one_in(3) ? d.below(20) : d.below(3);
  say(ids.size(), " tokens, wish ", int(wish.mode), ", trouble ", int(trouble.mode), " at ", trouble.at);
  if (trouble.mode == Trouble::kCancelBefore && d.one_in(3)) {
    // What is no call is not stopped by it.
    rnl_session_cancel(s_.get());
    may_be_stopped_ = true;
    const int64_t n = std::min(d.below(4), std::min(oracle_.position(), w_.window()));
    if (oracle_.furthest - (oracle_.position() - n) > w_.window() || w_.is_tight()) return;
    if (rnl_session_rollback(s_.get(), n)) broken("rollback of ", n, " after a cancel: ", rnl_last_error());
    oracle_.drop(n);
    return check_position("rollback after a cancel");
  }
  const rnl_status_code code = feed(w_, s_.get(), ids, wish, trouble, nullptr);
  if (code != RNL_OK && code != RNL_CANCELLED && code != RNL_CONTEXT_FULL)
    broken("a stopped run of ", ids.size(), ": ", code, " ", rnl_last_error());
  if (trouble.mode == Trouble::kCancelFromThread) may_be_stopped_ = true;
  if (trouble.mode == Trouble::kCancelBefore && code == RNL_OK) broken("a cancel before a run does not stop it");
  if (code == RNL_CONTEXT_FULL && trouble.mode == Trouble::kCancelBefore) may_be_stopped_ = true;
  settle(code, ids, "a stopped run");
  if (may_be_stopped_ && d.one_in(2)) rnl_session_clear_cancel(s_.get()), may_be_stopped_ = false;
  if (d.one_in(2)) probe_pending("a stopped run");
}

// An id, or a row, that is none in the middle of a call.
inline void Play::failing(Dice& d) {
  std::vector<int32_t> ids = some_ids(d, room());
  ids[size_t(d.one_in(2) ? ids.size() - 1 : d.below(int64_t(ids.size())))] =
      w_.setup.kind.is_graph ? kBadId : d.of({kBadId, -1, INT32_MAX, INT32_MIN});
  say(ids.size(), " tokens");
  const Wish wish = some_wish(d, int64_t(ids.size()));
  const rnl_status_code code = feed_once_more_if_stopped(ids, wish, {}, nullptr);
  if (code == RNL_OK) {
    // NaN in what no output depends on may pass.
    if (!w_.setup.kind.is_graph) broken("ids out of range are taken");
    rnl_session_reset(s_.get());
    return oracle_.clear();
  }
  has_failed_in_passes_ = has_failed_in_passes_ || int64_t(ids.size()) >= w_.chunk();
  settle(code, ids, "a failing run");
  if (d.one_in(2)) probe_pending("a failing run");
}

inline void Play::rollback(Dice& d) {
  const int64_t position = oracle_.position(), window = w_.window();
  const int64_t n = d.one_in(4) ? std::min(window, position) : d.below(std::min(window, position) + 1);
  const bool is_within = oracle_.furthest - (position - n) <= window;
  const rnl_status_code code = rnl_session_rollback(s_.get(), n);
  say(n, " of ", position, " -> ", code);
  if (code == RNL_OK) {
    oracle_.drop(n);
    check_position("rollback");
    if (d.one_in(2)) n == 0 ? probe_pending("rollback") : probe("rollback");
    return;
  }
  if (code != RNL_ROLLBACK_RANGE) broken("rollback of ", n, " of ", position, ": ", code, " ", rnl_last_error());
  if (is_within && !w_.is_tight() && !(w_.has_rings && has_failed_in_passes_))
    broken("rollback of ", n, " of ", position, ", the window is ", window, ", ", oracle_.furthest,
           " tokens at most were in the stream: ", rnl_last_error());
  check_position("a refused rollback");
  probe_pending("a refused rollback");
}

inline void Play::snapshot(Dice& d) {
  Saved& to = snapshots_[d.below(2)];
  to.bytes = snapshot_of(s_.get());
  to.oracle = oracle_, to.talk = talk_;
}

inline void Play::save(Dice& d) {
  const int64_t i = d.below(2);
  const auto file = models_.file("state" + std::to_string(i));
  if (rnl_session_save(s_.get(), file.c_str())) broken("save: ", rnl_last_error());
  files_[i].is_file = true, files_[i].oracle = oracle_, files_[i].talk = talk_;
}

inline void Play::restore(Dice& d, bool from_file) {
  const int64_t i = d.below(2);
  Saved& from = (from_file ? files_ : snapshots_)[i];
  if (from_file ? !from.is_file : from.bytes.empty()) return;
  if (d.one_in(3)) s_ = w_.make();  // into a new session too
  rnl_session_set_top_logits(s_.get(), top_logits_);
  const rnl_status_code code = from_file
                                   ? rnl_session_restore(s_.get(), models_.file("state" + std::to_string(i)).c_str())
                                   : rnl_session_restore_snapshot(s_.get(), from.bytes.data(), from.bytes.size());
  if (code) broken("restore: ", code, " ", rnl_last_error());
  oracle_ = from.oracle, talk_ = from.talk;
  say("position ", oracle_.position());
  check_position("restore");
  if (d.one_in(2)) probe_pending("restore");
}

// Either of the two goes on, and both give the same for the same call.
inline void Play::fork(Dice& d) {
  rnl_session* raw = nullptr;
  if (rnl_session_fork(s_.get(), &raw)) broken("fork: ", rnl_last_error());
  SessionPtr other(raw);
  if (may_be_stopped_) {
    Blocks none;  // takes the cancel that may be waiting
    rnl_session* third = nullptr;
    if (rnl_session_fork(s_.get(), &third)) broken("fork: ", rnl_last_error());
    s_.reset(third);
    may_be_stopped_ = false;
  }
  if (d.one_in(2)) std::swap(s_, other);
  const std::vector<int32_t> ids = some_ids(d, room());
  const Wish wish = some_wish(d, int64_t(ids.size()));
  Blocks got, wanted;
  const rnl_status_code a = feed(w_, other.get(), ids, wish, {}, &wanted), b = feed(w_, s_.get(), ids, wish, {}, &got);
  if (a != b) broken("a fork gives ", a, ", the session ", b, " for the same call");
  if (const std::string e = difference(got, wanted); !e.empty())
    broken("a fork gives other values than its session: ", e);
  if (d.one_in(4)) (void)feed(w_, other.release(), {1}, {Wish::kLast, {}, false}, {Trouble::kDestroy, 0}, nullptr);
  settle(b, ids, "a run beside a fork");
}

inline void Play::bad(Dice& d) {
  std::vector<BadCall> all = bad_runs(w_.setup.kind.is_graph);
  // An encoder may be given nothing.
  std::erase_if(all, [&](const BadCall& b) { return !w_.counts && std::strcmp(b.what, "no tokens") == 0; });
  for (auto& list : {bad_states(), w_.setup.kind.is_graph ? std::vector<BadCall>{} : bad_texts()})
    all.insert(all.end(), list.begin(), list.end());
  for (int i = 0; i < 6; ++i) {
    const BadCall& call = all[size_t(d.below(int64_t(all.size())))];
    const auto before = snapshot_of(s_.get());
    const rnl_status_code code = call.make(w_, s_.get());
    const std::string message = rnl_last_error();
    if (code == RNL_OK) broken(call.what, " is taken");
    if (snapshot_of(s_.get()) != before) broken(call.what, " is refused (", message, ") and has changed the state");
    say(call.what, i < 5 ? "; " : "");
    check_position(call.what);
  }
}

}  // namespace runnel::streams
