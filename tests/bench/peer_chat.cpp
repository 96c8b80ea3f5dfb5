// Greedy answers of llama.cpp for chat_agreement.py: peer_chat model.gguf prompts.txt tokens logits.f32
// prompts.txt: a rendered conversation a line, in hexadecimal. Prints for each the prompt's ids, a bar and the answer's
// ids (an end token is the last); logits.f32 gets the logits that each of these was chosen from.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "llama.h"

int main(int argc, char** argv) {
  if (argc != 5) return std::fprintf(stderr, "usage: peer_chat model.gguf prompts.txt tokens logits.f32\n"), 2;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) return std::fprintf(stderr, "%s does not load\n", argv[1]), 1;
  const llama_vocab* vocab = llama_model_get_vocab(model);
  llama_context_params options = llama_context_default_params();
  options.n_ctx = options.n_batch = 2048;
  options.n_threads = options.n_threads_batch = 1;
  llama_context* context = llama_init_from_model(model, options);
  std::ifstream in(argv[2]);
  std::FILE* out = std::fopen(argv[4], "wb");
  if (!context || !in || !out) return std::fprintf(stderr, "cannot open\n"), 1;
  const int count = llama_vocab_n_tokens(vocab);
  for (std::string hex; std::getline(in, hex);) {
    std::string text;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) text += char(std::stoi(hex.substr(i, 2), nullptr, 16));
    std::vector<llama_token> ids(text.size() + 8);
    const int n = llama_tokenize(vocab, text.data(), int(text.size()), ids.data(), int(ids.size()), false, true);
    if (n < 0) return 1;
    ids.resize(size_t(n));
    for (const llama_token id : ids) std::printf("%d ", id);
    std::printf("|");
    llama_memory_clear(llama_get_memory(context), true);
    std::vector<llama_token> next = ids;
    for (int step = 0; step < std::atoi(argv[3]); ++step) {
      if (llama_decode(context, llama_batch_get_one(next.data(), int(next.size()))) != 0) return 1;
      const float* logits = llama_get_logits_ith(context, -1);
      std::fwrite(logits, sizeof(float), size_t(count), out);
      const llama_token best = llama_token(std::max_element(logits, logits + count) - logits);
      std::printf(" %d", best);
      if (llama_vocab_is_eog(vocab, best)) break;
      next = {best};
    }
    std::printf("\n");
  }
  return std::fclose(out) == 0 ? 0 : 1;
}
