// Any bytes as a SentencePiece model; what is accepted must open and encode.
#include <cstdlib>

#include "converter/text/vocabulary.h"
#include "text/tokenizer.h"

using namespace runnel;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const convert::VocabSource source = convert::from_spm_proto({reinterpret_cast<const char*>(data), size});
    const convert::VocabData tables = convert::build_vocab(source);
    (void)convert::tokenizer_table(source, tables);
    (void)convert::compile_chat(source);
  } catch (const std::runtime_error&) {
  }
  return 0;
}
