// What the files of the binding share: strings, arrays, exceptions and the handles' types.
//
// Text crosses as byte[] in UTF-8: JNI's own string functions speak a modified UTF-8 that turns emoji into surrogates.
// A handle crosses as jlong. Kotlin's side sees to it that a handle is alive and that a session is used by one thread
// at a time.
#pragma once

#include <jni.h>

#include <new>
#include <string>
#include <vector>

#include "runnel/runnel.h"

namespace runnel_jni {

// Classes and methods that are looked up once, when the library is loaded.
struct Ids {
  JavaVM* vm;
  jclass exception, native, out_of_memory, bytes;      // RunnelException, Native, OutOfMemoryError, byte[]
  jmethodID new_exception;                             // (int, byte[])
  jmethodID on_log;                                    // static Native.onLog(int, byte[])
  jmethodID on_token, on_progress, on_block, on_line;  // of Sink
};
extern Ids g_ids;
// False: an exception is pending.
bool find_ids(JavaVM* vm, JNIEnv* env);

template <class T>
T* as(jlong handle) {
  return reinterpret_cast<T*>(handle);
}
template <class T>
jlong handle_of(T* object) {
  return reinterpret_cast<jlong>(object);
}

// Throws RunnelException with the code and rnl_last_error(), unless a callback has thrown already. True: the call
// succeeded.
bool succeeded(JNIEnv* env, rnl_status_code code);

// Runs fn; memory that C++ does not get becomes Java's OutOfMemoryError.
template <class Fn>
auto guarded(JNIEnv* env, Fn fn) -> decltype(fn()) {
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    env->ThrowNew(g_ids.out_of_memory, "the native side of Runnel");
  }
  return decltype(fn())();
}

// The bytes of a byte[]; of null, "".
std::string text_of(JNIEnv* env, jbyteArray bytes);
std::vector<std::string> texts_of(JNIEnv* env, jobjectArray texts);
std::vector<jint> ints_of(JNIEnv* env, jintArray array);
std::vector<jlong> longs_of(JNIEnv* env, jlongArray array);
std::vector<jfloat> floats_of(JNIEnv* env, jfloatArray array);

// New local references; null with an exception pending when Java has no memory.
jbyteArray to_java(JNIEnv* env, const char* text, size_t size);
jbyteArray to_java(JNIEnv* env, const char* text);
jintArray to_java(JNIEnv* env, const std::vector<int32_t>& ids);
jlongArray longs_to_java(JNIEnv* env, const std::vector<jlong>& numbers);

// Fills arrays of the caller, which are as long.
void put(JNIEnv* env, jobjectArray to, const std::vector<const char*>& texts);
void put(JNIEnv* env, jlongArray to, const std::vector<jlong>& numbers);

template <class T>
T sized() {
  T t{};
  t.struct_size = sizeof t;
  return t;
}

// rnl_session_options as Kotlin's SessionOptions.numbers() writes them, and back; jni_session.cpp.
rnl_session_options session_options(JNIEnv* env, jlongArray numbers);

// A file's native methods.
struct Methods {
  const JNINativeMethod* rows;
  jint count;
};
Methods model_methods();
Methods session_methods();
Methods tensor_methods();
Methods text_methods();
Methods generate_methods();

template <class Fn>
JNINativeMethod method(const char* name, const char* signature, Fn* fn) {
  return {const_cast<char*>(name), const_cast<char*>(signature), reinterpret_cast<void*>(fn)};
}

}  // namespace runnel_jni
