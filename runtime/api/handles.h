// What stands behind the opaque handles of runnel.h.
#pragma once

#include <memory>
#include <mutex>

#include "cpu/thread_pool.h"
#include "format/model_file.h"
#include "runnel/runnel.h"
#include "session/session.h"
#include "text/grammar.h"

struct rnl_engine {
  runnel::ThreadPool* pool = nullptr;
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
};

namespace runnel {

// Keeps the message for rnl_last_error and gives the code.
rnl_status_code report(Status status);

// Copies the first `size` bytes that the caller's struct has over the defaults in `out`.
template <class T>
T read_options(const T* given) {
  T out{};
  if (given) {
    const size_t size = given->struct_size < sizeof(T) ? given->struct_size : sizeof(T);
    __builtin_memcpy(&out, given, size);
  }
  out.struct_size = sizeof(T);
  return out;
}
// Fills the part of the caller's struct that it knows.
template <class T>
void write_struct(T* to, T from) {
  const size_t size = to->struct_size < sizeof(T) ? to->struct_size : sizeof(T);
  from.struct_size = to->struct_size;
  __builtin_memcpy(to, &from, size);
}

}  // namespace runnel
