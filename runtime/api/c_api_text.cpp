// Text calls of runnel.h: tokenizer, generation, chat turns.
#include <cstring>

#include "api/handles.h"
#include "text/generate.h"
#include "text/tokenizer.h"

using namespace runnel;

namespace {

// Hands `count` elements to a caller who asked for the size first or gave enough room.
template <class T>
Status deliver(const Vec<T>& from, T* to, size_t capacity, size_t* count) {
  *count = from.size();
  if (!to && capacity == 0) return Status::ok();
  RNL_CHECK_ARG(capacity >= from.size(), "room for %zu, %zu are needed", capacity, from.size());
  if (from.size()) std::memcpy(to, from.data(), from.size() * sizeof(T));
  return Status::ok();
}

Status tokenize(const rnl_model* model, const char* text, size_t size, uint32_t flags, Vec<int32_t>* ids) {
  RNL_CHECK_ARG(model && (text || size == 0), "model or text is null");
  RNL_ASSIGN(tokenizer, Tokenizer::of_model(*model->model));
  EncodeOptions o;
  o.special = flags & RNL_TEXT_SPECIAL;
  if (flags & RNL_TEXT_NO_BOS_EOS) o.bos = o.eos = EncodeOptions::Add::kNo;
  EncodeScratch scratch;
  return tokenizer.encode(text, size, o, &scratch, ids);
}

}  // namespace

extern "C" {

rnl_status_code rnl_tokenize(const rnl_model* model, const char* text, size_t size, uint32_t flags, int32_t* ids, size_t capacity, size_t* count) {
  if (!count) return report(Status::make(Code::kInvalidArgument, "count is null"));
  Vec<int32_t> out;
  Status s = tokenize(model, text, size, flags, &out);
  return report(s.is_ok() ? deliver(out, ids, capacity, count) : std::move(s));
}

rnl_status_code rnl_detokenize(const rnl_model* model, const int32_t* ids, size_t count, uint32_t flags, char* buffer, size_t capacity, size_t* size) {
  if (!model || !size || (!ids && count)) return report(Status::make(Code::kInvalidArgument, "model, ids or size is null"));
  auto tokenizer = Tokenizer::of_model(*model->model);
  if (!tokenizer.is_ok()) return report(tokenizer.take_status());
  Vec<char> out;
  Status s = tokenizer.value().decode_all(ids, count, flags & RNL_TEXT_SPECIAL, &out);
  return report(s.is_ok() ? deliver(out, buffer, capacity, size) : std::move(s));
}

rnl_status_code rnl_session_generate(rnl_session* session, const int32_t* ids, size_t count, const rnl_generate_options* options, rnl_token_fn token, void* user,
                                     int64_t* generated) {
  if (!session || (!ids && count)) return report(Status::make(Code::kInvalidArgument, "session or ids is null"));
  const rnl_generate_options given = read_options(options);
  const rnl_sampling s = given.sampling.struct_size ? read_options(&given.sampling) : rnl_sampling{};
  GenerateOptions o;
  o.max_tokens = given.max_tokens;
  o.ignore_end = given.ignore_end != 0;
  o.stop = given.stop;
  o.stop_count = given.stop_count;
  o.sampling = sampling_of(s);
  o.seed = s.seed;
  struct Sink {
    rnl_token_fn fn;
    void* user;
  } sink{token, user};
  int64_t n = 0;
  Status status = generate(
      *session->session, ids, count, o,
      [](void* context, int32_t id, const char* text, size_t size) {
        const Sink& k = *static_cast<Sink*>(context);
        return !k.fn || k.fn(k.user, id, text, size) == 0;
      },
      &sink, &n);
  if (generated) *generated = n;
  return report(std::move(status));
}

rnl_status_code rnl_chat_turn(const rnl_model* model, const char* system, const char* user, int32_t first, int32_t* ids, size_t capacity, size_t* count) {
  if (!model || !user || !count) return report(Status::make(Code::kInvalidArgument, "model, user or count is null"));
  Vec<int32_t> out;
  Status s = chat_turn(*model->model, system, user, first != 0, &out);
  return report(s.is_ok() ? deliver(out, ids, capacity, count) : std::move(s));
}

}  // extern "C"
