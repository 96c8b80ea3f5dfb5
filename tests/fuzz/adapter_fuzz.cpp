// Hostile adapters of a sound model: any bytes as a file, and a sound adapter with changed bytes. The seal is made
// right first.
#include <cstring>
#include <vector>

#include "base/xxh64.h"
#include "plan/plan.h"
#include "unit/model_builder.h"

using namespace runnel;

namespace {

test::ModelBuilder sound_model() {
  test::ModelBuilder b = test::attention_model(2, 20);
  b.root.provenance = std::make_unique<format::ProvenanceT>();
  b.root.provenance->source_sha256 = "00";
  return b;
}

// The model's graph; its tensor is the base's, another one is its own.
std::vector<unsigned char> sound_adapter() {
  test::ModelBuilder b = sound_model();
  b.weights.clear();
  b.root.tensors[0]->segment = kBaseSegment;
  b.root.tensors[0]->bytes = b.root.tensors[0]->offset = 0;
  b.add_tensor("own", {6}, {1, 2, 3, 4, 5, 6});
  b.root.features = {"adapter"};
  b.root.segments.clear();
  return b.build();
}

void try_adapter(std::vector<unsigned char> file, size_t header_bytes) {
  static test::AlignedBytes base(sound_model().build());
  Seal seal{file.size(), header_bytes, xxh64(file.data(), header_bytes), {}};
  std::memcpy(seal.magic, kSealMagic, 8);
  std::memcpy(file.data() + file.size() - kSealBytes, &seal, kSealBytes);
  test::AlignedBytes bytes(file);
  auto opened = Model::open_memory(base.data(), base.size());
  if (!opened.is_ok()) __builtin_trap();
  auto model = Model::open_memory(bytes.data(), bytes.size(), std::move(opened.value()));
  if (!model.is_ok()) return;
  PlanOptions options;
  options.context = 256;
  (void)make_plan(*model.value(), options).is_ok();
  (void)model.value()->verify_segments().is_ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<unsigned char> sound = sound_adapter();
  if (size < 16 || size > (1u << 20)) return 0;
  if (data[0] & 1) {
    std::vector<unsigned char> file(size + kSealBytes);
    std::memcpy(file.data(), data, size);
    std::memcpy(file.data() + 4, "RNNL", 4);
    try_adapter(std::move(file), size);
    return 0;
  }
  Seal seal;
  std::memcpy(&seal, sound.data() + sound.size() - kSealBytes, kSealBytes);
  std::vector<unsigned char> file = sound;
  for (size_t i = 1; i + 3 <= size; i += 3)
    file[(size_t(data[i]) << 8 | data[i + 1]) % seal.header_bytes] ^= data[i + 2];
  std::memcpy(file.data() + 4, "RNNL", 4);
  try_adapter(std::move(file), size_t(seal.header_bytes));
  return 0;
}
