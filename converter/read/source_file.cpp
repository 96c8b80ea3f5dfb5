#include "converter/read/source_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "converter/base/error.h"

namespace runnel::convert {
namespace fs = std::filesystem;
namespace {

// A regular file that is open for reading; fd is -1 otherwise and `problem` says why.
struct Opened {
  explicit Opened(const fs::path& file) {
    // Without O_NONBLOCK a FIFO would be waited for.
    fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || ::fstat(fd, &st) != 0) problem = std::string("cannot open: ") + std::strerror(errno);
    else if (!S_ISREG(st.st_mode)) problem = "not a regular file";
    if (problem.empty()) return;
    if (fd >= 0) ::close(fd);
    fd = -1;
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() {
    if (fd >= 0) ::close(fd);
  }
  // False at an error.
  bool append(size_t limit, std::string* text) const {
    char buffer[65536];
    while (text->size() < limit) {
      const ssize_t n = ::read(fd, buffer, std::min(sizeof buffer, limit - text->size()));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return n == 0;
      text->append(buffer, size_t(n));
    }
    return true;
  }
  int fd;
  std::string problem;
};

bool begins(std::string_view text, std::string_view with) {
  return text.size() >= with.size() && std::equal(with.begin(), with.end(), text.begin(), [](char a, char b) {
           return a == (b >= 'A' && b <= 'Z' ? char(b + 32) : b);
         });
}

}  // namespace

std::string read_text(const fs::path& file, size_t limit) {
  const Opened in(file);
  if (!in.problem.empty()) fail("%s: %s", file.c_str(), in.problem.c_str());
  std::string text;
  if (!in.append(limit + 1, &text)) fail("%s: cannot read", file.c_str());
  if (text.size() > limit) fail("%s: larger than %zu bytes", file.c_str(), limit);
  refuse_stand_in(text, file.string());
  return text;
}

std::string beginning_of(const fs::path& file, size_t size) {
  const Opened in(file);
  std::string text;
  if (in.problem.empty()) in.append(size, &text);
  return text;
}

void refuse_stand_in(std::string_view text, const std::string& where) {
  if (text.compare(0, 38, "version https://git-lfs.github.com/spe") == 0)
    fail("%s: a Git LFS pointer in place of the file: run \"git lfs pull\" in its folder, or download the file itself",
         where.c_str());
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  if (begins(text, "<!doctype html") || begins(text, "<html"))
    fail(
        "%s: a web page in place of the file: it was saved from an address that shows or refuses it (the page to log "
        "in, for example); download the file itself",
        where.c_str());
}

bool is_pickle(const fs::path& file, std::string_view begin) {
  for (const char* ending : {".pt", ".pth", ".ckpt", ".pkl"})
    if (file.extension() == ending) return true;
  const std::string name = file.filename().string();
  if (file.extension() == ".bin" && (name.rfind("pytorch_model", 0) == 0 || name.rfind("adapter_model", 0) == 0))
    return true;
  // A zip archive, or a pickle of the days before; both are no length of a header of safetensors.
  return begin.size() > 8 &&
         (begin.compare(0, 4, "PK\3\4") == 0 || (begin[0] == '\x80' && begin[1] >= 2 && begin[1] <= 5)) &&
         begin.substr(4, 4) != std::string_view("\0\0\0\0", 4);
}

void refuse_pickle(const fs::path& file) {
  fs::path target = file;
  target.replace_extension(".safetensors");
  fail(
      "%s: PyTorch's own kind of file, a pickle, which can run any program and is not read. Make a safetensors file of "
      "it where you trust it: "
      "pip install torch safetensors; python3 -c \"import torch, safetensors.torch as s; w = torch.load('%s', "
      "map_location='cpu', weights_only=True); "
      "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, '%s')\"",
      file.c_str(), file.c_str(), target.filename().c_str());
}

}  // namespace runnel::convert
