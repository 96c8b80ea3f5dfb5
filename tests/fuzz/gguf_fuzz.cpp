// Any bytes as a GGUF file: read, built by the recipe that it names, its vocabulary turned into tables, every value
// decoded.
#include "converter/read/read.h"
#include "converter/recipes/recipe.h"
#include "converter/text/tokenizer.h"

using namespace runnel::convert;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Checkpoint c;
  try {
    read_gguf({data, size}, "input", c);
  } catch (const Error&) {
    return 0;
  }
  for (const SourceTensor& t : c.tensors()) {
    try {
      std::vector<float> values(t.count());
      decode_values(t, 0, t.count(), values.data());
      const uint64_t columns = t.shape.back(), rows = t.count() / columns;
      const runnel::PackedFormat f = choose_format(t.type, columns, Weights::kKeep);
      std::vector<uint8_t> packed(f.matrix_bytes(int64_t(rows), int64_t(columns)));
      pack_rows(t, f, 0, rows, packed.data());
    } catch (const Error&) {
    }
  }
  try {
    ModelBuilder builder(Weights::kKeep);
    find_recipe(c).build(c, builder);
    add_tokenizer(c, {}, builder);
    c.refuse_unused();
  } catch (const std::runtime_error&) {
  }
  return 0;
}
