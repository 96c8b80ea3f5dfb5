// Windows over images, after runtime/ops/window.h: what the shaders of conv share.
layout(push_constant) uniform Push {
  uint n, x, weights, bias, y, height, width, channels, out_height, out_width, out_channels;
  int kernel_down, kernel_right, stride_down, stride_right, dilation_down, dilation_right, before_down, before_right;
  uint in_channels, group_out, first_tile, window_tiles, tile_words;
  float least, most;
} p;

// Pixel `pixel` of y: where its window begins in x, and the image's first row.
void window_of(uint pixel, out int row, out int column, out uint image) {
  const uint line = pixel / p.out_width;
  row = int(line % p.out_height) * p.stride_down - p.before_down;
  column = int(pixel % p.out_width) * p.stride_right - p.before_right;
  image = line / p.out_height * p.height;
}
bool is_inside(int row, int column) { return row >= 0 && row < int(p.height) && column >= 0 && column < int(p.width); }

void write_result(uint pixel, uint o, float sum, uint activation) {
  if (p.bias != kAbsent) sum += heap_f[p.bias + o];
  if (activation != 0u) sum = apply_unary(activation, sum, 1.0);
  sum = sum < p.least ? p.least : sum;
  heap_f[p.y + pixel * p.out_channels + o] = sum > p.most ? p.most : sum;
}
