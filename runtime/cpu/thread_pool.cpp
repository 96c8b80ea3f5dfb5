#include "cpu/thread_pool.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <new>

#include "cpu/cores.h"

namespace runnel {
namespace {

// How long a thread watches for work before it sleeps. Long enough for the small operators between two matrix products,
// short enough that a shared core is not kept from others.
constexpr int64_t kSpinNanoseconds = 40000;
constexpr int kPausesPerLook = 32;

// State of the pool in one word, so that joining a job is one compare-and-swap: generation << 32 | open << 31 | threads
// wanted << 16 | workers inside. A worker that wakes too late finds the gate closed, and the caller never waits for it.
constexpr uint64_t kOpen = uint64_t(1) << 31;
constexpr uint64_t kInside = 0xffff;
constexpr uint64_t kEverybody = 0x7fff;
uint32_t generation_of(uint64_t gate) { return uint32_t(gate >> 32); }
// Worker `index` takes part in the job. The others sleep until they are wanted.
bool wants(uint64_t gate, int index) { return uint64_t(index) < (gate >> 16 & kEverybody); }

void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield" ::: "memory");
#endif
}

int64_t now_nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

// Watches until done() or until the time is over; returns done().
template <class Done>
bool spin(Done done) {
  int64_t end = 0;
  for (;;) {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (done()) return true;
      pause_cpu();
    }
    const int64_t now = now_nanoseconds();
    if (end == 0) end = now + kSpinNanoseconds;
    else if (now >= end) return done();
  }
}

}  // namespace

class Workers;
// All threads, or those with the lowest numbers.
class ThreadPool {
 public:
  Workers* workers;
  int size;
};

class Workers {
 public:
  Workers() {
    pthread_mutex_init(&callers_, nullptr);
    pthread_mutex_init(&sleep_, nullptr);
    pthread_cond_init(&idle_, nullptr);
  }
  ~Workers() {
    stop_.store(true);
    gate_.store((uint64_t(generation_of(gate_.load()) + 1) << 32) | kEverybody << 16);  // a new generation that is not
                                                                                        // open
    wake(whole.size, whole.size);
    for (int i = 1; i < whole.size; ++i) {
      pthread_join(threads_[i].id, nullptr);
      pthread_cond_destroy(&threads_[i].work);
    }
    delete[] threads_;
    pthread_cond_destroy(&idle_);
    pthread_mutex_destroy(&sleep_);
    pthread_mutex_destroy(&callers_);
  }

  bool start(int threads, const CoreSet* cores) {
    if (cores) cores_ = *cores, has_cores_ = true;
    threads_ = new (std::nothrow) Worker[size_t(threads)];
    if (!threads_) return false;
    // Signals go to the application's threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 1; i < threads; ++i) {
      threads_[i].workers = this;
      threads_[i].index = i;
      pthread_cond_init(&threads_[i].work, nullptr);
      if (pthread_create(&threads_[i].id, nullptr, main, &threads_[i]) != 0) {
        pthread_cond_destroy(&threads_[i].work);
        break;
      }
      whole.size = i + 1;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    part.size = whole.size;
    return whole.size == threads;
  }

  void run(int64_t tasks, TaskFn fn, void* context, int threads) {
    pthread_mutex_lock(&callers_);
    fn_ = fn;
    context_ = context;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    gate_.store((uint64_t(generation_of(gate_.load(std::memory_order_relaxed)) + 1) << 32) | kOpen |
                uint64_t(threads) << 16);
    wake(tasks - 1, threads);
    work(0);
    // All tasks are taken: nobody may join any more, and those inside finish theirs.
    if (gate_.fetch_and(~kOpen) & kInside) wait_until_idle();
    pthread_mutex_unlock(&callers_);
  }

  ThreadPool whole{this, 1}, part{this, 1};

 private:
  // One condition per worker: glibc before 2.41 can lose a wake-up when several threads wait for the same one (its bug
  // 25847).
  struct Worker {
    Workers* workers;
    pthread_t id;
    int index;
    pthread_cond_t work;
    bool asleep = false;  // under sleep_
  };

  static void* main(void* argument) {
    Worker* self = static_cast<Worker*>(argument);
    if (self->workers->has_cores_) run_on(self->workers->cores_);
    self->workers->serve(*self);
    return nullptr;
  }

  void serve(Worker& self) {
    uint32_t seen = 0;
    for (;;) {
      const auto changed = [&] {
        const uint64_t gate = gate_.load();
        return generation_of(gate) != seen && wants(gate, self.index);
      };
      if (!spin(changed)) sleep_until(self, changed);
      uint64_t gate = gate_.load();
      const auto is_open = [&] { return (gate & kOpen) && wants(gate, self.index); };
      while (is_open() && !gate_.compare_exchange_weak(gate, gate + 1)) {
      }
      seen = generation_of(gate);
      // Looked at behind the gate: the destructor sets it before the last generation, so whoever has seen that one sees
      // this too.
      if (stop_.load()) return;
      if (!is_open()) continue;
      work(self.index);
      const uint64_t left = gate_.fetch_sub(1) - 1;
      if (!(left & kOpen) && !(left & kInside) && caller_sleeps_.load()) {
        pthread_mutex_lock(&sleep_);
        pthread_cond_signal(&idle_);
        pthread_mutex_unlock(&sleep_);
      }
    }
  }

  void work(int index) {
    for (;;) {
      const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks_) return;
      fn_(context_, task, index);
    }
  }

  // A sleeper counts itself before it looks at the gate for the last time, the caller opens the gate before it looks at
  // the count, all in one total order: one of them sees the other.
  template <class Changed>
  void sleep_until(Worker& self, const Changed& changed) {
    pthread_mutex_lock(&sleep_);
    sleepers_.fetch_add(1);
    while (!changed()) {
      self.asleep = true;
      pthread_cond_wait(&self.work, &sleep_);
    }
    self.asleep = false;
    sleepers_.fetch_sub(1);
    pthread_mutex_unlock(&sleep_);
  }

  void wake(int64_t wanted, int threads) {
    if (sleepers_.load() == 0) return;
    pthread_mutex_lock(&sleep_);
    for (int i = 1; i < threads && wanted > 0; ++i) {
      if (!threads_[i].asleep) continue;
      threads_[i].asleep = false;
      pthread_cond_signal(&threads_[i].work);
      --wanted;
    }
    pthread_mutex_unlock(&sleep_);
  }

  void wait_until_idle() {
    const auto idle = [this] { return (gate_.load() & kInside) == 0; };
    if (spin(idle)) return;
    pthread_mutex_lock(&sleep_);
    caller_sleeps_.store(true);
    while (!idle()) pthread_cond_wait(&idle_, &sleep_);
    caller_sleeps_.store(false);
    pthread_mutex_unlock(&sleep_);
  }

  // Written by the caller before it opens the gate, read by workers inside.
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  int64_t tasks_ = 0;
  Worker* threads_ = nullptr;
  CoreSet cores_;
  bool has_cores_ = false;
  // Lines of their own: workers write them while others read the fields above.
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint64_t> gate_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stop_{false};
  pthread_mutex_t callers_, sleep_;
  pthread_cond_t idle_;
};

ThreadPool* thread_pool_create(int threads, const CoreSet* cores) {
  Workers* w = new (std::nothrow) Workers;
  if (w && threads > 1 && !w->start(threads, cores)) {
    delete w;
    return nullptr;
  }
  return w ? &w->whole : nullptr;
}

void thread_pool_destroy(ThreadPool* pool) {
  if (pool) delete pool->workers;
}

int thread_pool_size(const ThreadPool* pool) { return pool ? pool->size : 1; }

ThreadPool* thread_pool_part(ThreadPool* pool) { return pool ? &pool->workers->part : nullptr; }

void thread_pool_set_part(ThreadPool* pool, int threads) { pool->workers->part.size = threads; }

void parallel_for(ThreadPool* pool, int64_t tasks, TaskFn fn, void* context) {
  if (pool && pool->size > 1 && tasks > 1) return pool->workers->run(tasks, fn, context, pool->size);
  for (int64_t i = 0; i < tasks; ++i) fn(context, i, 0);
}

}  // namespace runnel
