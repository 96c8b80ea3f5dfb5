#include "runtime/ops/attention/attention.h"

#include "ops/attention_states.h"

namespace runnel::test {
namespace {

struct Shape {
  int64_t heads, kv_heads, key, value;
};

struct Stream {
  Shape shape;
  AttentionParams params;
  Array q, k, v, sinks;
  int64_t tokens;
};

Stream make_stream(Shape s, int64_t tokens, int64_t window, uint32_t seed = 1) {
  Stream m{s, {1.0f / std::sqrt(float(s.key)), 0, window, 1, true}, {}, {}, {}, {}, tokens};
  m.q = Array::random({tokens, s.heads, s.key}, seed, 2.0f);
  m.k = Array::random({tokens, s.kv_heads, s.key}, seed + 1);
  m.v = Array::random({tokens, s.kv_heads, s.value}, seed + 2);
  return m;
}

// The call that feeds tokens [begin, begin + n).
Case call_of(const Stream& m, int64_t begin, int64_t n, Array keys, Array values) {
  Case t;
  t.op = "attention";
  *params_of<AttentionParams>(&t.params) = m.params;
  t.in = {rows_of(m.q, begin, n), rows_of(m.k, begin, n), rows_of(m.v, begin, n),
          std::move(keys),        std::move(values),      m.sinks};
  t.out = {Array(DType::kF32, {n, m.shape.heads, m.shape.value})};
  t.position = begin;
  return t;
}

// The whole stream's outputs when it is fed in these chunks (the last one repeats). kernel null: by the reference.
std::vector<float> feed(const Stream& m, DType type, int64_t slots, std::vector<int64_t> chunks, const Kernel* kernel,
                        ThreadPool* pool) {
  Array keys = key_state(type, m.shape.kv_heads, slots, m.shape.key),
        values = value_state(type, m.shape.kv_heads, slots, m.shape.value);
  std::vector<float> y;
  size_t at = 0;
  for (int64_t begin = 0; begin < m.tokens;) {
    int64_t n = chunks[std::min(at++, chunks.size() - 1)];
    n = std::min(n, m.tokens - begin);
    Case t = call_of(m, begin, n, keys, values);
    std::vector<Array> in = t.in, out = t.out;
    std::vector<TensorView> views;
    OpCall c = t.call(in, out, views);
    const Status s = find_op_by_name("attention")->check_data(c);
    EXPECT_TRUE(s.is_ok()) << s.message();
    Ran r = kernel ? run_kernel(t, *kernel, pool) : run_reference(t);
    keys = r.in[3];
    values = r.in[4];
    y.insert(y.end(), r.out[0].data<float>(), r.out[0].data<float>() + r.out[0].bytes() / 4);
    begin += n;
  }
  return y;
}

void expect_stream(const Stream& m, DType type, int64_t slots, const std::vector<std::vector<int64_t>>& splits,
                   double tolerance = 1e-5) {
  const std::vector<float> want = feed(m, type, slots, {splits[0]}, nullptr, nullptr);
  const Array reference = Array::f32({int64_t(want.size())}, want);
  ThreadPool* pool = thread_pool_create(2);
  const Case any = call_of(m, 0, 1, key_state(type, m.shape.kv_heads, slots, m.shape.key),
                           value_state(type, m.shape.kv_heads, slots, m.shape.value));
  for_each_kernel(any, [&](const Kernel& kernel, const std::string&) {
    const std::vector<float> first = feed(m, type, slots, splits[0], &kernel, nullptr);
    expect_close(Array::f32({int64_t(first.size())}, first), reference, tolerance, kernel.name);
    for (const auto& split : splits)
      for (ThreadPool* p : {static_cast<ThreadPool*>(nullptr), pool}) {
        const std::vector<float> y = feed(m, type, slots, split, &kernel, p);
        ASSERT_EQ(y.size(), first.size());
        EXPECT_EQ(0, std::memcmp(y.data(), first.data(), y.size() * 4))
            << kernel.name << ": bits depend on the cut, chunk " << split[0] << (p ? ", two threads" : "");
      }
  });
  thread_pool_destroy(pool);
}

Case stateless(Shape s, int64_t tokens, bool causal, int64_t window) {
  Stream m = make_stream(s, tokens, window, 5);
  m.params.causal = causal;
  Case t = call_of(m, 0, tokens, Array(), Array());
  t.in.resize(3);
  t.position = 0;
  return t;
}

TEST(Attention, StatelessMatchesReferenceAtTheEdges) {
  for (const Shape s :
       {Shape{1, 1, 16, 16}, Shape{4, 1, 24, 40}, Shape{3, 3, 17, 5}, Shape{6, 2, 1, 1}, Shape{8, 2, 64, 64}})
    for (const int64_t tokens : {0, 1, 16, 17, 65, 110})
      for (const bool causal : {true, false})
        for (const int64_t window : {0, 1, 20}) compare_all(stateless(s, tokens, causal, window), 1e-5);
}

TEST(Attention, StatelessCrossesSpans) {
  compare_all(stateless({2, 1, 8, 8}, 300, true, 0), 1e-5);
  compare_all(stateless({2, 1, 8, 8}, 300, false, 1000), 1e-5);
  compare_all(stateless({1, 1, 8, 8}, 530, false, 270), 1e-5);
}

// The largest sizes that a device takes (refuses() in vulkan.cpp).
TEST(Attention, AtTheLimitsOfADevice) {
  const Stream m = make_stream({2, 1, 1024, 1024}, 3, 0);
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8})
    compare_all(call_of(m, 0, 3, key_state(type, 1, 64, 1024), value_state(type, 1, 64, 1024)),
                type == DType::kF32 ? 1e-5 : 2e-3);
}

TEST(Attention, SegmentsAreIndependent) {
  for (const bool causal : {true, false})
    for (const int64_t window : {0, 7}) {
      Case t = stateless({4, 2, 20, 12}, 100, causal, window);
      t.in.resize(8);
      t.in[7] = Array::i32({7}, {0, 0, 1, 40, 40, 99, 100});
      compare_all(t, 1e-5);
      // The same tokens alone give the same bits.
      const Case& whole = t;
      for_each_kernel(t, [&](const Kernel& kernel, const std::string&) {
        const Ran all = run_kernel(whole, kernel, nullptr);
        Case part = whole;
        part.in.resize(3);
        for (int i = 0; i < 3; ++i) part.in[size_t(i)] = rows_of(whole.in[size_t(i)], 40, 59);
        part.out = {Array(DType::kF32, {59, 4, 12})};
        const Ran alone = run_kernel(part, kernel, nullptr);
        EXPECT_EQ(0, std::memcmp(alone.out[0].data<float>(), all.out[0].data<float>() + 40 * 48, alone.out[0].bytes()))
            << kernel.name;
      });
    }
}

TEST(Attention, SoftcapBiasAndSinks) {
  for (const int64_t bias_heads : {1, 4}) {
    Case t = stateless({4, 2, 32, 32}, 70, true, 30);
    params_of<AttentionParams>(&t.params)->softcap = 1.5f;
    t.in.resize(7);
    t.in[5] = Array::random({4}, 9, 3.0f);
    t.in[6] = Array::random({bias_heads, 70, 70}, 10, 2.0f);
    compare_all(t, 1e-5);
  }
}

// One row of a bias stands for all queries, with states and without.
TEST(Attention, BiasOfOneRow) {
  for (const int64_t bias_heads : {1, 4}) {
    Case t = stateless({4, 2, 32, 32}, 70, false, 30);
    t.in.resize(7);
    t.in[6] = Array::random({bias_heads, 1, 70}, 10, 2.0f);
    t.in[6].data<float>()[3] = -INFINITY;
    compare_all(t, 1e-5);
    Case many = t;
    many.in[6] = Array(DType::kF32, {bias_heads, 70, 70});
    for (int64_t h = 0; h < bias_heads; ++h)
      for (int64_t row = 0; row < 70; ++row)
        std::memcpy(many.in[6].data<float>() + (h * 70 + row) * 70, t.in[6].data<float>() + h * 70, 70 * 4);
    for_each_kernel(t, [&](const Kernel& kernel, const std::string&) {
      const Ran one = run_kernel(t, kernel, nullptr), all = run_kernel(many, kernel, nullptr);
      EXPECT_EQ(0, std::memcmp(one.out[0].data<float>(), all.out[0].data<float>(), one.out[0].bytes())) << kernel.name;
    });
  }
}

TEST(Attention, BiasOfMinusInfinityMasks) {
  Case t = stateless({1, 1, 16, 16}, 20, false, 0);
  t.in.resize(7);
  t.in[6] = Array::random({1, 20, 20}, 10);
  for (int row = 0; row < 20; ++row)
    for (int key = 0; key < 20; ++key)
      if (row == 3 || key == 5) t.in[6].data<float>()[row * 20 + key] = -INFINITY;
  compare_all(t, 1e-5);
  const Ran r = run_reference(t);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(r.out[0].data<float>()[3 * 16 + i], 0.0f);  // sees nothing
  t.in[5] = Array::random({1}, 9);  // and with a sink nothing but the sink
  compare_all(t, 1e-5);
}

TEST(Attention, BiasOverAStreamIsIndexedByPosition) {
  Stream m = make_stream({4, 2, 16, 16}, 70, 0);
  Case t = call_of(m, 0, 30, key_state(DType::kF32, 2, 128, 16), value_state(DType::kF32, 2, 128, 16));
  t.in.resize(7);
  t.in[6] = Array::random({4, 30, 90}, 3);
  const Ran first = run_reference(t);
  Case next = call_of(m, 30, 40, first.in[3], first.in[4]);
  next.in.resize(7);
  next.in[6] = Array::random({1, 40, 70}, 4);
  compare_all(next, 1e-5, {3, 4});
  next.in[6] = Array::random({1, 40, 69}, 4);
  std::vector<TensorView> views;
  EXPECT_EQ(find_op_by_name("attention")->check_data(next.call(next.in, next.out, views)).code(),
            Code::kInvalidArgument);
}

TEST(Attention, AppendDoesNotDependOnTheCut) {
  const std::vector<std::vector<int64_t>> splits = {{100}, {1}, {7}, {64}, {3, 90, 1, 2}};
  for (const Shape s : {Shape{4, 1, 32, 32}, Shape{9, 3, 20, 24}, Shape{3, 3, 7, 33}, Shape{2, 2, 48, 16}})
    expect_stream(make_stream(s, 100, 0), DType::kF16, 128, splits);
  for (const Shape s : {Shape{4, 1, 32, 48}, Shape{3, 3, 40, 33}})
    for (const DType type : {DType::kF32, DType::kQ8}) expect_stream(make_stream(s, 100, 0), type, 128, splits);
}

TEST(Attention, AppendAcrossSpans) {
  expect_stream(make_stream({4, 1, 16, 16}, 530, 0), DType::kF16, 576, {{530}, {64}, {255, 1, 1, 254, 2}});
  expect_stream(make_stream({2, 1, 16, 16}, 300, 0), DType::kF32, 320, {{300}, {7}});
  expect_stream(make_stream({1, 1, 16, 64}, 270, 0), DType::kQ8, 320, {{270}, {255, 1}});
}

// Long enough for the kernel to give the spans of a single token to threads.
TEST(Attention, DecodeSplitsSpansOverThreads) {
  const Stream m = make_stream({4, 1, 64, 64}, 10, 0);
  Array keys = key_state(DType::kF16, 1, 1152, 64), values = value_state(DType::kF16, 1, 1152, 64);
  std::mt19937 rng(3);
  for (Array* a : {&keys, &values})
    for (size_t i = 0; i < a->bytes() / 2; ++i) a->data<uint16_t>()[i] = uint16_t(rng() & 0xbbff);  // halves below 2
  ThreadPool* pool = thread_pool_create(2);
  const auto at = [&](int64_t begin, int64_t n, Array k, Array v) {
    Case t = call_of(m, begin, n, std::move(k), std::move(v));
    t.position = 1090 + begin;
    return t;
  };
  for_each_kernel(at(0, 1, keys, values), [&](const Kernel& kernel, const std::string&) {
    const Ran whole = run_kernel(at(0, 10, keys, values), kernel, nullptr);
    Array k = keys, v = values;
    for (int64_t t = 0; t < 10; t += 2) {  // one token a call, the last two together
      const int64_t n = t == 8 ? 2 : 1;
      for (int64_t begin = t; begin < t + 2; begin += n) {
        const Ran one = run_kernel(at(begin, n, k, v), kernel, pool);
        k = one.in[3], v = one.in[4];
        EXPECT_EQ(0,
                  std::memcmp(one.out[0].data<float>(), whole.out[0].data<float>() + begin * 256, one.out[0].bytes()))
            << kernel.name << " token " << begin;
      }
    }
  });
  thread_pool_destroy(pool);
}

TEST(Attention, RingsWrap) {
  for (const int64_t window : {1, 2, 50, 64})
    expect_stream(make_stream({4, 2, 16, 16}, 210, window), DType::kF16, 128, {{64}, {1}, {60, 1, 13}});
  for (const DType type : {DType::kF32, DType::kQ8})
    expect_stream(make_stream({4, 2, 16, 16}, 210, 50), type, 128, {{64}, {7}});
  expect_stream(make_stream({4, 2, 16, 20}, 500, 300), DType::kF16, 384, {{80}, {33}});
  expect_stream(make_stream({3, 1, 16, 16}, 120, 1000), DType::kF32, 128, {{120}, {1}});  // a window that the stream
                                                                                          // never fills
}

TEST(Attention, SinksAndSoftcapOverAStream) {
  Stream m = make_stream({4, 2, 16, 16}, 150, 40);
  m.sinks = Array::random({4}, 20, 2.0f);
  m.params.softcap = 2.0f;
  expect_stream(m, DType::kF16, 128, {{64}, {1}, {7}});
}

// Tokens behind a query, and slots that hold old tokens, may hold anything.
TEST(Attention, WhatIsMaskedContributesNothing) {
  Stream m = make_stream({4, 2, 16, 16}, 40, 8);
  Stream broken = m;
  for (int i = 0; i < 32; ++i) {
    broken.k.data<float>()[20 * 32 + i] = NAN;
    broken.v.data<float>()[20 * 32 + i] = i % 2 ? NAN : INFINITY;
  }
  const Case any = call_of(m, 0, 1, key_state(DType::kF16, 2, 64, 16), value_state(DType::kF16, 2, 64, 16));
  for_each_kernel(any, [&](const Kernel& kernel, const std::string&) {
    const std::vector<float> good = feed(m, DType::kF16, 64, {40}, &kernel, nullptr),
                             bad = feed(broken, DType::kF16, 64, {40}, &kernel, nullptr);
    EXPECT_EQ(0, std::memcmp(good.data(), bad.data(), 20 * 64 * 4)) << kernel.name << ": tokens before";
    EXPECT_TRUE(std::isnan(bad[20 * 64])) << kernel.name << ": the token itself";
    EXPECT_EQ(0, std::memcmp(good.data() + 28 * 64, bad.data() + 28 * 64, 12 * 64 * 4))
        << kernel.name << ": tokens that no longer see it";
  });
}

TEST(Attention, LargeScoresDoNotOverflow) {
  Stream m = make_stream({2, 1, 16, 16}, 270, 0);
  m.params.scale = 500.0f;
  expect_stream(m, DType::kF32, 320, {{270}, {1}}, 2e-3);
}

TEST(Attention, ReferenceHoldsTheFormula) {
  Case t;
  t.op = "attention";
  *params_of<AttentionParams>(&t.params) = {0.5f, 3.0f, 0, 1, true};
  t.in = {
      Array::f32({2, 1, 1}, {1, 2}), Array::f32({2, 1, 1}, {3, -1}), Array::f32({2, 1, 1}, {10, 20}), Array(), Array(),
      Array::f32({1}, {0.25f})};
  t.out = {Array(DType::kF32, {2, 1})};
  const Ran r = run_reference(t);
  const auto cap = [](double s) { return 3 * std::tanh(s / 3); };
  const double sink = std::exp(0.25), a = std::exp(cap(1.5)), b = std::exp(cap(3.0)), d = std::exp(cap(-1.0));
  EXPECT_NEAR(r.out[0].data<float>()[0], 10 * a / (a + sink), 1e-5);
  EXPECT_NEAR(r.out[0].data<float>()[1], (10 * b + 20 * d) / (b + d + sink), 1e-5);
}

TEST(Attention, ScratchDoesNotShrinkWithFewerTokens) {
  Stream m = make_stream({4, 2, 16, 16}, 200, 0);
  const auto bytes = [&](const Kernel& kernel, int64_t tokens, int64_t slots) {
    Case t = call_of(m, 0, tokens, key_state(DType::kF16, 2, slots, 16), value_state(DType::kF16, 2, slots, 16));
    std::vector<TensorView> views;
    return kernel.scratch_bytes(t.call(t.in, t.out, views), 2);
  };
  const Case any = call_of(m, 0, 1, key_state(DType::kF16, 2, 64, 16), value_state(DType::kF16, 2, 64, 16));
  for_each_kernel(any, [&](const Kernel& kernel, const std::string&) {
    size_t last = 0;
    for (const int64_t tokens : {1, 2, 6, 50, 200}) {
      EXPECT_GE(bytes(kernel, tokens, 1024), last);
      last = bytes(kernel, tokens, 1024);
    }
    EXPECT_GE(bytes(kernel, 1, 2048), bytes(kernel, 1, 1024));
  });
}

Status checked(const Case& t, bool data = false) {
  std::vector<Array> in = t.in, out = t.out;
  std::vector<TensorView> views;
  const OpCall c = t.call(in, out, views);
  const OpDef* def = find_op_by_name("attention");
  return data ? def->check_data(c) : def->check(c);
}

// lse is the log of the denominator: two halves of the keys, joined by it, are the whole.
TEST(Attention, LogSumsJoinParts) {
  for (int64_t tokens : {1, 9, 70}) {
    Stream m = make_stream({4, 2, 20, 24}, tokens, 0);
    Case t;
    t.op = "attention";
    m.params.causal = false;
    *params_of<AttentionParams>(&t.params) = m.params;
    const int64_t keys = 300, half = 140;
    const Array k = Array::random({keys, 2, 20}, 5), v = Array::random({keys, 2, 24}, 6);
    const auto part = [&](int64_t begin, int64_t n) {
      t.in = {m.q, rows_of(k, begin, n), rows_of(v, begin, n)};
      t.out = {Array(DType::kF32, {tokens, 4, 24}), Array(DType::kF32, {tokens, 4})};
      compare_all(t, 2e-5);
      return run_reference(t);
    };
    const Ran all = part(0, keys), a = part(0, half), b = part(half, keys - half);
    for (int64_t i = 0; i < tokens * 4; ++i) {
      const float la = a.out[1].data<float>()[i], lb = b.out[1].data<float>()[i], l = all.out[1].data<float>()[i];
      EXPECT_NEAR(std::exp(la - l) + std::exp(lb - l), 1, 1e-5);
      for (int64_t d = 0; d < 24; ++d)
        EXPECT_NEAR(std::exp(la - l) * a.out[0].data<float>()[i * 24 + d] +
                        std::exp(lb - l) * b.out[0].data<float>()[i * 24 + d],
                    all.out[0].data<float>()[i * 24 + d], 1e-5);
    }
  }
}

// With a stride the stream holds every stride-th token, whatever the cut; the plain formula over just those keys.
TEST(Attention, StrideKeepsOneTokenOfAGroup) {
  const int64_t tokens = 150, stride = 4;
  Stream m = make_stream({4, 2, 20, 24}, tokens, 0);
  m.params.stride = stride;
  for (DType type : {DType::kF32, DType::kF16}) {
    const std::vector<float> want = feed(m, type, 64, {tokens}, nullptr, nullptr);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t keys = (t + 1) / stride;
      if (type == DType::kF16 || keys > 3) continue;
      // By hand: head 3 reads kv head 1.
      double sum = 0, y = 0;
      for (int64_t j = 0; j < keys; ++j) {
        const int64_t at = j * stride + stride - 1;
        double dot = 0;
        for (int64_t d = 0; d < 20; ++d)
          dot += double(m.q.data<float>()[(t * 4 + 3) * 20 + d]) * double(m.k.data<float>()[(at * 2 + 1) * 20 + d]);
        const double w = std::exp(dot * double(m.params.scale));
        sum += w, y += w * double(m.v.data<float>()[(at * 2 + 1) * 24 + 5]);
      }
      EXPECT_NEAR(want[size_t((t * 4 + 3) * 24 + 5)], keys ? y / sum : 0, 1e-5) << t;
    }
    Case one = call_of(m, 0, 1, key_state(type, 2, 64, 20), value_state(type, 2, 64, 24));
    for_each_kernel(one, [&](const Kernel& k, const std::string&) {
      const std::vector<float> whole = feed(m, type, 64, {tokens}, &k, nullptr);
      for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(whole[i], want[i], 2e-5) << k.name;
      for (int64_t chunk : {1, 3, 7, 64})
        EXPECT_EQ(feed(m, type, 64, {chunk}, &k, nullptr), whole) << k.name << ", chunk " << chunk;
    });
  }
}

// The same call after another operator wrote its keys and values; `tokens` of it, or all.
Case shared_call(const Case& owner, const Ran& written, const std::vector<int32_t>* tokens) {
  Case t = owner;
  t.in.resize(9);
  t.in[1] = t.in[2] = Array();
  t.in[3] = written.in[3], t.in[4] = written.in[4];
  if (!tokens) return t;
  const int64_t n = int64_t(tokens->size()), heads = owner.in[0].view().dims[1], key = owner.in[0].view().dims[2];
  t.in[0] = Array(DType::kF32, {n, heads, key});
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(t.in[0].data<float>() + i * heads * key, owner.in[0].data<float>() + (*tokens)[size_t(i)] * heads * key,
                size_t(heads * key) * 4);
  t.in[8] = Array::i32({n}, *tokens);
  t.out[0] = Array(DType::kF32, {n, heads, owner.out[0].view().dims[2]});
  return t;
}

// Keys and values that another operator wrote: the bits are those of the operator that wrote them, for all tokens and
// for some.
TEST(Attention, SharedKeysAndValues) {
  ThreadPool* pool = thread_pool_create(2);
  const std::vector<int32_t> some = {0, 5, 5, 39}, backwards = {39, 1};
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8})
    for (const int64_t window : {0, 20}) {
      Stream m = make_stream({6, 2, 24, 48}, 140, window);
      m.sinks = Array::random({6}, 20, 2.0f);
      const int64_t slots = window ? 64 : 192;
      const Case any = call_of(m, 0, 1, key_state(type, 2, slots, 24), value_state(type, 2, slots, 48));
      for_each_kernel(any, [&](const Kernel& kernel, const std::string&) {
        Array keys = key_state(type, 2, slots, 24), values = value_state(type, 2, slots, 48);
        for (int64_t begin = 0; begin < 140; begin += 40) {
          const Case owner = call_of(m, begin, std::min<int64_t>(40, 140 - begin), keys, values);
          const Ran own = run_kernel(owner, kernel, nullptr);
          keys = own.in[3], values = own.in[4];
          const Ran all = run_kernel(shared_call(owner, own, nullptr), kernel, pool);
          EXPECT_EQ(0, std::memcmp(all.out[0].data<float>(), own.out[0].data<float>(), own.out[0].bytes()))
              << kernel.name;
          EXPECT_EQ(0, std::memcmp(all.in[3].data<char>(), keys.data<char>(), keys.bytes()))
              << kernel.name << ": keys were written";
          if (begin == 120) continue;
          for (const auto* tokens : {&some, &backwards}) {
            const Ran part = run_kernel(shared_call(owner, own, tokens), kernel, tokens == &some ? pool : nullptr);
            for (size_t i = 0; i < tokens->size(); ++i)
              EXPECT_EQ(0, std::memcmp(part.out[0].data<float>() + i * 6 * 48,
                                       own.out[0].data<float>() + size_t((*tokens)[i]) * 6 * 48, 6 * 48 * 4))
                  << kernel.name << " token " << (*tokens)[i];
          }
        }
      });
      Case owner = call_of(m, 0, 40, key_state(type, 2, slots, 24), value_state(type, 2, slots, 48));
      const Ran own = run_reference(owner);
      compare_all(shared_call(owner, own, nullptr), 1e-5);
      compare_all(shared_call(owner, own, &some), 1e-5);
    }
  thread_pool_destroy(pool);
}

// A stream so long that the spans of few queries go to threads.
TEST(Attention, SharedKeysAcrossSpans) {
  ThreadPool* pool = thread_pool_create(2);
  Stream m = make_stream({4, 1, 64, 64}, 1000, 0);
  const Case owner = call_of(m, 0, 1000, key_state(DType::kF16, 1, 1024, 64), value_state(DType::kF16, 1, 1024, 64));
  const std::vector<int32_t> last = {999}, two = {300, 999};
  for_each_kernel(owner, [&](const Kernel& kernel, const std::string&) {
    const Ran own = run_kernel(owner, kernel, nullptr);
    for (const auto* tokens : {&last, &two}) {
      const Ran part = run_kernel(shared_call(owner, own, tokens), kernel, pool);
      for (size_t i = 0; i < tokens->size(); ++i)
        EXPECT_EQ(0,
                  std::memcmp(part.out[0].data<float>() + i * 256, own.out[0].data<float>() + (*tokens)[i] * 256, 1024))
            << kernel.name;
    }
  });
  thread_pool_destroy(pool);
}

TEST(Attention, RefusesWrongSharedCalls) {
  const Stream m = make_stream({4, 2, 16, 16}, 60, 0);
  const Case owner = call_of(m, 0, 20, key_state(DType::kF16, 2, 64, 16), value_state(DType::kF16, 2, 64, 16));
  const std::vector<int32_t> rows = {0, 19};
  const Case good = shared_call(owner, run_reference(owner), &rows);
  EXPECT_TRUE(checked(good).is_ok() && checked(good, true).is_ok());
  const auto refused = [&](auto change, const char* word) {
    Case t = good;
    change(t);
    const Status s = checked(t);
    EXPECT_EQ(s.code(), Code::kInvalidArgument) << word;
    EXPECT_NE(std::string(s.message()).find(word), std::string::npos) << s.message();
  };
  refused([](Case& t) { t.in[3] = t.in[4] = Array(); }, "neither k and v nor states");
  refused([](Case& t) { t.in[3] = Array(); }, "only one of");
  refused([](Case& t) { t.in[3] = key_state(DType::kF16, 2, 64, 12); }, "k_state is f16[2, 4, 12, 16] but q is");
  refused([](Case& t) { t.in[3] = Array(DType::kF16, {2, 64}); }, "k_state is");
  refused([](Case& t) { t.in[4] = value_state(DType::kF16, 1, 64, 16); }, "k_state is f16[2, 4, 16, 16], want [1,");
  refused([](Case& t) { t.in[1] = Array::random({2, 2, 16}, 1); }, "v is");
  refused([](Case& t) { t.in[8] = Array::i32({3}, {0, 1, 2}); }, "rows is");
  refused([](Case& t) { t.in[1] = t.in[2] = Array::random({2, 2, 16}, 1); }, "rows together with k and v");
  for (const int32_t bad : {-1, 64}) {
    Case t = good;
    t.in[8] = Array::i32({2}, {3, bad});
    EXPECT_EQ(checked(t, true).code(), bad < 0 ? Code::kInvalidArgument : Code::kContextFull);
  }
}

TEST(Attention, RefusesWrongShapesByName) {
  const Stream m = make_stream({4, 2, 16, 16}, 20, 0);
  const Case good = call_of(m, 0, 20, key_state(DType::kF16, 2, 64, 16), value_state(DType::kF16, 2, 64, 16));
  EXPECT_TRUE(checked(good).is_ok());
  const auto refused = [&](auto change, const char* word) {
    Case t = good;
    change(t);
    const Status s = checked(t);
    EXPECT_EQ(s.code(), Code::kInvalidArgument) << word;
    EXPECT_NE(std::string(s.message()).find(word), std::string::npos) << s.message();
  };
  refused([](Case& t) { t.in[0] = Array::random({20, 3, 16}, 1); }, "kv heads");
  refused([](Case& t) { t.in[1] = Array::random({20, 2, 15}, 1); }, "k is f32[20, 2, 15]");
  refused([](Case& t) { t.in[2] = Array::random({19, 2, 16}, 1); }, "v is f32[19, 2, 16]");
  refused([](Case& t) { t.in[3] = Array(); }, "only one of");
  refused([](Case& t) { t.in[3] = key_state(DType::kF16, 2, 64, 15); }, "k_state");
  refused([](Case& t) { t.in[4] = value_state(DType::kF32, 2, 64, 16); }, "v_state");
  refused([](Case& t) { t.in[3] = key_state(DType::kF16, 2, 80, 16), t.in[4] = value_state(DType::kF16, 2, 80, 16); },
          "multiple of 64");
  refused([](Case& t) { t.in[3] = key_state(DType::kF16, 2, 128, 16); }, "k_state is");
  refused([](Case& t) { t.in[5] = Array::random({2}, 1); }, "sinks");
  refused([](Case& t) { t.in.resize(8), t.in[6] = Array::random({3, 20, 20}, 1); }, "bias");
  refused([](Case& t) { t.in.resize(8), t.in[6] = Array::random({1, 2, 20}, 1); }, "bias");
  refused([](Case& t) { t.in.resize(8), t.in[7] = Array::i32({2}, {0, 20}); }, "segments");
  refused([](Case& t) { t.out[0] = Array(DType::kF32, {20, 63}); }, "y is");
  refused([](Case& t) { params_of<AttentionParams>(&t.params)->causal = false; }, "causal");
}

TEST(Attention, ChecksTheStreamAgainstTheSlots) {
  const Stream m = make_stream({1, 1, 16, 16}, 70, 0);
  Case t = call_of(m, 50, 14, key_state(DType::kF16, 1, 64, 16), value_state(DType::kF16, 1, 64, 16));
  EXPECT_TRUE(checked(t, true).is_ok());
  t.position = 51;
  const Status full = checked(t, true);
  EXPECT_EQ(full.code(), Code::kContextFull);
  EXPECT_NE(std::string(full.message()).find("65"), std::string::npos) << full.message();
  EXPECT_NE(std::string(full.message()).find("64"), std::string::npos) << full.message();
  AttentionParams* p = params_of<AttentionParams>(&t.params);
  p->window = 51;  // 51 + 14 - 1 positions fit
  EXPECT_TRUE(checked(t, true).is_ok());
  p->window = 52;
  EXPECT_EQ(checked(t, true).code(), Code::kContextFull);
  Case cut = stateless({1, 1, 4, 4}, 10, true, 0);
  cut.in.resize(8);
  for (const std::vector<int32_t>& bounds :
       {std::vector<int32_t>{1, 5, 10}, {0, 6, 5}, {0, 11, 10}, {0, 5, 9}, {0, -1, 10}}) {
    cut.in[7] = Array::i32({3}, bounds);
    EXPECT_EQ(checked(cut, true).code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace runnel::test
