// What stands behind the opaque handles of runnel.h.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

#include "cpu/cores.h"
#include "cpu/thread_pool.h"
#include "format/model_file.h"
#include "runnel/runnel.h"
#include "session/session.h"
#include "text/grammar.h"

namespace runnel {

// An object of the interface lives until its caller has destroyed it and nothing else uses it, in whatever order and on
// whatever threads.
struct Counted {
  mutable std::atomic<int32_t> references{1};
};
template <class T>
void release(T* object) {
  if (object && object->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete object;
}
template <class T>
class Use {
 public:
  Use() = default;
  explicit Use(T* object) : object_(object) {
    if (object_) object_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Use(const Use& other) : Use(other.object_) {}
  Use(Use&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Use& operator=(Use other) {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Use() { release(object_); }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }

 private:
  T* object_ = nullptr;
};

}  // namespace runnel

struct rnl_engine : runnel::Counted {
  runnel::ThreadPool* pool = nullptr;
  // The library chooses how many threads there are; how many of them compute one token is found with the first session.
  std::mutex mutex;
  bool has_to_choose = false;
  runnel::Cores cores;
  ~rnl_engine() {
    if (pool) runnel::thread_pool_destroy(pool);
  }
};

// Of every struct here, what it uses stands first and so goes last.
struct rnl_model : runnel::Counted {
  runnel::Use<rnl_engine> engine;
  std::unique_ptr<runnel::Model> model;
  bool is_copy = false;  // read into memory instead of mapped
  // What the grammars of this model share, made with the first of them.
  mutable std::mutex order_mutex;
  mutable std::unique_ptr<runnel::TokenOrder> order;
};

struct rnl_grammar {
  runnel::Use<const rnl_model> owner;
  std::unique_ptr<runnel::Grammar> grammar;
};

struct rnl_session {
  runnel::Use<const rnl_model> owner;
  std::unique_ptr<runnel::Session> session;
  rnl_progress_fn progress = nullptr;
  void* progress_user = nullptr;
  bool is_busy = false;    // a call is running, so another one comes from its callback
  bool is_doomed = false;  // to be destroyed when that call ends
};

namespace runnel {

// Keeps the message for rnl_last_error and gives the code.
rnl_status_code report(Status status);

Status null_argument(const char* what);
// Copies the first bytes that the caller's struct has over the defaults in `out`. Null: the defaults. Refuses a struct
// whose size was not filled in, and fields that a later version of the library has and this one would pass over.
Status copy_options(const void* given, void* out, size_t size, const char* what);
template <class T>
Status read_options(const T* given, T* out, const char* what) {
  *out = T{};
  RNL_TRY(copy_options(given, out, sizeof(T), what));
  out->struct_size = sizeof(T);
  return Status::ok();
}
// The caller's options, null for the defaults, as they were given and as the planner takes them.
Status plan_options(const rnl_session_options* given, rnl_session_options* o, PlanOptions* p);
// Fills the part of the caller's struct that it knows.
template <class T>
Status write_struct(T* to, T from, const char* what) {
  if (!to) return null_argument(what);
  RNL_CHECK_ARG(to->struct_size >= sizeof(size_t), "%s.struct_size is %zu", what, to->struct_size);
  const size_t size = to->struct_size < sizeof(T) ? to->struct_size : sizeof(T);
  from.struct_size = to->struct_size;
  __builtin_memcpy(to, &from, size);
  return Status::ok();
}

// For the time of a call on a session. is_ok() fails within a callback of another call on it.
class Busy {
 public:
  explicit Busy(rnl_session* session) : session_(session), entered_(session && !session->is_busy) {
    if (entered_) session_->is_busy = true;
  }
  ~Busy() {
    if (!entered_) return;
    session_->is_busy = false;
    if (session_->is_doomed) delete session_;
  }
  Busy(const Busy&) = delete;
  Status status() const {
    if (!session_) return null_argument("session");
    RNL_CHECK_ARG(entered_, "a callback called the session whose call it belongs to");
    return Status::ok();
  }

 private:
  rnl_session* session_;
  bool entered_;
};
template <class Fn>
rnl_status_code call_session(rnl_session* session, Fn fn) {
  Busy busy(session);
  Status s = busy.status();
  if (s.is_ok()) s = fn(*session->session);
  return report(std::move(s));
}
// The same for calls that run programs, as often as they like: a cancel that came too late to stop one is forgotten.
template <class Fn>
rnl_status_code run_session(rnl_session* session, Fn fn) {
  return call_session(session, [&](Session& s) -> Status {
    Status status = fn(s);
    if (status.is_ok()) s.clear_cancel();
    return status;
  });
}
template <class Fn>
rnl_status_code read_session(const rnl_session* session, Fn fn) {
  return call_session(const_cast<rnl_session*>(session), [&](const Session& s) { return fn(s); });
}

}  // namespace runnel
