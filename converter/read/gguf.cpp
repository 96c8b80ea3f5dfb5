// GGUF: header, key-value pairs, tensor directory, padding to the alignment, tensor data.
#include <algorithm>
#include <bit>
#include <cstring>

#include "converter/read/read.h"

namespace runnel::convert {
namespace {

constexpr uint64_t kMaxPairs = 1 << 16;
constexpr uint64_t kMaxTensors = 1 << 18;
constexpr uint64_t kMaxElements = 1 << 24;  // metadata array elements of a whole file
constexpr uint64_t kMaxName = 1 << 16;

enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

struct GgmlType {
  uint32_t number;
  SourceType type;
};
constexpr GgmlType kGgmlTypes[] = {
    {0, SourceType::kF32},     {1, SourceType::kF16},      {2, SourceType::kQ4_0},   {3, SourceType::kQ4_1},
    {6, SourceType::kQ5_0},    {7, SourceType::kQ5_1},     {8, SourceType::kQ8_0},   {10, SourceType::kQ2_K},
    {11, SourceType::kQ3_K},   {12, SourceType::kQ4_K},    {13, SourceType::kQ5_K},  {14, SourceType::kQ6_K},
    {20, SourceType::kIQ4_NL}, {39, SourceType::kMXFP4},   {15, SourceType::kQ8_K},  {16, SourceType::kIQ2_XXS},
    {17, SourceType::kIQ2_XS}, {18, SourceType::kIQ3_XXS}, {21, SourceType::kIQ3_S}, {22, SourceType::kIQ2_S},
    {23, SourceType::kIQ4_XS}, {34, SourceType::kTQ1_0},   {35, SourceType::kTQ2_0}, {40, SourceType::kNVFP4},
    {24, SourceType::kI8},     {25, SourceType::kI16},     {26, SourceType::kI32},   {27, SourceType::kI64},
    {28, SourceType::kF64},    {30, SourceType::kBF16},
};
// Names of what is not supported, for the message.
const char* other_type_name(uint32_t number) {
  switch (number) {
    case 4: return "Q4_2 (withdrawn)";
    case 5: return "Q4_3 (withdrawn)";
    case 9: return "Q8_1";
    case 19: return "IQ1_S";
    case 29: return "IQ1_M";
    default: return "unknown";
  }
}

class Reader {
 public:
  Reader(std::span<const uint8_t> bytes, const std::string& where) : bytes_(bytes), where_(where) {}
  const std::string& where() const { return where_; }
  size_t position() const { return at_; }
  size_t left() const { return bytes_.size() - at_; }

  template <class T>
  T number(const char* what) {
    if (left() < sizeof(T)) fail("%s: the file ends at byte %zu, inside of %s", where_.c_str(), bytes_.size(), what);
    T v;
    std::memcpy(&v, bytes_.data() + at_, sizeof v);
    at_ += sizeof v;
    return v;
  }
  std::string string(const char* what, uint64_t limit) {
    const auto n = number<uint64_t>(what);
    if (n > left())
      fail("%s: %s at byte %zu says %llu bytes, %zu are left", where_.c_str(), what, at_ - 8,
           static_cast<unsigned long long>(n), left());
    if (n > limit)
      fail("%s: %s at byte %zu says %llu bytes, at most %llu", where_.c_str(), what, at_ - 8,
           static_cast<unsigned long long>(n), static_cast<unsigned long long>(limit));
    std::string s(reinterpret_cast<const char*>(bytes_.data() + at_), size_t(n));
    at_ += size_t(n);
    return s;
  }

  Json value(uint32_t type, const std::string& key, int depth) {
    const char* what = key.c_str();
    switch (type) {
      case kU8: return number<uint8_t>(what);
      case kI8: return number<int8_t>(what);
      case kU16: return number<uint16_t>(what);
      case kI16: return number<int16_t>(what);
      case kU32: return number<uint32_t>(what);
      case kI32: return number<int32_t>(what);
      case kU64: return number<uint64_t>(what);
      case kI64: return number<int64_t>(what);
      case kF32: return number<float>(what);
      case kF64: return number<double>(what);
      case kBool: return number<uint8_t>(what) != 0;
      case kString: return string(what, left());
      case kArray: return array(key, depth);
      default: fail("%s: key \"%s\" has value type %u, unknown", where_.c_str(), printable(key).c_str(), type);
    }
  }

 private:
  Json array(const std::string& key, int depth) {
    const auto type = number<uint32_t>(key.c_str());
    const auto n = number<uint64_t>(key.c_str());
    if (depth >= 3) fail("%s: key \"%s\" nests arrays too deeply", where_.c_str(), printable(key).c_str());
    constexpr uint8_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};  // smallest bytes of an element
    if (type > kF64) fail("%s: key \"%s\" has element type %u, unknown", where_.c_str(), printable(key).c_str(), type);
    if (n > left() / kSizes[type])
      fail("%s: key \"%s\" says %llu elements, more than the file holds", where_.c_str(), printable(key).c_str(),
           static_cast<unsigned long long>(n));
    elements_ += n;
    if (elements_ > kMaxElements)
      fail("%s: key \"%s\": metadata arrays have more than %llu elements", where_.c_str(), printable(key).c_str(),
           static_cast<unsigned long long>(kMaxElements));
    Json::array_t out;
    out.reserve(size_t(n));
    for (uint64_t i = 0; i < n; ++i) out.push_back(value(type, key, depth + 1));
    return out;
  }

  std::span<const uint8_t> bytes_;
  std::string where_;
  size_t at_ = 0;
  uint64_t elements_ = 0;
};

struct Entry {
  SourceTensor tensor;
  uint64_t offset;
};

Entry read_entry(Reader& in, uint64_t alignment) {
  Entry e;
  e.tensor.name = in.string("a tensor's name", kMaxName);
  const std::string name = printable(e.tensor.name);
  const char* where = in.where().c_str();
  if (e.tensor.name.empty()) fail("%s: a tensor has no name", where);
  const auto rank = in.number<uint32_t>("a tensor's axes");
  if (rank < 1 || rank > 4) fail("%s: tensor \"%s\" has %u axes, 1 to 4 are possible", where, name.c_str(), rank);
  uint64_t count = 1;
  for (uint32_t d = 0; d < rank; ++d) {
    const auto dim = in.number<uint64_t>("a tensor's shape");
    if (dim == 0 || dim >= (uint64_t(1) << 31) || __builtin_mul_overflow(count, dim, &count) ||
        count > (uint64_t(1) << 40))
      fail("%s: tensor \"%s\" has an axis of %llu elements, which cannot be", where, name.c_str(),
           static_cast<unsigned long long>(dim));
    e.tensor.shape.insert(e.tensor.shape.begin(), dim);  // the file has the innermost axis first
  }
  const auto number = in.number<uint32_t>("a tensor's type");
  const auto* type =
      std::find_if(std::begin(kGgmlTypes), std::end(kGgmlTypes), [&](const GgmlType& t) { return t.number == number; });
  if (type == std::end(kGgmlTypes))
    fail("%s: tensor \"%s\" has type %u (%s), which is not supported", where, name.c_str(), number,
         other_type_name(number));
  e.tensor.type = type->type;
  const SourceTypeInfo& ti = info(e.tensor.type);
  if (e.tensor.shape.back() % ti.block)
    fail("%s: tensor \"%s\" %s: rows do not consist of whole blocks of %u", where, name.c_str(),
         e.tensor.describe().c_str(), ti.block);
  e.tensor.bytes = count / ti.block * ti.bytes;
  e.offset = in.number<uint64_t>("a tensor's offset");
  if (e.offset % alignment)
    fail("%s: tensor \"%s\" has offset %llu, not a multiple of %llu", where, name.c_str(),
         static_cast<unsigned long long>(e.offset), static_cast<unsigned long long>(alignment));
  return e;
}

// Only a split model has keys already, those of the parts before.
void merge_keys(Json& meta, const std::string& where, Checkpoint& checkpoint) {
  if (!checkpoint.meta.is_object()) checkpoint.meta = Json::object();
  for (auto& [key, value] : meta.items()) {
    const bool is_of_part = key == "split.no" || key == "general.alignment";
    const auto before = checkpoint.meta.find(key);
    if (before != checkpoint.meta.end() && *before != value && !is_of_part)
      fail("%s: key \"%s\" has another value than in the parts before: parts of different models", where.c_str(),
           printable(key).c_str());
    checkpoint.meta[key] = std::move(value);
  }
}

}  // namespace

void read_gguf(std::span<const uint8_t> bytes, const std::string& where, Checkpoint& checkpoint) {
  static_assert(std::endian::native == std::endian::little);
  Reader in(bytes, where);
  if (in.number<uint32_t>("the identifier") != 0x46554747u) fail("%s: not a GGUF file", where.c_str());
  const auto version = in.number<uint32_t>("the version");
  if (version == 0x02000000u || version == 0x03000000u)
    fail("%s: a big-endian GGUF file; only little-endian ones are supported", where.c_str());
  if (version != 2 && version != 3) fail("%s: GGUF version %u; 2 and 3 are supported", where.c_str(), version);
  const auto tensors = in.number<uint64_t>("the number of tensors");
  const auto pairs = in.number<uint64_t>("the number of keys");
  if (tensors > kMaxTensors || tensors > bytes.size() / 32)
    fail("%s: says it has %llu tensors", where.c_str(), static_cast<unsigned long long>(tensors));
  if (pairs > kMaxPairs || pairs > bytes.size() / 13)
    fail("%s: says it has %llu keys", where.c_str(), static_cast<unsigned long long>(pairs));

  checkpoint.kind = Checkpoint::Kind::kGguf;
  Json meta = Json::object();
  for (uint64_t i = 0; i < pairs; ++i) {
    const std::string key = in.string("a key", kMaxName);
    const auto type = in.number<uint32_t>("a key's type");
    Json value = in.value(type, printable(key), 0);
    if (!meta.emplace(key, std::move(value)).second)
      fail("%s: key \"%s\" occurs twice", where.c_str(), printable(key).c_str());
  }
  uint64_t alignment = 32;
  if (const auto it = meta.find("general.alignment"); it != meta.end()) {
    if (!it->is_number_unsigned()) fail("%s: general.alignment is not an unsigned number", where.c_str());
    alignment = it->get<uint64_t>();
    if (alignment < 8 || alignment > 65536 || !std::has_single_bit(alignment))
      fail("%s: general.alignment is %llu, not a power of two from 8 to 65536", where.c_str(),
           static_cast<unsigned long long>(alignment));
  }
  merge_keys(meta, where, checkpoint);

  std::vector<Entry> entries;
  entries.reserve(size_t(tensors));
  for (uint64_t i = 0; i < tensors; ++i) entries.push_back(read_entry(in, alignment));
  const uint64_t data = (in.position() + alignment - 1) / alignment * alignment;
  const uint64_t room = bytes.size() > data ? bytes.size() - data : 0;
  for (Entry& e : entries) {
    if (e.offset > room || e.tensor.bytes > room - e.offset)
      fail("%s: tensor \"%s\" at offset %llu with %llu bytes ends behind the end of the file (%zu bytes): truncated?",
           where.c_str(), e.tensor.describe().c_str(), static_cast<unsigned long long>(e.offset),
           static_cast<unsigned long long>(e.tensor.bytes), bytes.size());
    e.tensor.data = bytes.data() + data + e.offset;
  }
  std::vector<const Entry*> sorted;
  for (const Entry& e : entries) sorted.push_back(&e);
  std::sort(sorted.begin(), sorted.end(), [](const Entry* a, const Entry* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i - 1]->offset + sorted[i - 1]->tensor.bytes > sorted[i]->offset)
      fail("%s: tensors \"%s\" and \"%s\" overlap", where.c_str(), printable(sorted[i - 1]->tensor.name).c_str(),
           printable(sorted[i]->tensor.name).c_str());
  for (Entry& e : entries) checkpoint.add(std::move(e.tensor), where);

  const auto text = [&](const char* key) {
    const auto it = checkpoint.meta.find(key);
    return it != checkpoint.meta.end() && it->is_string() ? printable(it->get_ref<const std::string&>())
                                                          : std::string();
  };
  checkpoint.name = text("general.name");
  checkpoint.licence = text("general.license");
}

}  // namespace runnel::convert
