// Runnel for C++17: owning handles over runnel.h, header-only, without exceptions. Every call that can fail returns a Status.
#ifndef RUNNEL_RUNNEL_HPP
#define RUNNEL_RUNNEL_HPP

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runnel.h"

namespace rnl {

// A code and the message that belongs to it. Converts to true when the call succeeded.
class [[nodiscard]] Status {
 public:
  Status(rnl_status_code code) : code_(code), message_(code == RNL_OK ? "" : rnl_last_error()) {}  // NOLINT: implicit by design
  explicit operator bool() const { return code_ == RNL_OK; }
  rnl_status_code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  rnl_status_code code_;
  std::string message_;
};

class Engine {
 public:
  // threads 0: the library chooses, see rnl_engine_options.
  Status create(int threads = 0) {
    rnl_engine_options o{};
    o.struct_size = sizeof o;
    o.threads = threads;
    rnl_engine* e = nullptr;
    const rnl_status_code code = rnl_engine_create(&o, &e);
    handle_.reset(e);
    return code;
  }
  rnl_engine* get() const { return handle_.get(); }
  int threads() const { return rnl_engine_threads(handle_.get()); }

 private:
  struct Delete {
    void operator()(rnl_engine* e) const { rnl_engine_destroy(e); }
  };
  std::unique_ptr<rnl_engine, Delete> handle_;
};

class Model {
 public:
  // The engine must outlive the model. copy: read the file into memory instead of mapping it. adapter: a file that adapts this one; empty: none.
  Status open(const Engine& engine, const std::string& path, bool copy = false, const std::string& adapter = "") {
    rnl_model_options o{};
    o.struct_size = sizeof o;
    o.copy = copy;
    o.adapter = adapter.empty() ? nullptr : adapter.c_str();
    rnl_model* m = nullptr;
    const rnl_status_code code = rnl_model_open(engine.get(), path.c_str(), &o, &m);
    handle_.reset(m);
    return code;
  }
  rnl_model* get() const { return handle_.get(); }
  rnl_model_info info() const {
    rnl_model_info i{};
    i.struct_size = sizeof i;
    rnl_model_get_info(handle_.get(), &i);
    return i;
  }
  // What the programs take and give, and what a session keeps; the strings live as long as the model.
  std::vector<rnl_program_info> programs() const {
    return list<rnl_program_info>([&](size_t i, rnl_program_info* p) { return rnl_model_program(get(), i, p); });
  }
  std::vector<rnl_value_info> inputs(const char* program) const {
    return list<rnl_value_info>(
        [&](size_t i, rnl_value_info* v) { return rnl_model_program_input(get(), program, i, v); });
  }
  std::vector<rnl_value_info> outputs(const char* program) const {
    return list<rnl_value_info>(
        [&](size_t i, rnl_value_info* v) { return rnl_model_program_output(get(), program, i, v); });
  }
  std::vector<rnl_symbol_info> symbols() const {
    return list<rnl_symbol_info>([&](size_t i, rnl_symbol_info* s) { return rnl_model_symbol(get(), i, s); });
  }
  std::vector<rnl_state_info> states() const {
    return list<rnl_state_info>([&](size_t i, rnl_state_info* s) { return rnl_model_state(get(), i, s); });
  }
  Status tokenize(const std::string& text, uint32_t flags, std::vector<int32_t>* ids) const {
    size_t count = 0;
    rnl_status_code code = rnl_tokenize(handle_.get(), text.data(), text.size(), flags, nullptr, 0, &count);
    if (code != RNL_OK) return code;
    ids->resize(count);
    return rnl_tokenize(handle_.get(), text.data(), text.size(), flags, ids->data(), ids->size(), &count);
  }
  Status chat_text(const rnl_chat& chat, std::string* text) const {
    size_t size = 0;
    rnl_status_code code = rnl_chat_text(handle_.get(), &chat, nullptr, 0, &size);
    if (code != RNL_OK) return code;
    text->resize(size);
    return rnl_chat_text(handle_.get(), &chat, &(*text)[0], text->size(), &size);
  }
  Status chat_ids(const rnl_chat& chat, std::vector<int32_t>* ids) const {
    size_t count = 0;
    rnl_status_code code = rnl_chat_ids(handle_.get(), &chat, nullptr, 0, &count);
    if (code != RNL_OK) return code;
    ids->resize(count);
    return rnl_chat_ids(handle_.get(), &chat, ids->data(), ids->size(), &count);
  }
  Status detokenize(const std::vector<int32_t>& ids, uint32_t flags, std::string* text) const {
    size_t size = 0;
    rnl_status_code code = rnl_detokenize(handle_.get(), ids.data(), ids.size(), flags, nullptr, 0, &size);
    if (code != RNL_OK) return code;
    text->resize(size);
    return rnl_detokenize(handle_.get(), ids.data(), ids.size(), flags, &(*text)[0], text->size(), &size);
  }

 private:
  struct Delete {
    void operator()(rnl_model* m) const { rnl_model_close(m); }
  };
  template <class Info, class Fn>
  static std::vector<Info> list(Fn get) {
    std::vector<Info> all;
    Info info{};
    info.struct_size = sizeof info;
    while (get(all.size(), &info) == RNL_OK) all.push_back(info);
    return all;
  }
  std::unique_ptr<rnl_model, Delete> handle_;
};

// Role and content.
using Messages = std::vector<std::pair<std::string, std::string>>;

// A conversation for the chat calls: keeps what rnl_chat points at. variables: text, or null for a truth value.
class Chat {
 public:
  Messages messages;
  std::vector<rnl_chat_variable> variables;  // their strings are the caller's
  bool is_closed = false;
  // Valid until the messages change.
  const rnl_chat& get() {
    list_.clear();
    for (const auto& m : messages) list_.push_back({m.first.c_str(), m.second.c_str()});
    chat_ = {};
    chat_.struct_size = sizeof chat_;
    chat_.messages = list_.data();
    chat_.message_count = list_.size();
    chat_.is_closed = is_closed;
    chat_.variables = variables.data();
    chat_.variable_count = variables.size();
    return chat_;
  }

 private:
  std::vector<rnl_chat_message> list_;
  rnl_chat chat_ = {};
};

// A grammar that answers must follow; the model must outlive it. May be shared by threads.
class Grammar {
 public:
  Status create(const Model& model, const std::string& text) {
    rnl_grammar* g = nullptr;
    const rnl_status_code code = rnl_grammar_create(model.get(), text.data(), text.size(), &g);
    handle_.reset(g);
    return code;
  }
  rnl_grammar* get() const { return handle_.get(); }

 private:
  struct Delete {
    void operator()(rnl_grammar* g) const { rnl_grammar_destroy(g); }
  };
  std::unique_ptr<rnl_grammar, Delete> handle_;
};

inline rnl_session_options session_options() {
  rnl_session_options o{};
  o.struct_size = sizeof o;
  return o;
}

class Session {
 public:
  // The model must outlive the session.
  Status create(const Model& model, const rnl_session_options& options) {
    rnl_session* s = nullptr;
    const rnl_status_code code = rnl_session_create(model.get(), &options, &s);
    handle_.reset(s);
    return code;
  }
  rnl_session* get() const { return handle_.get(); }
  rnl_memory memory() const {
    rnl_memory m{};
    m.struct_size = sizeof m;
    rnl_session_get_memory(handle_.get(), &m);
    return m;
  }
  int64_t position() const { return rnl_session_position(handle_.get()); }
  void reset() { rnl_session_reset(handle_.get()); }
  Status recover() { return rnl_session_recover(handle_.get()); }
  Status rollback(int64_t n) { return rnl_session_rollback(handle_.get(), n); }
  Status save(const std::string& path) const { return rnl_session_save(handle_.get(), path.c_str()); }
  Status restore(const std::string& path) { return rnl_session_restore(handle_.get(), path.c_str()); }
  Status snapshot(std::vector<unsigned char>* out) const {
    out->resize(rnl_session_snapshot_bytes(handle_.get()));
    return rnl_session_snapshot(handle_.get(), out->data(), out->size());
  }
  Status restore(const std::vector<unsigned char>& snapshot) { return rnl_session_restore_snapshot(handle_.get(), snapshot.data(), snapshot.size()); }
  Status fork(Session* copy) const {
    rnl_session* s = nullptr;
    const rnl_status_code code = rnl_session_fork(handle_.get(), &s);
    copy->handle_.reset(s);
    return code;
  }
  // Answers a conversation; see rnl_session_chat. The answer's text is appended to `answer`, which may be null.
  Status chat(const rnl_chat& chat, const rnl_generate_options& options, std::string* answer, rnl_chat_result* result = nullptr) {
    const auto append = [](void* user, int32_t, const char* text, size_t size) {
      if (user) static_cast<std::string*>(user)->append(text, size);
      return 0;
    };
    return rnl_session_chat(handle_.get(), &chat, &options, append, answer, result);
  }
  // The same with the answer's text as it comes: token(text, bytes) returns whether to go on.
  template <class Token>
  Status chat_stream(const rnl_chat& chat, const rnl_generate_options& options, Token token, rnl_chat_result* result = nullptr) {
    const auto call = [](void* user, int32_t, const char* text, size_t size) { return int(!(*static_cast<Token*>(user))(text, size)); };
    return rnl_session_chat(handle_.get(), &chat, &options, call, &token, result);
  }
  // The embedding of a text's ids; see rnl_session_embed. options may be null.
  Status embed(const std::vector<int32_t>& ids, std::vector<float>* embedding, size_t width, const rnl_embed_options* options = nullptr) {
    embedding->resize(width);
    return rnl_session_embed(handle_.get(), ids.data(), ids.size(), options, embedding->data(), embedding->size());
  }
  void cancel() { rnl_session_cancel(handle_.get()); }
  void clear_cancel() { rnl_session_clear_cancel(handle_.get()); }
  // Feeds a language model's ids. logits may be null (then the output matrix is skipped); else it receives those of the last token.
  Status feed(const int32_t* ids, size_t count, std::vector<float>* logits, size_t vocabulary) {
    int32_t none = 0;
    rnl_tensor in[2] = {};
    in[0].name = "ids";
    in[0].dtype = RNL_I32;
    in[0].rank = 1;
    in[0].dims[0] = int64_t(count);
    in[0].data = const_cast<int32_t*>(ids);
    in[0].bytes = count * 4;
    in[1].name = "rows";
    in[1].dtype = RNL_I32;
    in[1].rank = 1;
    in[1].data = &none;
    if (!logits) return rnl_session_run(handle_.get(), nullptr, in, 2, nullptr, 0);
    logits->resize(vocabulary);
    rnl_tensor out{};
    out.name = "logits";
    out.data = logits->data();
    out.bytes = vocabulary * 4;
    return rnl_session_run(handle_.get(), nullptr, in, 1, &out, 1);
  }

 private:
  struct Delete {
    void operator()(rnl_session* s) const { rnl_session_destroy(s); }
  };
  std::unique_ptr<rnl_session, Delete> handle_;
};

}  // namespace rnl

#endif
