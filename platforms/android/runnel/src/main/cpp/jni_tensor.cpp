// Programs on tensors in direct buffers: nothing is copied on the way.
#include <cstring>

#include "jni_sink.h"

namespace runnel_jni {
namespace {

constexpr int kMaxRank = 6;
constexpr jsize kNumbersOfOutput = 3 + kMaxRank;  // dtype, rank, bytes, dims

// Tensors as Kotlin gives them: arrays with an entry for each. Outputs have no dtypes and dims of their own, and no
// buffers where shapes alone are asked for.
class Tensors {
 public:
  Tensors(JNIEnv* env, jobjectArray names, jintArray dtypes, jobjectArray dims, jobjectArray buffers)
      : names_(texts_of(env, names)), list_(names_.size()) {
    const std::vector<jint> types = ints_of(env, dtypes);
    for (size_t i = 0; i < list_.size(); ++i) {
      rnl_tensor& t = list_[i];
      t.name = names_[i].c_str();
      if (dtypes) t.dtype = types[i];
      if (dims) {
        auto array = static_cast<jlongArray>(env->GetObjectArrayElement(dims, jsize(i)));
        const std::vector<jlong> sizes = longs_of(env, array);
        env->DeleteLocalRef(array);
        t.rank = int32_t(sizes.size());  // too many are refused by the library, which then reads none
        std::memcpy(t.dims, sizes.data(), (sizes.size() < kMaxRank ? sizes.size() : kMaxRank) * sizeof(int64_t));
      }
      if (buffers) {
        jobject buffer = env->GetObjectArrayElement(buffers, jsize(i));
        t.data = env->GetDirectBufferAddress(buffer);
        t.bytes = size_t(env->GetDirectBufferCapacity(buffer));
        env->DeleteLocalRef(buffer);
      }
    }
  }
  rnl_tensor* data() { return list_.data(); }
  size_t size() const { return list_.size(); }

  // Writes what the library filled in to a long[kNumbersOfOutput] of each.
  void tell(JNIEnv* env, jobjectArray numbers) const {
    for (size_t i = 0; i < list_.size(); ++i) {
      const rnl_tensor& t = list_[i];
      jlong n[kNumbersOfOutput] = {t.dtype, t.rank, jlong(t.bytes)};
      std::memcpy(n + 3, t.dims, sizeof t.dims);
      auto array = static_cast<jlongArray>(env->GetObjectArrayElement(numbers, jsize(i)));
      env->SetLongArrayRegion(array, 0, kNumbersOfOutput, n);
      env->DeleteLocalRef(array);
    }
  }

 private:
  std::vector<std::string> names_;
  std::vector<rnl_tensor> list_;
};

struct ProgramName {
  ProgramName(JNIEnv* env, jbyteArray bytes) : text(text_of(env, bytes)), name(bytes ? text.c_str() : nullptr) {}
  std::string text;
  const char* name;
};

void session_output_shapes(JNIEnv* env, jclass, jlong session, jbyteArray program, jobjectArray names, jintArray dtypes,
                           jobjectArray dims, jobjectArray buffers, jobjectArray output_names, jboolean all_rows,
                           jobjectArray numbers) {
  guarded(env, [&] {
    const ProgramName p(env, program);
    Tensors in(env, names, dtypes, dims, buffers), out(env, output_names, nullptr, nullptr, nullptr);
    if (succeeded(env, rnl_session_output_shapes(as<rnl_session>(session), p.name, in.data(), in.size(), all_rows,
                                                 out.data(), out.size())))
      out.tell(env, numbers);
  });
}

void session_run(JNIEnv* env, jclass, jlong session, jbyteArray program, jobjectArray names, jintArray dtypes,
                 jobjectArray dims, jobjectArray buffers, jobjectArray output_names, jobjectArray output_buffers,
                 jobjectArray numbers, jobject sink) {
  guarded(env, [&] {
    const ProgramName p(env, program);
    Tensors in(env, names, dtypes, dims, buffers), out(env, output_names, nullptr, nullptr, output_buffers);
    SinkOfCall to{env, sink};
    const ProgressOfCall progress(as<rnl_session>(session), &to);
    if (succeeded(env, rnl_session_run(as<rnl_session>(session), p.name, in.data(), in.size(), out.data(), out.size())))
      out.tell(env, numbers);
  });
}

// The block is the library's memory and valid during the call: Kotlin's side says so to its callers.
int on_block(void* user, const rnl_tensor* tensor, int64_t first_row) {
  const SinkOfCall& to = *static_cast<SinkOfCall*>(user);
  JNIEnv* env = to.env;
  const CallbackFrame frame(env);
  if (!frame.is_open()) return 1;
  jbyteArray name = to_java(env, tensor->name);
  jlongArray dims = env->NewLongArray(tensor->rank);
  if (!name || !dims) return 1;
  jlong sizes[kMaxRank];
  std::memcpy(sizes, tensor->dims, sizeof sizes);
  env->SetLongArrayRegion(dims, 0, tensor->rank, sizes);
  jobject data = env->NewDirectByteBuffer(tensor->data, jlong(tensor->bytes));
  if (!data) return 1;
  return to.answer(
      env->CallBooleanMethod(to.sink, g_ids.on_block, name, jint(tensor->dtype), dims, data, jlong(first_row)));
}

void session_run_blocks(JNIEnv* env, jclass, jlong session, jbyteArray program, jobjectArray names, jintArray dtypes,
                        jobjectArray dims, jobjectArray buffers, jobjectArray output_names, jboolean all_rows,
                        jobject sink) {
  guarded(env, [&] {
    const ProgramName p(env, program);
    Tensors in(env, names, dtypes, dims, buffers);
    const std::vector<std::string> wanted = texts_of(env, output_names);
    std::vector<const char*> list;
    for (const std::string& name : wanted) list.push_back(name.c_str());
    SinkOfCall to{env, sink};
    const ProgressOfCall progress(as<rnl_session>(session), &to);
    succeeded(env, rnl_session_run_named_blocks(as<rnl_session>(session), p.name, in.data(), in.size(), list.data(),
                                                list.size(), all_rows, on_block, &to));
  });
}

jfloatArray session_embed(JNIEnv* env, jclass, jlong session, jintArray ids, jint pooling, jint normalise, jint width,
                          jobject sink) {
  return guarded(env, [&]() -> jfloatArray {
    const std::vector<jint> tokens = ints_of(env, ids);
    auto options = sized<rnl_embed_options>();
    options.pooling = pooling, options.normalise = normalise;
    std::vector<float> embedding(size_t(width) + 1);  // not null, so that the library's own message comes
    SinkOfCall to{env, sink};
    const ProgressOfCall progress(as<rnl_session>(session), &to);
    if (!succeeded(env, rnl_session_embed(as<rnl_session>(session), tokens.data(), tokens.size(), &options,
                                          embedding.data(), size_t(width))))
      return nullptr;
    jfloatArray array = env->NewFloatArray(width);
    if (array) env->SetFloatArrayRegion(array, 0, width, embedding.data());
    return array;
  });
}

}  // namespace

Methods tensor_methods() {
  static const JNINativeMethod rows[] = {
      method("sessionOutputShapes", "(J[B[[B[I[[J[Ljava/nio/ByteBuffer;[[BZ[[J)V", session_output_shapes),
      method("sessionRun", "(J[B[[B[I[[J[Ljava/nio/ByteBuffer;[[B[Ljava/nio/ByteBuffer;[[JLorg/runnel/Sink;)V",
             session_run),
      method("sessionRunBlocks", "(J[B[[B[I[[J[Ljava/nio/ByteBuffer;[[BZLorg/runnel/Sink;)V", session_run_blocks),
      method("sessionEmbed", "(J[IIIILorg/runnel/Sink;)[F", session_embed),
  };
  return {rows, jint(sizeof rows / sizeof *rows)};
}

}  // namespace runnel_jni
