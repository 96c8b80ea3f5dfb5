// Any bytes as a model file. The seal is made right first, so that the fuzzer reaches the verifier and the planner.
#include <cstring>
#include <vector>

#include "base/xxh64.h"
#include "format/model_file.h"
#include "plan/plan.h"

using namespace runnel;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 16 || size > (1u << 20)) return 0;
  std::vector<unsigned char> store(size + kSealBytes + 64);
  auto* file = reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(store.data()) + 63) & ~uintptr_t(63));
  std::memcpy(file, data, size);
  std::memcpy(file + 4, "RNNL", 4);
  Seal seal{size + kSealBytes, size, xxh64(file, size), {}};
  std::memcpy(seal.magic, kSealMagic, 8);
  std::memcpy(file + size, &seal, kSealBytes);
  auto model = Model::open_memory(file, size + kSealBytes);
  if (!model.is_ok()) return 0;
  PlanOptions options;
  options.context = 256;
  (void)make_plan(*model.value(), options).is_ok();
  (void)model.value()->verify_segments().is_ok();
  return 0;
}
