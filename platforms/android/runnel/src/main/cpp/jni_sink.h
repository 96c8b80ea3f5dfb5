// Callbacks of one call into its Sink (Kotlin). They run on the thread that called, so its JNIEnv serves.
#pragma once

#include "jni_support.h"

namespace runnel_jni {

// The references that a callback makes are gone when it returns: an answer of any length needs those of one token.
// Nothing here throws in C++: the library's frames, which stand below, cannot be unwound.
class CallbackFrame {
 public:
  explicit CallbackFrame(JNIEnv* env) : env_(env), is_open_(!env->ExceptionCheck() && env->PushLocalFrame(8) == 0) {}
  ~CallbackFrame() {
    if (is_open_) env_->PopLocalFrame(nullptr);
  }
  CallbackFrame(const CallbackFrame&) = delete;
  bool is_open() const { return is_open_; }

 private:
  JNIEnv* env_;
  bool is_open_;
};

struct SinkOfCall {
  JNIEnv* env;
  jobject sink;
  // What the library is to return of a callback's answer; an exception ends the call too and then goes on in Java.
  int answer(jboolean goes_on) const { return goes_on && !env->ExceptionCheck() ? 0 : 1; }
};

// While it lives, the session's progress goes to the sink.
class ProgressOfCall {
 public:
  ProgressOfCall(rnl_session* session, SinkOfCall* to) : session_(session) {
    rnl_session_set_progress(session, step, to);
  }
  ~ProgressOfCall() { rnl_session_set_progress(session_, nullptr, nullptr); }
  ProgressOfCall(const ProgressOfCall&) = delete;

 private:
  static int step(void* user, int64_t done, int64_t total) {
    const SinkOfCall& to = *static_cast<SinkOfCall*>(user);
    if (to.env->ExceptionCheck()) return 1;
    return to.answer(to.env->CallBooleanMethod(to.sink, g_ids.on_progress, jlong(done), jlong(total)));
  }
  rnl_session* session_;
};

}  // namespace runnel_jni
