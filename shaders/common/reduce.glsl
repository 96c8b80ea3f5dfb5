// Sums and maxima over the workgroup. Every invocation gets the result; all must call, and what they wrote before is visible to all after it.
#ifdef SUBGROUPS
// One value a subgroup, of any size.
shared float reduce_buffer[LOCAL];

float group_sum(float v) {
  v = subgroupAdd(v);
  barrier();
  if (subgroupElect()) reduce_buffer[gl_SubgroupID] = v;
  barrier();
  float all = 0.0;
  for (uint i = 0; i < gl_NumSubgroups; ++i) all += reduce_buffer[i];
  return all;
}

float group_max(float v) {
  v = subgroupMax(v);
  barrier();
  if (subgroupElect()) reduce_buffer[gl_SubgroupID] = v;
  barrier();
  float all = reduce_buffer[0];
  for (uint i = 1; i < gl_NumSubgroups; ++i) all = max(all, reduce_buffer[i]);
  return all;
}
#else
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
#endif
