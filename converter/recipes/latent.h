// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads come from one short row.
#pragma once

#include "converter/read/facts.h"
#include "converter/recipes/net.h"

namespace runnel::convert {

struct Latent {
  int64_t heads = 0;
  int64_t q_rank = 0, kv_rank = 0;  // width of the row that queries, and keys and values, come from; q_rank 0: queries
                                    // come from x
  int64_t still = 0, turning = 0, value = 0;  // channels of a head: of queries and keys without and with positions, of
                                              // values
  double scale = 0, eps = 1e-6;
  std::string rope;  // name of the frequencies' tensor; empty: no channel turns
  bool is_interleaved = false;
  float rope_scale = 1;
};
// Sizes by config.json's keys; scale is that of their width.
Latent read_latent(const Facts& facts);
// Keys and values are unfolded from the row; the channels that turn are the same in the keys of all heads.
Var latent_attention(Net& net, const Latent& latent, const Var& x);

}  // namespace runnel::convert
