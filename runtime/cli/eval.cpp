// eval and perplexity: tensors or ids through a program, outputs handled block by block.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/call.h"

namespace runnel::cli {
namespace {

struct BlockSink {
  SafetensorsWriter* writer;
  const std::vector<NamedTensor>* outputs;  // in the writer's order
  Progress* progress;
  std::string error;
};

int write_block(void* user, const rnl_tensor* block, int64_t first_row) {
  auto& sink = *static_cast<BlockSink*>(user);
  const size_t row = block->rank && block->dims[0] ? block->bytes / size_t(block->dims[0]) : block->bytes;
  size_t place = 0;
  while (sink.outputs->at(place).name != block->name) ++place;
  try {
    sink.writer->write(place, row * size_t(first_row), block->data, block->bytes);
  } catch (const std::exception& e) {
    sink.error = e.what();
    return 1;
  }
  if (block->rank) sink.progress->update(first_row + block->dims[0]);
  return 0;
}

// Those that are named, else all that are not optional.
std::vector<std::string> wanted_outputs(const rnl::Model& model, const rnl_program_info& program,
                                        const std::vector<std::string>& names) {
  std::vector<std::string> wanted;
  std::string known;
  for (const rnl_value_info& v : model.outputs(program.name)) {
    known += (known.empty() ? "" : ", ") + std::string(v.name);
    const bool is_named = std::find(names.begin(), names.end(), v.name) != names.end();
    if (is_named || (names.empty() && !v.optional)) wanted.push_back(v.name);
  }
  for (const std::string& name : names)
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end())
      throw Failure(std::string("program \"") + program.name + "\" has no output \"" + name + "\"; it has " + known);
  return wanted;
}

rnl_program_info find_program(const rnl::Model& model, const std::string& name) {
  for (const rnl_program_info& p : model.programs())
    if (name.empty() || name == p.name) return p;
  throw Failure("the model has no program \"" + name + "\"");
}

// Shape and room of an output of a call that gives all rows.
NamedTensor output_of(const rnl::Session& session, const rnl_program_info& program,
                      const std::vector<rnl_tensor>& inputs, const std::string& name) {
  rnl_tensor t{};
  t.name = name.c_str();
  check(rnl_session_output_shapes(session.get(), program.name, inputs.data(), inputs.size(), 1, &t, 1));
  return {name, t.dtype, std::vector<int64_t>(t.dims, t.dims + t.rank), nullptr, t.bytes};
}

int64_t length_of_stream(const rnl::Model& model, const rnl_program_info& program,
                         const std::vector<NamedTensor>& given) {
  for (const rnl_value_info& v : model.inputs(program.name))
    for (const NamedTensor& t : given)
      if (t.name == v.name && v.rank && !t.dims.empty() && *program.stream && std::string(program.stream) == v.sizes[0])
        return t.dims[0];
  return 0;
}

// Of inputs side by side, where the model counts no wanted rows.
int64_t most_rows(const std::vector<NamedTensor>& given) {
  int64_t n = 1;
  for (const NamedTensor& t : given)
    if (!t.dims.empty()) n = std::max(n, t.dims[0]);
  return std::min<int64_t>(n, 65536);
}

}  // namespace

int cmd_eval(const Options& o) {
  FileView file;
  const std::vector<NamedTensor> given = read_safetensors(o.in, &file);
  Opened opened;
  open(o, &opened);
  const rnl_program_info program = find_program(opened.model, o.program);
  rnl_session_options so = session_options(o, longest_axis(opened.model, program.name, given));
  so.rows = *program.rows ? kRowsPerBlock : most_rows(given);
  rnl::Session session;
  check(session.create(opened.model, so));
  Trace trace(o, session.get());

  std::vector<rnl_tensor> inputs;
  for (const NamedTensor& t : given) inputs.push_back(to_tensor(t));
  std::vector<NamedTensor> outputs;
  for (const std::string& name : wanted_outputs(opened.model, program, o.outputs))
    outputs.push_back(output_of(session, program, inputs, name));
  std::vector<const char*> names;
  for (const NamedTensor& t : outputs) names.push_back(t.name.c_str());
  SafetensorsWriter writer(o.out, outputs);
  Progress progress("eval", length_of_stream(opened.model, program, given));
  BlockSink sink{&writer, &outputs, &progress, {}};
  const rnl::Status s =
      rnl_session_run_named_blocks(session.get(), program.name, inputs.data(), inputs.size(), names.data(),
                                   o.outputs.empty() ? 0 : names.size(), 1, write_block, &sink);
  if (!sink.error.empty()) throw Failure(sink.error);
  check(s);
  writer.commit();
  trace.finish();
  return 0;
}

namespace {

// Sum of -log p(next) over rows of logits; row r predicts ids[r + 1].
struct NllSink {
  const int32_t* ids;
  int64_t count;
  int64_t skip;  // rows below are not scored
  double nll = 0;
  int64_t scored = 0;
  std::string error;
};

int add_rows(void* user, const rnl_tensor* t, int64_t first_row) {
  auto* sink = static_cast<NllSink*>(user);
  if (std::strcmp(t->name, "logits") != 0 || t->rank != 2) return 0;
  const int64_t vocabulary = t->dims[1];
  for (int64_t r = 0; r < t->dims[0]; ++r) {
    const int64_t row = first_row + r;
    if (row + 1 >= sink->count || row < sink->skip) continue;
    const int32_t next = sink->ids[row + 1];
    if (next < 0 || next >= vocabulary) {
      sink->error = "id " + std::to_string(next) + " is outside of the vocabulary of " + std::to_string(vocabulary);
      return 1;
    }
    const float* x = static_cast<const float*>(t->data) + r * vocabulary;
    float top = x[0];
    for (int64_t i = 1; i < vocabulary; ++i) top = std::max(top, x[i]);
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; ++i) sum += double(std::exp(x[i] - top));
    sink->nll += std::log(sum) + double(top) - double(x[next]);
    ++sink->scored;
  }
  return 0;
}

std::vector<int32_t> perplexity_ids(const Options& o, const Opened& opened) {
  std::vector<int32_t> ids;
  if (o.in.empty()) {
    check(opened.model.tokenize(read_text(o.file), 0, &ids));
    return ids;
  }
  FileView file;
  for (const NamedTensor& t : read_safetensors(o.in, &file)) {
    if (t.name != "ids") continue;
    if (t.dims.size() != 1 || (t.dtype != RNL_I32 && t.dtype != RNL_I64))
      throw Failure(o.in + ": ids must be I32 or I64 with one axis");
    for (int64_t i = 0; i < t.dims[0]; ++i) {
      int64_t v = 0;
      if (t.dtype == RNL_I64) {
        std::memcpy(&v, t.data + i * 8, 8);
      } else {
        int32_t w;
        std::memcpy(&w, t.data + i * 4, 4);
        v = w;
      }
      if (v < 0 || v > INT32_MAX)
        throw Failure(o.in + ": id " + std::to_string(v) + " at " + std::to_string(i) + " is out of range");
      ids.push_back(int32_t(v));
    }
    return ids;
  }
  throw Failure(o.in + ": no tensor named ids");
}

}  // namespace

int cmd_perplexity(const Options& o) {
  Opened opened;
  open(o, &opened);
  std::vector<int32_t> ids = perplexity_ids(o, opened);
  if (ids.size() < 2) throw Failure("perplexity needs at least two tokens, the text has " + std::to_string(ids.size()));
  const int64_t window = o.window ? std::min<int64_t>(o.window, int64_t(ids.size())) : int64_t(ids.size());
  rnl_session_options so = session_options(o, window);
  so.rows = kRowsPerBlock;
  rnl::Session session;
  check(session.create(opened.model, so));
  Trace trace(o, session.get());
  Progress progress("perplexity", int64_t(ids.size()));
  const int32_t bos = opened.model.info().bos;
  double nll = 0;
  int64_t scored = 0;
  // Without --window the text is one stream and every token but the first is scored. With it the text is cut, every
  // window starts anew (its first token replaced by bos where the model has one) and the second half of each is scored,
  // as llama.cpp's tool does.
  for (int64_t begin = 0; begin + window <= int64_t(ids.size()); begin += window) {
    session.reset();
    const int32_t kept = ids[size_t(begin)];
    if (o.window && bos >= 0) ids[size_t(begin)] = bos;
    NllSink sink{ids.data() + begin, window, o.window ? window / 2 : 0, 0, 0, {}};
    rnl_tensor in{};
    in.name = "ids";
    in.dtype = RNL_I32;
    in.rank = 1;
    in.dims[0] = window;
    in.data = ids.data() + begin;
    in.bytes = size_t(window) * 4;
    const rnl::Status s = rnl_session_run_blocks(session.get(), nullptr, &in, 1, 1, add_rows, &sink);
    if (!sink.error.empty()) throw Failure(sink.error);
    check(s);
    ids[size_t(begin)] = kept;
    nll += sink.nll;
    scored += sink.scored;
    progress.update(begin + window);
  }
  if (scored == 0) throw Failure("no token was scored");
  const double mean = nll / double(scored), value = std::exp(mean);
  trace.finish();
  if (o.json)
    std::printf("%s\n", nlohmann::json{{"perplexity", value}, {"nll", mean}, {"tokens", ids.size()}, {"scored", scored}}
                            .dump()
                            .c_str());
  else std::printf("perplexity %.4f over %lld tokens\n", value, static_cast<long long>(scored));
  return 0;
}

}  // namespace runnel::cli
