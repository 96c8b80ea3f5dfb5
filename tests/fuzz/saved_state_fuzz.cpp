// Any bytes as a saved state of a small model, with the checksum made right in half of the cases.
#include <cstring>
#include <vector>

#include "base/xxh64.h"
#include "session/session.h"
#include "unit/model_builder.h"

using namespace runnel;

namespace {

struct World {
  test::AlignedBytes bytes{test::attention_model(2, 20).build()};
  std::unique_ptr<Model> model;
  std::unique_ptr<Session> session;
  World() {
    model = std::move(Model::open_memory(bytes.data(), bytes.size()).value());
    PlanOptions o;
    o.context = 128;
    o.chunk = 8;
    session = std::move(Session::create(*model, nullptr, o, nullptr, nullptr).value());
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  std::vector<unsigned char> state(world.session->snapshot_bytes());
  world.session->reset();
  if (!world.session->snapshot(state.data(), state.size()).is_ok()) __builtin_trap();
  for (size_t i = 0; i + 2 < size; i += 3) state[(size_t(data[i]) * 256 + data[i + 1]) % state.size()] ^= data[i + 2];
  if (size % 2) state.resize(size * 37 % (state.size() + 100));
  if (state.size() > 8 && size % 4 < 2) {
    const uint64_t sum = xxh64(state.data(), state.size() - 8);
    std::memcpy(state.data() + state.size() - 8, &sum, 8);
  }
  if (world.session->restore(state.data(), state.size()).is_ok()) {
    std::vector<float> x(48 * 3, 0.5f), y(48);
    const IoTensor in{"x", DType::kF32, 2, {3, 48}, x.data(), x.size() * 4};
    IoTensor out{"logits", DType::kF32, 0, {}, y.data(), y.size() * 4};
    (void)world.session->run_into(nullptr, &in, 1, &out, 1).is_ok();
    (void)world.session->rollback(1).is_ok();
  }
  return 0;
}
