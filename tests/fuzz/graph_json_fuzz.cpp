// Any text as a graph in JSON.
#include "converter/recipes/graph_json.h"

using namespace runnel::convert;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    ModelBuilder builder(Weights::kKeep);
    read_graph_json(std::string(reinterpret_cast<const char*>(data), size), "input", builder);
    Checkpoint empty;
    add_graph_tensors(empty, builder);
  } catch (const Error&) {
  }
  return 0;
}
