// Which keys a query of sparse_attention sees, as runs of keys with a step between them (runtime/ops/sparse_attention/sparse_attention.h).
// Keys are counted from the first one of the query's segment, or from the stream's first.
layout(constant_id = 7) const uint kAxis0 = 0;  // kernel, dilation << 16
layout(constant_id = 8) const uint kAxis1 = 0;
layout(constant_id = 9) const uint kAxis2 = 0;
layout(constant_id = 10) const uint kSteps = 0;  // of axes 0 and 1
layout(constant_id = 11) const uint kFlags = 0;  // step of axis 2, axes << 16, causal axes << 18, sigmoid << 21, lists for each head << 22
layout(constant_id = 12) const uint kChunk = 0;
layout(constant_id = 13) const uint kFirst = 0;
layout(constant_id = 14) const uint kRangeBlock = 1;
layout(constant_id = 15) const float kShift = 0.0;
const bool kSigmoid = (kFlags >> 21 & 1u) != 0u;
const uint kAxes = kFlags >> 16 & 3u;

struct Query {
  uint query, head, position;
};
struct Run {
  uint begin, end, step;
};

uint ranges_of(Query q) {
  const uint base = kSource != 0u ? call_word[kPosition] : 0u;
  const uint list = min(q.position / kRangeBlock - base / kRangeBlock, p.lists - 1u);
  return p.ranges + (((kFlags >> 22 & 1u) * q.head) * p.lists + list) * p.range_count * 3u;
}

void narrow(Query q, inout uint low, inout uint high) {
  if (kChunk > 0u) {
    low = max(low, q.position / kChunk * kChunk);
    high = min(high, q.position / kChunk * kChunk + kChunk);
  }
  if (kFirst > 0u) {
    low = 0u;
    high = min(high, kFirst);
    if (p.window > 0u) high = min(high, q.position + 1u > p.window ? q.position + 1u - p.window : 0u);
  }
}

// Places of an axis of n that place i sees.
Run places_of(uint axis, uint n, uint i) {
  const uint word = axis == 0u ? kAxis0 : axis == 1u ? kAxis1 : kAxis2;
  const int kernel = int(word & 0xffffu), dilation = int(word >> 16), step = int(axis == 2u ? kFlags & 0xffffu : kSteps >> (16u * axis) & 0xffffu);
  const int kind = int(i) % dilation, count = (int(n) - kind + dilation - 1) / dilation, place = int(i) / dilation;
  int begin, end;
  if ((kFlags >> 18 >> axis & 1u) != 0u) {
    const int last = min(place / step * step + step - 1, count - 1);
    begin = max(last - kernel + 1, 0);
    end = place + 1;
  } else {
    const int middle = min(place / step * step + step / 2, count - 1);
    begin = max(min(middle - kernel / 2, count - kernel), 0);
    end = min(begin + kernel, count);
  }
  return Run(uint(kind + begin * dilation), uint(kind + (end - 1) * dilation + 1), uint(dilation));
}

uint count_of(Run r) { return r.end > r.begin ? (r.end - r.begin + r.step - 1u) / r.step : 0u; }

// Size of an axis, and the place on it of a token.
uint size_of(uint axis) { return axis == 0u ? p.tokens / (p.size_1 * p.size_2) : axis == 1u ? p.size_1 : p.size_2; }
uint place_on(uint axis, uint token) { return axis == 0u ? token / (p.size_1 * p.size_2) : axis == 1u ? token / p.size_2 % p.size_1 : token % p.size_2; }

// The last axis of a neighbourhood is one run for each place of the axes before it; with ranges too the runs are those of the ranges.
uint run_count(Query q) {
  if (p.ranges != kAbsent) return p.range_count;
  if (kAxes == 0u) return 1u;
  uint n = 1u;
  for (uint a = 0u; a + 1u < kAxes; ++a) n *= count_of(places_of(a, size_of(a), place_on(a, q.query)));
  return n;
}

Run range_at(uint at, uint low, uint high) {
  const int begin = int(heap_u[at]), end = int(heap_u[at + 1u]), step = max(int(heap_u[at + 2u]), 1);
  const int first = int(low), last = min(end, int(high));
  if (begin >= last) return Run(0u, 0u, 1u);
  const int from = begin >= first ? begin : begin + (first - begin + step - 1) / step * step;
  return from < last ? Run(uint(from), uint(last), uint(step)) : Run(0u, 0u, 1u);
}

Run run_of(Query q, uint run, uint low, uint high) {
  if (p.ranges != kAbsent) return range_at(ranges_of(q) + run * 3u, low, high);
  if (kAxes == 0u) return Run(low, max(low, high), 1u);
  uint line = 0u, rest = run, unit = 1u;
  for (uint k = 1u; k < kAxes; ++k) {
    const uint a = kAxes - 1u - k;
    const Run r = places_of(a, size_of(a), place_on(a, q.query));
    const uint n = count_of(r);
    line += (r.begin + rest % n * r.step) * unit;
    rest /= n;
    unit *= size_of(a);
  }
  const uint last = kAxes - 1u, width = size_of(last);
  const Run r = places_of(last, width, place_on(last, q.query));
  return Run(line * width + r.begin, line * width + r.end, r.step);
}

// Whether a key of a run is seen: not by a run before, within the neighbourhood, and an ancestor.
bool sees(Query q, uint run, uint key) {
  if (p.ranges != kAbsent) {
    const uint ranges = ranges_of(q);
    for (uint i = 0u; i < run; ++i) {
      const int begin = int(heap_u[ranges + i * 3u]), end = int(heap_u[ranges + i * 3u + 1u]), step = max(int(heap_u[ranges + i * 3u + 2u]), 1);
      if (int(key) >= begin && int(key) < end && (int(key) - begin) % step == 0) return false;
    }
    for (uint a = 0u; a < kAxes; ++a) {
      const Run r = places_of(a, size_of(a), place_on(a, q.query));
      const uint j = place_on(a, key);
      if (j < r.begin || j >= r.end || (j - r.begin) % r.step != 0u) return false;
    }
  }
  if (p.parents != kAbsent) {
    const uint call = q.position - q.query;
    if (key >= call) {
      int t = int(q.query);
      while (t > int(key - call)) t = min(int(heap_u[p.parents + uint(t)]), t - 1);  // ends whatever it holds
      if (t != int(key - call)) return false;
    }
  }
  return true;
}
