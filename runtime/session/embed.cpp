#include "session/embed.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace runnel {
namespace {

// Where a model's embedding comes from.
struct Source {
  const char* ids = nullptr;
  bool has_rows = false;  // hidden states of chosen tokens can be asked for
  uint32_t hidden = 0;    // number of the output
  int64_t hidden_width = 0, width = 0;
  format::Pooling pooling = format::Pooling::last;
  bool normalise = true;
  const ProgramInfo* program = nullptr;  // from the pooled row to the embedding
};

// Columns of an f32 matrix; 0: it is none, or has no fixed number of them.
int64_t columns_of(const Model& model, const ValueInfo& value) {
  if (value.shape.rank != 2 || value.dtype != DType::kF32) return 0;
  for (size_t s = 0; s < model.symbols().size(); ++s)
    if (model.exprs().depends_on(value.shape.dims[1], int(s))) return 0;
  auto n = model.exprs().evaluate(value.shape.dims[1], SymbolValues{});
  return n.is_ok() ? n.value() : 0;
}

Result<Source> source_of(const Model& model) {
  Source s;
  const ProgramInfo& main = model.programs()[0];
  for (uint32_t i = 0; i < main.input_count; ++i) {
    const ValueInfo& v = main.values[i];
    if (v.role == format::Role::tokens && v.dtype == DType::kI32 && v.shape.rank == 1) s.ids = v.name;
    s.has_rows = s.has_rows || v.role == format::Role::rows;
  }
  while (s.hidden < main.outputs.size() &&
         std::strcmp(main.values[main.outputs[s.hidden]].name, "last_hidden_state") != 0)
    ++s.hidden;
  if (s.ids && s.hidden < std::min<size_t>(main.outputs.size(), 64))
    s.hidden_width = columns_of(model, main.values[main.outputs[s.hidden]]);
  if (s.hidden_width < 1)
    return Status::make(Code::kUnsupported,
                        "the model gives no embeddings: its program \"%s\" does not take tokens and give "
                        "last_hidden_state [tokens, width] (files of an older converter do not; convert it anew)",
                        main.name);
  s.width = s.hidden_width;
  const format::Embedding* e = model.root().embedding();
  if (!e) return s;
  if (e->pooling() > format::Pooling::MAX)
    return Status::make(Code::kUnsupported, "the embedding's pooling %d is unknown to this runtime", int(e->pooling()));
  s.pooling = e->pooling();
  s.normalise = e->normalise();
  if (!e->program()) return s;
  s.program = model.find_program(e->program()->c_str());
  if (!s.program || s.program == &main || s.program->input_count != 1 || s.program->required_outputs != 1 ||
      columns_of(model, s.program->values[0]) != s.hidden_width)
    return Status::make(Code::kInvalidModel,
                        "the embedding's program \"%.80s\" does not take the pooled row alone and give one output",
                        e->program()->c_str());
  s.width = columns_of(model, s.program->values[s.program->outputs[0]]);
  if (s.width < 1)
    return Status::make(Code::kInvalidModel, "the embedding's program \"%.80s\" gives no row of fixed length",
                        s.program->name);
  return s;
}

struct Pool {
  format::Pooling pooling;
  int64_t width;
  int64_t rows;  // seen so far
  double* sum;
};

Status add_rows(void* context, uint32_t, const TensorView& block, int64_t) {
  Pool& p = *static_cast<Pool*>(context);
  if (block.rank != 2 || block.dims[1] != p.width)
    return Status::make(Code::kInvalidModel, "last_hidden_state is not [tokens, %lld]",
                        static_cast<long long>(p.width));
  const auto* x = static_cast<const float*>(block.data);
  for (int64_t r = 0; r < block.dims[0]; ++r, ++p.rows, x += p.width) {
    if (p.pooling == format::Pooling::first && p.rows > 0) continue;
    for (int64_t i = 0; i < p.width; ++i)
      p.sum[i] = p.pooling == format::Pooling::mean ? p.sum[i] + double(x[i]) : double(x[i]);
  }
  return Status::ok();
}

struct Row {
  float* to;
  int64_t width;
  bool is_written;
};

Status take_row(void* context, uint32_t, const TensorView& block, int64_t) {
  Row& row = *static_cast<Row*>(context);
  if (block.rank != 2 || block.dims[0] != 1 || block.dims[1] != row.width)
    return Status::make(Code::kInvalidModel, "the embedding's program does not give one row of %lld",
                        static_cast<long long>(row.width));
  std::memcpy(row.to, block.data, size_t(row.width) * sizeof(float));
  row.is_written = true;
  return Status::ok();
}

Status pool_rows(Session& session, const Source& s, const int32_t* ids, size_t count, format::Pooling pooling,
                 Vec<float>* pooled) {
  Vec<double> sum;
  RNL_TRY(sum.assign(size_t(s.hidden_width)));
  RNL_TRY(pooled->assign(size_t(s.hidden_width)));
  Pool pool{pooling, s.hidden_width, 0, sum.data()};
  int32_t first = 0;
  IoTensor inputs[2] = {{s.ids, DType::kI32, 1, {int64_t(count)}, const_cast<int32_t*>(ids), count * sizeof(int32_t)},
                        {"rows", DType::kI32, 1, {1}, &first, sizeof first}};
  for (const ValueInfo& v : session.model().programs()[0].values)
    if (v.role == format::Role::rows) inputs[1].name = v.name;
  Session::RunOptions o;
  o.program = session.model().programs()[0].name;
  o.rows_all = pooling == format::Pooling::mean;
  o.wanted_outputs = uint64_t(1) << s.hidden;
  o.sink = add_rows;
  o.sink_context = &pool;
  RNL_TRY(session.run(inputs, s.has_rows && pooling == format::Pooling::first ? 2 : 1, o));
  if (pool.rows == 0) return Status::make(Code::kInvalidModel, "last_hidden_state has no rows");
  const double share = pooling == format::Pooling::mean ? 1.0 / double(pool.rows) : 1.0;
  for (size_t i = 0; i < sum.size(); ++i) (*pooled)[i] = float(sum[i] * share);
  return Status::ok();
}

}  // namespace

Result<int64_t> embedding_width(const Model& model) {
  RNL_ASSIGN(s, source_of(model));
  return s.width;
}

Status embed(Session& session, const int32_t* ids, size_t count, const EmbedOptions& options, float* embedding,
             size_t capacity) {
  RNL_ASSIGN(s, source_of(session.model()));
  RNL_CHECK_ARG(options.pooling <= int(format::Pooling::MAX), "pooling %d is unknown", options.pooling);
  RNL_CHECK_ARG(count > 0, "there are no tokens to embed");
  RNL_CHECK_ARG(capacity >= size_t(s.width), "room for %zu floats, the embedding has %lld", capacity,
                static_cast<long long>(s.width));
  session.reset();
  Vec<float> pooled;
  Status status =
      pool_rows(session, s, ids, count, options.pooling < 0 ? s.pooling : format::Pooling(options.pooling), &pooled);
  Row row{embedding, s.width, !s.program};
  if (status.is_ok() && s.program) {
    const IoTensor input{s.program->values[0].name, DType::kF32, 2, {1, s.hidden_width}, pooled.data(), pooled.bytes()};
    Session::RunOptions o;
    o.program = s.program->name;
    o.sink = take_row;
    o.sink_context = &row;
    status = session.run(&input, 1, o);
  }
  if (status.is_ok() && !row.is_written)
    status = Status::make(Code::kInvalidModel, "the embedding's program \"%s\" gave nothing", s.program->name);
  if (!status.is_ok()) return status;
  if (!s.program) std::memcpy(embedding, pooled.data(), size_t(s.width) * sizeof(float));
  if (options.normalise > 0 || (options.normalise < 0 && s.normalise)) {
    double square = 0;
    for (int64_t i = 0; i < s.width; ++i) square += double(embedding[i]) * double(embedding[i]);
    const double factor = 1 / std::max(std::sqrt(square), 1e-12);
    for (int64_t i = 0; i < s.width; ++i) embedding[i] = float(double(embedding[i]) * factor);
  }
  return Status::ok();
}

}  // namespace runnel
