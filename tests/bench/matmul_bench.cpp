// Speed of the matrix products on every CPU target that this machine has: GB/s of weights for one token, GOP/s (two a
// product and sum) for many. A plain read of memory stands beside them as the bound for one token.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "contract/op.h"
#include "cpu/kernels.h"
#include "cpu/thread_pool.h"
#include "packed_formats.h"

namespace runnel::test {
namespace {

struct FreeBytes {
  void operator()(void* p) const { std::free(p); }
};
using Bytes = std::unique_ptr<unsigned char, FreeBytes>;
Bytes allocate(size_t n) { return Bytes(static_cast<unsigned char*>(std::aligned_alloc(64, (n + 63) / 64 * 64))); }

// A matrix whose tiles are copies of one random tile.
Bytes make_weights(const PackedFormat& f, int64_t rows, int64_t columns) {
  const PackedMatrix tile = random_matrix(f, kTileRows, columns, 1);
  const size_t total = f.matrix_bytes(rows, columns);
  Bytes all = allocate(total);
  for (size_t at = 0; at < total; at += tile.bytes.size())
    std::memcpy(all.get() + at, tile.bytes.data(), tile.bytes.size());
  return all;
}

struct Shape {
  PackedFormat format;
  int64_t rows, columns, tokens;
  int threads;
};

void product(benchmark::State& state, const CpuTarget& target, const Shape& s) {
  const Bytes weights = make_weights(s.format, s.rows, s.columns);
  const Bytes x = allocate(size_t(s.tokens * s.columns) * 4), y = allocate(size_t(s.tokens * s.rows) * 4);
  std::mt19937 rng(1);
  for (int64_t i = 0; i < s.tokens * s.columns; ++i)
    reinterpret_cast<float*>(x.get())[i] = float(rng() >> 8) * 0x1p-24f - 0.5f;
  const TensorView in[2] = {{x.get(), nullptr, {s.tokens, s.columns}, 2, DType::kF32},
                            {weights.get(), &s.format, {s.rows, s.columns}, 2, DType::kPacked}};
  const TensorView out[1] = {{y.get(), nullptr, {s.tokens, s.rows}, 2, DType::kF32}};
  OpParams params{};
  OpCall c{};
  c.in = in;
  c.out = out;
  c.in_count = 2;
  c.out_count = 1;
  c.params = &params;
  const OpDef* op = find_op_by_name("matmul");
  const Kernel* kernel = nullptr;
  const KernelList list = target.kernels(op->number);
  for (int i = 0; i < list.count && !kernel; ++i)
    if (!list.rows[i].supports || list.rows[i].supports(c)) kernel = &list.rows[i];
  if (!kernel) return state.SkipWithError("no kernel");
  ThreadPool* pool = s.threads > 1 ? thread_pool_create(s.threads) : nullptr;
  const Bytes scratch = allocate(kernel->scratch_bytes(c, s.threads));
  c.scratch = scratch.get();
  c.pool = pool;
  for (auto _ : state) {
    kernel->run(c);
    benchmark::ClobberMemory();
  }
  thread_pool_destroy(pool);
  using benchmark::Counter;
  if (s.tokens == 1)
    state.counters["GB/s"] =
        Counter(double(s.format.matrix_bytes(s.rows, s.columns)) * 1e-9, Counter::kIsIterationInvariantRate);
  else
    state.counters["GOP/s"] =
        Counter(2e-9 * double(s.tokens) * double(s.rows) * double(s.columns), Counter::kIsIterationInvariantRate);
}

// Gate and up matrices (512 x 2048) of 10 out of 64 experts, and the matrices back.
void routed(benchmark::State& state, const CpuTarget& target, const PackedFormat& f, bool back, int64_t tokens,
            int threads) {
  const int64_t experts = 64, slots = 10, n = back ? 2048 : 512, k = back ? 512 : 2048;
  const int count = back ? 1 : 2;
  const Bytes w[2] = {make_weights(f, experts * n, k), make_weights(f, experts * n, k)};
  const Bytes x = allocate(size_t(tokens * slots * k) * 4), y = allocate(size_t(tokens * slots * n) * 8),
              ids = allocate(size_t(tokens * slots) * 4);
  for (int64_t i = 0; i < tokens * slots * k; ++i) reinterpret_cast<float*>(x.get())[i] = float(i % 997) * 0x1p-10f;
  for (int64_t i = 0; i < tokens * slots; ++i) reinterpret_cast<int32_t*>(ids.get())[i] = int32_t(i * 7 % experts);
  TensorView in[4] = {{x.get(), nullptr, {tokens, k}, 2, DType::kF32},
                      {ids.get(), nullptr, {tokens, slots}, 2, DType::kI32},
                      {w[0].get(), &f, {experts * n, k}, 2, DType::kPacked},
                      {w[1].get(), &f, {experts * n, k}, 2, DType::kPacked}};
  if (back) in[0] = {x.get(), nullptr, {tokens, slots, k}, 3, DType::kF32};
  const TensorView out[2] = {{y.get(), nullptr, {tokens, slots, n}, 3, DType::kF32},
                             {y.get() + tokens * slots * n * 4, nullptr, {tokens, slots, n}, 3, DType::kF32}};
  OpParams params{};
  OpCall c{};
  c.in = in, c.in_count = 2 + count, c.out = out, c.out_count = count, c.params = &params;
  ThreadPool* pool = threads > 1 ? thread_pool_create(threads) : nullptr;
  const Kernel& kernel = target.kernels(find_op_by_name("routed_matmul")->number).rows[0];
  const Bytes scratch = allocate(kernel.scratch_bytes(c, threads));
  c.scratch = scratch.get(), c.pool = pool;
  for (auto _ : state) {
    kernel.run(c);
    // Another token's experts: what they need is not in the cache.
    for (int64_t i = 0; i < tokens * slots; ++i)
      reinterpret_cast<int32_t*>(ids.get())[i] = (reinterpret_cast<int32_t*>(ids.get())[i] + 11) % int32_t(experts);
    benchmark::ClobberMemory();
  }
  thread_pool_destroy(pool);
  if (tokens == 1)
    state.counters["GB/s"] = benchmark::Counter(double(count * slots) * double(f.matrix_bytes(n, k)) * 1e-9,
                                                benchmark::Counter::kIsIterationInvariantRate);
  else
    state.counters["GOP/s"] = benchmark::Counter(2e-9 * double(count * slots * tokens) * double(n * k),
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

void plain_read(benchmark::State& state, size_t bytes, int threads) {
  const Bytes memory = allocate(bytes);
  std::memset(memory.get(), 1, bytes);
  ThreadPool* pool = threads > 1 ? thread_pool_create(threads) : nullptr;
  struct Job {
    const uint64_t* words;
    size_t count;
    uint64_t sums[64];
  } job{reinterpret_cast<const uint64_t*>(memory.get()), bytes / 8, {}};
  constexpr size_t kWords = 8192;
  for (auto _ : state) {
    parallel_for(
        pool, int64_t(job.count / kWords),
        [](void* context, int64_t task, int worker) {
          Job& j = *static_cast<Job*>(context);
          const uint64_t* p = j.words + size_t(task) * kWords;
          uint64_t sum[16] = {};
          for (size_t i = 0; i < kWords; i += 16)
            for (size_t k = 0; k < 16; ++k) sum[k] += p[i + k];
          for (uint64_t v : sum) j.sums[worker] += v;
        },
        &job);
    benchmark::DoNotOptimize(job.sums[0]);
  }
  thread_pool_destroy(pool);
  state.counters["GB/s"] = benchmark::Counter(double(bytes) * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

// One thread is measured by its CPU time, so that other work on the machine disturbs less; several by the clock.
void timed(benchmark::internal::Benchmark* b, int threads) {
  if (threads > 1) b->UseRealTime();
}

void register_all() {
  const PackedKind k = PackedKind::kInteger;
  const PackedFormat q8{k, 8, 32, 128, false, ScaleKind::kF16}, q4{k, 4, 32, 8, false, ScaleKind::kF16},
      q5{k, 5, 32, 16, false, ScaleKind::kF16}, q4s{k, 4, 32, 0, true, ScaleKind::kU6},
      q6{k, 6, 16, 32, false, ScaleKind::kI8}, f16{PackedKind::kF16, 0, 32, 0, false, ScaleKind::kF16},
      f32{PackedKind::kF32, 0, 32, 0, false, ScaleKind::kF16};
  const std::vector<PackedFormat> formats = {q8, q5, q4, q4s, q6, f16, f32};
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  for (int threads : {1, 2}) {
    for (size_t bytes : {size_t(178257920), size_t(737280)})
      timed(benchmark::RegisterBenchmark(
                ("read/" + std::to_string(bytes) + "/threads:" + std::to_string(threads)).c_str(), plain_read, bytes,
                threads),
            threads);
    for (int i = 0; i < count; ++i) {
      if (!targets[i].available) continue;
      const auto add = [&](const Shape& s) {
        const std::string name = std::string(targets[i].name) + "/" + name_of(s.format) + "/" + std::to_string(s.rows) +
                                 "x" + std::to_string(s.columns) + "/tokens:" + std::to_string(s.tokens) +
                                 "/threads:" + std::to_string(s.threads);
        timed(benchmark::RegisterBenchmark(name.c_str(), product, targets[i], s), threads);
      };
      for (const PackedFormat& f : {q8, q4s}) add({f, 262144, 640, 1, threads});
      for (const PackedFormat& f : formats) add({f, 2048, 640, 1, threads});
      for (const PackedFormat& f : formats) add({f, 2048, 640, 512, threads});
      for (bool back : {false, true})
        for (int64_t tokens : {1, 512}) {
          const std::string name = std::string(targets[i].name) + (back ? "/routed_back" : "/routed") +
                                   "/tokens:" + std::to_string(tokens) + "/threads:" + std::to_string(threads);
          timed(benchmark::RegisterBenchmark(name.c_str(), routed, targets[i], q4, back, tokens, threads), threads);
        }
      add({q4s, 640, 2048, 512, threads});
      add({q8, 2048, 2048, 512, threads});
      for (int64_t tokens : {2, 4, 16}) add({q4s, 2048, 640, tokens, threads});
    }
  }
}

}  // namespace
}  // namespace runnel::test

int main(int argc, char** argv) {
  runnel::test::register_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
