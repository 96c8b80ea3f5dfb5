// Any bytes as a model file. The seal is made right first, so that the fuzzer reaches the verifier and the planner;
// what can be planned runs.
#include <cstring>
#include <vector>

#include "base/xxh64.h"
#include "unit/any_calls.h"

using namespace runnel;
using namespace runnel::test;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 16 || size > (1u << 20)) return 0;
  std::vector<unsigned char> file(size + kSealBytes);
  std::memcpy(file.data(), data, size);
  std::memcpy(file.data() + 4, "RNNL", 4);
  Seal seal{file.size(), size, xxh64(file.data(), size), {}};
  std::memcpy(seal.magic, kSealMagic, 8);
  std::memcpy(file.data() + size, &seal, kSealBytes);
  const OpenModel model(file, 1);
  if (!model) return 0;
  (void)rnl_model_verify(model.get());
  rnl_session_options o{};
  o.context = 64, o.chunk = 8, o.rows = 2, o.rollback_window = 4, o.budget_bytes = 16 << 20;
  Planned p = plan_session(model, o);
  if (!p.session) return 0;
  // Every program once, a call of one token and one of several passes.
  for (uint32_t program = 0; program < model.info().programs().size() && program < 8; ++program)
    for (const int64_t tokens : {1, 19}) {
      AnyCall call;
      call.program = program, call.first = rnl_session_position(p.session.get()), call.tokens = tokens;
      Gathered out;
      (void)run_any(p.session.get(), model, o, call, tokens > 1, &out);
    }
  return 0;
}
