#include "cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

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
