/* A program that needs the engine, models, sessions, texts, grammars and chats. */
#include <runnel/runnel.h>
#include <stdio.h>

int main(int argc, char** argv) {
  rnl_engine* engine;
  rnl_model* model;
  rnl_session* session;
  rnl_grammar* grammar;
  rnl_chat chat = {sizeof chat};
  if (argc < 2 || rnl_engine_create(0, &engine) || rnl_model_open(engine, argv[1], 0, &model) ||
      rnl_session_create(model, 0, &session) || rnl_grammar_create(model, "root ::= .*", 11, &grammar) ||
      rnl_session_generate(session, 0, 0, 0, 0, 0, 0) || rnl_session_chat(session, &chat, 0, 0, 0, 0))
    return puts(rnl_last_error()), 1;
  return 0;
}
