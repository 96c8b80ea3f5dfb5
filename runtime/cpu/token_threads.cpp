#include "cpu/token_threads.h"

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/cache.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/xxh64.h"
#include "cpu/features.h"
#include "cpu/kernels.h"
#include "format/packed.h"

namespace runnel {
namespace {

constexpr int64_t kColumns = 2048;
constexpr size_t kStep = 2 << 20;  // bytes of one product
constexpr size_t kPage = 4096, kTouched = 64 * kPage;
// A buffer is read in a circle, twice as large as the largest cache: little is found there again.
constexpr size_t kLeast = 8 << 20, kUnknown = 16 << 20, kMost = 32 << 20;

constexpr uint64_t kPatience = 1000000;  // nanoseconds for threads to wake up

// How often a thread of this process had to leave its core to something else.
long preemptions() {
  struct rusage r;
  return getrusage(RUSAGE_SELF, &r) == 0 ? r.ru_nivcsw : 0;
}

// A task for each thread, which ends when all have come: then they are awake.
struct Meeting {
  int wanted;
  uint64_t end;
  std::atomic<int> arrived{0};
  std::atomic<bool> is_late{false};

  static void attend(void* context, int64_t, int) {
    Meeting& m = *static_cast<Meeting*>(context);
    m.arrived.fetch_add(1);
    while (m.arrived.load() < m.wanted)
      if (now_ns() > m.end) return m.is_late.store(true);
  }
};

// Pages that nobody has written are all the same one.
void touch(void* context, int64_t task, int) {
  unsigned char* at = static_cast<unsigned char*>(context) + size_t(task) * kTouched;
  for (size_t i = 0; i < kTouched; i += kPage) at[i] = 0;
}

// One-token products with matrices that lie one after the other in a buffer.
struct Probe {
  ThreadPool* pool;
  const Kernel* kernel;
  OpCall call;
  TensorView* w;
  unsigned char* begin;
  size_t bytes, step, at = 0;

  // False: the threads had to share their cores with something else, so the figures tell nothing.
  bool sweep(int* mb_per_s) {
    bool is_calm = true;
    for (int n = thread_pool_size(pool); n >= 1 && is_calm; --n) {
      thread_pool_set_part(pool, n);
      int best = 0;  // of runs in which each thread had a core
      for (int i = 0; i < 2; ++i) {
        if (at + step > bytes) at = 0;
        w->data = begin + at;
        at += step;
        Meeting m{n, now_ns() + kPatience};
        parallel_for(call.pool, n, Meeting::attend, &m);
        const long before = preemptions();
        const uint64_t t0 = now_ns();
        kernel->run(call);
        const int speed = int(uint64_t(step) * 1000 / (now_ns() - t0 + 1));
        if (speed > best && !m.is_late && preemptions() == before) best = speed;
      }
      mb_per_s[n - 1] = best;
      is_calm = best > 0;
    }
    thread_pool_set_part(pool, thread_pool_size(pool));
    return is_calm;
  }
};

// False: it told nothing.
bool probe(ThreadPool* pool, size_t bytes, int* first, int* second) {
  const OpDef* matmul = find_op_by_name("matmul");
  if (!matmul) return false;
  PackedFormat q4;
  q4.bits = 4, q4.zero_point = 8;
  const int64_t rows = int64_t(kStep / q4.tile_bytes(kColumns)) * kTileRows;
  const OpParams params{};
  TensorView in[2] = {{nullptr, nullptr, {1, kColumns}, 2, DType::kF32},
                      {nullptr, &q4, {rows, kColumns}, 2, DType::kPacked}};
  TensorView out{nullptr, nullptr, {1, rows}, 2, DType::kF32};
  OpCall call{in, &out, 2, 1, &params, 0, nullptr, thread_pool_part(pool)};
  const Kernel* kernel = find_kernel(matmul->number, call);
  if (!kernel) return false;
  const size_t floats = size_t(kColumns + rows) * sizeof(float);
  auto small = Block::allocate(
      floats + (kernel->scratch_bytes ? kernel->scratch_bytes(call, thread_pool_size(pool)) : 0), "probe");
  auto large = Block::allocate(bytes, "probe");
  if (!small.is_ok() || !large.is_ok()) return false;
  in[0].data = small.value().data();
  out.data = small.value().data() + size_t(kColumns) * sizeof(float);
  call.scratch = small.value().data() + floats;
  parallel_for(pool, int64_t(bytes / kTouched), touch, large.value().data());
  Probe p{pool, kernel, call, &in[1], large.value().data(), bytes, q4.matrix_bytes(rows, kColumns)};
  return p.sweep(first) && p.sweep(second);
}

constexpr int kFastest = 10000000;  // MB/s that no machine reaches

// Whether the file held figures that a measurement could have given.
bool read_kept(const char* path, int count, int* mb_per_s) {
  int read = 0, n;
  if (std::FILE* f = std::fopen(path, "r")) {
    while (read < count && std::fscanf(f, "%8d", &n) == 1 && n > 0 && n < kFastest) mb_per_s[read++] = n;
    std::fclose(f);
  }
  if (read == count) return true;
  while (read > 0) mb_per_s[--read] = 0;
  return false;
}

void keep(const char* path, int count, const int* mb_per_s) {
  char text[256], cpu[96];
  cpu_name(cpu, sizeof cpu);
  int n = 0;
  for (int i = 0; i < count; ++i) n += std::snprintf(text + n, sizeof text - size_t(n), "%d ", mb_per_s[i]);
  n += std::snprintf(text + n, sizeof text - size_t(n), "MB/s with 1, 2, ... threads: %s\n", cpu);
  (void)write_cache_file(path, text, size_t(n));
}

// Bytes of the buffer; 0, and why there is none.
size_t buffer_bytes(const Cores& cores, const char** why) {
  const size_t cache = size_t(cores.cache);
  const size_t bytes = cache == 0 ? kUnknown : cache * 2 < kLeast ? kLeast : cache * 2 / kTouched * kTouched;
  if (cache > kMost / 2) return *why = "not measured, the caches are too large", 0;
#if defined(_SC_AVPHYS_PAGES)
  if (size_t(sysconf(_SC_AVPHYS_PAGES)) < bytes * 4 / size_t(sysconf(_SC_PAGESIZE)))
    return *why = "not measured, little memory is free", 0;
#endif
  return bytes;
}

// Of the processor and what the pool may use of it.
uint64_t key_of(const ThreadPool* pool, const Cores& cores) {
  char cpu[96] = {};
  cpu_name(cpu, sizeof cpu);
  const int threads = thread_pool_size(pool);
  Xxh64 hash;
  hash.update(cpu, sizeof cpu);
  hash.update(&cores.fast_set, sizeof cores.fast_set);
  hash.update(&threads, sizeof threads);
  return hash.digest();
}

TokenThreads find(ThreadPool* pool, const Cores& cores) {
  TokenThreads t;
  t.threads = thread_pool_size(pool);
  t.how = "nothing to choose";
  if (t.threads < 2 || t.threads > kMostThreads) return t;
  char path[1024];
  const bool has_path = token_threads_file(pool, cores, path, sizeof path);
  const int count = t.threads;
  if (has_path && read_kept(path, count, t.mb_per_s)) {
    t.threads = choose_threads(t.mb_per_s, count);
    t.how = "measured before";
    return t;
  }
  const size_t bytes = buffer_bytes(cores, &t.how);
  if (bytes == 0) return t;
  // A later process tries again.
  t.how = "not known: measuring told nothing, as on a busy machine";
  int first[kMostThreads] = {}, again[kMostThreads];
  if (!probe(pool, bytes, first, again)) return t;
  const int chosen = choose_threads(first, count);
  if (chosen != choose_threads(again, count)) return t;
  std::memcpy(t.mb_per_s, first, sizeof first);
  t.threads = chosen;
  t.how = "measured";
  if (has_path) keep(path, count, t.mb_per_s);
  return t;
}

}  // namespace

int choose_threads(const int* mb_per_s, int count) {
  int best = 0, n = 0;
  for (int i = 0; i < count; ++i) best = mb_per_s[i] > best ? mb_per_s[i] : best;
  while (n < count - 1 && int64_t(mb_per_s[n]) * 100 < int64_t(best) * 95) ++n;
  return n + 1;
}

bool token_threads_file(const ThreadPool* pool, const Cores& cores, char* path, size_t size) {
  char name[32];
  std::snprintf(name, sizeof name, "threads-%016llx", static_cast<unsigned long long>(key_of(pool, cores)));
  return cache_path(name, path, size);
}

TokenThreads token_threads(ThreadPool* pool, const Cores& cores) {
  static std::mutex mutex;
  static TokenThreads known;
  static uint64_t known_key;
  const uint64_t key = key_of(pool, cores);
  std::lock_guard<std::mutex> lock(mutex);
  if (key != known_key) known = find(pool, cores), known_key = key;
  return known;
}

}  // namespace runnel
