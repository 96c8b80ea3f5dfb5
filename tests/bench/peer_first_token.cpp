// Load and first token of llama.cpp in one process: what an app waits for. Prints {"load_ms": …, "first_token_ms": …};
// the second includes the first, the making of a context and the prompt. Linked by versus_llama_cpp.sh against the
// peer's libraries.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "llama.h"

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: peer_first_token MODEL THREADS TOKENS FLASH_ATTENTION(0|1)\n");
    return 2;
  }
  const int threads = std::atoi(argv[2]), tokens = std::atoi(argv[3]);
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const auto begin = std::chrono::steady_clock::now();
  auto since = [&] {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  };
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) return 1;
  const double load = since();
  llama_context_params p = llama_context_default_params();
  p.n_ctx = 1024;
  p.n_batch = 2048;
  p.n_threads = p.n_threads_batch = threads;
  p.flash_attn_type = std::atoi(argv[4]) ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, p);
  if (!context) return 1;
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::vector<llama_token> ids(static_cast<size_t>(tokens));
  for (int i = 0; i < tokens; ++i) ids[size_t(i)] = llama_token((1000003ll * (i + 1)) % vocabulary);
  if (llama_decode(context, llama_batch_get_one(ids.data(), tokens)) != 0) return 1;
  const float* logits = llama_get_logits_ith(context, -1);
  int best = 0;
  for (int i = 1; i < vocabulary; ++i) best = logits[i] > logits[best] ? i : best;
  std::printf("{\"load_ms\": %.3f, \"first_token_ms\": %.3f, \"token\": %d}\n", load, since(), best);
  return 0;
}
