// Sessions: their memory, and their stream as a value.
#include "jni_support.h"

namespace runnel_jni {

rnl_session_options session_options(JNIEnv* env, jlongArray numbers) {
  jlong n[8] = {};
  env->GetLongArrayRegion(numbers, 0, 8, n);
  auto o = sized<rnl_session_options>();
  o.context = n[0], o.chunk = n[1], o.rows = n[2], o.rollback_window = n[3];
  o.kv = int32_t(n[4]), o.budget_bytes = uint64_t(n[5]), o.backend = int32_t(n[6]), o.snapshot_every = n[7];
  return o;
}

namespace {

std::vector<jlong> numbers_of(const rnl_memory& m) {
  return {jlong(m.weights),   jlong(m.state), jlong(m.arena),    jlong(m.packed),
          jlong(m.tokenizer), jlong(m.fixed), jlong(m.anonymous)};
}

jlongArray session_plan(JNIEnv* env, jclass, jlong model, jlongArray options) {
  return guarded(env, [&]() -> jlongArray {
    const rnl_session_options o = session_options(env, options);
    auto memory = sized<rnl_memory>();
    if (!succeeded(env, rnl_session_plan(as<rnl_model>(model), &o, &memory))) return nullptr;
    return longs_to_java(env, numbers_of(memory));
  });
}

jlong session_create(JNIEnv* env, jclass, jlong model, jlongArray options) {
  const rnl_session_options o = session_options(env, options);
  rnl_session* session = nullptr;
  return succeeded(env, rnl_session_create(as<rnl_model>(model), &o, &session)) ? handle_of(session) : 0;
}
void session_destroy(JNIEnv*, jclass, jlong session) { rnl_session_destroy(as<rnl_session>(session)); }

jlongArray session_memory(JNIEnv* env, jclass, jlong session) {
  return guarded(env, [&]() -> jlongArray {
    auto memory = sized<rnl_memory>();
    if (!succeeded(env, rnl_session_get_memory(as<rnl_session>(session), &memory))) return nullptr;
    return longs_to_java(env, numbers_of(memory));
  });
}

jbyteArray session_backend(JNIEnv* env, jclass, jlong session, jlongArray numbers) {
  return guarded(env, [&]() -> jbyteArray {
    auto b = sized<rnl_backend_info>();
    rnl_session_get_backend(as<rnl_session>(session), &b);
    std::vector<jlong> all;
    for (const uint64_t n : {b.device_bytes, b.submissions, b.recordings, b.cpu_operators, b.copied_bytes, b.driver_ns,
                             b.pipeline_ns, b.pipelines, b.pipelines_cached, b.imported_bytes})
      all.push_back(jlong(n));
    put(env, numbers, all);
    return to_java(env, b.device);
  });
}

void session_recover(JNIEnv* env, jclass, jlong session) {
  succeeded(env, rnl_session_recover(as<rnl_session>(session)));
}
void session_trim(JNIEnv* env, jclass, jlong session) { succeeded(env, rnl_session_trim(as<rnl_session>(session))); }
void session_set_top_logits(JNIEnv*, jclass, jlong session, jint k) {
  rnl_session_set_top_logits(as<rnl_session>(session), k);
}
jlong session_position(JNIEnv*, jclass, jlong session) { return rnl_session_position(as<rnl_session>(session)); }
void session_reset(JNIEnv*, jclass, jlong session) { rnl_session_reset(as<rnl_session>(session)); }
void session_rollback(JNIEnv* env, jclass, jlong session, jlong n) {
  succeeded(env, rnl_session_rollback(as<rnl_session>(session), n));
}
jlong session_snapshot_bytes(JNIEnv*, jclass, jlong session) {
  return jlong(rnl_session_snapshot_bytes(as<rnl_session>(session)));
}
void session_snapshot(JNIEnv* env, jclass, jlong session, jobject buffer) {
  succeeded(env, rnl_session_snapshot(as<rnl_session>(session), env->GetDirectBufferAddress(buffer),
                                      size_t(env->GetDirectBufferCapacity(buffer))));
}
void session_restore_snapshot(JNIEnv* env, jclass, jlong session, jobject buffer) {
  succeeded(env, rnl_session_restore_snapshot(as<rnl_session>(session), env->GetDirectBufferAddress(buffer),
                                              size_t(env->GetDirectBufferCapacity(buffer))));
}
void session_save(JNIEnv* env, jclass, jlong session, jbyteArray path) {
  guarded(env, [&] { succeeded(env, rnl_session_save(as<rnl_session>(session), text_of(env, path).c_str())); });
}
void session_restore(JNIEnv* env, jclass, jlong session, jbyteArray path) {
  guarded(env, [&] { succeeded(env, rnl_session_restore(as<rnl_session>(session), text_of(env, path).c_str())); });
}

// The options in the order of session_options(), and the position.
jlongArray saved_options(JNIEnv* env, jclass, jbyteArray path) {
  return guarded(env, [&]() -> jlongArray {
    auto o = sized<rnl_session_options>();
    int64_t position = 0;
    if (!succeeded(env, rnl_saved_options(text_of(env, path).c_str(), &o, &position))) return nullptr;
    return longs_to_java(env, {o.context, o.chunk, o.rows, o.rollback_window, o.kv, jlong(o.budget_bytes), o.backend,
                               o.snapshot_every, position});
  });
}

jlong session_fork(JNIEnv* env, jclass, jlong session) {
  rnl_session* copy = nullptr;
  return succeeded(env, rnl_session_fork(as<rnl_session>(session), &copy)) ? handle_of(copy) : 0;
}
void session_cancel(JNIEnv*, jclass, jlong session) { rnl_session_cancel(as<rnl_session>(session)); }
void session_clear_cancel(JNIEnv*, jclass, jlong session) { rnl_session_clear_cancel(as<rnl_session>(session)); }

jlongArray session_stats(JNIEnv* env, jclass, jlong session) {
  return guarded(env, [&] {
    auto s = sized<rnl_stats>();
    rnl_session_stats(as<rnl_session>(session), &s);
    return longs_to_java(env, {s.position, jlong(s.tokens), jlong(s.passes), jlong(s.nanoseconds)});
  });
}

}  // namespace

Methods session_methods() {
  static const JNINativeMethod rows[] = {
      method("sessionPlan", "(J[J)[J", session_plan),
      method("sessionCreate", "(J[J)J", session_create),
      method("sessionDestroy", "(J)V", session_destroy),
      method("sessionMemory", "(J)[J", session_memory),
      method("sessionBackend", "(J[J)[B", session_backend),
      method("sessionRecover", "(J)V", session_recover),
      method("sessionTrim", "(J)V", session_trim),
      method("sessionSetTopLogits", "(JI)V", session_set_top_logits),
      method("sessionPosition", "(J)J", session_position),
      method("sessionReset", "(J)V", session_reset),
      method("sessionRollback", "(JJ)V", session_rollback),
      method("sessionSnapshotBytes", "(J)J", session_snapshot_bytes),
      method("sessionSnapshot", "(JLjava/nio/ByteBuffer;)V", session_snapshot),
      method("sessionRestoreSnapshot", "(JLjava/nio/ByteBuffer;)V", session_restore_snapshot),
      method("sessionSave", "(J[B)V", session_save),
      method("sessionRestore", "(J[B)V", session_restore),
      method("savedOptions", "([B)[J", saved_options),
      method("sessionFork", "(J)J", session_fork),
      method("sessionCancel", "(J)V", session_cancel),
      method("sessionClearCancel", "(J)V", session_clear_cancel),
      method("sessionStats", "(J)[J", session_stats),
  };
  return {rows, jint(sizeof rows / sizeof *rows)};
}

}  // namespace runnel_jni
