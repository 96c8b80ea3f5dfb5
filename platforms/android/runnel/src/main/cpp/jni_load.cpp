// Where the library begins: ids, native methods, notices of the library. JNI_OnLoad is all that Java sees.
#include "jni_support.h"

namespace runnel_jni {
namespace {

// Notices may come from any thread. One that Java does not know is attached for this call alone.
void on_log(void*, int level, const char* message) {
  void* place = nullptr;
  const bool is_known = g_ids.vm->GetEnv(&place, JNI_VERSION_1_6) == JNI_OK;
#ifdef __ANDROID__
  if (!is_known && g_ids.vm->AttachCurrentThread(reinterpret_cast<JNIEnv**>(&place), nullptr) != JNI_OK) return;
#else
  if (!is_known && g_ids.vm->AttachCurrentThread(&place, nullptr) != JNI_OK) return;
#endif
  auto* env = static_cast<JNIEnv*>(place);
  // Java cannot be called while an exception waits.
  if (!env->ExceptionCheck()) {
    if (jbyteArray bytes = to_java(env, message)) {
      env->CallStaticVoidMethod(g_ids.native, g_ids.on_log, jint(level), bytes);
      env->DeleteLocalRef(bytes);
    }
    env->ExceptionClear();
  }
  if (!is_known) g_ids.vm->DetachCurrentThread();
}

}  // namespace
}  // namespace runnel_jni

extern "C" JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM* vm, void*) {
  using namespace runnel_jni;
  void* place = nullptr;
  if (vm->GetEnv(&place, JNI_VERSION_1_6) != JNI_OK) return JNI_ERR;
  auto* env = static_cast<JNIEnv*>(place);
  if (!find_ids(vm, env)) return JNI_ERR;
  for (const Methods& m : {model_methods(), session_methods(), tensor_methods(), text_methods(), generate_methods()})
    if (env->RegisterNatives(g_ids.native, m.rows, m.count) != JNI_OK) return JNI_ERR;
  rnl_set_log(on_log, nullptr);
  return JNI_VERSION_1_6;
}
