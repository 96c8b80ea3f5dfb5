// Tokens a second of the operators along a sequence, for every CPU target that this machine has: prompts (512 tokens a
// call) and steps (one token a call), at the sizes of models with about 130 million weights. All on one thread,
// measured by its CPU time.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "contract/op.h"
#include "cpu/kernels.h"
#include "ops/causal_conv/causal_conv.h"
#include "ops/cell_recurrence/cell_recurrence.h"
#include "ops/scan/scan.h"
#include "ops/selective_scan/selective_scan.h"

namespace runnel::test {
namespace {

// An f32 operand: normal values times scale plus shift; no dimensions: absent.
struct Operand {
  std::vector<int64_t> dims;
  float scale = 1, shift = 0;
};

struct Work {
  std::string op;
  OpParams params{};
  std::vector<Operand> in, out;
};

template <class P>
Work make(const char* op, const P& p, std::vector<Operand> in, std::vector<Operand> out) {
  Work w{op, {}, std::move(in), std::move(out)};
  std::memcpy(w.params.bytes, &p, sizeof p);
  return w;
}

void measure(benchmark::State& state, const CpuTarget& target, const Work& w) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> memory;
  std::vector<TensorView> views;
  for (const std::vector<Operand>* side : {&w.in, &w.out})
    for (const Operand& o : *side) {
      TensorView v{};
      int64_t n = o.dims.empty() ? 0 : 1;
      for (int64_t d : o.dims) v.dims[v.rank++] = d, n *= d;
      memory.emplace_back(size_t(n) + 16);
      for (float& x : memory.back()) x = o.scale * normal(rng) + o.shift;
      if (n) v.dtype = DType::kF32;
      v.data = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.back().data()) + 63) & ~uintptr_t(63));
      views.push_back(v);
    }
  OpCall c{};
  c.in = views.data(), c.in_count = int32_t(w.in.size());
  c.out = views.data() + w.in.size(), c.out_count = int32_t(w.out.size());
  c.params = &w.params;
  const KernelList list = target.kernels(find_op_by_name(w.op.c_str())->number);
  if (!list.count) return state.SkipWithError("no kernel");
  const Kernel& kernel = list.rows[0];
  std::vector<unsigned char> scratch((kernel.scratch_bytes ? kernel.scratch_bytes(c, 1) : 0) + 64);
  c.scratch = reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) & ~uintptr_t(63));
  for (auto _ : state) {
    kernel.run(c);
    benchmark::ClobberMemory();
  }
  state.counters["tokens/s"] =
      benchmark::Counter(double(w.out[0].dims[0]), benchmark::Counter::kIsIterationInvariantRate);
}

void register_all() {
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  for (int64_t tokens : {int64_t(512), int64_t(1)}) {
    const int64_t c = 1536, n = 16, d = 256;
    const std::vector<Work> all = {
        make("causal_conv", CausalConvParams{UnaryKind::kSilu, false, 1}, {{{tokens, c}}, {{c, 4}}, {{c}}, {{3, c}}},
             {{{tokens, c}}, {{3, c}}}),
        make("selective_scan", SelectiveScanParams{0, INFINITY, true, false},
             {{{tokens, c}},
              {{tokens, c}},
              {{c, n}, 1, -8},
              {{tokens, n}},
              {{tokens, n}},
              {{c}},
              {{c}, 1, -4},
              {{c, n}}},
             {{{tokens, c}}, {{c, n}}}),
        make("scan", ScanParams{ScanKind::kReal, true, false}, {{{tokens, c}, 0.01f, -0.1f}, {{tokens, c}}, {{c}}},
             {{{tokens, c}}, {{c}}}),
        make("cell_recurrence", CellParams{CellKind::kLstm, false, false},
             {{{tokens, 4, 1, d}}, {{4, 1, d, d}, 0.05f}, {}, {{1, d}}, {{1, d}}}, {{{tokens, d}}, {{1, d}}, {{1, d}}}),
    };
    for (const Work& w : all)
      for (int t = 0; t < count; ++t)
        if (targets[t].available)
          benchmark::RegisterBenchmark((w.op + "/" + targets[t].name + "/tokens:" + std::to_string(tokens)).c_str(),
                                       [w, target = &targets[t]](benchmark::State& s) { measure(s, *target, w); })
              ->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace
}  // namespace runnel::test

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  runnel::test::register_all();
  benchmark::RunSpecifiedBenchmarks();
}
