// A pool of sleeping workers. parallel_for hands out tasks one by one, the calling thread works too. Workers spin for
// microseconds after a job, then sleep; nothing spins when idle and nothing is allocated after creation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace runnel {

class ThreadPool;
struct CoreSet;

// threads >= 1 counts the caller. cores: where the others run, copied; null: anywhere. Returns null when memory or
// threads cannot be had.
ThreadPool* thread_pool_create(int threads, const CoreSet* cores = nullptr);
void thread_pool_destroy(ThreadPool* pool);
int thread_pool_size(const ThreadPool* pool);

// The part of the pool that computes passes of one token, which are bound by memory: a pool itself, of the same
// threads, not to be destroyed. All of it until it is set, while nobody uses it, to 1 <= threads <= thread_pool_size.
// Null for null.
ThreadPool* thread_pool_part(ThreadPool* pool);
void thread_pool_set_part(ThreadPool* pool, int threads);

// Calls fn(context, task, worker) once for each task in [0, tasks), worker in [0, thread_pool_size). Returns when all
// are done. Tasks are taken in order by whichever thread is free. pool may be null: then the caller does everything as
// worker 0. One caller at a time: calls from several threads wait for each other.
using TaskFn = void (*)(void* context, int64_t task, int worker);
void parallel_for(ThreadPool* pool, int64_t tasks, TaskFn fn, void* context);

}  // namespace runnel
