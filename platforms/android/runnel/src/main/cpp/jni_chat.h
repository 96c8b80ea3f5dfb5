// A conversation as Kotlin's Native functions take it.
#pragma once

#include "jni_support.h"

namespace runnel_jni {

class Conversation {
 public:
  // A variable without a text (null) is the truth value of the same index.
  Conversation(JNIEnv* env, jobjectArray roles, jobjectArray contents, jobjectArray names, jobjectArray texts,
               jbooleanArray truths, jboolean is_closed, jlong now)
      : roles_(texts_of(env, roles)),
        contents_(texts_of(env, contents)),
        names_(texts_of(env, names)),
        texts_(texts_of(env, texts)) {
    for (size_t i = 0; i < roles_.size(); ++i) messages_.push_back({roles_[i].c_str(), contents_[i].c_str()});
    for (size_t i = 0; i < names_.size(); ++i) {
      jobject text = env->GetObjectArrayElement(texts, jsize(i));
      jboolean truth = false;
      env->GetBooleanArrayRegion(truths, jsize(i), 1, &truth);
      variables_.push_back({names_[i].c_str(), text ? texts_[i].c_str() : nullptr, truth});
      env->DeleteLocalRef(text);
    }
    chat_ = sized<rnl_chat>();
    chat_.messages = messages_.data(), chat_.message_count = messages_.size();
    chat_.variables = variables_.data(), chat_.variable_count = variables_.size();
    chat_.is_closed = is_closed, chat_.now = now;
  }
  Conversation(const Conversation&) = delete;
  const rnl_chat* get() const { return &chat_; }

 private:
  std::vector<std::string> roles_, contents_, names_, texts_;
  std::vector<rnl_chat_message> messages_;
  std::vector<rnl_chat_variable> variables_;
  rnl_chat chat_;
};

}  // namespace runnel_jni
