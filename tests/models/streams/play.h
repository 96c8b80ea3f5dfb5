// Random steps on one session, each checked against the oracle.
#pragma once

#include "models/streams/bad_calls.h"
#include "models/streams/oracle.h"

namespace runnel::streams {

// Numbers from which a step takes what it does: the same whatever stood before it.
struct Step {
  uint32_t op = 0;
  uint64_t seed = 0;
};

class Dice {
 public:
  explicit Dice(uint64_t seed) : x_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint32_t operator()() {
    x_ ^= x_ << 13, x_ ^= x_ >> 7, x_ ^= x_ << 17;
    return uint32_t(x_ >> 20);
  }
  int64_t below(int64_t n) { return n > 0 ? int64_t((*this)() % uint64_t(n)) : 0; }
  bool one_in(int64_t n) { return below(n) == 0; }
  template <class T>
  T of(std::initializer_list<T> list) {
    return list.begin()[below(int64_t(list.size()))];
  }

 private:
  uint64_t x_;
};

enum Op : uint32_t {
  kRun,
  kRollback,
  kSnapshot,
  kRestore,
  kSave,
  kLoad,
  kFork,
  kReset,
  kTroubled,
  kFailing,
  kBad,
  kGenerate,
  kChat,
  kEmbed,
  kTopLogits,
  kRecover,
  kProbe,
  kOps
};
inline const char* op_name(uint32_t op) {
  static const char* const names[] = {"run",  "rollback", "snapshot",     "restore",     "save",      "load",
                                      "fork", "reset",    "troubled run", "failing run", "bad calls", "generate",
                                      "chat", "embed",    "top_logits",   "recover",     "probe"};
  return names[op];
}

class Play {
 public:
  Play(World& w, Models& models, std::ostream* log) : w_(w), models_(models), log_(log), ref_(w) {
    rnl_session_options o = w.options();
    if (w.setup.has_own_memory) {
      rnl_memory m{};
      m.struct_size = sizeof m;
      if (rnl_session_plan(w.model, &o, &m)) broken("plan: ", rnl_last_error());
      state_ = block(m.state);
      arena_ = block(m.arena);
      o.state_memory = state_.get(), o.arena_memory = arena_.get();
    }
    s_ = w.make(o);
  }
  void take(const Step& step);
  // At the end: what the stream gives next, and by other splits too.
  void finish();

 private:
  struct Saved {
    std::vector<unsigned char> bytes;
    Oracle oracle;
    std::vector<std::pair<std::string, std::string>> talk;
    bool is_file = false;
  };
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  using Memory = std::unique_ptr<void, Free>;
  // Of exactly this size, so that a step outside is seen.
  static Memory block(size_t bytes) {
    void* p = nullptr;
    if (posix_memalign(&p, 256, std::max<size_t>(bytes, 1))) throw std::bad_alloc();
    return Memory(p);
  }

  template <class... Parts>
  void say(const Parts&... parts) {
    if (log_) ((*log_) << ... << parts);
  }
  std::vector<int32_t> some_ids(Dice& d, int64_t most);
  Wish some_wish(Dice& d, int64_t tokens);
  Generation some_generation(Dice& d);
  // Tokens that may still be added.
  int64_t room() const {
    return std::min(w_.setup.kind.longest, w_.has_fixed_context || !w_.counts ? w_.context() : 400) -
           oracle_.position() - (oracle_.pending ? 1 : 0);
  }
  void check_position(const char* after);
  void probe(const char* after);
  void probe_pending(const char* after);
  void settle(rnl_status_code code, const std::vector<int32_t>& ids, const char* what);
  rnl_status_code feed_once_more_if_stopped(const std::vector<int32_t>& ids, const Wish& wish, const Trouble& trouble,
                                            Blocks* blocks);

  void run(Dice& d);
  void compare_run(const std::vector<int32_t>& ids, const Wish& wish, const Blocks& got);
  void check_top(const Blocks& got, const Blocks& wanted);
  void troubled(Dice& d);
  void failing(Dice& d);
  void rollback(Dice& d);
  void snapshot(Dice& d);
  void restore(Dice& d, bool from_file);
  void save(Dice& d);
  void fork(Dice& d);
  void bad(Dice& d);
  void generate_some(Dice& d);
  void settle_generation(rnl_status_code code, const std::string& message, const std::vector<int32_t>& prompt,
                         const Generation& g);
  void chat(Dice& d);
  void settle_chat(const rnl_chat_result& r, const Generation& g, const std::vector<int32_t>& conversation);
  void embed(Dice& d);

  World& w_;
  Models& models_;
  std::ostream* log_;
  Memory state_, arena_;
  Reference ref_;
  SessionPtr s_;
  Oracle oracle_;
  int32_t top_logits_ = 0;
  bool has_failed_in_passes_ = false;  // rings may then hold less than the window
  bool may_be_stopped_ = false;        // a cancel may have come after its call
  Saved snapshots_[2], files_[2];
  std::vector<std::pair<std::string, std::string>> talk_;
};

}  // namespace runnel::streams
