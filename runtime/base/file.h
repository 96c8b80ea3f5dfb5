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
  // Whether this name leads to the file that was opened, also after it was copied.
  bool is_at(const char* path) const;

 private:
  enum class Kind : uint8_t { kNone, kMapped, kOwned, kBorrowed };
  void close();
  const unsigned char* data_ = nullptr;
  size_t size_ = 0;
  Kind kind_ = Kind::kNone;
  uint64_t device_ = 0, inode_ = 0;
};

// Whether both names lead to one regular file, by links of either kind or by another way through the folders.
bool is_same_file(const char* a, const char* b);

// Removes what AtomicFile has open. Safe in a signal handler; for a program that ends now.
void remove_temporary_files();

// Writes `path` so that a reader sees the old file or the whole new one: a temporary file beside it, synced, then
// renamed. A link is followed and stays; what is no regular file is refused; mode and, where we may, owner of the file
// that was there are kept. Any number of threads and processes may write one path: the last commit() stays. Destroyed
// without commit() it removes the temporary file.
class AtomicFile {
 public:
  AtomicFile() = default;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();
  // Once.
  Status open(const char* path);
  Status write(const void* data, size_t size);
  // As if so many bytes of zeros had been written.
  Status extend(uint64_t size);
  // Overwrites bytes that were written before.
  Status write_at(uint64_t offset, const void* data, size_t size);
  // The file's name until commit() renames it.
  const char* temporary_path() const { return temporary_; }
  Status commit();
  uint64_t written() const { return written_; }

 private:
  Status follow(const char* path);
  void forget();
  int fd_ = -1, slot_ = -1;  // slot_: among the names that remove_temporary_files() knows
  uint64_t written_ = 0;
  char *path_ = nullptr, *temporary_ = nullptr;
};

}  // namespace runnel
