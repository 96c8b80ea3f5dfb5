// Programs that run others, sizes that are results, and states that one program writes for others: models in JSON
// against their formulas, for every split of a stream and on every backend.
#include <chrono>
#include <random>
#include <thread>

#include "base/xxh64.h"
#include "kit.h"
#include "text/generate.h"

namespace runnel::convert {
namespace {

using test::plan_options;

constexpr char kSymbols[] =
    R"j("symbols": [{"name": "context", "kind": "option"}, {"name": "chunk", "kind": "option"},
  {"name": "rollback", "kind": "option"}, {"name": "rows", "kind": "option"},
  {"name": "T", "kind": "axis", "bound": "chunk"}, {"name": "R", "kind": "axis", "bound": "rows"},
  {"name": "N", "kind": "axis", "bound": "16"}, {"name": "M", "kind": "axis", "bound": "16"},
  {"name": "K", "kind": "result", "bound": "min(N, 6)"}])j";

using Rows = std::vector<float>;

class LinkedPrograms : public testing::Test {
 protected:
  std::string error(const std::string& programs) {
    write_file(tmp_ / "g.json", "{" + std::string(kSymbols) + ", " + programs + "}");
    write_file(tmp_ / "w.safetensors", safetensors_of(tensors_));
    return error_of([&] { convert_to(tmp_ / "g.json", tmp_ / "m.rnl", Weights::kF32, tmp_ / "w.safetensors"); });
  }
  void open(const std::string& programs) {
    ASSERT_EQ(error(programs), "");
    auto model = Model::open((tmp_ / "m.rnl").c_str(), {});
    ASSERT_TRUE(model.is_ok()) << model.take_status().message();
    model_ = std::move(model.value());
  }
  std::unique_ptr<Session> make(int64_t chunk = 64) const {
    PlanOptions o = plan_options();
    o.context = 256, o.chunk = chunk, o.rollback = 8;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) return ADD_FAILURE() << s.take_status().message(), nullptr;
    return std::move(s.value());
  }
  Rows draw(int64_t n) {
    Rows v(static_cast<size_t>(n));
    for (float& f : v) f = std::uniform_real_distribution<float>(-2, 2)(random_);
    return v;
  }
  void add_tensor(const std::string& name, std::vector<uint64_t> shape) {
    uint64_t n = 1;
    for (const uint64_t d : shape) n *= d;
    tensors_.push_back({name, std::move(shape), draw(int64_t(n))});
  }
  const Rows& tensor(const std::string& name) const {
    for (const PlainTensor& t : tensors_)
      if (t.name == name) return t.values;
    throw std::runtime_error("no tensor " + name);
  }
  static IoTensor of(const char* name, const Rows& v, std::vector<int64_t> dims) {
    IoTensor t{name, DType::kF32, int32_t(dims.size()), {}, const_cast<float*>(v.data()), v.size() * 4};
    std::copy(dims.begin(), dims.end(), t.dims);
    return t;
  }
  static IoTensor of(const char* name, const int32_t& n) {
    return {name, DType::kI32, 1, {1}, const_cast<int32_t*>(&n), 4};
  }
  // The output "y", with its shape.
  static Status run(Session& s, const char* program, std::vector<IoTensor> inputs, Rows* y,
                    std::vector<int64_t>* dims = nullptr) {
    y->assign(4096, NAN);
    IoTensor out{"y", DType::kF32, 0, {}, y->data(), y->size() * 4};
    Status status = s.run_into(program, inputs.data(), inputs.size(), &out, 1);
    int64_t n = 1;
    for (int d = 0; d < out.rank; ++d) n *= out.dims[d];
    y->resize(size_t(status.is_ok() ? n : 0));
    if (dims) dims->assign(out.dims, out.dims + out.rank);
    return status;
  }
  static Status feed_ids(Session& s, std::vector<int32_t> ids) {
    IoTensor t{"ids", DType::kI32, 1, {int64_t(ids.size())}, ids.data(), ids.size() * 4};
    return s.run_into(nullptr, &t, 1, nullptr, 0);
  }
  static void expect_near(const Rows& y, const std::vector<double>& want) {
    ASSERT_EQ(y.size(), want.size());
    for (size_t i = 0; i < y.size(); ++i)
      ASSERT_NEAR(y[i], want[i], 2e-5 * std::max(1.0, std::fabs(want[i]))) << "element " << i;
  }

  TemporaryFolder tmp_;
  std::vector<PlainTensor> tensors_;
  std::unique_ptr<Model> model_;
  std::mt19937 random_{11};
};

// y = x w^T, rows of `in` elements.
std::vector<double> product(const std::vector<double>& x, const Rows& w, size_t in) {
  std::vector<double> y;
  for (size_t row = 0; row < x.size() / in; ++row)
    for (size_t o = 0; o < w.size() / in; ++o) {
      double sum = 0;
      for (size_t i = 0; i < in; ++i) sum += x[row * in + i] * double(w[o * in + i]);
      y.push_back(sum);
    }
  return y;
}
std::vector<double> wide(const Rows& v) { return {v.begin(), v.end()}; }

// An encoder writes keys and values of n rows; a decoder reads them by cross attention and sums what it saw.
class EncoderDecoder : public LinkedPrograms {
 protected:
  void SetUp() override {
    for (const char* name : {"wq", "wk", "wv"}) add_tensor(name, {8, 6});
    open(R"j("states": [
      {"name": "keys", "kind": "kept", "dtype": "f32", "shape": ["N", "2", "4"]}, {"name": "values", "kind": "kept", "dtype": "f32", "shape": ["N", "2", "4"]},
      {"name": "h", "kind": "recurrent", "dtype": "f32", "shape": ["8"]}],
    "programs": [
      {"name": "decode", "inputs": [{"name": "x", "shape": ["T", "6"]}], "outputs": ["y"],
       "values": [{"name": "q", "shape": ["T", "2", "4"]}, {"name": "seen", "shape": ["T", "2", "4"]},
                  {"name": "flat", "shape": ["T", "8"]}, {"name": "y", "shape": ["T", "8"]}],
       "ops": [{"name": "matmul", "inputs": ["x", "wq"], "outputs": ["q"]},
               {"name": "attention", "inputs": ["q", "keys", "values"], "outputs": ["seen"], "attrs_type": "AttentionAttrs",
                "attrs": {"scale": 0.5, "causal": false}},
               {"name": "reshape", "inputs": ["seen"], "outputs": ["flat"]},
               {"name": "scan", "inputs": ["", "flat", "h"], "outputs": ["y", "h"]}]},
      {"name": "encode", "inputs": [{"name": "e", "shape": ["N", "6"]}], "outputs": ["y"],
       "values": [{"name": "v", "shape": ["N", "8"]}, {"name": "y", "shape": ["N", "8"]}],
       "ops": [{"name": "matmul", "inputs": ["e", "wk"], "outputs": ["keys"]},
               {"name": "matmul", "inputs": ["e", "wv"], "outputs": ["v"]},
               {"name": "unary", "inputs": ["v"], "outputs": ["y"], "attrs_type": "UnaryAttrs", "attrs": {"kind": "square"}},
               {"name": "reshape", "inputs": ["v"], "outputs": ["values"]}]}])j");
  }
  Status encode(Session& s, const Rows& e) {
    Rows y;
    return run(s, "encode", {of("e", e, {int64_t(e.size() / 6), 6})}, &y);
  }
  Status decode(Session& s, const Rows& x, Rows* y) {
    return run(s, nullptr, {of("x", x, {int64_t(x.size() / 6), 6})}, y);
  }
  // What decoding x gives behind `sum`, which grows.
  std::vector<double> formula(const Rows& e, const Rows& x, std::vector<double>* sum) {
    const auto q = product(wide(x), tensor("wq"), 6), k = product(wide(e), tensor("wk"), 6),
               v = product(wide(e), tensor("wv"), 6);
    std::vector<double> y;
    sum->resize(8);
    for (size_t t = 0; t < q.size() / 8; ++t) {
      for (size_t head = 0; head < 2; ++head) {
        double total = 0, mean[4] = {};
        for (size_t j = 0; j < k.size() / 8; ++j) {
          double score = 0;
          for (size_t i = 0; i < 4; ++i) score += q[t * 8 + head * 4 + i] * k[j * 8 + head * 4 + i];
          const double weight = std::exp(0.5 * score);
          total += weight;
          for (size_t i = 0; i < 4; ++i) mean[i] += weight * v[j * 8 + head * 4 + i];
        }
        for (size_t i = 0; i < 4; ++i) (*sum)[head * 4 + i] += mean[i] / total;
      }
      y.insert(y.end(), sum->begin(), sum->end());
    }
    return y;
  }
};

TEST_F(EncoderDecoder, FollowsTheFormulaForEverySplit) {
  for (const int64_t chunk : {1, 3, 64}) {
    auto s = make(chunk);
    ASSERT_TRUE(s);
    for (const int64_t rows : {1, 5, 16}) {
      s->reset();
      const Rows e = draw(rows * 6);
      const Status status = encode(*s, e);
      ASSERT_TRUE(status.is_ok()) << status.message();
      std::vector<double> sum;
      for (const int64_t tokens : {1, 7, 2, 4}) {
        const Rows x = draw(tokens * 6);
        Rows y;
        const Status decoded = decode(*s, x, &y);
        ASSERT_TRUE(decoded.is_ok()) << decoded.message();
        expect_near(y, formula(e, x, &sum));
      }
    }
  }
}

TEST_F(EncoderDecoder, WhatIsKeptGoesWithTheStream) {
  auto s = make(4);
  ASSERT_TRUE(s);
  const Rows e = draw(5 * 6), first = draw(6 * 6), second = draw(3 * 6), third = draw(2 * 6);
  std::vector<double> sum;
  Rows y;
  ASSERT_TRUE(encode(*s, e).is_ok());
  ASSERT_TRUE(decode(*s, first, &y).is_ok());
  expect_near(y, formula(e, first, &sum));
  ASSERT_TRUE(decode(*s, second, &y).is_ok());
  std::vector<unsigned char> snapshot(s->snapshot_bytes());
  ASSERT_TRUE(s->snapshot(snapshot.data(), snapshot.size()).is_ok());
  ASSERT_TRUE(s->save((tmp_ / "s").c_str()).is_ok());
  auto copy = s->fork();
  ASSERT_TRUE(copy.is_ok());
  auto loaded = make(4), restored = make(4);
  ASSERT_TRUE(encode(*restored, draw(16 * 6)).is_ok());  // other sizes, which go
  ASSERT_TRUE(restored->restore(snapshot.data(), snapshot.size()).is_ok());
  const Status opened = loaded->load((tmp_ / "s").c_str());
  ASSERT_TRUE(opened.is_ok()) << opened.message();
  for (Session* one : {s.get(), copy.value().get(), loaded.get(), restored.get()}) {
    // Computed again from a checkpoint, by cross attention with what is kept.
    const Status status = one->rollback(3);
    ASSERT_TRUE(status.is_ok()) << status.message();
    std::vector<double> branch = sum;
    ASSERT_TRUE(decode(*one, third, &y).is_ok());
    expect_near(y, formula(e, third, &branch));
  }
  ASSERT_TRUE(s->recover().is_ok());
  std::vector<double> branch = sum;
  ASSERT_TRUE(s->rollback(2).is_ok());
  ASSERT_TRUE(decode(*s, second, &y).is_ok());
  expect_near(y, formula(e, second, &branch));
}

TEST_F(EncoderDecoder, IsReadOnlyWhenWrittenAndWrittenOnlyBeforeTheStream) {
  auto s = make();
  ASSERT_TRUE(s);
  const Rows e = draw(5 * 6), other = draw(2 * 6), x = draw(6);
  Rows y;
  Status status = decode(*s, x, &y);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("reads state \"keys\", which no call has written"), std::string::npos)
      << status.message();
  ASSERT_TRUE(encode(*s, e).is_ok());
  ASSERT_TRUE(encode(*s, other).is_ok());  // before the first token it may change
  std::vector<double> sum;
  ASSERT_TRUE(decode(*s, x, &y).is_ok());
  expect_near(y, formula(other, x, &sum));
  status = encode(*s, e);
  EXPECT_NE(std::string(status.message()).find("the stream holds 1 tokens; reset the session before"),
            std::string::npos)
      << status.message();
  ASSERT_TRUE(decode(*s, x, &y).is_ok());
  expect_near(y, formula(other, x, &sum));
  s->reset();
  EXPECT_FALSE(decode(*s, x, &y).is_ok());
  // A call that fails leaves nothing to read.
  Rows broken = e;
  broken[3] = NAN;
  EXPECT_EQ(encode(*s, broken).code(), Code::kNonFinite);
  EXPECT_FALSE(decode(*s, x, &y).is_ok());
}

TEST_F(EncoderDecoder, ADamagedSizeIsNotRestored) {
  auto s = make();
  ASSERT_TRUE(s);
  ASSERT_TRUE(encode(*s, draw(5 * 6)).is_ok());
  std::vector<unsigned char> snapshot(s->snapshot_bytes());
  ASSERT_TRUE(s->snapshot(snapshot.data(), snapshot.size()).is_ok());
  for (const int64_t size : {int64_t(17), int64_t(-2), INT64_MAX}) {
    std::vector<unsigned char> bad = snapshot;
    std::memcpy(bad.data() + sizeof(StateHeader) + kTextStateBytes, &size, sizeof size);
    const uint64_t sum = xxh64(bad.data(), bad.size() - 8);
    std::memcpy(bad.data() + bad.size() - 8, &sum, 8);
    EXPECT_EQ(s->restore(bad.data(), bad.size()).code(), Code::kStateMismatch) << size;
  }
  EXPECT_TRUE(s->restore(snapshot.data(), snapshot.size()).is_ok());
}

// A language model whose stream takes ids, or rows of features in their place: two programs around one body.
constexpr char kParts[] =
    R"j("states": [{"name": "h", "kind": "recurrent", "dtype": "f32", "shape": ["8"]}], "programs": [
  {"name": "main", "inputs": [{"name": "ids", "dtype": "i32", "shape": ["T"], "role": "tokens"},
                              {"name": "rows", "dtype": "i32", "shape": ["R"], "role": "rows"}], "outputs": ["logits"],
   "values": [{"name": "x", "shape": ["T", "8"]}, {"name": "s", "shape": ["T", "8"]}, {"name": "logits", "shape": ["R", "20"]}],
   "ops": [{"name": "embedding", "inputs": ["ids", "table"], "outputs": ["x"]},
           {"name": "scan", "inputs": ["decay", "x", "h"], "outputs": ["s", "h"]},
           {"name": "call", "inputs": ["s", "rows"], "outputs": ["logits"], "attrs_type": "ControlAttrs",
            "attrs": {"program": "head"}}]},
  {"name": "features", "inputs": [{"name": "x", "shape": ["T", "8"]}, {"name": "rows", "dtype": "i32", "shape": ["R"], "role": "rows"}],
   "outputs": ["logits"], "values": [{"name": "s", "shape": ["T", "8"]}, {"name": "logits", "shape": ["R", "20"]}],
   "ops": [{"name": "scan", "inputs": ["decay", "x", "h"], "outputs": ["s", "h"]},
           {"name": "call", "inputs": ["s", "rows"], "outputs": ["logits"], "attrs_type": "ControlAttrs",
            "attrs": {"program": "head"}}]},
  {"name": "head", "inputs": [{"name": "s", "shape": ["N", "8"]}, {"name": "wanted", "dtype": "i32", "shape": ["M"]}],
   "outputs": ["y"], "values": [{"name": "g", "shape": ["M", "8"]}, {"name": "y", "shape": ["M", "20"]}],
   "ops": [{"name": "gather_rows", "inputs": ["s", "wanted"], "outputs": ["g"]},
           {"name": "matmul", "inputs": ["g", "table"], "outputs": ["y"]}]}])j";

TEST_F(LinkedPrograms, FeaturesTakeThePlaceOfIdsInAPrompt) {
  add_tensor("table", {20, 8});
  tensors_.push_back({"decay", {1, 8}, {0.9f, -0.8f, 0.7f, 0.6f, -0.5f, 0.4f, 0.3f, 0.95f}});
  open(kParts);
  const std::vector<int32_t> prompt = {3, 17, 4, 0, 11, 9, 2};
  const auto rows_of = [&](size_t begin, size_t end) {
    Rows x;
    for (size_t i = begin; i < end; ++i)
      x.insert(x.end(), tensor("table").begin() + prompt[i] * 8, tensor("table").begin() + prompt[i] * 8 + 8);
    return x;
  };
  // The highest token each time.
  const auto answer = [](Session& s, const int32_t* ids, size_t count) {
    std::vector<int32_t> chosen;
    GenerateOptions o;
    o.max_tokens = 12;
    const auto keep = [](void* out, int32_t id, const char*, size_t) {
      static_cast<std::vector<int32_t>*>(out)->push_back(id);
      return true;
    };
    int64_t generated = 0;
    const Status status = generate(s, ids, count, o, keep, &chosen, &generated);
    EXPECT_TRUE(status.is_ok()) << status.message();
    return chosen;
  };
  auto plain = make(3);
  ASSERT_TRUE(plain);
  const std::vector<int32_t> want = answer(*plain, prompt.data(), prompt.size());
  ASSERT_EQ(want.size(), 12u);
  for (const size_t begin : {0, 2})
    for (const size_t end : {3, 6}) {
      auto s = make(3);
      ASSERT_TRUE(s);
      // Ids before begin and behind end, features between them.
      if (begin) ASSERT_TRUE(feed_ids(*s, {prompt.begin(), prompt.begin() + long(begin)}).is_ok());
      const Rows x = rows_of(begin, end);
      Rows logits(20);
      IoTensor in = of("x", x, {int64_t(end - begin), 8}), out = of("logits", logits, {1, 20});
      const Status status = s->run_into("features", &in, 1, &out, 1);
      ASSERT_TRUE(status.is_ok()) << status.message();
      auto copy = s->fork();
      ASSERT_TRUE(copy.is_ok());
      EXPECT_EQ(answer(*s, prompt.data() + end, prompt.size() - end), want);
      EXPECT_EQ(answer(*copy.value(), prompt.data() + end, prompt.size() - end), want);
    }
}

constexpr char kSelect[] = R"j("programs": [{"name": "main",
  "inputs": [{"name": "x", "shape": ["N", "3"]}, {"name": "scores", "shape": ["N"]}], "outputs": ["y", "most"],
  "values": [{"name": "ids", "dtype": "i32", "shape": ["K"]}, {"name": "count", "dtype": "i32", "shape": ["1"], "binds": "K"},
             {"name": "kept", "shape": ["K", "3"]}, {"name": "y", "shape": ["K", "3"]}, {"name": "most", "shape": ["3"]}],
  "ops": [{"name": "select_tokens", "inputs": ["scores"], "outputs": ["ids", "count"], "attrs_type": "SelectTokensAttrs",
           "attrs": {"threshold": 0.25}},
          {"name": "gather_rows", "inputs": ["x", "ids"], "outputs": ["kept"]},
          {"name": "unary", "inputs": ["kept"], "outputs": ["y"], "attrs_type": "UnaryAttrs", "attrs": {"kind": "square"}},
          {"name": "reduce", "inputs": ["y"], "outputs": ["most"], "attrs_type": "ReduceAttrs",
           "attrs": {"kind": "sum", "axis": 0}}]}])j";

TEST_F(LinkedPrograms, ASizeThatIsAResult) {
  open(kSelect);
  auto s = make();
  ASSERT_TRUE(s);
  for (int round = 0; round < 40; ++round) {
    const int64_t n = round % 17;
    const Rows x = draw(n * 3);
    Rows scores = draw(n), y, most(3, NAN);
    if (round % 5 == 0) std::fill(scores.begin(), scores.end(), -1.0f);  // none
    std::vector<size_t> order(scores.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::erase_if(order, [&](size_t i) { return scores[i] < 0.25f; });
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    order.resize(std::min(order.size(), size_t(std::min<int64_t>(n, 6))));
    std::sort(order.begin(), order.end());
    std::vector<double> want, sums(3);
    for (const size_t i : order)
      for (size_t c = 0; c < 3; ++c)
        want.push_back(double(x[i * 3 + c]) * double(x[i * 3 + c])), sums[c] += want.back();
    std::vector<int64_t> dims;
    const std::vector<IoTensor> in = {of("x", x, {n, 3}), of("scores", scores, {n})};
    const Status status = run(*s, nullptr, in, &y, &dims);
    ASSERT_TRUE(status.is_ok()) << status.message();
    EXPECT_EQ(dims, (std::vector<int64_t>{int64_t(order.size()), 3}));
    expect_near(y, want);
    IoTensor out = of("most", most, {3});
    ASSERT_TRUE(s->run_into(nullptr, in.data(), in.size(), &out, 1).is_ok());
    expect_near(most, sums);
  }
}

TEST_F(LinkedPrograms, AResultIsBoundOnceAndBeforeItsUse) {
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string json = kSelect;
    json.replace(json.find(from), from.size(), to);
    const std::string converted = error(json);
    return converted;
  };
  EXPECT_NE(refusal(R"j(, "binds": "K")j", "").find("\"ids\" has it, but no value binds it"), std::string::npos);
  EXPECT_NE(refusal(R"j(["N", "3"]}, {"name": "scores")j", R"j(["K", "3"]}, {"name": "scores")j").find("is an input"),
            std::string::npos);
  EXPECT_NE(refusal(R"j("shape": ["K"]})j", R"j("shape": ["K + 1"]})j").find("otherwise than as axis 0"),
            std::string::npos);
  EXPECT_NE(refusal(R"j("binds": "K")j", R"j("binds": "N")j").find("binds \"N\""), std::string::npos);
}

// Rounds of v <- tanh(a v + v); behind them, where asked for, twice that; and a pair that changes places.
constexpr char kLoops[] = R"j("programs": [
  {"name": "main", "inputs": [{"name": "x", "shape": ["T", "4"]}, {"name": "rounds", "dtype": "i32", "shape": ["1"]},
                              {"name": "twice", "dtype": "i32", "shape": ["1"]}], "outputs": ["y"],
   "values": [{"name": "p", "shape": ["T", "4"]}, {"name": "v", "shape": ["T", "4"]}, {"name": "w", "shape": ["T", "4"]},
              {"name": "y", "shape": ["T", "4"]}],
   "ops": [{"name": "call", "inputs": ["x"], "outputs": ["p"], "attrs_type": "ControlAttrs", "attrs": {"program": "half"}},
           {"name": "loop", "inputs": ["rounds", "", "x", "p", "a"], "outputs": ["v", "w"], "attrs_type": "ControlAttrs",
            "attrs": {"program": "round"}},
           {"name": "if", "inputs": ["twice", "v", "w"], "outputs": ["y"], "attrs_type": "ControlAttrs",
            "attrs": {"program": "sum", "otherwise": "first"}}]},
  {"name": "round", "inputs": [{"name": "i", "dtype": "i32", "shape": ["1"]}, {"name": "v", "shape": ["M", "4"]},
                               {"name": "w", "shape": ["M", "4"]}, {"name": "factor", "shape": ["4"]}],
   "outputs": ["w", "n"],
   "values": [{"name": "av", "shape": ["M", "4"]}, {"name": "n", "shape": ["M", "4"]}],
   "ops": [{"name": "binary", "inputs": ["v", "factor"], "outputs": ["av"], "attrs_type": "BinaryAttrs", "attrs": {"kind": "mul"}},
           {"name": "if", "inputs": ["i", "av", "v"], "outputs": ["n"], "attrs_type": "ControlAttrs",
            "attrs": {"program": "sum", "otherwise": "first"}}]},
  {"name": "half", "inputs": [{"name": "x", "shape": ["N", "4"]}], "outputs": ["y"], "values": [{"name": "y", "shape": ["N", "4"]}],
   "ops": [{"name": "unary", "inputs": ["x"], "outputs": ["y"], "attrs_type": "UnaryAttrs", "attrs": {"kind": "scale", "alpha": 0.5}}]},
  {"name": "sum", "inputs": [{"name": "x", "shape": ["N", "4"]}, {"name": "z", "shape": ["N", "4"]}], "outputs": ["y"],
   "values": [{"name": "s", "shape": ["N", "4"]}, {"name": "y", "shape": ["N", "4"]}],
   "ops": [{"name": "binary", "inputs": ["x", "z"], "outputs": ["s"]},
           {"name": "unary", "inputs": ["s"], "outputs": ["y"], "attrs_type": "UnaryAttrs", "attrs": {"kind": "tanh"}}]},
  {"name": "first", "inputs": [{"name": "x", "shape": ["N", "4"]}, {"name": "z", "shape": ["N", "4"]}], "outputs": ["x"]}])j";

TEST_F(LinkedPrograms, LoopsAndBranchesFollowTheFormulaForEverySplit) {
  tensors_ = {{"a", {4}, {0.5f, -1.25f, 2, 1}}};
  open(kLoops);
  for (const int64_t chunk : {1, 3, 64}) {
    auto s = make(chunk);
    ASSERT_TRUE(s);
    for (int32_t rounds = 0; rounds < 6; ++rounds)
      for (const int32_t twice : {0, 1}) {
        const int64_t tokens = 1 + (rounds * 2 + twice) % 5;
        const Rows x = draw(tokens * 4);
        Rows y;
        const Status status = run(*s, nullptr, {of("x", x, {tokens, 4}), of("rounds", rounds), of("twice", twice)}, &y);
        ASSERT_TRUE(status.is_ok()) << status.message();
        std::vector<double> want;
        for (size_t i = 0; i < x.size(); ++i) {
          double v = x[i], w = 0.5 * double(x[i]);
          for (int r = 0; r < rounds; ++r) {
            const double av = v * double(tensor("a")[i % 4]), n = r ? std::tanh(av + v) : av;
            v = w, w = n;
          }
          want.push_back(twice ? std::tanh(v + w) : v);
        }
        expect_near(y, want);
      }
  }
}

// Doubles until a sum is not below a limit: the body says whether there is another round.
constexpr char kWhile[] = R"j("programs": [
  {"name": "main", "inputs": [{"name": "x", "shape": ["1", "N"]}, {"name": "most", "dtype": "i32", "shape": ["1"]}],
   "outputs": ["y"], "values": [{"name": "below", "shape": ["1"]}, {"name": "y", "shape": ["1", "N"]}],
   "ops": [{"name": "call", "inputs": ["x"], "outputs": ["below"], "attrs_type": "ControlAttrs", "attrs": {"program": "is_below"}},
           {"name": "loop", "inputs": ["most", "below", "x"], "outputs": ["y"], "attrs_type": "ControlAttrs",
            "attrs": {"program": "double"}}]},
  {"name": "double", "inputs": [{"name": "i", "dtype": "i32", "shape": ["1"]}, {"name": "x", "shape": ["M", "N"]}],
   "outputs": ["y", "more"], "values": [{"name": "y", "shape": ["M", "N"]}, {"name": "more", "shape": ["M"]}],
   "ops": [{"name": "binary", "inputs": ["x", "x"], "outputs": ["y"]},
           {"name": "call", "inputs": ["y"], "outputs": ["more"], "attrs_type": "ControlAttrs", "attrs": {"program": "is_below"}}]},
  {"name": "is_below", "inputs": [{"name": "x", "shape": ["M", "N"]}], "outputs": ["b"],
   "values": [{"name": "s", "shape": ["M"]}, {"name": "d", "shape": ["M"]}, {"name": "b", "shape": ["M"]}],
   "ops": [{"name": "reduce", "inputs": ["x"], "outputs": ["s"], "attrs_type": "ReduceAttrs", "attrs": {"kind": "sum", "axis": 1}},
           {"name": "binary", "inputs": ["limit", "s"], "outputs": ["d"], "attrs_type": "BinaryAttrs", "attrs": {"kind": "sub"}},
           {"name": "unary", "inputs": ["d"], "outputs": ["b"], "attrs_type": "UnaryAttrs", "attrs": {"kind": "relu"}}]}])j";

TEST_F(LinkedPrograms, ALoopEndsWhenItsBodySaysSo) {
  tensors_ = {{"limit", {1}, {100}}};
  open(kWhile);
  auto s = make();
  ASSERT_TRUE(s);
  for (const int32_t most : {0, 2, 1000})
    for (const float first : {1.0f, 30.0f, 99.0f, 100.0f, 200.0f}) {
      const Rows x = {first, 0.5f};
      double sum = double(first) + 0.5;
      int doublings = 0;
      while (doublings < most && sum < 100) sum *= 2, ++doublings;
      Rows y;
      const Status status = run(*s, nullptr, {of("x", x, {1, 2}), of("most", most)}, &y);
      ASSERT_TRUE(status.is_ok()) << status.message();
      expect_near(y, {double(first) * std::exp2(doublings), 0.5 * std::exp2(doublings)});
    }
}

TEST_F(LinkedPrograms, AnEndlessLoopCanBeCancelled) {
  tensors_ = {{"limit", {1}, {100}}};
  open(kWhile);
  auto s = make();
  ASSERT_TRUE(s);
  const Rows x = {0, 0};  // stays 0
  const int32_t most = INT32_MAX;
  Rows y;
  // While its rounds run, which would take hours.
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    s->cancel();
  });
  const Status status = run(*s, nullptr, {of("x", x, {1, 2}), of("most", most)}, &y);
  other.join();
  EXPECT_EQ(status.code(), Code::kCancelled) << status.message();
  ASSERT_TRUE(run(*s, nullptr, {of("x", x, {1, 2}), of("most", 3)}, &y).is_ok());
}

TEST_F(LinkedPrograms, WhatCannotRunIsRefusedByName) {
  tensors_ = {{"a", {4}, {1, 1, 1, 1}}};
  const auto refusal = [&](const std::string& from, const std::string& to) {
    std::string json = kLoops;
    json.replace(json.find(from), from.size(), to);
    return error(json);
  };
  const auto expect = [&](const std::string& from, const std::string& to, const std::string& part) {
    const std::string message = refusal(from, to);
    EXPECT_NE(message.find(part), std::string::npos) << "\"" << message << "\" lacks \"" << part << "\"";
  };
  expect(R"j("program": "half")j", R"j("program": "main")j", "it names no program that stands behind this one");
  expect(R"j("program": "half")j", R"j("program": "nowhere")j", "it names no program that stands behind this one");
  expect(R"j("inputs": ["x"], "outputs": ["p"])j", R"j("inputs": ["x", "x"], "outputs": ["p"])j",
         "has 1 inputs, 2 are given");
  expect(R"j("inputs": ["x"], "outputs": ["p"])j", R"j("inputs": [""], "outputs": ["p"])j", "needs its input \"x\"");
  expect(R"j("inputs": ["x"], "outputs": ["p"])j", R"j("inputs": ["rounds"], "outputs": ["p"])j",
         "is f32 with 2 axes, given i32");
  expect(R"j("inputs": ["twice", "v", "w"])j", R"j("inputs": ["x", "v", "w"])j", "its condition is no vector");
  expect(R"j("inputs": ["rounds", "", "x", "p", "a"])j", R"j("inputs": ["", "", "x", "p", "a"])j",
         "a loop without an end");
  expect(R"j(, "otherwise": "first"}}]},
  {"name": "round")j",
         R"j(}}]},
  {"name": "round")j",
         "its two programs are not there or have different outputs");
  expect(R"j("outputs": ["v", "w"])j", R"j("outputs": ["v"])j", "the condition is no vector of i32 or f32");
}

}  // namespace
}  // namespace runnel::convert
