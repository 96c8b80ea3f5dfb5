// flash-linear-attention's model classes: logits and greedy continuations of its own kernels
// (tests/goldens/make_tiny_fla.py). Tests are named after the row of the table of systems that they show.
#include "kit.h"

namespace runnel::convert {
namespace {

void expect_golden(const std::string& name) {
  const std::string folder = "tiny_fla_" + name;
  TemporaryFolder tmp;
  convert_to(kGoldens / folder, tmp / "m.rnl");
  const auto model = open_model(tmp / "m.rnl");
  Checkpoint c = load_safetensors(kGoldens / folder / "logits.safetensors");
  const std::vector<float> wanted = values_of(c, "logits");
  std::vector<int32_t> ids = ids_of(kGoldens / folder);
  for (const int64_t chunk : {1, 7, 64, 256})
    EXPECT_LE(largest_difference(all_logits(*model, ids, chunk), wanted), 1e-4f * largest(wanted)) << "chunk " << chunk;

  const std::vector<int32_t> greedy = integers_of(c, "greedy");
  const size_t prompt = size_t(integers_of(c, "greedy_from")[0]);
  ids.resize(prompt);
  ids.insert(ids.end(), greedy.begin(), greedy.end() - 1);
  const std::vector<float> logits = all_logits(*model, ids, 16);
  const size_t vocab = logits.size() / ids.size();
  for (size_t n = 0; n < greedy.size(); ++n) {
    const float* row = logits.data() + (prompt - 1 + n) * vocab;
    EXPECT_EQ(std::max_element(row, row + vocab) - row, greedy[n]) << "token " << n;
  }
}

#define ROW(row, name) \
  TEST(row, Fla_##name) { expect_golden(#name); }
ROW(A4, mamba3)
ROW(A4, mamba3_groups)
ROW(A7, retnet)
ROW(A7, retnet_wide)
ROW(A11, gla)
ROW(A11, gla_clamped)
ROW(A11, hgrn)
ROW(A11, hgrn_conv)
ROW(A11, hgrn2)
ROW(A11, hgrn2_heads)
ROW(A12, delta_net)
ROW(A12, delta_net_sum)
ROW(A12, gated_deltanet)
ROW(A12, gated_deltanet_plain)
ROW(A12, gated_deltaproduct)
ROW(A12, gated_deltaproduct_plain)
ROW(A12, kda)
ROW(A12, kda_bounded)
ROW(A14, linear_attn)
ROW(A14, linear_attn_hedgehog)
ROW(A14, linear_attn_dpfp)
ROW(A14, linear_attn_elu)
ROW(A14, linear_attn_t2r)
ROW(A15, mom)
ROW(A15, mom_shared)
ROW(A16, samba)
ROW(A19, lightnet)
ROW(A19, lightnet_conv)
#undef ROW

}  // namespace
}  // namespace runnel::convert
