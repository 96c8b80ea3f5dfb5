// Any bytes as RWKV's vocabulary file; what is accepted must open and encode.
#include <cstdlib>

#include "converter/text/vocabulary.h"
#include "text/tokenizer.h"

using namespace runnel;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const convert::VocabSource source = convert::from_rwkv_vocab({reinterpret_cast<const char*>(data), size});
    const convert::VocabData tables = convert::build_vocab(source);
    (void)convert::tokenizer_table(source, tables);
  } catch (const std::runtime_error&) {
  }
  return 0;
}
