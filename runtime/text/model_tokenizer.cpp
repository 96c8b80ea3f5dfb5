// The tokenizer of a model file: its tables are tensors, its ids and flags fields of the flatbuffer.
#include <cstring>

#include "format/model_file.h"
#include "text/tokenizer.h"

namespace runnel {
namespace {

template <class T>
Status table(const Model& model, const flatbuffers::String* name, const char* what, DType dtype, const T** data, size_t* size) {
  const TensorInfo* t = name ? model.find_tensor(name->c_str()) : nullptr;
  if (!t) return Status::make(Code::kInvalidModel, "tokenizer: its table %s is missing", what);
  if (t->view.dtype != dtype || t->view.rank != 1)
    return Status::make(Code::kInvalidModel, "tokenizer: table %s must be a vector of %s", what, dtype_name(dtype));
  *data = static_cast<const T*>(t->view.data);
  *size = size_t(t->view.dims[0]);
  return Status::ok();
}

// A table that a vocabulary may lack.
template <class T>
Status optional_table(const Model& model, const flatbuffers::String* name, const char* what, DType dtype, const T** data, size_t* size) {
  return name && name->size() ? table(model, name, what, dtype, data, size) : Status::ok();
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
  t.kind = TokenizerKind(f->kind());
  RNL_TRY(table(model, f->pieces(), "pieces", DType::kU8, &t.pieces, &t.pieces_size));
  RNL_TRY(table(model, f->piece_offsets(), "piece_offsets", DType::kI32, &t.offsets, &t.offsets_size));
  if (has_pipeline(t.kind)) RNL_TRY(optional_table(model, f->scores(), "scores", DType::kF32, &t.scores, &t.scores_size));
  else RNL_TRY(table(model, f->scores(), "scores", DType::kF32, &t.scores, &t.scores_size));
  RNL_TRY(table(model, f->types(), "types", DType::kU8, &t.types, &t.types_size));
  RNL_TRY(table(model, f->index(), "index", DType::kU8, &t.index, &t.index_size));
  t.bos = f->bos();
  t.eos = f->eos();
  t.unk = f->unk();
  t.add_bos = f->add_bos();
  t.add_eos = f->add_eos();
  t.add_space_prefix = f->add_space_prefix();
  t.byte_fallback = f->byte_fallback();
  list(f->end_of_turn(), &t.end_of_turn, &t.end_of_turn_size);
  RNL_TRY(optional_table(model, f->pre_tokenizer(), "pre_tokenizer", DType::kU8, &t.pre_tokenizer, &t.pre_tokenizer_size));
  RNL_TRY(optional_table(model, f->merges(), "merges", DType::kU8, &t.merge_table, &t.merge_table_size));
  list(f->added(), &t.added, &t.added_size);
  list(f->added_flags(), &t.added_flags, &t.added_flags_size);
  list(f->prefix(), &t.prefix, &t.prefix_size);
  list(f->suffix(), &t.suffix, &t.suffix_size);
  RNL_TRY(optional_table(model, f->normalizer(), "normalizer", DType::kU8, &t.normalizer, &t.normalizer_size));
  RNL_TRY(optional_table(model, f->piece_trie(), "piece_trie", DType::kU8, &t.piece_trie_table, &t.piece_trie_size));
  t.first_space = FirstSpace(f->first_space());
  t.clean_up = f->clean_up();
  t.char_units = f->char_units();
  t.fuse_unknown = f->fuse_unknown();
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
    RNL_TRY(tokenizer.encode(bytes ? reinterpret_cast<const char*>(bytes->data()) : "", bytes ? bytes->size() : 0, options, &scratch, &ids));
    const size_t count = want ? want->size() : 0;
    if (ids.size() != count || (count && std::memcmp(ids.data(), want->data(), count * sizeof(int32_t)) != 0))
      return Status::make(Code::kInvalidModel, "tokenizer: check vector %u gives other ids than the converter recorded", i);
  }
  return Status::ok();
}

}  // namespace runnel
