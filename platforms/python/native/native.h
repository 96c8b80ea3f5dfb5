// What the files of the binding share. It stands on runnel.h alone; src/runnel/*.py is what a person sees of it.
//
// Every call that may take long runs without the GIL. A session is used by one call at a time: another one meanwhile is
// refused with runnel.Busy.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <unistd.h>

#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "runnel/runnel.h"

namespace nb = nanobind;

namespace runnel_python {

inline constexpr int kBusy = -1;

// Becomes an exception of runnel: the one of the status, or Busy.
struct Failure : std::exception {
  Failure(int code_, std::string message_) : code(code_), message(std::move(message_)) {}
  const char* what() const noexcept override { return message.c_str(); }
  int code;
  std::string message;
};

inline void check(rnl_status_code code) {
  if (code != RNL_OK) throw Failure(code, rnl_last_error());
}

// Runs fn, which gives a status, without the GIL.
template <class Fn>
void call(Fn fn) {
  rnl_status_code code;
  std::string message;
  {
    nb::gil_scoped_release release;
    code = fn();
    if (code != RNL_OK) message = rnl_last_error();
  }
  if (code != RNL_OK) throw Failure(code, message);
}

template <class T>
T make() {
  T t{};
  t.struct_size = sizeof t;
  return t;
}

// A handle of the C interface. Objects of a process do not live in one that was forked from it: its threads are gone.
template <class T, void (*destroy)(T*)>
class Handle {
 public:
  explicit Handle(const char* what) : what_(what) {}
  Handle(const Handle&) = delete;
  ~Handle() { close(); }
  // make(&handle) gives a status.
  template <class Fn>
  void open(Fn make) {
    T* made = nullptr;
    call([&] { return make(&made); });
    handle_ = std::shared_ptr<T>(made, [pid = pid_](T* handle) {
      if (pid == ::getpid()) destroy(handle);
    });
  }
  T* get() const {
    if (!handle_) throw Failure(RNL_INVALID_ARGUMENT, std::string("the ") + what_ + " is closed");
    if (is_foreign())
      throw Failure(RNL_INVALID_ARGUMENT, std::string("the ") + what_ +
                                              " belongs to the process that this one was forked from: open it here, or "
                                              "start processes with the method \"spawn\"");
    return handle_.get();
  }
  // For calls without the GIL: it stays while they run, whoever closes it meanwhile.
  std::shared_ptr<T> hold() const {
    get();
    return handle_;
  }
  bool is_closed() const { return !handle_; }
  bool is_foreign() const { return pid_ != ::getpid(); }
  void close() {
    std::shared_ptr<T> last = std::move(handle_);
    nb::gil_scoped_release release;
    last.reset();
  }

 private:
  const char* what_;
  std::shared_ptr<T> handle_;
  pid_t pid_ = ::getpid();
};

struct Engine {
  Handle<rnl_engine, rnl_engine_destroy> handle{"engine"};
};

struct Model {
  Handle<rnl_model, rnl_model_close> handle{"model"};
  nb::object memory;  // of a model that was opened in the caller's memory
};

struct Grammar {
  nb::object model;
  Handle<rnl_grammar, rnl_grammar_destroy> handle{"grammar"};
};

struct TraceEvent {
  std::string op, kernel;
  uint64_t begin_ns, end_ns;
};

struct Session {
  // What the caller lent stands first and so goes last.
  nb::object model, state_memory, arena_memory;
  std::vector<TraceEvent> trace;
  Handle<rnl_session, rnl_session_destroy> handle{"session"};
  std::atomic<bool> is_busy{false};
};

// For the time of a call on a session.
class Using {
 public:
  explicit Using(Session& session) : session_(session) {
    session.handle.get();
    if (session.is_busy.exchange(true))
      throw Failure(kBusy,
                    "the session is in use: another thread's call, or an answer that is neither at its end nor closed");
  }
  ~Using() { session_.is_busy = false; }
  Using(const Using&) = delete;

 private:
  Session& session_;
};

// Text of the library; what is no UTF-8 becomes U+FFFD.
inline nb::str to_text(const char* text, size_t size) {
  return nb::steal<nb::str>(PyUnicode_DecodeUTF8(text, Py_ssize_t(size), "replace"));
}

template <size_t n>
nb::tuple texts(const char* const (&list)[n], size_t) {
  nb::list out;
  for (const char* text : list)
    if (*text) out.append(text);
  return nb::tuple(out);
}

// The value of a keyword argument.
template <class T>
T option(const std::string& name, nb::handle value) {
  try {
    return nb::cast<T>(value);
  } catch (const std::exception&) {
    PyErr_Clear();
    throw nb::type_error((name + " cannot be " + nb::cast<std::string>(nb::repr(value))).c_str());
  }
}

#include "structs.inc"

template <class T>
T read_options(const nb::dict& given) {
  T out = make<T>();
  for (auto [key, value] : given) {
    const std::string name = nb::cast<std::string>(key);
    if (!read_option(name, value, out)) throw nb::type_error(("there is no option \"" + name + "\"").c_str());
  }
  return out;
}

// The messages and variables of a conversation, and what points at them.
class Conversation {
 public:
  using Messages = std::vector<std::pair<std::string, std::string>>;
  Conversation(Messages messages, const nb::dict& variables, bool is_closed, int64_t now);
  Conversation(const Conversation&) = delete;
  const rnl_chat* get() const { return &chat_; }

 private:
  Messages messages_;
  std::vector<std::pair<std::string, std::string>> variable_texts_;
  std::vector<rnl_chat_message> message_list_;
  std::vector<rnl_chat_variable> variable_list_;
  rnl_chat chat_ = make<rnl_chat>();
};

void define_model(nb::module_& m);
void define_session(nb::module_& m);
void define_answer(nb::module_& m);

}  // namespace runnel_python
