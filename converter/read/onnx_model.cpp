#include "converter/read/onnx_model.h"

#include <cstring>
#include <set>

#include "converter/read/onnx.pb.h"
#include "converter/read/source_file.h"

namespace runnel::convert {
namespace fs = std::filesystem;
namespace pb = runnel::onnx_file;

namespace {
constexpr int64_t kOldestOpset = 7, kNewestOpset = 25;
constexpr size_t kMaxNodes = 200000;  // behind functions written out
constexpr int kMaxCalls = 16;         // functions within each other
}  // namespace

class OnnxReader {
 public:
  OnnxReader(OnnxModel& model, Checkpoint& c, const fs::path& file, const pb::Model& message)
      : model_(model), checkpoint_(c), file_(file), where_(file.string()), message_(message) {}

  void read() {
    for (const auto& set : message_.opset_import())
      if (set.domain().empty() || set.domain() == "ai.onnx") model_.opset_ = set.version();
    if (!message_.has_graph()) fail("%s: not an ONNX model (no graph)", where_.c_str());
    if (model_.opset_ < kOldestOpset || model_.opset_ > kNewestOpset)
      fail("%s: opset %lld; %lld to %lld are read", where_.c_str(), static_cast<long long>(model_.opset_),
           static_cast<long long>(kOldestOpset), static_cast<long long>(kNewestOpset));
    model_.producer_ = message_.producer_name() + " " + message_.producer_version();
    for (const auto& f : message_.functions()) functions_[{f.domain(), f.name(), f.overload()}] = &f;
    read_graph(message_.graph(), model_.graph_, true);
  }

 private:
  using Attributes = std::map<std::string, const pb::Attribute*>;
  struct Call {
    std::string prefix;  // of names within the function
    std::map<std::string, std::string> names;
    Attributes attributes;
    int depth = 0;
  };

  void read_graph(const pb::Graph& from, OnnxGraph& to, bool is_main, const Call* call = nullptr) {
    std::set<std::string> initialised;
    for (const pb::Tensor& t : from.initializer()) {
      if (!initialised.insert(t.name()).second)
        fail("%s: initialiser \"%s\" stands there twice", where_.c_str(), printable(t.name()).c_str());
      const SourceTensor* source = tensor(t);
      to.initialisers.push_back({named(t.name(), call), source});
      if (is_main && source && source->count()) checkpoint_.add(*source, where_), checkpoint_.find(t.name());
    }
    for (const pb::ValueInfo& v : from.input())
      if (!initialised.count(v.name())) to.inputs.push_back(value(v, call));
    for (const pb::ValueInfo& v : from.output()) to.outputs.push_back(value(v, call));
    for (const pb::Node& n : from.node()) read_node(n, to, call);
  }

  // Names of values that a function makes are its own.
  std::string named(const std::string& name, const Call* call) const {
    if (!call || name.empty()) return name;
    const auto it = call->names.find(name);
    return it != call->names.end() ? it->second : call->prefix + name;
  }

  OnnxValueInfo value(const pb::ValueInfo& v, const Call* call) {
    OnnxValueInfo out;
    out.name = named(v.name(), call);
    if (!v.has_type() || !v.type().has_tensor_type()) return out;
    const pb::TensorType& t = v.type().tensor_type();
    out.type = t.elem_type();
    out.has_shape = t.has_shape();
    for (const pb::Dimension& d : t.shape().dim()) {
      OnnxDim dim;
      if (d.has_dim_value()) dim.size = d.dim_value() < 0 ? -1 : d.dim_value();
      else dim.name = d.dim_param();
      out.shape.push_back(std::move(dim));
    }
    return out;
  }

  void read_node(const pb::Node& from, OnnxGraph& to, const Call* call) {
    if (++nodes_ > kMaxNodes) fail("%s: more than %zu nodes", where_.c_str(), kMaxNodes);
    const auto f = functions_.find({from.domain(), from.op_type(), from.overload()});
    if (f != functions_.end()) return write_out(*f->second, from, to, call);
    OnnxNode n;
    n.op = from.op_type();
    n.domain = from.domain() == "ai.onnx" ? "" : from.domain();
    for (const auto& name : from.input()) n.inputs.push_back(named(name, call));
    for (const auto& name : from.output()) n.outputs.push_back(named(name, call));
    n.name = !from.name().empty() ? (call ? call->prefix : "") + from.name()
             : n.outputs.empty()  ? n.op
                                  : n.op + " of " + n.outputs[0];
    for (const pb::Attribute& a : from.attribute()) {
      const pb::Attribute* given = &a;
      if (!a.ref_attr_name().empty()) {
        if (!call)
          fail("%s: node \"%s\" refers to an attribute of no function", where_.c_str(), printable(n.name).c_str());
        const auto it = call->attributes.find(a.ref_attr_name());
        if (it == call->attributes.end()) continue;  // left out by the caller: the operator's default
        given = it->second;
      }
      n.attributes[a.name()] = attribute(*given, call, n.name);
    }
    to.nodes.push_back(std::move(n));
  }

  // The nodes of a function in the place of the node that calls it.
  void write_out(const pb::Function& f, const pb::Node& node, OnnxGraph& to, const Call* outer) {
    Call call;
    call.depth = outer ? outer->depth + 1 : 1;
    if (call.depth > kMaxCalls)
      fail("%s: function \"%s\" is nested too deeply", where_.c_str(), printable(f.name()).c_str());
    if (node.input_size() > f.input_size() || node.output_size() > f.output_size())
      fail("%s: node \"%s\" gives function \"%s\" more values than it takes", where_.c_str(),
           printable(node.name()).c_str(), printable(f.name()).c_str());
    call.prefix = (outer ? outer->prefix : "") +
                  (node.name().empty() ? f.name() + "#" + std::to_string(nodes_) : node.name()) + "/";
    for (int i = 0; i < f.input_size(); ++i)
      call.names[f.input(i)] = i < node.input_size() ? named(node.input(i), outer) : "";
    for (int i = 0; i < node.output_size(); ++i)
      if (!node.output(i).empty()) call.names[f.output(i)] = named(node.output(i), outer);
    for (const pb::Attribute& a : f.attribute_proto()) call.attributes[a.name()] = &a;
    for (const pb::Attribute& a : node.attribute()) {
      const pb::Attribute* given = &a;
      if (!a.ref_attr_name().empty()) {
        const auto it = outer ? outer->attributes.find(a.ref_attr_name()) : call.attributes.end();
        if (!outer || it == outer->attributes.end()) continue;
        given = it->second;
      }
      call.attributes[a.name()] = given;
    }
    for (const pb::Node& n : f.node()) read_node(n, to, &call);
  }

  OnnxAttribute attribute(const pb::Attribute& a, const Call* call, const std::string& node) {
    OnnxAttribute out;
    int kind = a.type();
    if (kind == 0)  // files of the first versions do not say
      kind = a.has_f()         ? 1
             : a.has_i()       ? 2
             : a.has_s()       ? 3
             : a.has_t()       ? 4
             : a.has_g()       ? 5
             : a.floats_size() ? 6
             : a.ints_size()   ? 7
                               : 8;
    if (kind > 8)
      fail("%s: attribute \"%s\" of node \"%s\" is of a kind that is not read", where_.c_str(),
           printable(a.name()).c_str(), printable(node).c_str());
    out.kind = OnnxKind(kind);
    out.i = a.i(), out.f = a.f(), out.s = a.s();
    out.ints.assign(a.ints().begin(), a.ints().end());
    out.floats.assign(a.floats().begin(), a.floats().end());
    out.strings.assign(a.strings().begin(), a.strings().end());
    if (a.has_t()) out.tensor = tensor(a.t());
    if (a.has_g()) {
      auto g = std::make_shared<OnnxGraph>();
      read_graph(a.g(), *g, false, call);
      out.graph = std::move(g);
    }
    return out;
  }

  struct TypeRow {
    int number;
    SourceType type;
    size_t bytes;  // in raw data
  };
  static const TypeRow* find_type(int number) {
    static constexpr TypeRow kRows[] = {
        {kOnnxFloat, SourceType::kF32, 4}, {kOnnxU8, SourceType::kU8, 1},     {kOnnxI8, SourceType::kI8, 1},
        {kOnnxU16, SourceType::kI32, 2},   {kOnnxI16, SourceType::kI16, 2},   {kOnnxI32, SourceType::kI32, 4},
        {kOnnxI64, SourceType::kI64, 8},   {kOnnxBool, SourceType::kBool, 1}, {kOnnxF16, SourceType::kF16, 2},
        {kOnnxF64, SourceType::kF64, 8},   {kOnnxU32, SourceType::kI64, 4},   {kOnnxU64, SourceType::kI64, 8},
        {kOnnxBF16, SourceType::kBF16, 2}, {kOnnxU4, SourceType::kU8, 1},     {kOnnxI4, SourceType::kI8, 1}};
    for (const TypeRow& r : kRows)
      if (r.number == number) return &r;
    return nullptr;
  }

  template <class To, class List>
  std::vector<uint8_t> bytes_of(const List& list) {
    std::vector<uint8_t> out(size_t(list.size()) * sizeof(To));
    size_t at = 0;
    for (const auto v : list) {
      const To x = To(v);
      std::memcpy(out.data() + at, &x, sizeof x);
      at += sizeof x;
    }
    return out;
  }
  // Values that stand one by one in a list of a wider type.
  std::vector<uint8_t> listed(const pb::Tensor& t) {
    switch (t.data_type()) {
      case kOnnxFloat: return bytes_of<float>(t.float_data());
      case kOnnxF64: return bytes_of<double>(t.double_data());
      case kOnnxI64: return bytes_of<int64_t>(t.int64_data());
      case kOnnxU64: return bytes_of<uint64_t>(t.uint64_data());
      case kOnnxU32: return bytes_of<uint32_t>(t.uint64_data());
      case kOnnxI32: return bytes_of<int32_t>(t.int32_data());
      case kOnnxU8:
      case kOnnxI8:
      case kOnnxU4:
      case kOnnxI4:
      case kOnnxBool: return bytes_of<uint8_t>(t.int32_data());
      default: return bytes_of<uint16_t>(t.int32_data());
    }
  }
  template <class From, class To>
  void widen(SourceTensor& s) {
    std::vector<uint8_t> wide(size_t(s.bytes) / sizeof(From) * sizeof(To));
    for (size_t i = 0; i < size_t(s.bytes) / sizeof(From); ++i) {
      From v;
      std::memcpy(&v, s.data + i * sizeof v, sizeof v);
      const To w = To(v);
      std::memcpy(wide.data() + i * sizeof w, &w, sizeof w);
    }
    own(s, std::move(wide));
  }
  // Numbers of 4 bits as bytes; of a byte the low ones come first.
  void split(SourceTensor& s, uint64_t count, bool has_sign) {
    std::vector<uint8_t> wide;
    wide.reserve(size_t(count));
    for (uint64_t i = 0; i < count; ++i) {
      const int bits = s.data[i / 2] >> (i % 2 * 4) & 15;
      wide.push_back(uint8_t(has_sign && bits > 7 ? bits - 16 : bits));
    }
    own(s, std::move(wide));
  }
  void own(SourceTensor& s, std::vector<uint8_t> bytes) {
    model_.bytes_.push_back(std::move(bytes));
    s.data = model_.bytes_.back().data();
    s.bytes = model_.bytes_.back().size();
  }

  // Null: of a type that is not read (texts among them); whoever needs it says so.
  const SourceTensor* tensor(const pb::Tensor& t) {
    const TypeRow* row = find_type(t.data_type());
    if (!row) return nullptr;
    SourceTensor s{t.name(), row->type, {}, nullptr, 0};
    uint64_t count = 1;
    if (t.dims_size() > 32)
      fail("%s: tensor \"%s\" has %d axes", where_.c_str(), printable(t.name()).c_str(), t.dims_size());
    for (int64_t d : t.dims()) {
      if (d < 0 || (d > 0 && count > (uint64_t(1) << 40) / uint64_t(d)))
        fail("%s: tensor \"%s\" has an axis of %lld", where_.c_str(), printable(t.name()).c_str(),
             static_cast<long long>(d));
      count *= uint64_t(d);
      s.shape.push_back(uint64_t(d));
    }
    const bool is_four_bits = t.data_type() == kOnnxU4 || t.data_type() == kOnnxI4;
    const uint64_t bytes = is_four_bits ? (count + 1) / 2 : count * row->bytes;
    if (t.data_location() == 1) read_external(t, bytes, s);
    else if (t.has_raw_data())
      s.data = reinterpret_cast<const uint8_t*>(t.raw_data().data()), s.bytes = t.raw_data().size();
    else own(s, listed(t));
    if (s.bytes != bytes)
      fail("%s: tensor \"%s\" %s has %llu bytes, want %llu", where_.c_str(), printable(t.name()).c_str(),
           shape_text(s.shape).c_str(), static_cast<unsigned long long>(s.bytes),
           static_cast<unsigned long long>(bytes));
    if (t.data_type() == kOnnxU16) widen<uint16_t, int32_t>(s);
    if (t.data_type() == kOnnxU32) widen<uint32_t, int64_t>(s);
    if (is_four_bits) split(s, count, t.data_type() == kOnnxI4);
    model_.tensors_.push_back(std::move(s));
    if (is_four_bits) model_.four_bits_.insert(&model_.tensors_.back());
    return &model_.tensors_.back();
  }

  static uint64_t number(const std::string& text, const std::string& where, const char* what) {
    if (text.empty() || text.size() > 15 || text.find_first_not_of("0123456789") != text.npos)
      fail("%s: %s \"%s\" of external data is no size", where.c_str(), what, printable(text).c_str());
    return std::stoull(text);
  }

  void read_external(const pb::Tensor& t, uint64_t bytes, SourceTensor& s) {
    std::string location;
    uint64_t offset = 0, length = bytes;
    for (const pb::Entry& e : t.external_data()) {
      if (e.key() == "location") location = e.value();
      if (e.key() == "offset") offset = number(e.value(), where_, "offset");
      if (e.key() == "length") length = number(e.value(), where_, "length");
    }
    auto it = external_.find(location);
    if (it == external_.end()) it = external_.emplace(location, open_external(location)).first;
    if (offset > it->second.size() || length > it->second.size() - offset)
      fail("%s: tensor \"%s\" lies outside of \"%s\", which has %zu bytes", where_.c_str(), printable(t.name()).c_str(),
           printable(location).c_str(), it->second.size());
    s.data = it->second.data() + offset;
    s.bytes = length;
  }

  // Files of the model's folder and below it alone, also where links lead.
  std::span<const uint8_t> open_external(const std::string& location) {
    const fs::path relative = fs::path(location),
                   folder = file_.has_parent_path() ? file_.parent_path() : fs::path(".");
    bool leaves =
        location.empty() || location.size() > 4096 || location.find('\0') != location.npos || relative.is_absolute();
    for (const fs::path& part : relative) leaves = leaves || part == "..";
    std::error_code error;
    const fs::path real = leaves ? fs::path() : fs::canonical(folder / relative, error);
    if (!leaves && error)
      fail("%s: its external data \"%s\" is not there", where_.c_str(), printable(location).c_str());
    const fs::path root = fs::canonical(folder, error);
    const auto [end, unused] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
    if (leaves || error || end != root.end())
      fail("%s: its external data \"%s\" lies outside of the model's folder", where_.c_str(),
           printable(location).c_str());
    checkpoint_.weight_files.push_back(real);
    return checkpoint_.map(real);
  }

  OnnxModel& model_;
  Checkpoint& checkpoint_;
  fs::path file_;
  std::string where_;
  const pb::Model& message_;
  std::map<std::tuple<std::string, std::string, std::string>, const pb::Function*> functions_;
  std::map<std::string, std::span<const uint8_t>> external_;
  size_t nodes_ = 0;
};

OnnxModel::OnnxModel(const fs::path& file, Checkpoint& c) {
  c.kind = Checkpoint::Kind::kGraph;
  c.path = file;
  c.name = file.stem().string();
  c.weight_files = {file};
  const std::span<const uint8_t> bytes = c.map(file);
  refuse_stand_in({reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 512)}, file.string());
  if (bytes.size() > size_t(INT32_MAX))
    fail("%s: above 2 GiB; larger models keep their tensors in files beside them", file.c_str());
  auto message = std::make_shared<pb::Model>();
  message_ = message;
  if (!message->ParseFromArray(bytes.data(), int(bytes.size())))
    fail("%s: not an ONNX model, or cut off", file.c_str());
  OnnxReader(*this, c, file, *message).read();
}

}  // namespace runnel::convert
