#include "converter/read/checkpoint.h"

#include <algorithm>

#include "converter/read/source_file.h"

namespace runnel::convert {

void Checkpoint::add(SourceTensor tensor, const std::string& where) {
  if (!index_.emplace(tensor.name, tensors_.size()).second)
    fail("%s: tensor \"%s\" occurs twice", where.c_str(), printable(tensor.name).c_str());
  tensors_.push_back(std::move(tensor));
  used_.push_back(false);
}

const SourceTensor* Checkpoint::find(const std::string& tensor_name) {
  const auto it = index_.find(tensor_name);
  if (it == index_.end()) return nullptr;
  used_[it->second] = true;
  return &tensors_[it->second];
}

const SourceTensor* Checkpoint::peek(const std::string& tensor_name) const {
  const auto it = index_.find(tensor_name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

void Checkpoint::replace(const SourceTensor& tensor, std::vector<uint8_t> bytes) {
  SourceTensor& t = tensors_[index_.at(tensor.name)];
  if (bytes.size() != t.bytes) fail("tensor \"%s\" cannot get %zu bytes", t.describe().c_str(), bytes.size());
  derived_bytes_.push_back(std::move(bytes));
  t.data = derived_bytes_.back().data();
}

namespace {

std::vector<uint64_t> without_ones(std::vector<uint64_t> shape) {
  shape.erase(std::remove(shape.begin(), shape.end(), uint64_t(1)), shape.end());
  return shape;
}

}  // namespace

void Checkpoint::put(const std::string& tensor_name, const SourceTensor& from, const std::string& where) {
  derived_bytes_.emplace_back(from.data, from.data + from.bytes);
  SourceTensor t = from;
  t.name = tensor_name;
  t.data = derived_bytes_.back().data();
  const auto it = index_.find(tensor_name);
  if (it == index_.end()) return add(std::move(t), where);
  SourceTensor& old = tensors_[it->second];
  if (old.shape != t.shape)
    fail("%s: %s cannot take the place of %s", where.c_str(), from.describe().c_str(), old.describe().c_str());
  old = std::move(t);
}

const SourceTensor& Checkpoint::take(const std::string& tensor_name, const std::vector<uint64_t>& shape) {
  const SourceTensor* t = find(tensor_name);
  // GGUF does not count axes of 1 on the outside, and its writers add some and leave others out.
  if (t && is_gguf() && t->count() > 0 && without_ones(t->shape) == without_ones(shape))
    tensors_[index_.at(tensor_name)].shape = shape;
  if (!t) fail("%s: tensor \"%s\" %s is missing", path.c_str(), tensor_name.c_str(), shape_text(shape).c_str());
  if (t->shape != shape)
    fail("%s: tensor \"%s\" has shape %s where the configuration needs %s", path.c_str(), tensor_name.c_str(),
         shape_text(t->shape).c_str(), shape_text(shape).c_str());
  return *t;
}

void Checkpoint::ignore_containing(const std::string& part) {
  for (size_t i = 0; i < tensors_.size(); ++i)
    if (tensors_[i].name.find(part) != std::string::npos) used_[i] = true;
}

void Checkpoint::leave_out(const std::vector<std::string>& parts, const std::string& what) {
  size_t count = 0;
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    bool is_part = false;
    for (const std::string& part : parts) {
      const size_t at = tensors_[i].name.find(part);
      is_part = is_part || at == 0 || (at != std::string::npos && tensors_[i].name[at - 1] == '.');
    }
    if (!is_part || used_[i]) continue;
    used_[i] = true;
    ++count, bytes += tensors_[i].bytes;
  }
  if (count)
    notices.push_back(what + " is left out: " + std::to_string(count) + " tensors, " + std::to_string(bytes) +
                      " bytes");
}

void Checkpoint::refuse_unused() const {
  std::string names;
  size_t count = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (used_[i]) continue;
    if (++count <= 8) names += (names.empty() ? "" : ", ") + tensors_[i].describe();
  }
  if (count)
    fail("%s: %zu tensors are unknown to the recipe, so the result would be wrong without them: %s%s", path.c_str(),
         count, names.c_str(), count > 8 ? ", ..." : "");
}

const SourceTensor& Checkpoint::rows_of(const SourceTensor& source, uint64_t first, uint64_t count) {
  if (source.shape.empty() || first > source.shape[0] || count > source.shape[0] - first)
    fail("tensor \"%s\" has no rows %llu to %llu", source.describe().c_str(), static_cast<unsigned long long>(first),
         static_cast<unsigned long long>(first + count));
  SourceTensor t = source;
  const uint64_t row_bytes = source.shape[0] ? source.bytes / source.shape[0] : 0;
  t.shape[0] = count;
  t.data += first * row_bytes;
  t.bytes = count * row_bytes;
  return derived_.emplace_back(std::move(t));
}

const SourceTensor& Checkpoint::derive(SourceTensor description, std::vector<uint8_t> bytes) {
  derived_bytes_.push_back(std::move(bytes));
  description.data = derived_bytes_.back().data();
  description.bytes = derived_bytes_.back().size();
  return derived_.emplace_back(std::move(description));
}

std::span<const uint8_t> Checkpoint::map(const std::filesystem::path& file) {
  auto view = FileView::open(file.c_str(), false);
  if (!view.is_ok()) throw Error(view.take_status().message());
  refuse_stand_in({reinterpret_cast<const char*>(view.value().data()), std::min<size_t>(view.value().size(), 256)},
                  file.string());
  files_.push_back(std::move(view.value()));
  return {files_.back().data(), files_.back().size()};
}

}  // namespace runnel::convert
