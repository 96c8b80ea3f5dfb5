// Answers, token by token.
#include "jni_chat.h"
#include "jni_sink.h"

namespace runnel_jni {
namespace {

// Options as Kotlin's GenerateOptions writes them, and what its callbacks need.
class Answer {
 public:
  Answer(JNIEnv* env, jlongArray numbers, jfloatArray rates, jintArray bias_ids, jfloatArray biases, jobjectArray stops,
         jobject sink)
      : to_{env, sink}, stops_(texts_of(env, stops)) {
    jlong n[8] = {};
    jfloat f[6] = {};
    env->GetLongArrayRegion(numbers, 0, 8, n);
    env->GetFloatArrayRegion(rates, 0, 6, f);
    options_ = sized<rnl_generate_options>();
    options_.max_tokens = n[0], options_.ignore_end = int32_t(n[1]);
    options_.grammar = as<rnl_grammar>(n[2]), options_.grammar_goes_on = int32_t(n[3]);
    options_.logprobs_count = int32_t(n[4]);
    rnl_sampling& s = options_.sampling;
    s = sized<rnl_sampling>();
    s.top_k = int32_t(n[5]), s.penalty_window = int32_t(n[6]), s.seed = uint64_t(n[7]);
    s.temperature = f[0], s.top_p = f[1], s.min_p = f[2];
    s.repetition_penalty = f[3], s.presence_penalty = f[4], s.frequency_penalty = f[5];
    const std::vector<jint> ids = ints_of(env, bias_ids);
    const std::vector<jfloat> values = floats_of(env, biases);
    for (size_t i = 0; i < ids.size(); ++i) biases_.push_back({ids[i], values[i]});
    s.bias = biases_.data(), s.bias_count = biases_.size();
    for (const std::string& stop : stops_) stop_list_.push_back(stop.c_str());
    options_.stop = stop_list_.data(), options_.stop_count = stop_list_.size();
    if (options_.logprobs_count > 0) options_.logprobs = on_logprobs, options_.logprobs_user = this;
  }
  Answer(const Answer&) = delete;
  const rnl_generate_options* options() const { return &options_; }
  SinkOfCall* sink() { return &to_; }

  static int on_token(void* user, int32_t id, const char* text, size_t size) {
    auto& a = *static_cast<Answer*>(user);
    JNIEnv* env = a.to_.env;
    const CallbackFrame frame(env);
    if (!frame.is_open()) return 1;
    jbyteArray bytes = to_java(env, text, size);
    if (!bytes) return 1;
    jintArray best = nullptr;
    jfloatArray best_logprobs = nullptr;
    if (a.options_.logprobs && !a.take_logprobs(&best, &best_logprobs)) return 1;
    return a.to_.answer(
        env->CallBooleanMethod(a.to_.sink, g_ids.on_token, jint(id), bytes, a.chosen_, best, best_logprobs));
  }

 private:
  static constexpr size_t kMostLogprobs = 256;

  // The library calls this before the token's own callback.
  static void on_logprobs(void* user, const rnl_logprobs* token) {
    auto& a = *static_cast<Answer*>(user);
    a.chosen_ = token->chosen.logprob;
    a.best_count_ = token->best_count < kMostLogprobs ? token->best_count : kMostLogprobs;
    for (size_t i = 0; i < a.best_count_; ++i)
      a.best_ids_[i] = token->best[i].id, a.best_logprobs_[i] = token->best[i].logprob;
  }
  bool take_logprobs(jintArray* ids, jfloatArray* logprobs) {
    JNIEnv* env = to_.env;
    const auto n = jsize(best_count_);
    *ids = env->NewIntArray(n);
    *logprobs = *ids ? env->NewFloatArray(n) : nullptr;
    if (!*logprobs) return false;
    env->SetIntArrayRegion(*ids, 0, n, best_ids_);
    env->SetFloatArrayRegion(*logprobs, 0, n, best_logprobs_);
    return true;
  }

  SinkOfCall to_;
  rnl_generate_options options_;
  std::vector<std::string> stops_;
  std::vector<const char*> stop_list_;
  std::vector<rnl_logit_bias> biases_;
  jfloat chosen_ = 0;
  size_t best_count_ = 0;
  jint best_ids_[kMostLogprobs];
  jfloat best_logprobs_[kMostLogprobs];
};

jlong generate(JNIEnv* env, jclass, jlong session, jintArray ids, jlongArray numbers, jfloatArray rates,
               jintArray bias_ids, jfloatArray biases, jobjectArray stops, jobject sink) {
  return guarded(env, [&]() -> jlong {
    Answer answer(env, numbers, rates, bias_ids, biases, stops, sink);
    const std::vector<jint> prompt = ints_of(env, ids);
    const ProgressOfCall progress(as<rnl_session>(session), answer.sink());
    int64_t generated = 0;
    succeeded(env, rnl_session_generate(as<rnl_session>(session), prompt.data(), prompt.size(), answer.options(),
                                        Answer::on_token, &answer, &generated));
    return generated;
  });
}

// kept, dropped, fed and generated.
jlongArray chat(JNIEnv* env, jclass, jlong session, jobjectArray roles, jobjectArray contents, jobjectArray names,
                jobjectArray texts, jbooleanArray truths, jlong now, jlongArray numbers, jfloatArray rates,
                jintArray bias_ids, jfloatArray biases, jobjectArray stops, jobject sink) {
  return guarded(env, [&]() -> jlongArray {
    const Conversation conversation(env, roles, contents, names, texts, truths, false, now);
    Answer answer(env, numbers, rates, bias_ids, biases, stops, sink);
    const ProgressOfCall progress(as<rnl_session>(session), answer.sink());
    auto r = sized<rnl_chat_result>();
    if (!succeeded(env, rnl_session_chat(as<rnl_session>(session), conversation.get(), answer.options(),
                                         Answer::on_token, &answer, &r)))
      return nullptr;
    return longs_to_java(env, {r.kept, r.dropped, r.fed, r.generated});
  });
}

}  // namespace

Methods generate_methods() {
  static const JNINativeMethod rows[] = {
      method("generate", "(J[I[J[F[I[F[[BLorg/runnel/Sink;)J", generate),
      method("chat", "(J[[B[[B[[B[[B[ZJ[J[F[I[F[[BLorg/runnel/Sink;)[J", chat),
  };
  return {rows, jint(sizeof rows / sizeof *rows)};
}

}  // namespace runnel_jni
