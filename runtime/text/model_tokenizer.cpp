// The tokenizer of a model file: its tables are tensors, its ids and flags fields of the flatbuffer.
#include <cstring>

#include "format/model_file.h"
#include "text/tokenizer.h"

namespace runnel {
namespace {

template <class T>
constexpr DType kTypeOf = DType::kU8;
template <>
constexpr DType kTypeOf<int32_t> = DType::kI32;
template <>
constexpr DType kTypeOf<float> = DType::kF32;

template <class T>
Status table(const Model& model, const flatbuffers::String* name, const char* what, bool is_needed, const T** data,
             size_t* size) {
  if (!is_needed && (!name || name->size() == 0)) return Status::ok();
  const TensorInfo* t = name ? model.find_tensor(name->c_str()) : nullptr;
  if (!t) return Status::make(Code::kInvalidModel, "tokenizer: its table %s is missing", what);
  if (t->view.dtype != kTypeOf<T> || t->view.rank != 1)
    return Status::make(Code::kInvalidModel, "tokenizer: table %s must be a vector of %s", what,
                        dtype_name(kTypeOf<T>));
  *data = static_cast<const T*>(t->view.data);
  *size = size_t(t->view.dims[0]);
  return Status::ok();
}

template <class T>
void list(const flatbuffers::Vector<T>* from, const T** data, size_t* size) {
  if (from) *data = from->data(), *size = from->size();
}

}  // namespace

Status vocab_of_model(const Model& model, Vocab* out) {
  const format::Tokenizer* f = model.root().tokenizer();
  if (!f) return Status::make(Code::kNotFound, "this model has no tokenizer");
  VocabTables t;
  const auto kind = TokenizerKind(f->kind());
#define RNL_VOCAB_VALUE(name) t.name = decltype(t.name)(f->name());
#define RNL_VOCAB_LIST(name, holder) list(f->name(), &t.name, &t.name##_size);
#define RNL_VOCAB_TABLE(name, view, view_size, segment, is_needed) \
  RNL_TRY(table(model, f->name(), #name, is_needed, &t.view, &t.view_size));
#include "text/vocab_fields.inc"
  return vocab_open(t, out);
}

Result<Tokenizer> Tokenizer::of_model(const Model& model) {
  Vocab vocab;
  RNL_TRY(vocab_of_model(model, &vocab));
  return Tokenizer(vocab);
}

Status tokenizer_self_check(const Model& model) {
  RNL_ASSIGN(tokenizer, Tokenizer::of_model(model));
  const auto* checks = model.root().tokenizer()->checks();
  EncodeScratch scratch;
  EncodeOptions options;
  options.bos = options.eos = EncodeOptions::Add::kNo;
  for (uint32_t i = 0; checks && i < checks->size(); ++i) {
    const auto* bytes = checks->Get(i)->bytes();
    const auto* want = checks->Get(i)->ids();
    Vec<int32_t> ids;
    RNL_TRY(tokenizer.encode(bytes ? reinterpret_cast<const char*>(bytes->data()) : "", bytes ? bytes->size() : 0,
                             options, &scratch, &ids));
    const size_t count = want ? want->size() : 0;
    if (ids.size() != count || (count && std::memcmp(ids.data(), want->data(), count * sizeof(int32_t)) != 0))
      return Status::make(Code::kInvalidModel, "tokenizer: check vector %u gives other ids than the converter recorded",
                          i);
  }
  return Status::ok();
}

}  // namespace runnel
