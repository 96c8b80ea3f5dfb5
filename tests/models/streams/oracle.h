// What a stream should hold, and a second session that is fed the same.
#pragma once

#include "models/streams/world.h"

namespace runnel::streams {

// The calls that the stream is made of, in order; the last one may have been cut.
struct Oracle {
  std::vector<std::vector<int32_t>> calls;
  std::optional<int32_t> pending;  // chosen by generate, not in the stream
  int64_t furthest = 0;            // highest position since the last reset
  bool is_chat = true;             // nothing but chats, and what they allow in between, made it

  int64_t position() const {
    int64_t n = 0;
    for (const auto& c : calls) n += int64_t(c.size());
    return n;
  }
  void add(std::vector<int32_t> ids) {
    if (!ids.empty()) calls.push_back(std::move(ids));
    furthest = std::max(furthest, position());
  }
  // The first `count` of a call's tokens.
  void add_part(const std::vector<int32_t>& ids, int64_t count) { add({ids.begin(), ids.begin() + count}); }
  void drop(int64_t n) {
    if (n) pending.reset();
    while (n > 0) {
      auto& last = calls.back();
      const int64_t k = std::min<int64_t>(n, int64_t(last.size()));
      last.resize(last.size() - size_t(k));
      if (last.empty()) calls.pop_back();
      n -= k;
    }
  }
  void clear() { *this = {}; }
  std::vector<int32_t> tokens() const {
    std::vector<int32_t> all;
    for (const auto& c : calls) all.insert(all.end(), c.begin(), c.end());
    return all;
  }
};

// How generate is asked, and what it gave.
struct Generation {
  std::vector<int32_t> ids;
  rnl_generate_options options{};
  std::vector<rnl_logit_bias> bias;
  std::vector<std::string> stop;
  int64_t stop_at = -1;  // the token whose callback stops

  std::vector<int32_t> chosen;
  std::string text;
  std::vector<float> logprobs;
  int64_t generated = 0;

  Generation() {
    options.struct_size = sizeof options;
    options.sampling.struct_size = sizeof options.sampling;
  }
};

struct Asked {
  rnl_generate_options options;
  std::vector<const char*> stop;
  explicit Asked(Generation& g) : options(g.options) {
    for (const std::string& s : g.stop) stop.push_back(s.c_str());
    options.stop = stop.data(), options.stop_count = stop.size();
    options.sampling.bias = g.bias.data(), options.sampling.bias_count = g.bias.size();
    g.chosen.clear(), g.text.clear(), g.logprobs.clear(), g.generated = 0;
    options.logprobs_user = &g;
    if (options.logprobs_count >= 0)
      options.logprobs = [](void* user, const rnl_logprobs* t) {
        auto& to = static_cast<Generation*>(user)->logprobs;
        to.push_back(t->chosen.logprob);
        for (size_t i = 0; i < t->best_count; ++i) to.push_back(float(t->best[i].id)), to.push_back(t->best[i].logprob);
      };
    else options.logprobs_count = 0;
  }
};

// The text that is held back until the end comes with a token that came before.
inline int take_token(void* user, int32_t id, const char* text, size_t size) {
  auto& g = *static_cast<Generation*>(user);
  g.text.append(text, size);
  g.chosen.push_back(id);
  return g.stop_at >= 0 && int64_t(g.chosen.size()) > g.stop_at;
}

inline rnl_status_code generate(rnl_session* s, Generation& g) {
  Asked asked(g);
  const rnl_status_code code =
      rnl_session_generate(s, g.ids.data(), g.ids.size(), &asked.options, take_token, &g, &g.generated);
  if (int64_t(g.chosen.size()) > g.generated) g.chosen.resize(size_t(std::max<int64_t>(g.generated, 0)));
  return code;
}

// A session with the same options that is fed the calls of an oracle.
class Reference {
 public:
  explicit Reference(const World& w) : w_(w) {}
  rnl_session* session() { return s_.get(); }
  // Takes part in a call that the session under test makes too.
  void note(const std::vector<int32_t>& ids) { fed_.push_back(ids); }
  void forget() { s_.reset(); }
  void sync(const Oracle& o, size_t count) {
    bool is_prefix = s_ && fed_.size() <= count;
    for (size_t i = 0; is_prefix && i < fed_.size(); ++i) is_prefix = fed_[i] == o.calls[i];
    if (!is_prefix) s_ = w_.make(), fed_.clear();
    while (fed_.size() < count) {
      const auto& ids = o.calls[fed_.size()];
      if (feed(w_, s_.get(), ids, {}, {}, nullptr))
        broken("the stream's ", ids.size(), " tokens at ", rnl_session_position(s_.get()),
               " are refused by a new session: ", rnl_last_error());
      fed_.push_back(ids);
    }
  }
  void sync(const Oracle& o) { sync(o, o.calls.size()); }
  // As sync, with the pending token too: the last call is made by a generate that can choose nothing else. The
  // reference is of no further use then.
  void sync_with_pending(const Oracle& o) {
    if (!o.pending) return sync(o);
    sync(o, o.calls.size() - 1);
    Generation g;
    g.ids = o.calls.back();
    g.options.max_tokens = 1;
    g.options.logprobs_count = -1;
    g.options.ignore_end = 1;
    g.bias = {{*o.pending, 1e30f}};
    if (generate(s_.get(), g) || g.chosen != std::vector<int32_t>{*o.pending})
      broken("token ", *o.pending, " cannot be made pending: ", rnl_last_error());
    fed_.push_back({-1});  // not to be fed further
  }

 private:
  const World& w_;
  SessionPtr s_;
  std::vector<std::vector<int32_t>> fed_;
};

}  // namespace runnel::streams
