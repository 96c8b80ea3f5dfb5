// Any text as a config.json: the recipes' reading of it. There are no weights, so every accepted configuration ends at
// a missing tensor.
#include "converter/read/facts.h"
#include "converter/read/read.h"
#include "converter/recipes/recipe.h"

using namespace runnel::convert;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Checkpoint c;
  c.kind = Checkpoint::Kind::kDirectory;
  try {
    c.meta["config"] = parse_json({reinterpret_cast<const char*>(data), size}, "input");
    if (!c.meta["config"].is_object()) return 0;
    leave_out_further_layers(c);
    ModelBuilder builder(Weights::kKeep);
    find_recipe(c).build(c, builder);
  } catch (const Error&) {
  }
  try {
    refuse_unasked(c);
  } catch (const Error&) {
  }
  return 0;
}
