// One model a row of the table of systems, written in JSON operator by operator; tests/goldens/graphs holds them with
// what their papers' formulas or their authors' code give in float64. Named after the row that they show.
#include <random>

#include "converter/kit.h"

namespace runnel::convert {
namespace {

struct Io {
  std::vector<int64_t> dims;
  std::vector<float> values;
};

std::map<std::string, Io> read_io(const fs::path& folder) {
  Checkpoint c = load_safetensors(folder / "io.safetensors");
  std::map<std::string, Io> out;
  for (const SourceTensor& t : c.tensors()) out[t.name] = {{t.shape.begin(), t.shape.end()}, values_of(c, t.name)};
  return out;
}

IoTensor tensor_of(const char* name, Io& io, int64_t first = 0, int64_t rows = -1) {
  IoTensor t{name, DType::kF32, int32_t(io.dims.size()), {}, nullptr, 0};
  int64_t row = 1;
  for (size_t i = 0; i < io.dims.size(); ++i) t.dims[i] = io.dims[i], row *= i ? io.dims[i] : 1;
  if (rows >= 0) t.dims[0] = rows;
  t.data = io.values.data() + first * row;
  t.bytes = size_t(t.dims[0] * row) * 4;
  return t;
}

class Row {
 public:
  explicit Row(const std::string& name) : folder_(kGoldens / "graphs" / name), io_(read_io(folder_)) {
    convert_to(folder_ / "graph.json", tmp_ / "m.rnl", Weights::kKeep, folder_ / "weights.safetensors");
    model_ = open_model(tmp_ / "m.rnl");
    is_stream_ = false;
    for (const auto& s : model_->symbols()) is_stream_ = is_stream_ || std::string(s.name) == "T";
  }

  std::unique_ptr<Session> session(int64_t chunk, int64_t rollback) {
    PlanOptions o = test::plan_options();
    o.context = 128;
    o.chunk = chunk;
    o.rollback = rollback;
    auto s = Session::create(*model_, nullptr, o, nullptr, nullptr);
    if (!s.is_ok()) throw std::runtime_error(s.take_status().message());
    return std::move(s.value());
  }

  // Rows [first, first + rows) of every input of a call through a program; prefix names the call in the goldens.
  std::vector<float> run(Session& s, const char* program, const std::string& prefix, int64_t first = 0,
                         int64_t rows = -1, Code* failure = nullptr) {
    const ProgramInfo* info = model_->find_program(program);
    std::vector<IoTensor> in;
    for (uint32_t i = 0; i < info->input_count; ++i)
      if (const auto it = io_.find(prefix + info->values[i].name); it != io_.end())
        in.push_back(tensor_of(info->values[i].name, it->second, first, rows));
    const char* name = info->values[info->outputs[0]].name;
    Io y = io_.at(prefix + name);
    for (float& v : y.values) v = NAN;
    IoTensor out = tensor_of(name, y);
    const Status status = s.run_into(program, in.data(), in.size(), &out, 1);
    if (failure) {
      *failure = status.code();
      return {};
    }
    EXPECT_TRUE(status.is_ok()) << status.message();
    int64_t n = 1;
    for (int d = 0; d < out.rank; ++d) n *= out.dims[d];
    y.values.resize(size_t(n));
    return y.values;
  }

  std::vector<float>& input() { return io_.at("x").values; }
  int64_t width() const { return io_.at("x").dims[1]; }
  const std::vector<float>& wanted(const std::string& prefix = "") const { return io_.at(prefix + "y").values; }
  int64_t tokens() const { return io_.at("x").dims[0]; }
  bool is_stream() const { return is_stream_; }

 private:
  TemporaryFolder tmp_;
  fs::path folder_;
  std::map<std::string, Io> io_;
  std::unique_ptr<Model> model_;
  bool is_stream_;
};

// Chunks of 1, 7, 64 and whole; bits that do not depend on the chunk's place; the last tokens taken back and computed
// again.
void expect_row(const std::string& name) {
  Row row(name);
  const float tolerance = 1e-4f * largest(row.wanted());
  if (!row.is_stream()) {
    auto s = row.session(64, 0);
    const std::vector<float> y = row.run(*s, nullptr, "");
    EXPECT_LE(largest_difference(y, row.wanted()), tolerance) << name;
    EXPECT_EQ(row.run(*s, nullptr, ""), y) << name << ": a second call differs";
    return;
  }
  for (int64_t chunk : {int64_t(1), int64_t(7), int64_t(64), row.tokens()}) {
    auto s = row.session(chunk, 16);
    const std::vector<float> y = row.run(*s, nullptr, "");
    EXPECT_LE(largest_difference(y, row.wanted()), tolerance) << name << ", chunk " << chunk;
    ASSERT_TRUE(s->rollback(5).is_ok()) << name;
    const std::vector<float> again = row.run(*s, nullptr, "", row.tokens() - 5, 5);
    const std::vector<float> last(y.end() - long(again.size()), y.end());
    EXPECT_LE(largest_difference(again, last), tolerance * 0.1f) << name << ": tokens taken back, chunk " << chunk;
  }
}

#define ROW(row, name, folder) \
  TEST(row, name) { expect_row(folder); }
ROW(A2, SMamba, "s_mamba")
ROW(A2, Caduceus, "caduceus")
ROW(A3, MambaYolo, "mamba_yolo")
ROW(A3, Serpent, "serpent")
ROW(A3, SegMan, "segman")
ROW(A5, TransNormerLlm, "transnormer_llm")
ROW(A6, TransNormer, "transnormer")
ROW(A7, RetNet, "retnet")
ROW(A9, ScalarLstm, "slstm")
ROW(A10, TttLinear, "ttt_linear")
ROW(A10, TttMlp, "ttt_mlp")
ROW(A10, Titans, "titans")
ROW(A10, TitansLinear, "titans_linear")
ROW(A10, Moneta, "moneta")
ROW(A10, Yaad, "yaad")
ROW(A10, Memora, "memora")
ROW(A11, Gla, "gla")
ROW(A11, MinGru, "min_gru")
ROW(A11, Lru, "lru")
ROW(A12, DeltaProduct, "delta_product")
ROW(A13, Lion, "lion")
ROW(A14, Hedgehog, "hedgehog")
ROW(A14, Lolcats, "lolcats")
ROW(A14, Liger, "liger")
ROW(A14, Lawcat, "lawcat")
ROW(A14, GpMolFormer, "gp_molformer")
ROW(A15, MixtureOfMemories, "mom")
ROW(A16, SambaY, "sambay")
ROW(A16, Yoco, "yoco")
ROW(A17, Flowformer, "flowformer")
ROW(A17, Performer, "performer")
ROW(A17, Linformer, "linformer")
ROW(A17, FNet, "fnet")
ROW(A17, InLine, "inline")
ROW(A17, Agent, "agent")
ROW(A17, L2Vit, "l2vit")
ROW(A17, Care, "care")
ROW(A17, LinFusion, "linfusion")
ROW(A17, LinVideo, "linvideo")
ROW(A17, LookupVit, "lookup_vit")
ROW(A17, FactorizationVit, "factorization")
ROW(A17, PolynomialKernel, "polynomial")
ROW(A18, Wersa, "wersa")
ROW(A19, LightNet, "lightnet")
ROW(A19, LightNetPlane, "lightnet_plane")
ROW(A20, Aaren, "aaren")
ROW(A21, LocalLinearAttention, "local_linear")
ROW(A22, LongVq, "long_vq")
ROW(A24, Scout, "scout")
ROW(A25, ConvTasNet, "conv_tasnet")
ROW(C8, MixtureOfHeads, "moh")
ROW(C9, Sdim, "sdim")
#undef ROW

// NaN in the middle of a call, passes after its start: the call fails, and the stream goes on from where it was before
// it.
TEST(Rows, NanInACallLeavesTheStreamAsItWas) {
  for (const char* name :
       {"gla", "min_gru", "lru", "ttt_linear", "titans", "sambay", "slstm", "lolcats", "conv_tasnet"}) {
    Row row(name);
    for (int64_t rollback : {0, 16}) {
      auto s = row.session(7, rollback);
      row.run(*s, nullptr, "", 0, 10);
      float& poisoned = row.input()[size_t(28 * row.width())];
      const float good = poisoned;
      poisoned = NAN;
      Code code = Code::kOk;
      row.run(*s, nullptr, "", 10, 25, &code);
      EXPECT_EQ(code, Code::kNonFinite) << name;
      EXPECT_EQ(s->position(), 10) << name;
      poisoned = good;
      const std::vector<float> rest = row.run(*s, nullptr, "", 10, row.tokens() - 10);
      const std::vector<float> wanted(row.wanted().end() - long(rest.size()), row.wanted().end());
      EXPECT_LE(largest_difference(rest, wanted), 1e-4f * largest(row.wanted())) << name << ", rollback " << rollback;
    }
  }
}

// Turns: a program reads the memory, another rewrites it with the turn that was answered; both take part in what can be
// taken back.
TEST(A23, ReactiveTransformer) {
  Row row("reactive");
  auto s = row.session(64, 64);
  const auto turn = [&](int n) {
    for (const char* program : {"main", "remember"}) {
      const std::string prefix = std::string(program) + "." + std::to_string(n) + ".";
      EXPECT_LE(largest_difference(row.run(*s, program, prefix), row.wanted(prefix)),
                1e-4f * largest(row.wanted(prefix)))
          << prefix;
    }
  };
  turn(0);
  turn(1);
  turn(2);
  // The third turn has 14 tokens, which both programs read; then the second has 7.
  ASSERT_TRUE(s->rollback(28).is_ok());
  turn(2);
  ASSERT_TRUE(s->rollback(28 + 14).is_ok());
  turn(1);
  turn(2);
}

}  // namespace
}  // namespace runnel::convert
