// Logits of every position by llama.cpp, with float32 caches and one thread, for make_linear_ggufs.py:
//   peer_logits model.gguf ids.i32 logits.f32
#include <cstdio>
#include <vector>

#include "llama.h"

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: peer_logits model.gguf ids.i32 logits.f32\n"), 2;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) return std::fprintf(stderr, "%s does not load\n", argv[1]), 1;
  llama_context_params options = llama_context_default_params();
  options.n_ctx = options.n_batch = options.n_ubatch = 512;
  options.n_threads = options.n_threads_batch = 1;
  options.type_k = options.type_v = GGML_TYPE_F32;
  options.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, options);
  std::vector<int> ids(512);
  std::FILE* in = std::fopen(argv[2], "rb");
  if (!context || !in) return 1;
  ids.resize(std::fread(ids.data(), 4, ids.size(), in));
  std::fclose(in);
  llama_batch batch = llama_batch_init(int(ids.size()), 0, 1);
  batch.n_tokens = int(ids.size());
  for (int i = 0; i < batch.n_tokens; ++i) {
    batch.token[i] = ids[size_t(i)];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  if (llama_decode(context, batch) != 0) return 1;
  const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::FILE* out = std::fopen(argv[3], "wb");
  if (!out) return 1;
  for (int i = 0; i < batch.n_tokens; ++i) std::fwrite(llama_get_logits_ith(context, i), 4, size_t(vocab), out);
  return std::fclose(out) == 0 ? 0 : 1;
}
