// What every kernel file needs to read a call. Per-target inline code, see simd.h.
#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"
#include "cpu/thread_pool.h"

namespace runnel::RNL_ISA {

template <class P>
RNL_INLINE const P& params_of(const OpCall& c) {
  return *reinterpret_cast<const P*>(c.params->bytes);
}
RNL_INLINE bool has_input(const OpCall& c, int i) { return i < c.in_count && c.in[i].dtype != DType::kNone; }
// Data of input i, null when it is absent.
template <class T>
RNL_INLINE const T* input(const OpCall& c, int i) {
  return has_input(c, i) ? static_cast<const T*>(c.in[i].data) : nullptr;
}
template <class T>
RNL_INLINE T* output(const OpCall& c, int i) {
  return static_cast<T*>(c.out[i].data);
}
// Product of all axes but the last.
RNL_INLINE int64_t rows_of(const TensorView& t) {
  int64_t n = 1;
  for (int i = 0; i + 1 < t.rank; ++i) n *= t.dims[i];
  return n;
}
RNL_INLINE int64_t elements_of(const TensorView& t) {
  int64_t n = 1;
  for (int i = 0; i < t.rank; ++i) n *= t.dims[i];
  return n;
}

// Calls kRow(job, t) for every row t of job.rows, about 16K elements a task; a few rows stay on the calling thread. Job
// has int64_t rows, channels and rows_per_task, which is set here. A Job of an anonymous namespace keeps each instance
// local to its file.
template <class Job, void (*kRow)(const Job&, int64_t)>
RNL_INLINE void for_each_row(ThreadPool* pool, Job& job) {
  job.rows_per_task = 1 + 16384 / job.channels;
  const int64_t tasks = (job.rows + job.rows_per_task - 1) / job.rows_per_task;
  parallel_for(
      tasks > 1 ? pool : nullptr, tasks,
      [](void* context, int64_t task, int) {
        const Job& j = *static_cast<const Job*>(context);
        int64_t end = (task + 1) * j.rows_per_task;
        if (end > j.rows) end = j.rows;
        for (int64_t t = task * j.rows_per_task; t < end; ++t) kRow(j, t);
      },
      &job);
}

}  // namespace runnel::RNL_ISA
