// An ONNX file as plain structures: graphs of nodes over named values. Tensors point into the file's bytes or into
// those of external files beside it. All of it is untrusted: types, lengths, offsets and paths are checked here; what
// the nodes mean is not.
#pragma once

#include <map>
#include <memory>
#include <set>

#include "converter/read/checkpoint.h"

namespace runnel::convert {

struct OnnxGraph;

// Kinds of AttributeProto.
enum class OnnxKind : uint8_t {
  kFloat = 1,
  kInt = 2,
  kString = 3,
  kTensor = 4,
  kGraph = 5,
  kFloats = 6,
  kInts = 7,
  kStrings = 8
};

struct OnnxAttribute {
  OnnxKind kind;
  int64_t i = 0;
  float f = 0;
  std::string s;
  std::vector<int64_t> ints;
  std::vector<float> floats;
  std::vector<std::string> strings;
  const SourceTensor* tensor = nullptr;  // of a type that SourceType has, else null
  std::shared_ptr<const OnnxGraph> graph;
};

struct OnnxNode {
  std::string name;  // in messages: its own, or its kind and first output
  std::string op, domain;
  std::vector<std::string> inputs, outputs;  // "": absent
  std::map<std::string, OnnxAttribute> attributes;
};

struct OnnxDim {
  int64_t size = -1;  // below 0: given by the call
  std::string name;   // of such a size; empty: it has none
};
// Element types by their numbers in TensorProto.
enum OnnxType : int {
  kOnnxFloat = 1,
  kOnnxU8 = 2,
  kOnnxI8 = 3,
  kOnnxU16 = 4,
  kOnnxI16 = 5,
  kOnnxI32 = 6,
  kOnnxI64 = 7,
  kOnnxString = 8,
  kOnnxBool = 9,
  kOnnxF16 = 10,
  kOnnxF64 = 11,
  kOnnxU32 = 12,
  kOnnxU64 = 13,
  kOnnxBF16 = 16,
  kOnnxU4 = 21,
  kOnnxI4 = 22
};
struct OnnxValueInfo {
  std::string name;
  int type = 0;
  bool has_shape = false;
  std::vector<OnnxDim> shape;
};

struct OnnxGraph {
  std::vector<OnnxNode> nodes;
  std::vector<std::pair<std::string, const SourceTensor*>> initialisers;
  std::vector<OnnxValueInfo> inputs, outputs;  // inputs without those that are initialisers
};

class OnnxModel {
 public:
  // Throws Error. Files are mapped by the checkpoint, whose weight_files they become; initialisers are counted among
  // its tensors.
  OnnxModel(const std::filesystem::path& file, Checkpoint& checkpoint);
  const OnnxGraph& graph() const { return graph_; }
  int64_t opset() const { return opset_; }
  const std::string& producer() const { return producer_; }
  // Its numbers had 4 bits in the file.
  bool has_four_bits(const SourceTensor& t) const { return four_bits_.count(&t) != 0; }

 private:
  friend class OnnxReader;
  OnnxGraph graph_;
  int64_t opset_ = 0;
  std::string producer_;
  std::shared_ptr<void> message_;
  std::deque<SourceTensor> tensors_;
  std::set<const SourceTensor*> four_bits_;
  std::deque<std::vector<uint8_t>> bytes_;
};

}  // namespace runnel::convert
