// What detectors with queries share: rows of an image's tokens by their numbers, and attention that reads images of
// several sizes at places that each query computes.
#pragma once

#include "converter/recipes/vision.h"

namespace runnel::convert {

// x [n, width], ids [k] i32 of each image: [k, width].
Var rows_by_id(VisionNet& net, const Var& x, const Var& ids);
// "{name}.layers.0" to "{name}.layers.{count - 1}" with relu between.
Var relu_layers(VisionNet& net, const std::string& name, int64_t count, Var x);

struct Level {
  int64_t rows = 0, columns = 0;
};

// Each head of a query looks at `points` places of each level, whose distances from the middle of its box are parts of
// the box times `reach`.
struct Deformable {
  std::vector<Level> levels;
  int64_t heads = 0;
  std::vector<int64_t> points;  // of each level
  double reach = 0.5;           // over the level's number of points
  bool is_nearest = false;      // the place's own token, else four around it; beyond the image: the nearest, else zeros
};
// queries [q, width], memory [n, width]: tokens of all levels one behind the other; boxes [q, 4]: middle across and
// down, width, height, as parts of the image. By "{prefix}sampling_offsets" and "attention_weights". Gives [q, width].
Var deformable_attention(VisionNet& net, const Deformable& attention, const std::string& prefix, const Var& queries,
                         const Var& memory, const Var& boxes);

}  // namespace runnel::convert
