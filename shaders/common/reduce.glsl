// Sums and maxima over the workgroup. Every invocation gets the result; all must call.
shared float reduce_buffer[LOCAL];

float group_sum(float v) {
  const uint i = gl_LocalInvocationIndex;
  barrier();
  reduce_buffer[i] = v;
  for (uint half_size = LOCAL / 2; half_size > 0; half_size /= 2) {
    barrier();
    if (i < half_size) reduce_buffer[i] += reduce_buffer[i + half_size];
  }
  barrier();
  return reduce_buffer[0];
}

float group_max(float v) {
  const uint i = gl_LocalInvocationIndex;
  barrier();
  reduce_buffer[i] = v;
  for (uint half_size = LOCAL / 2; half_size > 0; half_size /= 2) {
    barrier();
    if (i < half_size) reduce_buffer[i] = max(reduce_buffer[i], reduce_buffer[i + half_size]);
  }
  barrier();
  return reduce_buffer[0];
}
