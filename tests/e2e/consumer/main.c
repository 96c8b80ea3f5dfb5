/* The C API as a stranger meets it: version, an engine, a model that is not there. */
#include <runnel/runnel.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  rnl_engine* engine = NULL;
  rnl_model* model = NULL;
  if (rnl_engine_create(NULL, &engine) != RNL_OK) return 1;
  if (rnl_model_open(engine, "/missing.rnl", NULL, &model) == RNL_OK || model != NULL) return 2;
  if (strstr(rnl_last_error(), "missing.rnl") == NULL) return 3;
  rnl_engine_destroy(engine);
  printf("%s\n", rnl_version());
  return 0;
}
