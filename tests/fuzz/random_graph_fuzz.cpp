// Honest random graphs of many operators, with several inputs, states, rows and heads, run in many ways: what a way
// gives must be what the reference kernels give in one pass. Input: the graph, operator by operator, then the ways.
// RUNNEL_FUZZ_THREADS=1 leaves out two threads, RUNNEL_FUZZ_BACKEND=vulkan adds ways on the device.
#include <cstdio>

#include "cpu/kernels.h"
#include "fuzz/grower.h"
#include "unit/compare_runs.h"
#include "unit/kept_graphs.h"

using namespace runnel;
using namespace runnel::test;

namespace {

int g_target = -1;  // below 0: all that the machine has; behind the last: the reference alone

}  // namespace

// The linker puts it in the place of find_kernel (tests/fuzz/CMakeLists.txt).
extern "C" const Kernel* real_find_kernel(uint16_t op, const OpCall& call, const CpuTarget* from) asm(
    "__real__ZN6runnel11find_kernelEtRKNS_6OpCallEPKNS_9CpuTargetE");
extern "C" const Kernel* wrapped_find_kernel(uint16_t op, const OpCall& call, const CpuTarget* from) asm(
    "__wrap__ZN6runnel11find_kernelEtRKNS_6OpCallEPKNS_9CpuTargetE");
extern "C" const Kernel* wrapped_find_kernel(uint16_t op, const OpCall& call, const CpuTarget* from) {
  int count = 0;
  const CpuTarget* all = cpu_targets(&count);
  if (g_target >= count) return nullptr;
  return real_find_kernel(op, call, g_target >= 0 ? all + g_target : from);
}

namespace {

int target_count() {
  int count = 0;
  cpu_targets(&count);
  return count;
}

// Puts a run of operators, without states, into a program of its own that takes their place: called, or behind a
// condition of which both sides are that program. The numbers stay the same.
void outline(GraphBuilder& b, Bytes& in, int number) {
  format::ProgramT& main = b.program();
  const auto has = [](const auto& list, const std::string& name) {
    return std::any_of(list.begin(), list.end(), [&](const auto& v) { return v->name == name; });
  };
  const auto is_plain = [&](const format::OpT& op) {
    for (const auto* list : {&op.inputs, &op.outputs})
      for (const std::string& name : *list)
        if (has(b.root.states, name)) return false;
    return control_of(op.code) == Control::kNone;
  };
  const size_t begin = in.below(uint32_t(main.ops.size()));
  size_t end = begin, most = 1 + in.below(6);
  while (end < main.ops.size() && end < begin + most && is_plain(*main.ops[end])) ++end;
  if (begin == end) return;
  auto part = std::make_unique<format::ProgramT>();
  part->name = "part" + std::to_string(number);
  std::vector<std::string> made, inputs, outputs;
  for (size_t i = begin; i < end; ++i) {
    for (const std::string& name : main.ops[i]->inputs) {
      const bool is_value = has(main.inputs, name) || has(main.values, name);
      if (is_value && std::find(made.begin(), made.end(), name) == made.end() &&
          std::find(inputs.begin(), inputs.end(), name) == inputs.end())
        inputs.push_back(name);
    }
    made.insert(made.end(), main.ops[i]->outputs.begin(), main.ops[i]->outputs.end());
  }
  bool by_rows = false;
  for (auto it = main.values.begin(); it != main.values.end();) {
    const std::string name = (*it)->name;
    if (std::find(made.begin(), made.end(), name) == made.end()) {
      ++it;
      continue;
    }
    by_rows = by_rows || (*it)->shape[0] == "R";
    bool is_used = std::find(main.outputs.begin(), main.outputs.end(), name) != main.outputs.end();
    for (size_t i = 0; i < main.ops.size(); ++i)
      for (const std::string& read : main.ops[i]->inputs)
        is_used = is_used || ((i < begin || i >= end) && read == name);
    part->values.push_back(std::make_unique<format::ValueT>(**it));
    if (is_used) outputs.push_back(name), ++it;
    else it = main.values.erase(it);
  }
  if (outputs.empty()) outputs.push_back(made.back());
  if (!has(main.values, outputs[0])) main.values.push_back(std::make_unique<format::ValueT>(*part->values.back()));
  for (const std::string& name : inputs)
    for (const auto* list : {&main.inputs, &main.values})
      for (const auto& v : *list)
        if (v->name == name) {
          part->inputs.push_back(std::make_unique<format::ValueT>(*v));
          part->inputs.back()->role = format::Role::none;
          part->inputs.back()->optional = part->inputs.back()->filled = false;
        }
  // The part's own name for the tokens, where all it takes of them comes with it.
  if (in.one_in(2) && !by_rows)
    for (auto* list : {&part->inputs, &part->values})
      for (const auto& v : *list)
        if (!v->shape.empty() && v->shape[0] == "T") v->shape[0] = "N";
  part->outputs = outputs;
  auto op = std::make_unique<format::OpT>();
  format::ControlAttrsT a;
  a.program = a.otherwise = part->name;
  const bool branches = !by_rows && in.one_in(2);
  op->name = branches ? "if" : "call", op->version = kControlVersion;
  op->code = uint16_t(branches ? Control::kIf : Control::kCall);
  op->attrs.Set(std::move(a));
  op->inputs = inputs, op->outputs = outputs;
  if (branches) op->inputs.insert(op->inputs.begin(), in.one_in(2) ? "yes" : "no");
  part->ops.assign(std::make_move_iterator(main.ops.begin() + long(begin)),
                   std::make_move_iterator(main.ops.begin() + long(end)));
  main.ops.erase(main.ops.begin() + long(begin), main.ops.begin() + long(end));
  main.ops.insert(main.ops.begin() + long(begin), std::move(op));
  b.root.programs.insert(b.root.programs.begin() + 1, std::move(part));
}

// The same graph, part of it in programs of their own.
std::vector<unsigned char> outlined(Bytes graph, Bytes& in, std::string* text) {
  GraphBuilder b;
  Grower(b, graph).grow();
  b.add_symbol("N", format::SymbolKind::axis, "64");
  b.add_tensor("yes", {1}, {1}), b.add_tensor("no", {1}, {0});
  for (int n = int(in.below(4)), i = 0; i < n; ++i) outline(b, in, i);
  for (const auto& p : b.root.programs) {
    *text += p->name + ":\n";
    for (const auto& op : p->ops) {
      *text += "  " + op->name;
      for (const auto& s : op->inputs) *text += " " + s;
      *text += " ->";
      for (const auto& s : op->outputs) *text += " " + s;
      *text += "\n";
    }
  }
  return b.build();
}

Way any_way(Bytes& in, int64_t total) {
  static const bool one_thread =
      std::getenv("RUNNEL_FUZZ_THREADS") && std::atoi(std::getenv("RUNNEL_FUZZ_THREADS")) == 1;
  Way w;
  w.chunk = one_of({1, 2, 3, 7, 8, 16, 64}, in.below(7));
  w.rows = one_of({1, 2, 5, 64}, in.below(4));
  w.window = one_of({0, 1, 8, 64}, in.below(4));
  w.threads = one_thread ? 1 : 1 + int(in.below(2));
  if (fuzzes_vulkan() && !in.one_in(3)) w.backend = RNL_BACKEND_VULKAN;
  w.target = int(in.below(uint32_t(target_count()) + 2)) - 1;
  for (int64_t left = total; left > 0;) {
    const int64_t n = std::min<int64_t>(left, in.one_in(3) ? 1 : 1 + in.below(30));
    w.calls.push_back(n);
    left -= n;
  }
  if (in.one_in(2)) w.fork_before = in.below(uint32_t(w.calls.size()));
  if (in.one_in(2)) w.back_before = in.below(uint32_t(w.calls.size())), w.back = 1 + in.below(8);
  return w;
}

[[noreturn]] void fail(const Way& way, const std::string& what, const std::string& graph) {
  std::fprintf(stderr, "%s\n%s\n%s", way.text().c_str(), what.c_str(), graph.c_str());
  __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 8) return 0;
  Bytes in{data, size};
  GraphBuilder b;
  const Bytes graph = in;
  Grower(b, in).grow();
  if (b.program().outputs.empty()) return 0;
  const std::vector<unsigned char> file = b.build();
  const int64_t total = 1 + in.below(60), context = 64;
  const auto choose = [](int t) { g_target = t; };
  Way reference;
  reference.calls = {total}, reference.target = target_count();
  const WayResult wanted = run_way(file, reference, context, 5, choose);
  if (!wanted.ran) return 0;  // refused, or its numbers are too large
  for (int n = 0; n < 3; ++n) {
    const Way way = any_way(in, total);
    std::string text;
    const WayResult got = run_way(outlined(graph, in, &text), way, context, 5, choose);
    if (!got.is_planned) {
      // Refused for what the way wants, then, and not for where its operators stand.
      if (run_way(file, way, context, 5, choose).is_planned) fail(way, got.error, text);
      continue;
    }
    if (!got.ran) fail(way, got.error, text);
    // A mean of what a norm made is 0 but for rounding; other numbers of these graphs are about 1.
    const std::string e = difference_of(got.out, wanted.out, 1e-4f, 1e-6f);
    if (!e.empty()) fail(way, e, text);
  }
  return 0;
}
