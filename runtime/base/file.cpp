#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
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

const char* kind_name(mode_t mode) {
  return S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a FIFO" : S_ISSOCK(mode) ? "a socket" : "a device";
}

// Names of temporary files that exist now, for remove_temporary_files(). Whoever takes a name out of its slot owns it.
std::atomic<char*> g_temporaries[32];
std::atomic<bool> g_is_ending;            // what is created from now on is removed by whoever creates it
std::atomic<unsigned> g_temporary_count;  // of all that were ever opened: part of their names

}  // namespace

bool is_same_file(const char* a, const char* b) {
  struct stat x, y;
  return ::stat(a, &x) == 0 && S_ISREG(x.st_mode) && ::stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

void remove_temporary_files() {
  g_is_ending.store(true);
  for (std::atomic<char*>& slot : g_temporaries) {
    char* name = slot.exchange(nullptr);
    if (!name) continue;
    ::unlink(name);
    slot.store(name);
  }
}

FileView::FileView(FileView&& o) noexcept
    : data_(std::exchange(o.data_, nullptr)),
      size_(std::exchange(o.size_, 0)),
      kind_(std::exchange(o.kind_, Kind::kNone)),
      device_(o.device_),
      inode_(o.inode_) {}

FileView& FileView::operator=(FileView&& o) noexcept {
  if (this != &o) {
    close();
    data_ = std::exchange(o.data_, nullptr);
    size_ = std::exchange(o.size_, 0);
    kind_ = std::exchange(o.kind_, Kind::kNone);
    device_ = o.device_, inode_ = o.inode_;
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
  // A FIFO is refused below rather than waited for.
  Descriptor d{::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (d.fd < 0)
    return Status::make(errno == ENOENT ? Code::kNotFound : Code::kIo, "%s: cannot open: %s", path,
                        std::strerror(errno));
  struct stat st;
  if (::fstat(d.fd, &st) != 0) return Status::make(Code::kIo, "%s: %s", path, std::strerror(errno));
  if (!S_ISREG(st.st_mode))
    return Status::make(Code::kIo, "%s: not a regular file but %s", path, kind_name(st.st_mode));
  if (st.st_size == 0) return Status::make(Code::kInvalidModel, "%s: the file is empty", path);
  FileView view;
  view.size_ = size_t(st.st_size);
  view.device_ = uint64_t(st.st_dev), view.inode_ = uint64_t(st.st_ino);
  if (!copy) {
    void* p = ::mmap(nullptr, view.size_, PROT_READ, MAP_SHARED, d.fd, 0);
    if (p == MAP_FAILED)
      return Status::make(Code::kIo, "%s: cannot map %zu bytes: %s", path, view.size_, std::strerror(errno));
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
    if (n <= 0)
      return Status::make(Code::kIo, "%s: read ended at byte %zu of %zu: %s", path, done, view.size_,
                          n ? std::strerror(errno) : "end of file");
    done += size_t(n);
  }
  return view;
}

bool FileView::is_at(const char* path) const {
  struct stat st;
  return inode_ && ::stat(path, &st) == 0 && uint64_t(st.st_dev) == device_ && uint64_t(st.st_ino) == inode_;
}

Result<FileView> FileView::borrow(const void* data, size_t size) {
  if (reinterpret_cast<uintptr_t>(data) % 64 != 0)
    return Status::make(Code::kInvalidArgument, "model memory is not 64-byte aligned");
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
    ::unlink(temporary_);
  }
  forget();
}

// A signal handler on another thread may hold the temporary's name just now.
void AtomicFile::forget() {
  const bool is_ours = slot_ < 0 || g_temporaries[slot_].exchange(nullptr) != nullptr;
  if (is_ours) std::free(temporary_);
  std::free(path_);
  path_ = temporary_ = nullptr;
  slot_ = -1;
}

// Puts where `path` leads in the end into path_: of a link not the link but its target is replaced, also when that does
// not exist yet.
Status AtomicFile::follow(const char* path) {
  path_ = ::strdup(path);
  for (int hops = 0; path_; ++hops) {
    struct stat st;
    if (::lstat(path_, &st) != 0 || !S_ISLNK(st.st_mode)) return Status::ok();
    char link[PATH_MAX];
    const ssize_t n = ::readlink(path_, link, sizeof link);
    if (n <= 0 || n == ssize_t(sizeof link) || hops == 40)
      return Status::make(Code::kIo, "%s: cannot follow the link: %s", path, std::strerror(n < 0 ? errno : ELOOP));
    const char* slash = link[0] == '/' ? nullptr : std::strrchr(path_, '/');
    const size_t folder = slash ? size_t(slash - path_) + 1 : 0;
    auto* next = static_cast<char*>(std::malloc(folder + size_t(n) + 1));
    if (next) {
      std::memcpy(next, path_, folder);
      std::memcpy(next + folder, link, size_t(n));
      next[folder + size_t(n)] = 0;
    }
    std::free(path_);
    path_ = next;
  }
  return Status::make(Code::kOutOfMemory, "no memory for a file name");
}

Status AtomicFile::open(const char* path) {
  struct stat old;
  const bool exists = ::stat(path, &old) == 0;
  if (exists && !S_ISREG(old.st_mode))
    return Status::make(Code::kIo, "%s: not written: it is no regular file but %s", path, kind_name(old.st_mode));
  RNL_TRY(follow(path));
  const char* slash = std::strrchr(path_, '/');
  const int folder = slash ? int(slash - path_) + 1 : 0;
  const size_t room = std::strlen(path_) + 48;
  temporary_ = static_cast<char*>(std::malloc(room));
  if (!temporary_) return Status::make(Code::kOutOfMemory, "no memory for a file name");
  // Other threads have other numbers; other machines and containers, whose processes may have our number, are noticed
  // by O_EXCL. The name is known before the file is there: whatever ends the program finds it.
  for (int tries = 0; fd_ < 0 && tries < 1000; ++tries) {
    std::snprintf(temporary_, room, "%.*s%.200s.%ld-%u.tmp", folder, path_, path_ + folder, long(::getpid()),
                  g_temporary_count.fetch_add(1));
    for (int i = 0; i < int(sizeof g_temporaries / sizeof *g_temporaries) && slot_ < 0; ++i) {
      char* none = nullptr;
      if (g_temporaries[i].compare_exchange_strong(none, temporary_)) slot_ = i;
    }
    fd_ = ::open(temporary_, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, exists ? 0600 : 0666);
    const int error = errno;
    if (fd_ >= 0 && g_is_ending.load()) ::unlink(temporary_);
    if (fd_ < 0 && slot_ >= 0 && g_temporaries[slot_].exchange(nullptr)) slot_ = -1;
    errno = error;
    if (fd_ < 0 && (error != EEXIST || slot_ >= 0)) break;
  }
  if (fd_ < 0) return Status::make(Code::kIo, "%s: cannot create: %s", path, std::strerror(errno));
  if (exists) {
    // The owner first: changing it clears bits of the mode. Without the right to, or on file systems without modes, the
    // file is ours and no one else's.
    const bool keeps_owner = (old.st_uid == ::geteuid() || ::fchown(fd_, old.st_uid, gid_t(-1)) == 0) &&
                             (old.st_gid == ::getegid() || ::fchown(fd_, uid_t(-1), old.st_gid) == 0);
    ::fchmod(fd_, old.st_mode & (keeps_owner ? 07777 : 0777));
  }
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

Status AtomicFile::extend(uint64_t size) {
  written_ += size;
  if (::ftruncate(fd_, off_t(written_)) == 0 && ::lseek(fd_, off_t(written_), SEEK_SET) >= 0) return Status::ok();
  return Status::make(Code::kIo, "%s: cannot write: %s", path_, std::strerror(errno));
}

Status AtomicFile::write_at(uint64_t offset, const void* data, size_t size) {
  if (offset > written_ || size > written_ - offset)
    return Status::make(Code::kInternal, "%s: overwriting bytes that were not written", path_);
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
  int error = ::fsync(fd_) != 0 ? errno : 0;
  if (::close(fd_) != 0 && !error) error = errno;
  fd_ = -1;
  if (!error && ::rename(temporary_, path_) != 0) error = errno;
  if (!error) return Status::ok();
  ::unlink(temporary_);
  return Status::make(Code::kIo, "%s: cannot finish writing: %s", path_, std::strerror(error));
}

}  // namespace runnel
