// Any bytes as tokenizer.json and, after a zero byte, as tokenizer_config.json.
#include <algorithm>
#include <string_view>

#include "converter/text/vocabulary.h"

using namespace runnel;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t cut = std::min(all.find('\0'), size);
  convert::VocabSource source;
  try {
    source = convert::from_tokenizer_json(all.substr(0, cut));
    const convert::VocabData tables = convert::build_vocab(source);
    (void)convert::tokenizer_table(source, tables);
  } catch (const std::runtime_error&) {
  }
  try {
    convert::apply_tokenizer_config(cut < size ? all.substr(cut + 1) : all, &source);
    (void)convert::compile_chat(source);
  } catch (const std::runtime_error&) {
  }
  return 0;
}
