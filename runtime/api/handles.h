// What stands behind the opaque handles of runnel.h.
#pragma once

#include <memory>
#include <mutex>

#include "cpu/cores.h"
#include "cpu/thread_pool.h"
#include "format/model_file.h"
#include "runnel/runnel.h"
#include "session/session.h"
#include "text/grammar.h"

struct rnl_engine {
  runnel::ThreadPool* pool = nullptr;
  // The library chooses how many threads there are; how many of them compute one token is found with the first session.
  std::mutex mutex;
  bool has_to_choose = false;
  runnel::Cores cores;
  ~rnl_engine() {
    if (pool) runnel::thread_pool_destroy(pool);
  }
};

struct rnl_model {
  rnl_engine* engine = nullptr;
  std::unique_ptr<runnel::Model> model;
  // What the grammars of this model share, made with the first of them.
  mutable std::mutex order_mutex;
  mutable std::unique_ptr<runnel::TokenOrder> order;
};

struct rnl_grammar {
  std::unique_ptr<runnel::Grammar> grammar;
};

struct rnl_session {
  const rnl_model* owner = nullptr;
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
// Copies the first bytes that the caller's struct has over the defaults in `out`. Null: the defaults. Refuses a struct whose size was not
// filled in, and fields that a later version of the library has and this one would pass over.
Status copy_options(const void* given, void* out, size_t size, const char* what);
template <class T>
Status read_options(const T* given, T* out, const char* what) {
  *out = T{};
  RNL_TRY(copy_options(given, out, sizeof(T), what));
  out->struct_size = sizeof(T);
  return Status::ok();
}
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
template <class Fn>
rnl_status_code read_session(const rnl_session* session, Fn fn) {
  return call_session(const_cast<rnl_session*>(session), [&](const Session& s) { return fn(s); });
}

}  // namespace runnel
