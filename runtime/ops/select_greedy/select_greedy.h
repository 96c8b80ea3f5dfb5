// select_greedy: tokens that are taken one after another, each by what those before it leave.
//
// Every token has a key, at first its score. The token with the highest key is taken (of equal ones the earlier), its
// key becomes -infinity, and the keys of the others change:
//   with `limit` (non-maximum suppression): rows are boxes (y, x, y, x) of two opposite corners; the key of a box whose
//     intersection with the one taken is more than `limit` of their union becomes -infinity. Boxes without an area
//     meet none.
//   without (greedy k-centre, farthest points): the key becomes the squared distance of the row to the one taken, and
//     from the second one taken on the least of its distances.
// It ends when `capacity` tokens are taken, or when no key is above the threshold. A key that is NaN is not taken.
//
// inputs   rows       [batch, n, width] f32
//          scores     [batch, groups, n] f32, optional: absent, all are 0 and groups is 1; groups share the rows
//          limit      [1] f32, optional
//          threshold  [1] f32, optional: absent, -infinity; only the scores are held against it
// outputs  ids        [batch, groups, capacity] i32 in the order in which they were taken, behind them -1
//          keys       [batch, groups, n] f32: the keys at the end; they are the memory in which it works
// attrs    none
// states   none
// tolerance exact, but for distances: sums in another order
// source   ONNX NonMaxSuppression; Gonzalez 1985 (greedy k-centre)
#pragma once

#include "contract/op.h"
