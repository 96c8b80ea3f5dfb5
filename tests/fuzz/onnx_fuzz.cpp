// Any bytes as an ONNX file, and kept files whose messages are changed one by one: imported as far as a model in
// memory, with all the bytes of its weights, and planned. Input: a file (its first byte is that of its first field), or
// which of the kept ones, then changes of 4 bytes.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "converter/onnx/onnx.h"
#include "converter/read/onnx.pb.h"
#include "converter/write/planned_file.h"
#include "fuzz/bytes.h"
#include "plan/plan.h"

using namespace runnel;
using namespace runnel::convert;
namespace fs = std::filesystem;
namespace pb = runnel::onnx_file;

namespace {

constexpr uint8_t kFirstField = 8;

std::vector<pb::Model> kept_models() {
  std::vector<fs::path> files;
  for (const char* folder : {"operators", "images", "sequences", "models"})
    for (const auto& entry : fs::directory_iterator(fs::path(RNL_SOURCE_DIR) / "tests/goldens/onnx" / folder))
      if (entry.path().extension() == ".onnx") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<pb::Model> all(files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    std::ifstream in(files[i], std::ios::binary);
    if (!all[i].ParseFromString(std::string(std::istreambuf_iterator<char>(in), {}))) __builtin_trap();
  }
  return all;
}

const char* const kOperators[] = {
#define RNL_ONNX(name, function) #name,
#include "converter/onnx/operators.inc"
#undef RNL_ONNX
};

int64_t number(uint8_t x) {
  const int64_t large[] = {INT64_MAX, INT64_MIN, int64_t(1) << 31, int64_t(1) << 40, -(int64_t(1) << 31), 65536,
                           1000,      -9};
  return x < 8 ? large[x] : int64_t(x % 16) - 4;
}

template <class List>
auto* any_of(List* list, uint8_t n) {
  return list->empty() ? nullptr : list->Mutable(n % list->size());
}

std::string any_name(const pb::Graph& g, uint8_t n) {
  std::vector<std::string> names{""};
  for (const auto& v : g.input()) names.push_back(v.name());
  for (const auto& t : g.initializer()) names.push_back(t.name());
  for (const auto& node : g.node()) names.insert(names.end(), node.output().begin(), node.output().end());
  return names[n % names.size()];
}

void change_names(const pb::Graph& g, google::protobuf::RepeatedPtrField<std::string>* list, uint8_t a, uint8_t b) {
  if (a % 8 == 7) *list->Add() = any_name(g, b);
  else if (a % 8 == 6 && !list->empty()) list->RemoveLast();
  else if (std::string* name = any_of(list, a)) *name = any_name(g, b);
}

// Numbers of a tensor: axes and shapes among them.
void change_tensor(pb::Tensor& t, uint8_t a, uint8_t b) {
  const int64_t v = number(b);
  if (a % 4 == 0 && t.dims_size()) t.set_dims(a / 4 % t.dims_size(), v);
  else if (a % 4 == 1) t.set_data_type(b % 20);
  else if (a % 8 == 2) t.add_dims(1);
  else if (std::string& raw = *t.mutable_raw_data(); raw.size() >= 8)
    std::memcpy(raw.data() + a / 4 % (raw.size() / 8) * 8, &v, 8);
}

void change_attribute(pb::Attribute& at, uint8_t a, uint8_t b) {
  if (a % 16 == 15) at.set_type(b % 12);
  else if (at.ints_size()) {
    if (a % 8 == 7) at.add_ints(number(b));
    else at.set_ints(a % at.ints_size(), number(b));
  } else if (at.has_t()) change_tensor(*at.mutable_t(), a, b);
  else if (at.has_f()) at.set_f(float(number(b)) / 4);
  else if (at.has_s()) at.set_s(std::string(1, char(a)) + at.s());
  else at.set_i(number(b));
}

void change_node(pb::Graph& g, pb::Node& node, uint8_t what, uint8_t a, uint8_t b) {
  switch (what % 6) {
    case 0: change_names(g, node.mutable_input(), a, b); break;
    case 1: change_names(g, node.mutable_output(), a, b); break;
    case 2: node.set_op_type(kOperators[a % std::size(kOperators)]); break;
    case 3:
      *node.add_attribute() = pb::Attribute();
      node.mutable_attribute(node.attribute_size() - 1)->set_name("axis");
      break;
    default:
      if (pb::Attribute* at = any_of(node.mutable_attribute(), what / 6)) change_attribute(*at, a, b);
      break;
  }
}

void change_value(pb::ValueInfo& v, uint8_t a, uint8_t b) {
  pb::TensorType& t = *v.mutable_type()->mutable_tensor_type();
  pb::Dimension* d = any_of(t.mutable_shape()->mutable_dim(), a / 4);
  if (a % 4 == 0) t.set_elem_type(b % 20);
  else if (a % 4 == 1) t.mutable_shape()->add_dim()->set_dim_value(b % 4);
  else if (d && a % 4 == 2) d->set_dim_value(number(b));
  else if (d) d->set_dim_param(std::string(1, char('a' + b % 3)));
}

void change(pb::Model& m, runnel::test::Bytes& in) {
  pb::Graph& g = *m.mutable_graph();
  const uint8_t what = in.byte(), which = in.byte(), a = in.byte(), b = in.byte();
  switch (what % 8) {
    case 0:
      if (pb::Tensor* t = any_of(g.mutable_initializer(), which)) change_tensor(*t, a, b);
      break;
    case 1:
      if (pb::ValueInfo* v = any_of(which % 2 ? g.mutable_input() : g.mutable_output(), which / 2))
        change_value(*v, a, b);
      break;
    case 2:
      if (a % 4 == 0 && m.opset_import_size()) m.mutable_opset_import(0)->set_version(7 + b % 20);
      else if (g.node_size() && a % 4 == 1) g.mutable_node()->SwapElements(which % g.node_size(), b % g.node_size());
      else if (g.node_size() && a % 4 == 2) g.mutable_node()->DeleteSubrange(which % g.node_size(), 1);
      else if (g.node_size()) *g.add_node() = pb::Node(g.node(which % g.node_size()));
      break;
    default:
      if (pb::Node* node = any_of(g.mutable_node(), which)) change_node(g, *node, what / 8, a, b);
      break;
  }
}

// A folder with this one file: nothing lies beside it.
struct Folder {
  std::string path = "/tmp/runnel_onnx_fuzz_XXXXXX";
  Folder() {
    if (!mkdtemp(path.data())) __builtin_trap();
  }
  ~Folder() { fs::remove_all(path); }
};

void import(const fs::path& file) {
  Checkpoint c;
  OnnxImport onnx(file, c);
  ModelBuilder builder(Weights::kF32);
  (void)onnx.build({}, builder);
  for (const Blob& blob : builder.blobs()) {
    if (blob.bytes == 0 || blob.bytes > (1u << 20)) continue;
    std::vector<uint8_t> bytes(blob.bytes);
    blob.make(0, (blob.bytes + blob.piece_bytes - 1) / blob.piece_bytes, bytes.data());
  }
  PlannedFile planned(builder);
  const auto model = planned.open();
  PlanOptions options;
  options.context = 64;
  (void)make_plan(*model, options).is_ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<pb::Model> kept = kept_models();
  static const Folder folder;
  std::string file(reinterpret_cast<const char*>(data), size);
  if (size > 0 && data[0] != kFirstField) {
    runnel::test::Bytes in{data, size};
    pb::Model m = kept[in.byte() % kept.size()];
    while (in.at < size) change(m, in);
    file = m.SerializeAsString();
  }
  const fs::path path = fs::path(folder.path) / "m.onnx";
  std::ofstream(path, std::ios::binary) << file;
  try {
    import(path);
  } catch (const Error&) {
  }
  return 0;
}
