#include "converter/program/filters.h"

#include <cmath>

namespace runnel::convert {

BatchNorm batch_norm(const std::vector<float>& scale, const std::vector<float>& bias, const std::vector<float>& mean,
                     const std::vector<float>& variance, double eps) {
  BatchNorm out;
  for (size_t i = 0; i < scale.size(); ++i) {
    out.factor.push_back(double(scale[i]) / std::sqrt(double(variance[i]) + eps));
    out.shift.push_back(double(bias[i]) - double(mean[i]) * out.factor[i]);
  }
  return out;
}

void fold(const BatchNorm& norm, std::vector<float>* weights, std::vector<float>* bias) {
  const size_t out = norm.factor.size(), each = weights->size() / out;
  bias->resize(out, 0);
  for (size_t o = 0; o < out; ++o) {
    for (size_t i = o * each; i < (o + 1) * each; ++i) (*weights)[i] = float(double((*weights)[i]) * norm.factor[o]);
    (*bias)[o] = float(double((*bias)[o]) * norm.factor[o] + norm.shift[o]);
  }
}

std::vector<float> filter_rows(const std::vector<float>& w, int64_t out, int64_t in, int64_t places) {
  std::vector<float> to(w.size());
  size_t at = 0;
  for (int64_t o = 0; o < out; ++o)
    for (int64_t p = 0; p < places; ++p)
      for (int64_t i = 0; i < in; ++i) to[at++] = w[size_t((o * in + i) * places + p)];
  return to;
}

std::vector<float> channel_filters(const std::vector<float>& w, int64_t channels, int64_t places) {
  return filter_rows(w, 1, channels, places);
}

}  // namespace runnel::convert
