/* What an app calls to let a model go on with a text: the size of this program is the size that an app pays. */
#include <runnel/runnel.h>
#include <stdio.h>
#include <string.h>

static int print(void* user, int32_t id, const char* text, size_t size) {
  (void)user;
  (void)id;
  fwrite(text, 1, size, stdout);
  return 0;
}

int main(int argc, char** argv) {
  rnl_engine* engine = NULL;
  rnl_model* model = NULL;
  rnl_session* session = NULL;
  int32_t ids[256];
  size_t count = 0;
  rnl_generate_options options = {0};
  options.struct_size = sizeof options;
  options.sampling.struct_size = sizeof options.sampling;
  options.max_tokens = 16;
  if (argc != 3) return 2;
  if (rnl_engine_create(NULL, &engine) != RNL_OK || rnl_model_open(engine, argv[1], NULL, &model) != RNL_OK ||
      rnl_session_create(model, NULL, &session) != RNL_OK || rnl_tokenize(model, argv[2], strlen(argv[2]), 0, ids, 256, &count) != RNL_OK ||
      rnl_session_generate(session, ids, count, &options, print, NULL, NULL) != RNL_OK || rnl_session_save(session, "state") != RNL_OK) {
    fprintf(stderr, "%s\n", rnl_last_error());
    return 1;
  }
  rnl_session_destroy(session);
  rnl_model_close(model);
  rnl_engine_destroy(engine);
  return 0;
}
