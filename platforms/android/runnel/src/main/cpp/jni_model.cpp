// Engines, models, and what a model says of itself.
#include "jni_support.h"

namespace runnel_jni {
namespace {

jobjectArray versions(JNIEnv* env, jclass) {
  jobjectArray both = env->NewObjectArray(2, g_ids.bytes, nullptr);
  if (both) put(env, both, {rnl_version(), rnl_format_version()});
  return both;
}

jlong engine_create(JNIEnv* env, jclass, jint threads) {
  auto options = sized<rnl_engine_options>();
  options.threads = threads;
  rnl_engine* engine = nullptr;
  return succeeded(env, rnl_engine_create(&options, &engine)) ? handle_of(engine) : 0;
}
void engine_destroy(JNIEnv*, jclass, jlong engine) { rnl_engine_destroy(as<rnl_engine>(engine)); }
jint engine_threads(JNIEnv*, jclass, jlong engine) { return rnl_engine_threads(as<rnl_engine>(engine)); }

jlong model_open(JNIEnv* env, jclass, jlong engine, jbyteArray path, jboolean copy, jbyteArray adapter) {
  return guarded(env, [&]() -> jlong {
    const std::string file = text_of(env, path), with = text_of(env, adapter);
    auto options = sized<rnl_model_options>();
    options.copy = copy;
    options.adapter = adapter ? with.c_str() : nullptr;
    rnl_model* model = nullptr;
    return succeeded(env, rnl_model_open(as<rnl_engine>(engine), file.c_str(), &options, &model)) ? handle_of(model)
                                                                                                  : 0;
  });
}
jlong model_open_memory(JNIEnv* env, jclass, jlong engine, jobject buffer) {
  rnl_model* model = nullptr;
  return succeeded(env, rnl_model_open_memory(as<rnl_engine>(engine), env->GetDirectBufferAddress(buffer),
                                              size_t(env->GetDirectBufferCapacity(buffer)), &model))
             ? handle_of(model)
             : 0;
}
void model_close(JNIEnv*, jclass, jlong model) { rnl_model_close(as<rnl_model>(model)); }
void model_verify(JNIEnv* env, jclass, jlong model) { succeeded(env, rnl_model_verify(as<rnl_model>(model))); }

void model_info(JNIEnv* env, jclass, jlong model, jobjectArray texts, jlongArray numbers) {
  guarded(env, [&] {
    auto info = sized<rnl_model_info>();
    if (!succeeded(env, rnl_model_get_info(as<rnl_model>(model), &info))) return;
    put(env, texts, {info.name, info.architecture, info.licence, info.source, info.converter, info.source_sha256});
    put(env, numbers,
        {info.context, info.vocabulary, info.has_chat, info.bos, info.eos, info.embedding, info.format_major,
         info.format_minor, jlong(info.source_bytes), jlong(info.source_tensor_bytes), jlong(info.file_bytes),
         jlong(info.adapter_bytes)});
  });
}

// The lists below end where the library says RNL_NOT_FOUND; then they give false.
bool is_there(JNIEnv* env, rnl_status_code code) { return code != RNL_NOT_FOUND && succeeded(env, code); }

jboolean model_program(JNIEnv* env, jclass, jlong model, jlong index, jobjectArray texts, jlongArray numbers) {
  return guarded(env, [&]() -> jboolean {
    auto info = sized<rnl_program_info>();
    if (!is_there(env, rnl_model_program(as<rnl_model>(model), size_t(index), &info))) return false;
    put(env, texts, {info.name, info.stream, info.rows});
    put(env, numbers, {info.inputs, info.outputs});
    return true;
  });
}

jboolean model_value(JNIEnv* env, jclass, jlong model, jbyteArray program, jboolean is_output, jlong index,
                     jobjectArray texts, jlongArray numbers) {
  return guarded(env, [&]() -> jboolean {
    const std::string name = text_of(env, program);
    auto info = sized<rnl_value_info>();
    const auto get = is_output ? rnl_model_program_output : rnl_model_program_input;
    if (!is_there(env, get(as<rnl_model>(model), program ? name.c_str() : nullptr, size_t(index), &info))) return false;
    const auto& s = info.sizes;
    put(env, texts, {info.name, s[0], s[1], s[2], s[3], s[4], s[5]});
    put(env, numbers, {info.dtype, info.rank, info.role, info.optional});
    return true;
  });
}

jboolean model_symbol(JNIEnv* env, jclass, jlong model, jlong index, jobjectArray texts, jlongArray numbers) {
  return guarded(env, [&]() -> jboolean {
    auto info = sized<rnl_symbol_info>();
    if (!is_there(env, rnl_model_symbol(as<rnl_model>(model), size_t(index), &info))) return false;
    put(env, texts, {info.name, info.bound});
    put(env, numbers, {info.kind});
    return true;
  });
}

jboolean model_state(JNIEnv* env, jclass, jlong model, jlong index, jobjectArray texts, jlongArray numbers) {
  return guarded(env, [&]() -> jboolean {
    auto info = sized<rnl_state_info>();
    if (!is_there(env, rnl_model_state(as<rnl_model>(model), size_t(index), &info))) return false;
    const auto& s = info.sizes;
    put(env, texts, {info.name, s[0], s[1], s[2], s[3], s[4], s[5]});
    put(env, numbers, {info.kind, info.dtype, info.rank, info.window});
    return true;
  });
}

struct Lines {
  JNIEnv* env;
  jobject sink;
};
void on_line(void* user, const char* text) {
  const Lines& to = *static_cast<Lines*>(user);
  if (to.env->ExceptionCheck()) return;
  if (jbyteArray line = to_java(to.env, text)) {
    to.env->CallVoidMethod(to.sink, g_ids.on_line, line);
    to.env->DeleteLocalRef(line);
  }
}
void vulkan_devices(JNIEnv* env, jclass, jobject sink) {
  Lines to{env, sink};
  succeeded(env, rnl_vulkan_devices(on_line, &to));
}

}  // namespace

Methods model_methods() {
  static const JNINativeMethod rows[] = {
      method("versions", "()[[B", versions),
      method("engineCreate", "(I)J", engine_create),
      method("engineDestroy", "(J)V", engine_destroy),
      method("engineThreads", "(J)I", engine_threads),
      method("modelOpen", "(J[BZ[B)J", model_open),
      method("modelOpenMemory", "(JLjava/nio/ByteBuffer;)J", model_open_memory),
      method("modelClose", "(J)V", model_close),
      method("modelVerify", "(J)V", model_verify),
      method("modelInfo", "(J[[B[J)V", model_info),
      method("modelProgram", "(JJ[[B[J)Z", model_program),
      method("modelValue", "(J[BZJ[[B[J)Z", model_value),
      method("modelSymbol", "(JJ[[B[J)Z", model_symbol),
      method("modelState", "(JJ[[B[J)Z", model_state),
      method("vulkanDevices", "(Lorg/runnel/Sink;)V", vulkan_devices),
  };
  return {rows, jint(sizeof rows / sizeof *rows)};
}

}  // namespace runnel_jni
