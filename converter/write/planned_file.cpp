#include "converter/write/planned_file.h"

#include <sys/mman.h>

#include <cstring>

#include "base/xxh64.h"
#include "converter/write/layout.h"

namespace runnel::convert {

PlannedFile::PlannedFile(ModelBuilder& builder) {
  lay_out(builder);
  model_ = builder.model;
  model_.version_major = kFormatMajor;
  model_.version_minor = kFormatMinor;
  if (!model_.provenance) model_.provenance = std::make_unique<format::ProvenanceT>();
  model_.provenance->source_sha256 = std::string(64, '0');
  uint64_t at = align_up(header_of(model_).size() + 256, kSegmentAlignment);
  for (auto& s : model_.segments) {
    s->offset = at;
    at = align_up(at + s->bytes, kSegmentAlignment);
  }
  bytes_ = (model_.segments.empty() ? at : model_.segments.back()->offset + model_.segments.back()->bytes) + kSealBytes;
  memory_ = mmap(nullptr, size_t(bytes_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED)
    memory_ = nullptr, fail("no room for %llu bytes of addresses", static_cast<unsigned long long>(bytes_));
}

PlannedFile::~PlannedFile() {
  if (memory_) munmap(memory_, size_t(bytes_));
}

std::unique_ptr<Model> PlannedFile::open(const std::string& sha256) {
  if (!sha256.empty()) model_.provenance->source_sha256 = sha256;
  const std::vector<uint8_t> header = header_of(model_);
  auto* file = static_cast<unsigned char*>(memory_);
  std::memcpy(file, header.data(), header.size());
  Seal seal{bytes_, header.size(), xxh64(header.data(), header.size()), {}};
  std::memcpy(seal.magic, kSealMagic, 8);
  std::memcpy(file + bytes_ - kSealBytes, &seal, sizeof seal);
  auto model = Model::open_memory(file, size_t(bytes_));
  if (!model.is_ok()) fail("the planned file does not work: %s", model.take_status().message());
  return std::move(model.value());
}

}  // namespace runnel::convert
