// Weights of convolutions on their way from the order of torch and ONNX, [out, in / groups, height, width], to that of
// the operator conv; batch norms folded into them.
#pragma once

#include <cstdint>
#include <vector>

namespace runnel::convert {

// What a batch norm does to each channel: x * factor + shift.
struct BatchNorm {
  std::vector<double> factor, shift;
};
// The lists have one number for each channel.
BatchNorm batch_norm(const std::vector<float>& scale, const std::vector<float>& bias, const std::vector<float>& mean,
                     const std::vector<float>& variance, double eps);
// The norm stands behind the convolution, whose weights begin with the axis of outputs. An empty bias is one of zeros.
void fold(const BatchNorm& norm, std::vector<float>* weights, std::vector<float>* bias);

// [out, in, places] as rows [out, places, in].
std::vector<float> filter_rows(const std::vector<float>& weights, int64_t out, int64_t in, int64_t places);
// One filter for each channel, [channels, places] as [places, channels].
std::vector<float> channel_filters(const std::vector<float>& weights, int64_t channels, int64_t places);

}  // namespace runnel::convert
