// Images read at places between their pixels, which the graph computes. Each corner around a place is a look-up of a
// row of channels, weighed by how near it is.
#pragma once

#include "converter/onnx/lowering.h"

namespace runnel::convert {

struct Pixels {
  Value rows;   // [images * height * width, channels]
  Value image;  // i32, for each place: that of its image's first row
  int64_t height, width;
};
// Of an image [batch, channels, height, width], whose sides the file knows; image: its number in the batch for each
// place, of a shape that meets the places'.
Pixels pixels_of(Lowering& l, const Value& x, const Value& image);
// row and column: places in pixels, of shapes that meet: the result is theirs with channels behind. is_cut: what lies
// outside the image is 0, else it is what lies nearest in it.
Value at_nearest(Lowering& l, const Pixels& p, const Value& row, const Value& column, bool is_cut);
Value between(Lowering& l, const Pixels& p, const Value& row, const Value& column, bool is_cut);
// v times by, v plus by.
Value times(Lowering& l, const Value& v, float by);
Value plus(Lowering& l, const Value& v, float by);
// 1 where low <= v <= high, else 0.
Value is_within(Lowering& l, const Value& v, float low, float high);
// Rows of channels [..., channels], each times a number of its place.
Value weighed(Lowering& l, const Value& rows, const Value& weight);

}  // namespace runnel::convert
