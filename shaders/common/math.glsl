// Functions of one value, after runtime/ops/unary/unary.h. What Vulkan promises of exp, log, tanh, sin and cos is too coarse for them.

// 2^n for -252 <= n <= 254, in two steps, so that results near the ends of the range are right.
float scale_by(float x, int n) {
  const int half_n = n >> 1;
  return x * intBitsToFloat((half_n + 127) << 23) * intBitsToFloat((n - half_n + 127) << 23);
}

float exp_exact(float x) {
  if (!(x > -104.0)) return isnan(x) ? x : 0.0;
  if (x > 88.8) return uintBitsToFloat(0x7f800000u);
  const float n = floor(x * 1.4426950408889634 + 0.5);
  precise float high = x - n * 0.693359375;
  precise float r = high + n * 2.12194440e-4;
  const float p = 1.0 + r * (1.0 + r * (0.5 + r * (1.6666667e-1 + r * (4.1666668e-2 + r * (8.3333337e-3 + r * (1.3888889e-3 + r * 1.9841270e-4))))));
  return scale_by(p, int(n));
}

float log_exact(float x) {
  const uint bits = floatBitsToUint(x);
  if (bits >= 0x7f800000u) return bits > 0x80000000u && (bits & 0x7fffffffu) <= 0x7f800000u ? uintBitsToFloat(0x7fc00000u) : bits == 0x80000000u ? uintBitsToFloat(0xff800000u) : x;
  if (bits == 0u) return uintBitsToFloat(0xff800000u);
  // Below the least normal number the bits themselves are the mantissa.
  const float m = bits < 0x00800000u ? float(bits) : x;
  const uint b = floatBitsToUint(m);
  int e = int(b >> 23) - 127 - (bits < 0x00800000u ? 149 : 0);
  float f = uintBitsToFloat((b & 0x7fffffu) | 0x3f800000u);
  if (f > 1.41421356) {
    f *= 0.5;
    e += 1;
  }
  const float d = f - 1.0, s = d / (2.0 + d), q = s * s;
  const float r = q * (6.6666667e-1 + q * (4.0e-1 + q * (2.8571429e-1 + q * (2.2222222e-1 + q * 1.8181818e-1))));
  // log f = d - d^2 / 2 + s (d^2 / 2 + r), as in fdlibm.
  const float h = 0.5 * d * d;
  precise float low = float(e) * -2.12194440e-4 + s * (h + r);
  precise float rest = (low - h) + d;
  return float(e) * 0.693359375 + rest;
}

float sigmoid(float x) { return 1.0 / (1.0 + exp_exact(-x)); }

float log1p(float u) {
  precise float w = 1.0 + u;
  precise float d = w - 1.0;
  return d == 0.0 ? u : log_exact(w) * (u / d);
}

float tanh_exact(float x) {
  const float a = abs(x);
  if (a < 0.25) {
    const float s = x * x;
    return x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))));
  }
  const float e = exp_exact(-2.0 * a);
  return sign(x) * (1.0 - e) / (1.0 + e);
}

// The normal distribution's Phi(x), as in runtime/ops/unary/activations.inl: e^(-z^2) t P(t), x^2 split into an exact square and a rest.
float normal_cdf(float x) {
  const float a = min(abs(x), 40.0), t = 1.0 / (a * 0.70710678 * 0.4 + 1.0);
  const float p = 0.225708663 + t * (0.224915504 + t * (0.215244234 + t * (0.128059536 + t * (0.277049661 + t * (-0.294196308 + t * (0.559893072 + t * (-0.508615613 + t * (0.20237118 + t * -0.030429896))))))));
  const float upper = uintBitsToFloat(floatBitsToUint(a) & 0xfffff000u), rest = (upper - a) * (upper + a) * 0.5;
  const float half_tail = p * t * exp_exact(upper * upper * -0.5) * exp_exact(rest) * 0.5;
  return x < 0.0 ? half_tail : 1.0 - half_tail;
}

float softplus(float x) { return max(x, 0.0) + log1p(exp_exact(-abs(x))); }

float apply_unary(uint kind, float x, float alpha) {
  switch (kind) {
    case 1u: return x < 0.0 ? 0.0 : x;
    case 2u: return sigmoid(x);
    case 3u: return tanh_exact(x);
    case 4u: return x < -88.0 ? 0.0 : x * sigmoid(x);
    case 5u: return x < -14.0 ? 0.0 : x * normal_cdf(x);
    case 6u: {
      const float u = 1.5957691216057308 * (x + 0.044715 * x * x * x);
      return u < -88.0 ? 0.0 : x * sigmoid(u);
    }
    case 7u: return x < -87.3 ? 0.0 : exp_exact(x);
    case 8u: return log_exact(x);
    case 9u: return sqrt(x);
    case 10u: return 1.0 / sqrt(x);
    case 11u: return x * x;
    case 12u: return -x;
    case 13u: return abs(x);
    case 14u: return softplus(x);
    case 15u: return x < 0.0 ? 0.0 : x * x;
    case 16u: return 1.702 * x < -88.0 ? 0.0 : x * sigmoid(1.702 * x);
    case 17u: return alpha * x;
    case 18u: return alpha * tanh_exact(x / alpha);
    case 19u: return floor(x);
    default: return x;
  }
}
