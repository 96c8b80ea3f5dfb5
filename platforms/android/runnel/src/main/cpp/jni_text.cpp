// Text of a model: its tokenizer, its chat format, grammars for its vocabulary.
#include "jni_chat.h"
#ifdef RUNNEL_HAS_JSON_SCHEMA
#include "runnel/json_schema.hpp"
#endif

namespace runnel_jni {
namespace {

// Calls `get(data, capacity, &count)` for the count and then for the elements.
template <class T, class Get>
bool fetch(JNIEnv* env, std::vector<T>* all, Get get) {
  size_t count = 0;
  if (!succeeded(env, get(static_cast<T*>(nullptr), size_t(0), &count))) return false;
  all->resize(count);
  return count == 0 || succeeded(env, get(all->data(), all->size(), &count));
}

jintArray tokenize(JNIEnv* env, jclass, jlong model, jbyteArray text, jint flags) {
  return guarded(env, [&]() -> jintArray {
    const std::string bytes = text_of(env, text);
    std::vector<int32_t> ids;
    const auto get = [&](int32_t* data, size_t capacity, size_t* count) {
      return rnl_tokenize(as<rnl_model>(model), bytes.data(), bytes.size(), uint32_t(flags), data, capacity, count);
    };
    return fetch(env, &ids, get) ? to_java(env, ids) : nullptr;
  });
}

jbyteArray detokenize(JNIEnv* env, jclass, jlong model, jintArray ids, jint flags) {
  return guarded(env, [&]() -> jbyteArray {
    const std::vector<jint> tokens = ints_of(env, ids);
    std::vector<char> text;
    const auto get = [&](char* data, size_t capacity, size_t* count) {
      return rnl_detokenize(as<rnl_model>(model), tokens.data(), tokens.size(), uint32_t(flags), data, capacity, count);
    };
    return fetch(env, &text, get) ? to_java(env, text.data(), text.size()) : nullptr;
  });
}

jbyteArray chat_text(JNIEnv* env, jclass, jlong model, jobjectArray roles, jobjectArray contents, jobjectArray names,
                     jobjectArray texts, jbooleanArray truths, jboolean is_closed, jlong now) {
  return guarded(env, [&]() -> jbyteArray {
    const Conversation chat(env, roles, contents, names, texts, truths, is_closed, now);
    std::vector<char> text;
    const auto get = [&](char* data, size_t capacity, size_t* count) {
      return rnl_chat_text(as<rnl_model>(model), chat.get(), data, capacity, count);
    };
    return fetch(env, &text, get) ? to_java(env, text.data(), text.size()) : nullptr;
  });
}

jintArray chat_ids(JNIEnv* env, jclass, jlong model, jobjectArray roles, jobjectArray contents, jobjectArray names,
                   jobjectArray texts, jbooleanArray truths, jboolean is_closed, jlong now) {
  return guarded(env, [&]() -> jintArray {
    const Conversation chat(env, roles, contents, names, texts, truths, is_closed, now);
    std::vector<int32_t> ids;
    const auto get = [&](int32_t* data, size_t capacity, size_t* count) {
      return rnl_chat_ids(as<rnl_model>(model), chat.get(), data, capacity, count);
    };
    return fetch(env, &ids, get) ? to_java(env, ids) : nullptr;
  });
}

jintArray chat_turn(JNIEnv* env, jclass, jlong model, jbyteArray system, jbyteArray user, jboolean first) {
  return guarded(env, [&]() -> jintArray {
    const std::string rule = text_of(env, system), said = text_of(env, user);
    std::vector<int32_t> ids;
    const auto get = [&](int32_t* data, size_t capacity, size_t* count) {
      return rnl_chat_turn(as<rnl_model>(model), system ? rule.c_str() : nullptr, said.c_str(), first, data, capacity,
                           count);
    };
    return fetch(env, &ids, get) ? to_java(env, ids) : nullptr;
  });
}

jlong grammar_create(JNIEnv* env, jclass, jlong model, jbyteArray text) {
  return guarded(env, [&]() -> jlong {
    const std::string bytes = text_of(env, text);
    rnl_grammar* grammar = nullptr;
    return succeeded(env, rnl_grammar_create(as<rnl_model>(model), bytes.data(), bytes.size(), &grammar))
               ? handle_of(grammar)
               : 0;
  });
}
void grammar_destroy(JNIEnv*, jclass, jlong grammar) { rnl_grammar_destroy(as<rnl_grammar>(grammar)); }

// A grammar's text and then notes, one an element, of a JSON Schema; null when the library was built without its
// reader. An array of one: the schema is refused with that message. Schema null: a grammar of any JSON value.
jobjectArray json_grammar(JNIEnv* env, jclass, jbyteArray schema) {
#ifdef RUNNEL_HAS_JSON_SCHEMA
  return guarded(env, [&]() -> jobjectArray {
    std::string grammar, error;
    std::vector<std::string> notes;
    std::vector<const char*> all;
    if (!schema) {
      grammar = rnl::json_grammar();
      all = {grammar.c_str(), ""};
    } else if (rnl::json_schema_to_grammar(text_of(env, schema), &grammar, &error, &notes)) {
      all = {grammar.c_str(), ""};
      for (const std::string& note : notes) all.push_back(note.c_str());
    } else {
      all = {error.c_str()};
    }
    jobjectArray texts = env->NewObjectArray(jsize(all.size()), g_ids.bytes, nullptr);
    if (texts) put(env, texts, all);
    return texts;
  });
#else
  (void)env, (void)schema;
  return nullptr;
#endif
}

}  // namespace

Methods text_methods() {
  static const JNINativeMethod rows[] = {
      method("tokenize", "(J[BI)[I", tokenize),
      method("detokenize", "(J[II)[B", detokenize),
      method("chatText", "(J[[B[[B[[B[[B[ZZJ)[B", chat_text),
      method("chatIds", "(J[[B[[B[[B[[B[ZZJ)[I", chat_ids),
      method("chatTurn", "(J[B[BZ)[I", chat_turn),
      method("grammarCreate", "(J[B)J", grammar_create),
      method("grammarDestroy", "(J)V", grammar_destroy),
      method("jsonGrammar", "([B)[[B", json_grammar),
  };
  return {rows, jint(sizeof rows / sizeof *rows)};
}

}  // namespace runnel_jni
