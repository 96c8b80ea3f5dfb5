// Attention over f16 states on every CPU target of this machine: decode of one token at a depth, and prefill of 512
// tokens that end at a context. FLOPS counts two operations for each visible pair of query and key, and for key and
// value dims alike; bytes counts the visible keys and values once. Arguments: threads.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/thread_pool.h"
#include "ops/attention/attention.h"
#include "ops/define.h"

namespace {

using namespace runnel;

struct Setting {
  const char* name;
  int64_t tokens, context, heads, kv_heads, dim;
};

struct Memory {
  explicit Memory(size_t bytes) : bytes_(bytes + 64) {}
  unsigned char* data() {
    return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(bytes_.data()) + 63) & ~uintptr_t(63));
  }
  // Plausible small values: halves near 1 with changing signs, or floats.
  void fill_halves(size_t n) {
    uint16_t* p = reinterpret_cast<uint16_t*>(data());
    for (size_t i = 0; i < n; ++i) p[i] = uint16_t(0x2c00 + (i * 2654435761u >> 20 & 0x83ff));
  }
  void fill_floats(size_t n) {
    float* p = reinterpret_cast<float*>(data());
    for (size_t i = 0; i < n; ++i) p[i] = float(int((i * 2654435761u >> 16) & 255) - 128) / 128;
  }

 private:
  std::vector<unsigned char> bytes_;
};

void bench(benchmark::State& state, const Kernel* kernel, Setting s) {
  const int threads = int(state.range(0));
  ThreadPool* pool = thread_pool_create(threads);
  const int64_t slots = (s.context + 63) / 64 * 64;
  const size_t q_n = size_t(s.tokens * s.heads * s.dim), k_n = size_t(s.tokens * s.kv_heads * s.dim),
               state_n = size_t(s.kv_heads * slots * s.dim);
  Memory q(q_n * 4), k(k_n * 4), v(k_n * 4), y(q_n * 4), k_state(state_n * 2), v_state(state_n * 2);
  q.fill_floats(q_n), k.fill_floats(k_n), v.fill_floats(k_n), k_state.fill_halves(state_n),
      v_state.fill_halves(state_n);
  TensorView views[6] = {{q.data(), nullptr, {s.tokens, s.heads, s.dim}, 3, DType::kF32},
                         {k.data(), nullptr, {s.tokens, s.kv_heads, s.dim}, 3, DType::kF32},
                         {v.data(), nullptr, {s.tokens, s.kv_heads, s.dim}, 3, DType::kF32},
                         {k_state.data(), nullptr, {s.kv_heads, slots / 16, s.dim, 16}, 4, DType::kF16},
                         {v_state.data(), nullptr, {s.kv_heads, slots, s.dim}, 3, DType::kF16},
                         {y.data(), nullptr, {s.tokens, s.heads, s.dim}, 3, DType::kF32}};
  OpParams params{};
  *params_of<AttentionParams>(&params) = {0.0625f, 0, 0, 1, true};
  OpCall c{views, views + 5, 5, 1, &params, s.context - s.tokens, nullptr, pool};
  Memory scratch(kernel->scratch_bytes(c, threads));
  c.scratch = scratch.data();
  kernel->run(c);
  for (auto _ : state) kernel->run(c);
  const double pairs = double(s.tokens) * (double(s.context) - double(s.tokens - 1) / 2) * double(s.heads);
  using Counter = benchmark::Counter;
  state.counters["FLOPS"] = Counter(pairs * double(s.dim) * 4, Counter::kIsIterationInvariantRate);
  state.counters["bytes"] =
      Counter(double(s.context) * double(s.kv_heads * s.dim) * 4, Counter::kIsIterationInvariantRate);
  thread_pool_destroy(pool);
}

constexpr Setting kSettings[] = {{"decode", 1, 512, 4, 1, 256},    {"decode", 1, 8192, 4, 1, 256},
                                 {"decode", 1, 512, 9, 3, 64},     {"decode", 1, 8192, 9, 3, 64},
                                 {"prefill", 512, 512, 4, 1, 256}, {"prefill", 512, 2048, 4, 1, 256},
                                 {"prefill", 512, 2048, 9, 3, 64}};

}  // namespace

int main(int argc, char** argv) {
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  for (const Setting& s : kSettings)
    for (int t = 0; t < count; ++t) {
      if (!targets[t].available) continue;
      const KernelList list = targets[t].kernels(find_op_by_name("attention")->number);
      if (!list.count) continue;  // the next target's are taken
      const std::string name = std::string(s.name) + "/" + targets[t].name + "/context" + std::to_string(s.context) +
                               "/heads" + std::to_string(s.heads) + "x" + std::to_string(s.kv_heads) + "/dim" +
                               std::to_string(s.dim);
      benchmark::RegisterBenchmark(name.c_str(), bench, &list.rows[0], s)
          ->Arg(1)
          ->Arg(2)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
