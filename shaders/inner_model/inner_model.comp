#version 450
#extension GL_GOOGLE_include_directive : require
// One workgroup a head: its weights lie in scratch, the vectors of a token in shared memory. Names as in runtime/ops/inner_model/inner_model.h.
#define LOCAL 128
#include "../common/common.glsl"
#include "../common/math.glsl"
#include "../common/reduce.glsl"

layout(constant_id = 0) const uint kDim = 64;
layout(constant_id = 1) const uint kHidden = 0;
layout(constant_id = 2) const uint kActivation = 6;
layout(constant_id = 3) const uint kBias = 0;
layout(constant_id = 4) const uint kResidual = 0;
layout(constant_id = 5) const uint kLoss = 0;  // squared, power, huber
layout(constant_id = 6) const uint kMap = 0;   // identity, power, softmax
layout(constant_id = 7) const uint kNorm = 0;
layout(constant_id = 8) const uint kMomentum = 0;
layout(push_constant) uniform Push {
  uint tokens, heads, batch_size;
  uint q, k, v, rate, keep, momentum, read, norm_weight, norm_bias, state, work, y, out_state;
  float scale, eps, loss_power, loss_delta, map_power;
} p;
// Scratch is written by one invocation and read by another.
layout(set = 0, binding = 0, std430) coherent buffer WorkF { float work_f[]; };

const uint kInner = kHidden > 0u ? kHidden : kDim;
const uint kBias1 = kDim * kInner, kSecond = kBias1 + kBias * kInner, kBias2 = kSecond + kHidden * kDim, kParameters = kBias2 + (kHidden > 0u ? kBias * kDim : 0u);
const uint kPlanes = 2u + kMomentum;
shared float x[kDim], z[kDim], unit[kDim], dz[kDim];
shared float pre[kHidden + 1u], act[kHidden + 1u], dact[kHidden + 1u];

uint lane() { return gl_LocalInvocationIndex; }
void sync() {
  memoryBarrierBuffer();
  barrier();
}

// z of the model with the weights at w.
void forward(uint w) {
  for (uint j = lane(); j < kInner; j += LOCAL) {
    float sum = kBias != 0u ? work_f[w + kBias1 + j] : 0.0;
    for (uint i = 0; i < kDim; ++i) sum += x[i] * work_f[w + i * kInner + j];
    if (kHidden > 0u) pre[j] = sum, act[j] = apply_unary(kActivation, sum, 1.0);
    else z[j] = sum;
  }
  barrier();
  if (kHidden == 0u) return;
  for (uint j = lane(); j < kDim; j += LOCAL) {
    float sum = kBias != 0u ? work_f[w + kBias2 + j] : 0.0;
    for (uint i = 0; i < kHidden; ++i) sum += act[i] * work_f[w + kSecond + i * kDim + j];
    z[j] = sum;
  }
  barrier();
}

// Makes z the model's answer, unit the normalised z; returns 1 / standard deviation.
float finish(uint head) {
  float inverse = 0.0;
  if (kNorm != 0u) {
    float total = 0.0, square = 0.0;
    for (uint j = lane(); j < kDim; j += LOCAL) total += z[j];
    const float mean = group_sum(total) / float(kDim);
    for (uint j = lane(); j < kDim; j += LOCAL) square += (z[j] - mean) * (z[j] - mean);
    inverse = 1.0 / sqrt(group_sum(square) / float(kDim) + p.eps);
    for (uint j = lane(); j < kDim; j += LOCAL) {
      unit[j] = (z[j] - mean) * inverse;
      z[j] = unit[j] * heap_f[p.norm_weight + head * kDim + j] + heap_f[p.norm_bias + head * kDim + j];
    }
  }
  for (uint j = lane(); kResidual != 0u && j < kDim; j += LOCAL) z[j] += x[j];
  return inverse;
}

float slope(float v) {
  if (kActivation == 1u) return v > 0.0 ? 1.0 : 0.0;
  const bool silu = kActivation == 4u;
  const float c = 1.5957691216057308, u = silu ? v : c * (v + 0.044715 * v * v * v), s = sigmoid(u);
  return s + v * s * (1.0 - s) * (silu ? 1.0 : c * (1.0 + 3.0 * 0.044715 * v * v));
}

// a^n, a >= 0.
float power(float a, float n) {
  if (n != floor(n)) return a > 0.0 ? exp_exact(n * log_exact(a)) : 0.0;
  float r = 1.0;
  for (float i = 0.0; i < n; i += 1.0) r *= a;
  return r;
}

float loss_slope(float e) {
  const float a = abs(e), s = e < 0.0 ? -1.0 : 1.0;
  if (kLoss == 1u) return s * p.loss_power * power(a, p.loss_power - 1.0);
  return kLoss == 2u && a > p.loss_delta ? s * p.loss_delta : e;
}

void put(uint base, uint i, float gradient, float rate, float keep, float momentum) {
  const uint sum = base + kParameters + i, speed = sum + kParameters;
  float step = -rate * gradient;
  if (kMomentum != 0u) {
    step += momentum * work_f[speed];
    work_f[speed] = step;
  }
  work_f[sum] = keep * work_f[sum] + step;
}

// x holds k.
void train(uint base, uint head, uint t) {
  const uint g = t * p.heads + head;
  const float rate = heap_f[p.rate + g], keep = p.keep != kAbsent ? heap_f[p.keep + g] : 1.0, momentum = p.momentum != kAbsent ? heap_f[p.momentum + g] : 0.0;
  forward(base);
  const float inverse = finish(head);
  float total = 0.0, along = 0.0;
  for (uint j = lane(); j < kDim; j += LOCAL) {
    dz[j] = loss_slope(z[j] - heap_f[p.v + g * kDim + j]) * (kNorm != 0u ? heap_f[p.norm_weight + head * kDim + j] : 1.0);
    if (kNorm != 0u) total += dz[j], along += dz[j] * unit[j];
  }
  if (kNorm != 0u) {
    total = group_sum(total) / float(kDim);
    along = group_sum(along) / float(kDim);
    for (uint j = lane(); j < kDim; j += LOCAL) dz[j] = (dz[j] - total - unit[j] * along) * inverse;
  }
  barrier();
  if (kHidden > 0u) {
    for (uint i = lane(); i < kHidden; i += LOCAL) {
      float sum = 0.0;
      for (uint j = 0; j < kDim; ++j) sum += work_f[base + kSecond + i * kDim + j] * dz[j];
      dact[i] = sum * slope(pre[i]);
    }
    for (uint e = lane(); e < kHidden * kDim; e += LOCAL) put(base, kSecond + e, act[e / kDim] * dz[e % kDim], rate, keep, momentum);
    for (uint j = lane(); kBias != 0u && j < kDim; j += LOCAL) put(base, kBias2 + j, dz[j], rate, keep, momentum);
    barrier();
  }
  for (uint e = lane(); e < kBias1; e += LOCAL) put(base, e, x[e / kInner] * (kHidden > 0u ? dact[e % kInner] : dz[e % kInner]), rate, keep, momentum);
  for (uint j = lane(); kBias != 0u && j < kInner; j += LOCAL) put(base, kBias1 + j, kHidden > 0u ? dact[j] : dz[j], rate, keep, momentum);
  sync();
}

void map_matrix(uint sum, uint now, uint rows, uint columns) {
  if (kMap == 1u) {
    float total = 0.0;
    for (uint e = lane(); e < rows * columns; e += LOCAL) total += power(abs(work_f[sum + e]), p.map_power);
    total = group_sum(total);
    const float by = total > 0.0 ? exp_exact(log_exact(total) * (p.map_power - 2.0) / p.map_power) : 0.0;
    for (uint e = lane(); e < rows * columns; e += LOCAL) work_f[now + e] = by > 0.0 ? work_f[sum + e] / by : 0.0;
    return;
  }
  for (uint r = lane(); r < rows; r += LOCAL) {
    float largest = work_f[sum + r * columns], total = 0.0;
    for (uint j = 1; j < columns; ++j) largest = max(largest, work_f[sum + r * columns + j]);
    for (uint j = 0; j < columns; ++j) {
      const float e = exp_exact(work_f[sum + r * columns + j] - largest);
      work_f[now + r * columns + j] = e;
      total += e;
    }
    for (uint j = 0; j < columns; ++j) work_f[now + r * columns + j] /= total;
  }
}

void main() {
  const uint head = gl_WorkGroupID.x;
  const uint base = p.work + head * 4u * kParameters, sum = base + kParameters, now = base + 3u * kParameters;
  for (uint i = lane(); i < kPlanes * kParameters; i += LOCAL) work_f[base + i] = p.state != kAbsent ? state_f[p.state + head * kPlanes * kParameters + i] : 0.0;
  sync();
  for (uint t = 0; t < p.tokens; ++t) {
    const uint at = (t * p.heads + head) * kDim;
    for (uint j = lane(); j < kDim; j += LOCAL) x[j] = heap_f[p.k + at + j];
    barrier();
    train(base, head, t);
    const float read = p.read != kAbsent ? heap_f[p.read + t * p.heads + head] : 0.0;
    for (uint i = lane(); i < kParameters; i += LOCAL) work_f[now + i] = p.read != kAbsent ? work_f[base + i] + read * work_f[sum + i] : work_f[sum + i];
    for (uint j = lane(); j < kDim; j += LOCAL) x[j] = p.scale * heap_f[p.q + at + j];
    sync();
    if (kMap != 0u) {
      map_matrix(sum, now, kDim, kInner);
      if (kHidden > 0u) map_matrix(sum + kSecond, now + kSecond, kHidden, kDim);
      sync();
    }
    forward(now);
    finish(head);
    for (uint j = lane(); j < kDim; j += LOCAL) heap_f[p.y + at + j] = z[j];
    if ((call_word[kPosition] % p.batch_size + t + 1u) % p.batch_size == 0u)
      for (uint i = lane(); i < kParameters; i += LOCAL) {
        work_f[base + i] = work_f[now + i];
        if (p.read != kAbsent) work_f[sum + i] = 0.0;
      }
    sync();
  }
  for (uint i = lane(); p.out_state != kAbsent && i < kPlanes * kParameters; i += LOCAL) state_f[p.out_state + head * kPlanes * kParameters + i] = work_f[base + i];
}
