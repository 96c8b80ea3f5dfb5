#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace runnel {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

FileView::FileView(FileView&& o) noexcept
    : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)), kind_(std::exchange(o.kind_, Kind::kNone)) {}

FileView& FileView::operator=(FileView&& o) noexcept {
  if (this != &o) {
    close();
    data_ = std::exchange(o.data_, nullptr);
    size_ = std::exchange(o.size_, 0);
    kind_ = std::exchange(o.kind_, Kind::kNone);
  }
  return *this;
}

FileView::~FileView() { close(); }

void FileView::close() {
  if (kind_ == Kind::kMapped) ::munmap(const_cast<unsigned char*>(data_), size_);
  if (kind_ == Kind::kOwned) ::operator delete(const_cast<unsigned char*>(data_), std::align_val_t(64));
  kind_ = Kind::kNone;
}

Result<FileView> FileView::open(const char* path, bool copy) {
  Descriptor d{::open(path, O_RDONLY | O_CLOEXEC)};
  if (d.fd < 0) return Status::make(errno == ENOENT ? Code::kNotFound : Code::kIo, "%s: cannot open: %s", path, std::strerror(errno));
  struct stat st;
  if (::fstat(d.fd, &st) != 0) return Status::make(Code::kIo, "%s: %s", path, std::strerror(errno));
  if (!S_ISREG(st.st_mode)) return Status::make(Code::kIo, "%s: not a regular file", path);
  if (st.st_size == 0) return Status::make(Code::kInvalidModel, "%s: the file is empty", path);
  FileView view;
  view.size_ = size_t(st.st_size);
  if (!copy) {
    void* p = ::mmap(nullptr, view.size_, PROT_READ, MAP_SHARED, d.fd, 0);
    if (p == MAP_FAILED) return Status::make(Code::kIo, "%s: cannot map %zu bytes: %s", path, view.size_, std::strerror(errno));
    view.data_ = static_cast<const unsigned char*>(p);
    view.kind_ = Kind::kMapped;
    return view;
  }
  auto* p = static_cast<unsigned char*>(::operator new(view.size_, std::align_val_t(64), std::nothrow));
  if (!p) return Status::make(Code::kOutOfMemory, "%s: no memory for %zu bytes", path, view.size_);
  view.data_ = p;
  view.kind_ = Kind::kOwned;
  for (size_t done = 0; done < view.size_;) {
    const ssize_t n = ::read(d.fd, p + done, view.size_ - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Status::make(Code::kIo, "%s: read ended at byte %zu of %zu: %s", path, done, view.size_, n ? std::strerror(errno) : "end of file");
    done += size_t(n);
  }
  return view;
}

Result<FileView> FileView::borrow(const void* data, size_t size) {
  if (reinterpret_cast<uintptr_t>(data) % 64 != 0) return Status::make(Code::kInvalidArgument, "model memory is not 64-byte aligned");
  if (!data || size == 0) return Status::make(Code::kInvalidArgument, "model memory is empty");
  FileView view;
  view.data_ = static_cast<const unsigned char*>(data);
  view.size_ = size;
  view.kind_ = Kind::kBorrowed;
  return view;
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(path_ + path_size_ + 1);
  }
  std::free(path_);
}

Status AtomicFile::open(const char* path) {
  path_size_ = std::strlen(path);
  const size_t room = 2 * path_size_ + 32;
  path_ = static_cast<char*>(std::malloc(room));
  if (!path_) return Status::make(Code::kOutOfMemory, "no memory for a file name");
  std::memcpy(path_, path, path_size_ + 1);
  std::snprintf(path_ + path_size_ + 1, room - path_size_ - 1, "%s.%ld.tmp", path, long(::getpid()));
  fd_ = ::open(path_ + path_size_ + 1, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) return Status::make(Code::kIo, "%s: cannot create: %s", path_ + path_size_ + 1, std::strerror(errno));
  return Status::ok();
}

Status AtomicFile::write(const void* data, size_t size) {
  const auto* p = static_cast<const char*>(data);
  while (size) {
    const ssize_t n = ::write(fd_, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Status::make(Code::kIo, "%s: cannot write: %s", path_, std::strerror(errno));
    p += n;
    size -= size_t(n);
    written_ += uint64_t(n);
  }
  return Status::ok();
}

Status AtomicFile::write_at(uint64_t offset, const void* data, size_t size) {
  if (offset > written_ || size > written_ - offset) return Status::make(Code::kInternal, "%s: overwriting bytes that were not written", path_);
  const auto* p = static_cast<const char*>(data);
  while (size) {
    const ssize_t n = ::pwrite(fd_, p, size, off_t(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Status::make(Code::kIo, "%s: cannot write: %s", path_, std::strerror(errno));
    p += n;
    size -= size_t(n);
    offset += uint64_t(n);
  }
  return Status::ok();
}

Status AtomicFile::commit() {
  const char* temporary = path_ + path_size_ + 1;
  int error = ::fsync(fd_) != 0 ? errno : 0;
  if (::close(fd_) != 0 && !error) error = errno;
  fd_ = -1;
  if (!error && ::rename(temporary, path_) != 0) error = errno;
  if (error) {
    ::unlink(temporary);
    return Status::make(Code::kIo, "%s: cannot finish writing: %s", path_, std::strerror(error));
  }
  return Status::ok();
}

}  // namespace runnel
