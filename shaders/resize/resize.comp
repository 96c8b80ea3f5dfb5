#version 450
#extension GL_GOOGLE_include_directive : require
#include "../common/common.glsl"

layout(constant_id = 0) const uint kMode = 0;      // nearest, linear, cubic
layout(constant_id = 1) const uint kPlace = 0;     // half_pixel, its symmetric form, PyTorch's, align_corners, asymmetric, half pixels without shift, crop
layout(constant_id = 2) const uint kRounding = 0;  // to the nearest, halves down or up; down; up
layout(constant_id = 3) const bool kAntialias = false;
layout(constant_id = 4) const bool kExclude = false;
layout(push_constant) uniform Push {
  uint n, x, y, channels;
  int from_rows, from_columns, to_rows, to_columns;
  float scale_rows, scale_columns, begin_rows, begin_columns, end_rows, end_columns, cubic, outside;
} p;

struct Axis { int from, to; float scale, begin, end; };
// Places from low to high meet the sum, divided by `sum`. Nearest: one of them.
struct Taps { int low, high; float at, reach, sum; };

float place_of(Axis a, int j) {
  const float at = float(j), size = float(a.from);
  if (a.scale == 1.0 && a.from == a.to && kPlace != 6u) return at;
  if (kPlace == 0u || (kPlace == 2u && a.to > 1)) return (at + 0.5) / a.scale - 0.5;
  if (kPlace == 1u) return size / 2.0 * (1.0 - float(a.to) / (a.scale * size)) + (at + 0.5) / a.scale - 0.5;
  if (kPlace == 2u) return 0.0;
  if (kPlace == 3u) return a.to > 1 ? at * (size - 1.0) / float(a.to - 1) : 0.0;
  if (kPlace == 4u) return at / a.scale;
  if (kPlace == 5u) return (at + 0.5) / a.scale;
  if (a.to == 1) return 0.5 * (a.begin + a.end) * (size - 1.0);
  return a.begin * (size - 1.0) + at * (a.end - a.begin) * (size - 1.0) / float(a.to - 1);
}

float weight_of(Taps t, int i) {
  const float d = abs((float(i) - t.at) * t.reach);
  if (kMode == 1u) return max(1.0 - d, 0.0);
  if (d <= 1.0) return ((p.cubic + 2.0) * d - (p.cubic + 3.0)) * d * d + 1.0;
  return d < 2.0 ? ((p.cubic * d - 5.0 * p.cubic) * d + 8.0 * p.cubic) * d - 4.0 * p.cubic : 0.0;
}

bool is_inside(Axis a, int i) { return i >= 0 && i < a.from; }

Taps taps_of(Axis a, int j) {
  Taps t;
  t.at = place_of(a, j);
  t.reach = 1.0;
  t.sum = 1.0;
  if (kMode == 0u) {
    const float r = kRounding == 0u ? ceil(t.at - 0.5) : kRounding == 1u ? floor(t.at + 0.5) : kRounding == 2u ? floor(t.at) : ceil(t.at);
    t.low = t.high = int(clamp(r, 0.0, float(a.from - 1)));
    return t;
  }
  const int side = kMode == 2u ? 2 : 1;
  t.low = int(floor(t.at)) + 1 - side;
  t.high = t.low + 2 * side - 1;
  if (kAntialias) {
    t.reach = min(1.0, a.scale);
    t.low = int(floor(t.at - float(side) / t.reach)) + 1;
    t.high = int(ceil(t.at + float(side) / t.reach)) - 1;
  }
  if (!kAntialias && !kExclude) return t;
  t.sum = 0.0;
  for (int i = t.low; i <= t.high; ++i)
    if (!kExclude || is_inside(a, i)) t.sum += weight_of(t, i);
  return t;
}

void main() {
  const uint i = item();
  if (i >= p.n) return;
  const uint pixel = i / p.channels, line = pixel / uint(p.to_columns), image = line / uint(p.to_rows);
  const Axis rows = Axis(p.from_rows, p.to_rows, p.scale_rows, p.begin_rows, p.end_rows),
             columns = Axis(p.from_columns, p.to_columns, p.scale_columns, p.begin_columns, p.end_columns);
  const Taps down = taps_of(rows, int(line % uint(p.to_rows))), right = taps_of(columns, int(pixel % uint(p.to_columns)));
  if (kPlace == 6u && !(down.at >= 0.0 && down.at <= float(p.from_rows - 1) && right.at >= 0.0 && right.at <= float(p.from_columns - 1))) {
    heap_f[p.y + i] = p.outside;
    return;
  }
  float sum = 0.0;
  for (int r = down.low; r <= down.high; ++r) {
    if (kExclude && kMode != 0u && !is_inside(rows, r)) continue;
    float part = 0.0;
    for (int c = right.low; c <= right.high; ++c) {
      if (kExclude && kMode != 0u && !is_inside(columns, c)) continue;
      const uint row = uint(clamp(r, 0, p.from_rows - 1)), column = uint(clamp(c, 0, p.from_columns - 1));
      const float v = heap_f[p.x + ((image * uint(p.from_rows) + row) * uint(p.from_columns) + column) * p.channels + i % p.channels];
      part += kMode == 0u ? v : weight_of(right, c) * v;
    }
    sum += kMode == 0u ? part : weight_of(down, r) * part;
  }
  heap_f[p.y + i] = sum / (down.sum * right.sum);
}
