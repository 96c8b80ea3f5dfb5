// Small writers of source files, a temporary folder and the run of a converted model, for the converter's tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>

#include "backend.h"
#include "converter/convert.h"
#include "converter/read/read.h"
#include "format/model_file.h"
#include "session/session.h"

namespace runnel::convert {

namespace fs = std::filesystem;
inline const fs::path kGoldens = fs::path(test::kSourceDir) / "tests/goldens";

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/runnel_converter_XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  size_t files() const { return size_t(std::distance(fs::directory_iterator(path_), fs::directory_iterator())); }

 private:
  fs::path path_;
};

inline void write_file(const fs::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
}

// Bytes of numbers, one after the other.
class Bytes {
 public:
  template <class T>
  Bytes& put(T v) {
    static_assert(std::is_arithmetic_v<T>);
    text_.append(reinterpret_cast<const char*>(&v), sizeof v);
    return *this;
  }
  Bytes& raw(const std::string& s) {
    text_ += s;
    return *this;
  }
  // A GGUF string: u64 length, then bytes.
  Bytes& string(const std::string& s) { return put(uint64_t(s.size())).raw(s); }
  Bytes& pad(size_t alignment) {
    while (text_.size() % alignment) text_ += '\0';
    return *this;
  }
  const std::string& text() const { return text_; }
  std::span<const uint8_t> span() const { return {reinterpret_cast<const uint8_t*>(text_.data()), text_.size()}; }

 private:
  std::string text_;
};

// The message of the Error that `action` throws; empty when it throws none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return {};
}

struct PlainTensor {
  std::string name;
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

// A safetensors file of F32 tensors.
inline std::string safetensors_of(const std::vector<PlainTensor>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const PlainTensor& t : tensors) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(t.values.data()), t.values.size() * 4);
    header[t.name] = {{"dtype", "F32"}, {"shape", t.shape}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  return Bytes().put(uint64_t(text.size())).raw(text).raw(data).text();
}

inline Checkpoint load_safetensors(const fs::path& file) {
  Checkpoint c;
  c.path = file;
  read_safetensors(c.map(file), file.string(), c);
  return c;
}

inline std::vector<float> values_of(Checkpoint& c, const std::string& name) {
  const SourceTensor* t = c.find(name);
  if (!t) throw std::runtime_error("no tensor " + name);
  std::vector<float> out(t->count());
  decode_values(*t, 0, t->count(), out.data());
  return out;
}

inline std::vector<int32_t> integers_of(Checkpoint& c, const std::string& name) {
  const SourceTensor* t = c.find(name);
  if (!t || t->bytes != t->count() * 4) throw std::runtime_error("no 32-bit integers " + name);
  std::vector<int32_t> out(t->count());
  std::memcpy(out.data(), t->data, t->bytes);
  return out;
}
// Of a golden's folder.
inline std::vector<int32_t> ids_of(const fs::path& folder) {
  Checkpoint c = load_safetensors(folder / "ids.safetensors");
  return integers_of(c, "ids");
}

// The same ids in another order, `count` of them.
inline std::vector<int32_t> long_ids(const std::string& golden, size_t count) {
  const std::vector<int32_t> ids = ids_of(kGoldens / golden);
  std::vector<int32_t> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = ids[(i * 7 + i / 13) % ids.size()];
  return out;
}

inline ConvertReport convert_to(const fs::path& input, const fs::path& output, Weights weights = Weights::kKeep,
                                const fs::path& weights_file = {}) {
  ConvertOptions o;
  o.input = input;
  o.output = output;
  o.weights = weights;
  o.weights_file = weights_file;
  o.threads = 2;
  return convert(o);
}

inline std::unique_ptr<Model> open_model(const fs::path& path) {
  auto model = Model::open(path.c_str(), {});
  if (!model.is_ok()) throw std::runtime_error(model.take_status().message());
  return std::move(model.value());
}

// A golden's model, converted with options that `set` sets.
inline std::unique_ptr<Model> converted_with(const std::string& golden, const fs::path& to,
                                             const std::function<void(ConvertOptions*)>& set) {
  ConvertOptions o;
  o.input = kGoldens / golden;
  o.output = to;
  set(&o);
  convert(o);
  return open_model(to);
}

// Logits of every token of a language model, ids fed in passes of `chunk`. kv: of keys and values, kNone: as the file
// says.
inline std::vector<float> all_logits(const Model& model, const std::vector<int32_t>& ids, int64_t chunk,
                                     DType kv = DType::kNone) {
  PlanOptions options = test::plan_options();
  options.context = int64_t(ids.size());
  options.chunk = chunk;
  options.rows = 8;
  options.kv = kv;
  auto session = Session::create(model, nullptr, options, nullptr, nullptr);
  if (!session.is_ok()) throw std::runtime_error(session.take_status().message());
  IoTensor input{"ids", DType::kI32, 1, {int64_t(ids.size())}, const_cast<int32_t*>(ids.data()), ids.size() * 4};
  std::vector<float> out;
  Session::RunOptions run;
  run.rows_all = true;
  run.sink_context = &out;
  run.sink = [](void* context, uint32_t, const TensorView& block, int64_t) {
    const auto* p = static_cast<const float*>(block.data);
    auto* all = static_cast<std::vector<float>*>(context);
    all->insert(all->end(), p, p + block.dims[0] * block.dims[1]);
    return Status::ok();
  };
  const Status s = session.value()->run(&input, 1, run);
  if (!s.is_ok()) throw std::runtime_error(s.message());
  return out;
}

// One call with these tokens; *logits: of the last one.
inline Status feed_ids(Session& session, std::span<const int32_t> ids, std::vector<float>* logits) {
  const IoTensor in{"ids", DType::kI32, 1, {int64_t(ids.size())}, const_cast<int32_t*>(ids.data()), ids.size_bytes()};
  Session::RunOptions o;
  o.sink_context = logits;
  o.sink = [](void* context, uint32_t, const TensorView& block, int64_t) {
    const auto* p = static_cast<const float*>(block.data);
    static_cast<std::vector<float>*>(context)->assign(p, p + block.dims[1]);
    return Status::ok();
  };
  return session.run(&in, 1, o);
}

inline float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  float d = 0;
  for (size_t i = 0; i < a.size(); ++i) d = std::max(d, std::isfinite(a[i]) ? std::fabs(a[i] - b[i]) : INFINITY);
  return d;
}
inline float largest(const std::vector<float>& a) {
  float m = 0;
  for (float v : a) m = std::max(m, std::fabs(v));
  return m;
}

}  // namespace runnel::convert
