#include "jni_support.h"

#include <cstring>

namespace runnel_jni {

Ids g_ids{};

namespace {

jclass find_class(JNIEnv* env, const char* name) {
  jclass local = env->FindClass(name);
  if (!local) return nullptr;
  auto global = static_cast<jclass>(env->NewGlobalRef(local));
  env->DeleteLocalRef(local);
  return global;
}

}  // namespace

bool find_ids(JavaVM* vm, JNIEnv* env) {
  g_ids.vm = vm;
  g_ids.exception = find_class(env, "org/runnel/RunnelException");
  if (!g_ids.exception) return false;
  g_ids.new_exception = env->GetMethodID(g_ids.exception, "<init>", "(I[B)V");
  if (!g_ids.new_exception) return false;
  g_ids.native = find_class(env, "org/runnel/Native");
  if (!g_ids.native) return false;
  g_ids.on_log = env->GetStaticMethodID(g_ids.native, "onLog", "(I[B)V");
  if (!g_ids.on_log) return false;
  g_ids.out_of_memory = find_class(env, "java/lang/OutOfMemoryError");
  if (!g_ids.out_of_memory) return false;
  g_ids.bytes = find_class(env, "[B");
  if (!g_ids.bytes) return false;
  jclass sink = env->FindClass("org/runnel/Sink");
  if (!sink) return false;
  const struct {
    jmethodID* id;
    const char *name, *signature;
  } methods[] = {{&g_ids.on_token, "onToken", "(I[BF[I[F)Z"},
                 {&g_ids.on_progress, "onProgress", "(JJ)Z"},
                 {&g_ids.on_block, "onBlock", "([BI[JLjava/nio/ByteBuffer;J)Z"},
                 {&g_ids.on_line, "onLine", "([B)V"}};
  for (const auto& m : methods) {
    *m.id = env->GetMethodID(sink, m.name, m.signature);
    if (!*m.id) return false;
  }
  env->DeleteLocalRef(sink);
  return true;
}

bool succeeded(JNIEnv* env, rnl_status_code code) {
  if (env->ExceptionCheck()) return false;
  if (code == RNL_OK) return true;
  jbyteArray message = to_java(env, rnl_last_error());
  if (!message) return false;
  auto exception = static_cast<jthrowable>(env->NewObject(g_ids.exception, g_ids.new_exception, jint(code), message));
  if (exception) env->Throw(exception);
  return false;
}

std::string text_of(JNIEnv* env, jbyteArray bytes) {
  std::string text;
  if (!bytes) return text;
  text.resize(size_t(env->GetArrayLength(bytes)));
  env->GetByteArrayRegion(bytes, 0, jsize(text.size()), reinterpret_cast<jbyte*>(&text[0]));
  return text;
}

std::vector<std::string> texts_of(JNIEnv* env, jobjectArray texts) {
  std::vector<std::string> all(texts ? size_t(env->GetArrayLength(texts)) : 0);
  for (size_t i = 0; i < all.size(); ++i) {
    auto one = static_cast<jbyteArray>(env->GetObjectArrayElement(texts, jsize(i)));
    all[i] = text_of(env, one);
    env->DeleteLocalRef(one);
  }
  return all;
}

std::vector<jint> ints_of(JNIEnv* env, jintArray array) {
  std::vector<jint> v(array ? size_t(env->GetArrayLength(array)) : 0);
  if (array) env->GetIntArrayRegion(array, 0, jsize(v.size()), v.data());
  return v;
}

std::vector<jlong> longs_of(JNIEnv* env, jlongArray array) {
  std::vector<jlong> v(array ? size_t(env->GetArrayLength(array)) : 0);
  if (array) env->GetLongArrayRegion(array, 0, jsize(v.size()), v.data());
  return v;
}

std::vector<jfloat> floats_of(JNIEnv* env, jfloatArray array) {
  std::vector<jfloat> v(array ? size_t(env->GetArrayLength(array)) : 0);
  if (array) env->GetFloatArrayRegion(array, 0, jsize(v.size()), v.data());
  return v;
}

jbyteArray to_java(JNIEnv* env, const char* text, size_t size) {
  jbyteArray bytes = env->NewByteArray(jsize(size));
  if (bytes) env->SetByteArrayRegion(bytes, 0, jsize(size), reinterpret_cast<const jbyte*>(text));
  return bytes;
}

jbyteArray to_java(JNIEnv* env, const char* text) { return to_java(env, text, std::strlen(text)); }

jintArray to_java(JNIEnv* env, const std::vector<int32_t>& ids) {
  jintArray array = env->NewIntArray(jsize(ids.size()));
  if (array) env->SetIntArrayRegion(array, 0, jsize(ids.size()), ids.data());
  return array;
}

jlongArray longs_to_java(JNIEnv* env, const std::vector<jlong>& numbers) {
  jlongArray array = env->NewLongArray(jsize(numbers.size()));
  if (array) env->SetLongArrayRegion(array, 0, jsize(numbers.size()), numbers.data());
  return array;
}

void put(JNIEnv* env, jobjectArray to, const std::vector<const char*>& texts) {
  for (size_t i = 0; i < texts.size(); ++i) {
    jbyteArray bytes = to_java(env, texts[i]);
    if (!bytes) return;
    env->SetObjectArrayElement(to, jsize(i), bytes);
    env->DeleteLocalRef(bytes);
  }
}

void put(JNIEnv* env, jlongArray to, const std::vector<jlong>& numbers) {
  env->SetLongArrayRegion(to, 0, jsize(numbers.size()), numbers.data());
}

}  // namespace runnel_jni
