// Files: a read-only view of a whole file, and atomic writing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"

namespace runnel {

// A whole file, mapped read-only and shared, or read into memory of our own.
class FileView {
 public:
  FileView() = default;
  FileView(FileView&& o) noexcept;
  FileView& operator=(FileView&& o) noexcept;
  ~FileView();

  // copy: read the file into memory instead of mapping it (the file may then be changed or removed).
  static Result<FileView> open(const char* path, bool copy);
  // Memory of the caller, who keeps it alive. data is 64-byte aligned or the call fails.
  static Result<FileView> borrow(const void* data, size_t size);

  const unsigned char* data() const { return data_; }
  size_t size() const { return size_; }
  bool is_mapped() const { return kind_ == Kind::kMapped; }

 private:
  enum class Kind : uint8_t { kNone, kMapped, kOwned, kBorrowed };
  void close();
  const unsigned char* data_ = nullptr;
  size_t size_ = 0;
  Kind kind_ = Kind::kNone;
};

// Writes `path` so that a reader sees the old file or the whole new one: a temporary file beside it, synced, then renamed.
// Destroyed without commit() it removes the temporary file.
class AtomicFile {
 public:
  AtomicFile() = default;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();
  Status open(const char* path);
  Status write(const void* data, size_t size);
  // Overwrites bytes that were written before.
  Status write_at(uint64_t offset, const void* data, size_t size);
  // The file's name until commit() renames it.
  const char* temporary_path() const { return path_ + path_size_ + 1; }
  Status commit();
  uint64_t written() const { return written_; }

 private:
  int fd_ = -1;
  uint64_t written_ = 0;
  char* path_ = nullptr;  // target, then the temporary name behind its zero byte
  size_t path_size_ = 0;
};

}  // namespace runnel
