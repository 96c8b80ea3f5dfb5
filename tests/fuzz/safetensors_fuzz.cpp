// Any bytes as a safetensors file, every value of real numbers decoded.
#include "converter/read/read.h"
#include "converter/weights/encode.h"

using namespace runnel::convert;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Checkpoint c;
  try {
    read_safetensors({data, size}, "input", c);
  } catch (const Error&) {
    return 0;
  }
  for (const SourceTensor& t : c.tensors()) {
    if (!is_float(t.type)) continue;
    try {
      std::vector<float> values(t.count());
      decode_values(t, 0, t.count(), values.data());
    } catch (const Error&) {
    }
  }
  return 0;
}
