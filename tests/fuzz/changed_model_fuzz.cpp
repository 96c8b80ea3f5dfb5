// A small model whose objects are changed one by one, sealed again, planned with any options and run: calls cut
// anywhere, tokens taken back, forks, saved states. What the planner takes must stay inside its memory. Input: which
// model, options, a count of changes, then 6 bytes for each.
#include <cmath>

#include "fuzz/bytes.h"
#include "unit/any_calls.h"
#include "unit/kept_graphs.h"

using namespace runnel;
using namespace runnel::test;

namespace {

GraphBuilder base_model(unsigned which) {
  static const std::vector<KeptGraph> kept = kept_graphs();
  GraphBuilder b;
  which %= kept.size() + 2;
  if (which < kept.size()) kept[which].build(b);
  else static_cast<ModelBuilder&>(b) = attention_model(2, which == kept.size() ? 20 : 0);
  return b;
}

const char* const kSizes[] = {"T",
                              "R",
                              "1",
                              "4",
                              "0",
                              "2",
                              "16",
                              "64",
                              "T*2",
                              "T+1",
                              "mod(T,8)+1",
                              "floordiv(chunk,T)*4",
                              "(chunk-T)*1000",
                              "context",
                              "chunk",
                              "rollback",
                              "rows",
                              "max(T,R)",
                              "min(T,R)",
                              "R*2",
                              "floordiv(T,2)",
                              "2147418113",
                              "2147549185",
                              "1099511627776",
                              "ceildiv(context,64)*64",
                              "ceildiv(4+max(chunk,rollback),64)*64",
                              "chunk-T",
                              "T-1",
                              "4*R+T",
                              "floordiv(context,16)",
                              "N",
                              "K",
                              "N+1",
                              "min(N,K)"};
const char* size_of(uint8_t x) { return kSizes[x % std::size(kSizes)]; }

template <class T>
T* any_of(std::vector<std::unique_ptr<T>>& list, uint32_t n) {
  return list.empty() ? nullptr : list[n % list.size()].get();
}

// A name of a value, tensor or state of the program, or none.
std::string any_name(format::ModelT& m, const format::ProgramT& p, uint32_t n) {
  std::vector<std::string> names{""};
  for (const auto& v : p.inputs) names.push_back(v->name);
  for (const auto& v : p.values) names.push_back(v->name);
  for (const auto& v : m.tensors) names.push_back(v->name);
  for (const auto& v : m.states) names.push_back(v->name);
  return names[n % names.size()];
}

void change_shape(std::vector<std::string>& shape, uint8_t where, uint8_t what) {
  if (where % 8 == 7) shape.insert(shape.begin() + (where / 8) % long(shape.size() + 1), size_of(what));
  else if (where % 8 == 6 && !shape.empty()) shape.erase(shape.begin() + (where / 8) % long(shape.size()));
  else if (!shape.empty()) shape[where % shape.size()] = size_of(what);
}

void change_value(format::ValueT& v, Bytes& in) {
  const uint8_t what = in.byte(), a = in.byte(), b = in.byte();
  if (what % 16 == 15) v.optional = !v.optional;
  else if (what % 16 == 13) v.filled = !v.filled, v.fill = int8_t(b);
  else if (what % 16 == 14) v.binds = a % 2 ? "K" : a % 4 ? "N" : "";
  else if (what % 4 == 0) v.role = format::Role(a % 5);
  else if (what % 4 == 1) v.dtype = format::DType(b % 10);
  else change_shape(v.shape, a, b);
}

void change_state(format::StateT& s, Bytes& in) {
  const uint8_t what = in.byte(), a = in.byte(), b = in.byte();
  switch (what % 8) {
    case 0: s.kind = format::StateKind(a % 5); break;
    case 1: s.dtype = format::DType(a % 10); break;
    case 2: s.block_axis = a % 5; break;
    case 3: s.slots = size_of(a); break;
    case 4: s.window = a % 2 ? a : uint32_t(a) << (b % 24); break;
    default: change_shape(s.shape, a, b); break;
  }
}

void set(bool& field, uint8_t x) { field = x % 2; }
void set(uint8_t& field, uint8_t x) { field = x; }
template <class T>
requires std::is_enum_v<T>
void set(T& field, uint8_t x) { field = T(x % 24); }
template <class T>
requires std::is_integral_v<T>
void set(T& field, uint8_t x) { field = x % 4 ? T(x / 4) : x % 8 ? T(x) << 16 : T(int64_t(x) - 128); }
void set(float& field, uint8_t x) {
  const float some[] = {0, 1, -1, 0.5f, 1e-6f, 1e30f, -1e30f, INFINITY, -INFINITY, NAN};
  field = x < std::size(some) ? some[x] : (float(x) - 128) / 8;
}
template <class T>
void set(std::vector<T>& field, uint8_t x) {
  if (x >= 248) field.push_back(T(x));
  else if (x >= 240 && !field.empty()) field.pop_back();
  else if (!field.empty()) set(field[x % field.size()], uint8_t(x / field.size() % 16));
}
template <class... Fields>
void set_one(uint8_t which, uint8_t x, Fields&... fields) {
  uint8_t i = which % sizeof...(fields);
  ((i-- == 0 ? set(fields, x) : void()), ...);
}

// The attribute that the number chooses, whatever the operator.
void change_attributes(format::ModelT& m, format::AttrsUnion& u, uint8_t what, uint8_t x) {
  const auto one = [&](auto&... fields) { set_one(what, x, fields...); };
  if (auto* c = u.AsControlAttrs()) (what % 2 ? c->program : c->otherwise) = m.programs[x % m.programs.size()]->name;
  else if (auto* a = u.AsAttentionAttrs()) one(a->window, a->stride, a->causal, a->softcap, a->scale);
  else if (auto* a = u.AsSparseAttentionAttrs())
    one(a->window, a->stride, a->causal, a->range_block, a->kernel, a->dilation, a->step, a->causal_axes, a->chunk,
        a->first, a->sigmoid, a->shift);
  else if (auto* a = u.AsSelectBlocksAttrs())
    one(a->scale, a->threshold, a->block, a->stride, a->first, a->least, a->estimate, a->choice, a->queries, a->rows,
        a->count, a->lines, a->chunk, a->similarity, a->divergence);
  else if (auto* a = u.AsBudgetAttentionAttrs()) one(a->scale, a->budget, a->recent, a->block, a->window, a->pool);
  else if (auto* a = u.AsSelectTokensAttrs()) one(a->least, a->threshold);
  else if (auto* a = u.AsMatchTokensAttrs()) one(a->merge, a->keep);
  else if (auto* a = u.AsWindowAttrs())
    one(a->kernel, a->stride, a->dilation, a->pad, a->groups, a->activation, a->least, a->most, a->pool,
        a->count_padding);
  else if (auto* a = u.AsPadAttrs()) one(a->kind, a->begin, a->value);
  else if (auto* a = u.AsGatherAttrs()) one(a->axis);
  else if (auto* a = u.AsMathAttrs()) one(a->kind, a->alpha, a->beta);
  else if (auto* a = u.AsArithmeticAttrs()) one(a->kind);
  else if (auto* a = u.AsGroupNormAttrs()) one(a->groups, a->eps);
  else if (auto* a = u.AsIndexAttrs()) one(a->begin, a->step);
  else if (auto* a = u.AsSliceAttrs()) one(a->axis, a->begin);
  else if (auto* a = u.AsScanAttrs()) one(a->kind, a->log_decay, a->reverse);
  else if (auto* a = u.AsReduceAttrs()) one(a->axis, a->kind);
  else if (auto* a = u.AsTransposeAttrs()) one(a->perm);
  else if (auto* a = u.AsUnaryAttrs()) one(a->kind, a->alpha);
  else if (auto* a = u.AsBinaryAttrs()) one(a->kind);
  else if (auto* a = u.AsEmbeddingAttrs()) one(a->outside, a->scale);
  else if (auto* a = u.AsRopeAttrs()) one(a->interleaved, a->scale, a->limit, a->exact);
}

void change_op(format::ModelT& m, format::ProgramT& p, Bytes& in) {
  if (p.ops.empty()) return;
  const uint8_t which = in.byte(), what = in.byte(), a = in.byte(), b = in.byte();
  const size_t i = which % p.ops.size();
  format::OpT& op = *p.ops[i];
  const auto set = [&](std::vector<std::string>& list) {
    if (a % 16 == 15) list.push_back(any_name(m, p, b));
    else if (a % 16 == 14 && !list.empty()) list.pop_back();
    else if (!list.empty()) list[a % list.size()] = any_name(m, p, b);
  };
  switch (what % 8) {
    case 0:
    case 1: set(op.inputs); break;
    case 2: set(op.outputs); break;
    case 3: std::swap(p.ops[i], p.ops[a % p.ops.size()]); break;
    case 4: p.ops.push_back(std::make_unique<format::OpT>(op)); break;
    case 5:
      if (const OpDef* def = find_op(a % 48)) op.code = def->number, op.version = def->version, op.name = def->name;
      if (a >= 250) op.code = uint16_t(kControls[a % 3].control), op.version = 1, op.name = kControls[a % 3].name;
      break;
    default: change_attributes(m, op.attrs, a, b); break;
  }
}

void change(GraphBuilder& b, Bytes& in) {
  format::ModelT& m = b.root;
  const uint8_t what = in.byte();
  format::ProgramT& p = *m.programs[what / 16 % m.programs.size()];
  switch (what % 12) {
    case 0:
    case 1:
      if (auto* v = any_of(p.inputs, in.byte())) change_value(*v, in);
      break;
    case 2:
    case 3:
      if (auto* v = any_of(p.values, in.byte())) change_value(*v, in);
      break;
    case 4:
    case 5:
      if (auto* s = any_of(m.states, in.byte())) change_state(*s, in);
      break;
    case 6:
    case 7:
    case 8: change_op(m, p, in); break;
    case 9: {
      const uint8_t where = in.byte();
      const std::string name = any_name(m, p, in.byte());
      auto& list = where % 2 ? p.outputs : p.optional_outputs;
      if (where % 8 < 4 || list.empty()) list.push_back(name);
      else list[where % list.size()] = name;
      break;
    }
    case 10: {
      auto* s = any_of(m.symbols, in.byte());
      const uint8_t a = in.byte();
      if (a % 4 == 0) s->kind = format::SymbolKind(a / 4 % 3);
      else s->bound = size_of(in.byte());
      break;
    }
    default: {
      const uint8_t a = in.byte();
      if (auto* t = any_of(m.tensors, a); t && a % 2) t->shape.assign(1 + a / 2 % 3, in.byte() % 32);
      else if (!p.inputs.empty())
        p.inputs.push_back(std::make_unique<format::ValueT>(*p.inputs[a % p.inputs.size()])),
            p.inputs.back()->name += "2";
      break;
    }
  }
}

struct Run {
  const OpenModel& model;
  rnl_session_options o;
  Bytes& in;
  int64_t at = 0;

  AnyCall call() {
    AnyCall c;
    c.program = in.byte() % uint32_t(model.info().programs().size());
    c.first = at;
    const uint8_t n = in.byte();
    c.tokens = n < 128 ? 1 + n % 9 : 1 + n % 40;
    c.rows = n % 5 == 0 ? int64_t(n / 5) % 9 : -1;
    c.gives_roles = n % 7 == 0;
    c.absent = n % 3 == 0 ? 0 : n;
    return c;
  }
  void step(SessionPtr& s) {
    const uint8_t what = in.byte();
    Gathered out;
    switch (what % 8) {
      case 4: (void)rnl_session_rollback(s.get(), what / 8 % 9); break;
      case 5: {
        rnl_session* copy = nullptr;
        if (rnl_session_fork(s.get(), &copy) == RNL_OK) s.reset(copy);
        break;
      }
      case 6: {
        std::vector<unsigned char> state(rnl_session_snapshot_bytes(s.get()));
        if (rnl_session_snapshot(s.get(), state.data(), state.size()) == RNL_OK)
          (void)rnl_session_restore_snapshot(s.get(), state.data(), state.size());
        break;
      }
      case 7: {
        const int32_t ids[] = {1, 2, 0};
        rnl_generate_options g{};
        g.struct_size = sizeof g, g.max_tokens = 3, g.logprobs_count = what / 8 % 3;
        g.logprobs = [](void*, const rnl_logprobs*) {};
        (void)rnl_session_generate(s.get(), ids, 3, &g, nullptr, nullptr, nullptr);
        break;
      }
      default: (void)run_any(s.get(), model, o, call(), what & 64, &out); break;
    }
    at = rnl_session_position(s.get());
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in{data, size};
  GraphBuilder b = base_model(in.byte());
  b.root.features = {"optional_inputs", "filled_inputs"};
  const uint8_t a = in.byte(), c = in.byte();
  rnl_session_options o{};
  o.context = one_of({16, 64, 100, 256}, a % 4);
  o.chunk = std::min<int64_t>(o.context, one_of({1, 3, 8, 64}, a / 4 % 4));
  o.rows = std::min<int64_t>(o.chunk, one_of({1, 2, 8, 40}, a / 16 % 4));
  o.rollback_window = one_of({-1, 1, 8, 64}, a / 64);
  o.kv = int32_t(one_of({0, 0, RNL_F16, RNL_Q8}, c % 4));
  o.budget_bytes = 16 << 20;
  if (fuzzes_vulkan()) o.backend = RNL_BACKEND_VULKAN;
  for (int n = c / 4 % 6; n > 0; --n) change(b, in);
  const OpenModel model(b.build(), 1 + c / 64 % 2);
  if (!model) return 0;
  Planned p = plan_session(model, o);
  if (!p.session) return 0;
  Run run{model, o, in};
  for (int n = 0; n < 10; ++n) run.step(p.session);
  return 0;
}
