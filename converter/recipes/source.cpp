#include "converter/recipes/source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "converter/weights/encode.h"

namespace runnel::convert {
namespace {

std::vector<uint64_t> as_shape(const std::vector<int64_t>& dims) { return {dims.begin(), dims.end()}; }

}  // namespace

void expect_biases(const Facts& f, const std::string& option, std::initializer_list<const char*> products,
                   Naming& naming) {
  if (!f.has(option)) return;
  for (const char* product : products) naming.biases[product] = {f.name_for_messages(option), f.boolean(option, false)};
}

Source::Source(Checkpoint& checkpoint, Naming naming) : checkpoint_(checkpoint), naming_(std::move(naming)) {
  const auto has_root = [&](const SourceTensor& t) {
    return t.name.compare(0, naming_.root.size(), naming_.root) == 0;
  };
  if (!checkpoint_.is_gguf() && std::none_of(checkpoint_.tensors().begin(), checkpoint_.tensors().end(), has_root))
    naming_.root.clear();
}

std::string Source::full_name(const std::string& name) const {
  const bool is_absolute = name[0] == '/';
  std::string stem = name, ending;
  for (const char* e : {".weight", ".bias"})
    if (name.size() > std::strlen(e) && name.compare(name.size() - std::strlen(e), std::string::npos, e) == 0)
      stem = name.substr(0, name.size() - std::strlen(e)), ending = e;
  if (!checkpoint_.is_gguf()) {
    const auto other = naming_.renamed.find(stem);
    if (other != naming_.renamed.end()) stem = other->second;
    return stem[0] == '/' ? stem.substr(1) + ending : naming_.root + scope_ + stem + ending;
  }
  const auto it = naming_.gguf.find(stem);
  if (it == naming_.gguf.end()) return name;  // no such tensor in a GGUF: looked up under a name that it cannot have
  std::string prefix;
  if (!scope_.empty() && !is_absolute) prefix = "blk." + scope_.substr(naming_.layer.size());
  return prefix + it->second + ending;
}

bool Source::has_bias(const std::string& product) const {
  const bool is_there = has(product + ".bias");
  for (const auto& [name, rule] : naming_.biases) {
    if (rule.is_there == is_there || !product.ends_with(name) ||
        (product.size() > name.size() && std::strchr("./", product[product.size() - name.size() - 1]) == nullptr))
      continue;
    fail("%s is %s, but tensor \"%s\" is %s", rule.option.c_str(), is_there ? "false" : "true",
         full_name(product + ".bias").c_str(), is_there ? "there" : "missing");
  }
  return is_there;
}

const SourceTensor& Source::take(const std::string& name, const std::vector<int64_t>& shape) {
  return checkpoint_.take(full_name(name), as_shape(shape));
}

const SourceTensor& Source::take_matrix(const std::string& product, int64_t rows, int64_t columns) {
  const std::string name = product + ".weight";
  if (!naming_.is_turned || checkpoint_.is_gguf()) return take(name, {rows, columns});
  const SourceTensor*& turned = turned_[full_name(name)];
  if (!turned) turned = &transposed(take(name, {columns, rows}));
  return *turned;
}

std::vector<float> Source::values(const std::string& name, const std::vector<int64_t>& shape) {
  const SourceTensor& t = take(name, shape);
  std::vector<float> out(size_t(t.count()));
  decode_values(t, 0, t.count(), out.data());
  return out;
}

std::vector<float> Source::negative_exp(const std::string& name, const std::vector<int64_t>& shape) {
  std::vector<float> out = values(name, shape);
  if (!checkpoint_.is_gguf())
    for (float& v : out) v = -std::exp(v);
  return out;
}

const SourceTensor& Source::matrix_of_several(const std::string& name, int64_t i, int64_t count, int64_t rows,
                                              int64_t columns) {
  if (!has(name + ".weight")) return take(name + "." + std::to_string(i) + ".weight", {rows, columns});
  SourceTensor flat = take(name + ".weight", {count, rows, columns});
  flat.shape = {uint64_t(count * rows), uint64_t(columns)};
  return rows_of(flat, i * rows, rows);
}

const SourceTensor& Source::find(const std::string& name) {
  const SourceTensor* t = checkpoint_.find(full_name(name));
  if (!t) fail("%s: tensor \"%s\" is missing", checkpoint_.path.c_str(), full_name(name).c_str());
  return *t;
}

std::vector<float> Source::numbers(const std::string& name, int64_t count) {
  const SourceTensor& t = find(name);
  if (t.count() != uint64_t(count))
    fail("%s: tensor \"%s\" does not have %lld elements", checkpoint_.path.c_str(), t.describe().c_str(),
         static_cast<long long>(count));
  std::vector<float> out(static_cast<size_t>(count));
  decode_values(t, 0, uint64_t(count), out.data());
  return out;
}

BatchNorm Source::batch_norm_of(const std::string& name, int64_t channels, double eps) {
  const auto list = [&](const char* what) { return values(name + what, {channels}); };
  if (has(name + ".num_batches_tracked")) find(name + ".num_batches_tracked");  // how long the training was
  return batch_norm(list(".weight"), list(".bias"), list(".running_mean"), list(".running_var"), eps);
}

std::vector<float> Source::values_of_rows(const std::string& name, const std::vector<int64_t>& row) {
  const SourceTensor* t = checkpoint_.find(full_name(name));
  std::vector<int64_t> shape = row;
  shape.insert(shape.begin(), t && !t->shape.empty() ? int64_t(t->shape[0]) : 1);
  return values(name, shape);
}

const SourceTensor& Source::reordered(const SourceTensor& source, const std::vector<int64_t>& rows) {
  SourceTensor t = source;
  const uint64_t row_bytes = source.bytes / source.shape[0];
  std::vector<uint8_t> bytes(size_t(row_bytes) * rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    if (uint64_t(rows[i]) >= source.shape[0])
      fail("tensor \"%s\" has no row %lld", source.describe().c_str(), static_cast<long long>(rows[i]));
    std::memcpy(bytes.data() + i * row_bytes, source.data + uint64_t(rows[i]) * row_bytes, size_t(row_bytes));
  }
  t.shape[0] = rows.size();
  t.bytes = bytes.size();
  return checkpoint_.derive(std::move(t), std::move(bytes));
}

const SourceTensor& Source::derived(SourceTensor description, std::vector<uint8_t> bytes) {
  description.bytes = bytes.size();
  return checkpoint_.derive(std::move(description), std::move(bytes));
}

const SourceTensor& Source::transposed(const SourceTensor& source) {
  if (source.shape.size() != 2 || info(source.type).block != 1)
    fail("tensor \"%s\" is not a plain matrix", source.describe().c_str());
  SourceTensor t = source;
  std::swap(t.shape[0], t.shape[1]);
  const uint64_t rows = source.shape[0], columns = source.shape[1], each = info(source.type).bytes;
  std::vector<uint8_t> bytes(size_t(source.bytes));
  for (uint64_t r = 0; r < rows; ++r)
    for (uint64_t c = 0; c < columns; ++c)
      std::memcpy(bytes.data() + (c * rows + r) * each, source.data + (r * columns + c) * each, each);
  return checkpoint_.derive(std::move(t), std::move(bytes));
}

const SourceTensor& Source::stacked(const std::vector<const SourceTensor*>& parts) {
  SourceTensor t = *parts[0];
  const uint64_t rows = t.shape[0], tiled = (rows + kTileRows - 1) / kTileRows * kTileRows;
  std::vector<uint8_t> bytes(size_t(t.bytes / rows * tiled * parts.size()));
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i]->shape != t.shape || parts[i]->type != t.type)
      fail("tensor \"%s\" is not like \"%s\"", parts[i]->describe().c_str(), t.describe().c_str());
    std::memcpy(bytes.data() + i * (t.bytes / rows * tiled), parts[i]->data, size_t(t.bytes));
  }
  t.shape[0] = tiled * parts.size();
  return checkpoint_.derive(std::move(t), std::move(bytes));
}

}  // namespace runnel::convert
