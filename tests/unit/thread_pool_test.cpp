#include "cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "cpu/cores.h"

namespace runnel {
namespace {

struct PoolDeleter {
  void operator()(ThreadPool* p) const { thread_pool_destroy(p); }
};
using Pool = std::unique_ptr<ThreadPool, PoolDeleter>;

struct Counts {
  std::vector<int> runs;  // plain ints: each task is run by one thread
  int workers;
  std::atomic<bool> bad_worker{false};
};

void count(void* context, int64_t task, int worker) {
  Counts& c = *static_cast<Counts*>(context);
  ++c.runs[size_t(task)];
  if (worker < 0 || worker >= c.workers) c.bad_worker = true;
}

TEST(ThreadPool, RunsEachTaskOnce) {
  for (int threads : {1, 2, 3, 5}) {
    Pool pool(thread_pool_create(threads));
    ASSERT_NE(pool, nullptr);
    EXPECT_EQ(thread_pool_size(pool.get()), threads);
    for (int64_t tasks : {0, 1, 2, 3, 7, 1000}) {
      Counts c;
      c.workers = threads;
      c.runs.assign(size_t(tasks), 0);
      for (int round = 0; round < 50; ++round) parallel_for(pool.get(), tasks, count, &c);
      for (int r : c.runs) EXPECT_EQ(r, 50);
      EXPECT_FALSE(c.bad_worker);
    }
  }
}

// A worker may be anywhere on its way when the pool ends.
TEST(ThreadPool, EndsRightAfterAJob) {
  for (int i = 0; i < 3000; ++i) {
    Pool pool(thread_pool_create(2));
    Counts c;
    c.workers = 2;
    c.runs.assign(2, 0);
    for (int round = 0; round < i % 4; ++round) parallel_for(pool.get(), 2, count, &c);
  }
}

TEST(ThreadPool, WithoutAPoolTheCallerDoesEverything) {
  Counts c;
  c.workers = 1;
  c.runs.assign(10, 0);
  parallel_for(nullptr, 10, count, &c);
  for (int r : c.runs) EXPECT_EQ(r, 1);
  EXPECT_EQ(thread_pool_size(nullptr), 1);
  EXPECT_FALSE(c.bad_worker);
}

// Pauses of all lengths between jobs: workers spin, fall asleep and are woken.
TEST(ThreadPool, WakesSleepers) {
  Pool pool(thread_pool_create(3));
  ASSERT_NE(pool, nullptr);
  Counts c;
  c.workers = 3;
  c.runs.assign(6, 0);
  const int rounds = 300;
  for (int round = 0; round < rounds; ++round) {
    parallel_for(pool.get(), 6, count, &c);
    if (round % 3) usleep(useconds_t(round));
  }
  for (int r : c.runs) EXPECT_EQ(r, rounds);
}

// Two tasks that wait for each other need two threads, so a sleeping worker must come.
TEST(ThreadPool, TasksRunAtTheSameTime) {
  Pool pool(thread_pool_create(2));
  ASSERT_NE(pool, nullptr);
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> arrived{0};
    parallel_for(
        pool.get(), 2,
        [](void* context, int64_t, int) {
          auto& n = *static_cast<std::atomic<int>*>(context);
          ++n;
          while (n < 2) std::this_thread::yield();
        },
        &arrived);
    EXPECT_EQ(arrived, 2);
    usleep(1000);
  }
}

TEST(ThreadPool, CallersWaitForEachOther) {
  Pool pool(thread_pool_create(3));
  ASSERT_NE(pool, nullptr);
  std::vector<std::thread> callers;
  std::atomic<int64_t> sum{0};
  for (int i = 0; i < 3; ++i)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        Counts c;
        c.workers = 3;
        c.runs.assign(16, 0);
        parallel_for(pool.get(), 16, count, &c);
        for (int r : c.runs) sum += r;
      }
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(sum, 3 * 200 * 16);
}

// Jobs of the whole pool and of its part in turn, with pauses in which workers fall asleep: only those of the part take
// its tasks.
TEST(ThreadPool, PartLeavesTheOthersOut) {
  for (int part : {1, 2, 4}) {
    Pool pool(thread_pool_create(4));
    ASSERT_NE(pool, nullptr);
    EXPECT_EQ(thread_pool_size(thread_pool_part(pool.get())), 4);
    thread_pool_set_part(pool.get(), part);
    EXPECT_EQ(thread_pool_size(pool.get()), 4);
    EXPECT_EQ(thread_pool_size(thread_pool_part(pool.get())), part);
    Counts all, few;
    all.workers = 4;
    few.workers = part;
    all.runs.assign(8, 0);
    few.runs.assign(8, 0);
    const auto count_slowly = [](void* context, int64_t task, int worker) {
      count(context, task, worker);
      usleep(50);  // time for all who may to take a task
    };
    const int rounds = 60;
    for (int round = 0; round < rounds; ++round) {
      if (round % 3 == 0) parallel_for(pool.get(), 8, count_slowly, &all);
      parallel_for(thread_pool_part(pool.get()), 8, count_slowly, &few);
      if (round % 5 == 0) usleep(useconds_t(10 * round));
    }
    for (int r : all.runs) EXPECT_EQ(r, rounds / 3);
    for (int r : few.runs) EXPECT_EQ(r, rounds);
    EXPECT_FALSE(all.bad_worker);
    EXPECT_FALSE(few.bad_worker);
  }
  EXPECT_EQ(thread_pool_part(nullptr), nullptr);
}

// Workers stay on the cores that they were given; the caller's own thread may go anywhere.
TEST(ThreadPool, WorkersKeepToTheirCores) {
#if defined(__linux__)
  CoreSet allowed, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed.bits, reinterpret_cast<cpu_set_t*>(allowed.bits)), 0);
  int first = 0;
  while (!allowed.has(first)) ++first;
  one.add(first);
  Pool pool(thread_pool_create(3, &one));
  ASSERT_NE(pool, nullptr);
  struct Seen {
    std::atomic<int> wrong{0}, workers{0};
    int core;
  } seen;
  seen.core = first;
  for (int round = 0; round < 200; ++round) {
    parallel_for(
        pool.get(), 16,
        [](void* context, int64_t, int worker) {
          Seen& s = *static_cast<Seen*>(context);
          if (worker == 0) return usleep(50), void();
          CoreSet mine;
          (void)sched_getaffinity(0, sizeof mine.bits, reinterpret_cast<cpu_set_t*>(mine.bits));
          for (int i = 0; i < CoreSet::kMost; ++i) s.wrong += mine.has(i) != (i == s.core);
          ++s.workers;
        },
        &seen);
  }
  EXPECT_EQ(seen.wrong, 0);
  EXPECT_GT(seen.workers, 0);
  CoreSet still;
  ASSERT_EQ(sched_getaffinity(0, sizeof still.bits, reinterpret_cast<cpu_set_t*>(still.bits)), 0);
  EXPECT_EQ(std::memcmp(still.bits, allowed.bits, sizeof still.bits), 0);
#endif
}

TEST(ThreadPool, IdleWorkersUseNoTime) {
  Pool pool(thread_pool_create(4));
  ASSERT_NE(pool, nullptr);
  Counts c;
  c.workers = 4;
  c.runs.assign(64, 0);
  parallel_for(pool.get(), 64, count, &c);
  usleep(20000);  // far beyond the time that workers spin
  const auto cpu = [] {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
  };
  const double before = cpu();
  usleep(200000);
  EXPECT_LT(cpu() - before, 0.05);
}

TEST(ThreadPool, CanBeDestroyedAtOnce) {
  for (int i = 0; i < 50; ++i) Pool pool(thread_pool_create(4));
}

}  // namespace
}  // namespace runnel
