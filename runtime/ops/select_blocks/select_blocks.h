// select_blocks: which keys matter to each few queries, as ranges for sparse_attention.
//
// The queries at positions m Q .. m Q + Q - 1 share a list, Q = queries (0: block). Keys are cut into units of
// B = block positions; list m chooses among the units 0 .. U - 1, U = ceil((m + 1) Q / B). Kept whatever the estimate
// says are the first `first` units and those from the unit of position m Q on. Of the list's queries, those of the
// call are sampled: from the last one back every stride-th, `rows` of them at most (0: all); I are the sampled ones.
// Keys behind the call's end count as 0 in antidiagonals and do not exist elsewhere. With g = h / (heads / kv_heads)
// and s(q, k) = scale q . k an estimate says for head h how important[u] each unit is:
//   antidiagonal  Q = B a multiple of S = stride; rows r and columns c of S positions each, all of the list's queries,
//                 those that are not of the call as 0:
//                   score[r, c] = scale / S * sum_{x < S} q[r S + S - 1 - x, h] . k[c S + x, g],   c <= r
//                   important[u] = sum over the rows r of the list and the columns c of u of softmax_c(score[r, .])
//   lines         p[i, j] = softmax over j <= i of s(q_i, k_j);  important[u] = sum_{i in I, j in u} p[i, j], and of
//                 lines along the diagonal line[x] = sum over i in I and j with floor((i - j) / B) = x of p[i, j]. Both
//                 are chosen from; line x stands for the units that hold keys j of its for any query of the list
//   pooled        score[u] = s(mean of I, mean of the keys of u); important = score, or its softmax with `share`
//   flexible      pooled where sqrt(JS) < divergence, else lines. JS is the Jensen-Shannon divergence (natural
//                 logarithm) of the softmax of pooled scores and the important[u] / |I| of lines
//   anchor        important[u] = max_{j in u} s(mean of I, k_j) - mean_{i in I} max over kept units' j <= i of
//                 s(q_i, k_j)
//   quantised     important[u] = max_{i in I} (max_{j in u, j <= i} s[i, j] - max over kept units' j <= i of s[i, j])
//                 with s of queries and keys rounded to a / 7 * {-7 .. 7}, a being the row's largest magnitude
//   chunks        units join into chunks: a chunk begins with unit 0, where the cosine of a unit's mean key and the
//                 mean key of the unit before is below `similarity`, and after `chunk` units. Of chunk c with its n
//                 keys in units below U: score[c] = s(sum of I / sqrt |I|, sum of its keys / sqrt n); important[u] is
//                 that of its chunk, or with `share` the softmax over units
//   tree          nodes are runs of units, at first one of all. Each round cuts every node of several units in halves
//                 (the left one is the longer) and leaves the `count` nodes of the largest
//                 max_{i in I} s(q_i, k at the node's middle: begin B + floor(units B / 2), or the last key there is),
//                 until all are single units; important is 1 for what is left, 0 elsewhere
// Then a choice takes the kept units and of the others, most important first:
//   share         until all chosen ones hold `threshold` of the sum of important; `count` > 0: count in all at most
//   top           until count are chosen in all (0: the kept ones alone)
//   difference    those that are not below -threshold; `count` > 0: count in all at most
// Of lines `lines` takes the place of count, and none are kept. Of equal importance the earlier unit or line comes
// first; what is not a number comes before all others.
//
// inputs   q        [tokens, heads, key] f32, heads a multiple of kv_heads
//          k        [tokens, kv_heads, key] f32
//          k_state  [kv_heads, slots / 16, key, 16] f32, f16 or q8 (format/states.h), optional: the stream's keys
//          before
//                   the call, of kind append; it is not written
// outputs  ranges   [heads, lists, n, 3] i32: begin, end, step 1; list l is for position's m + l, m that of the call's
//                   first token. Ranges ascend and do not touch; unused ones are empty. Where there are more than n,
//                   the last one reaches to the end of unit U - 1
// attrs    scale, threshold, similarity, divergence finite; block, stride, chunk >= 1; share with antidiagonal, lines,
//          pooled, flexible, chunks; difference with anchor, quantised; top with all; tree with top alone;
//          least: a call of fewer tokens gets all keys, one range for each list
//
// tolerance the choice is by estimates in f32: units whose importance differs by less than 1e-5 of the whole may change
//           places. Where a call ends decides which queries and keys the lists of its first and last tokens see:
//           calls cut at multiples of Q choose alike
// source   antidiagonal: XAttention (Xu et al. 2025); lines: MInference (Jiang et al. 2024); flexible: FlexPrefill
//          (Lai et al. 2025); anchor: AnchorAttention (Zhang et al. 2025); quantised: SALE (Ji et al. 2025); pooled:
//          MoBA (Lu et al. 2025), with one query a list as there; chunks: DHSA (Xiong et al. 2025), whose trained cut
//          of chunks is the cosine here; tree: HiP (Lee et al. 2024)
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers as in format::KeyEstimate and format::KeyChoice.
enum class KeyEstimate : uint8_t { kAntidiagonal, kLines, kPooled, kFlexible, kAnchor, kQuantised, kChunks, kTree };
enum class KeyChoice : uint8_t { kShare, kTop, kDifference };

struct SelectBlocksParams {
  float scale, threshold;
  uint32_t block, stride, first, least;
  KeyEstimate estimate = KeyEstimate::kAntidiagonal;
  KeyChoice choice = KeyChoice::kShare;
  uint32_t queries = 0, rows = 0, count = 0, lines = 0, chunk = 1;
  float similarity = 0, divergence = 0;
};

// Of a call: where it begins, its tokens, positions that share a list, the number of its first list, and how many lists
// it reaches into.
struct SelectBlocksSizes {
  int64_t position, tokens, queries, first_list, lists;
};
SelectBlocksSizes select_blocks_sizes(const OpCall& call);
void select_blocks_reference(const OpCall& call);

// One list: its units, the first of the kept ones behind `first`, and its sampled queries: last, last - stride, ...
struct ListSizes {
  int64_t units, kept_from, last, samples;
};
ListSizes list_sizes(const SelectBlocksParams& params, const SelectBlocksSizes& sizes, int64_t list);

// Marks in `chosen` what the choice takes of units (or lines: is_line); `order` is memory of that many integers.
void choose_units(const SelectBlocksParams& params, const ListSizes& list, const float* importance, bool is_line,
                  int32_t* order, uint8_t* chosen);
// Marks the units of the chosen lines of list m.
void add_lines(const SelectBlocksParams& params, const SelectBlocksSizes& sizes, const ListSizes& list, int64_t m,
               const uint8_t* chosen_lines, uint8_t* chosen);
// In place.
void softmax_of(float* scores, int64_t n);
// Whether pooled scores (a softmax of n units) are close to what queries see: `seen` of `samples` queries.
bool is_close(const SelectBlocksParams& params, const float* pooled, const float* seen, int64_t n, int64_t samples);
// Scores of n units from the products of a query with the sums of their keys, `end` keys in all: over the mean key, or
// of the unit's chunk; begins[u]: a chunk begins.
void pool_scores(const SelectBlocksParams& params, const uint8_t* begins, int64_t end, float* scores, int64_t n);
// Where chunks begin, from the cosine of each unit and the one before.
void cut_chunks(const SelectBlocksParams& params, const float* cosines, int64_t n, uint8_t* begins);
// Nodes of a tree: pairs of first unit and units.
struct Nodes {
  int32_t* at;  // room for 2 pairs a unit
  int64_t count;
};
// Cuts nodes in halves; false when all were single units.
bool split_nodes(Nodes* nodes);
// Leaves the best `most` nodes in their order; `order` is memory of as many integers as there are nodes.
void keep_nodes(Nodes* nodes, const float* scores, int64_t most, int32_t* order);
int64_t middle_of(const SelectBlocksParams& params, const Nodes& nodes, int64_t node, int64_t last);
// The ranges of one list from its marks; chosen null: all of `units` units.
void write_ranges(const SelectBlocksParams& params, const uint8_t* chosen, int64_t units, int32_t* ranges, int64_t n);

}  // namespace runnel
