// Labels the content type of every character of a text, such as a page of HTML with CSS, JavaScript and SQL in it, with
// a bidirectional Mamba.
//   typeseg MODEL LABELS [FILE] [--labels | --time] [--idle MS] [--threads N] [--window BYTES] [--margin BYTES]
// prints the file, or standard input, with a colour for each kind of content (NO_COLOR and pipes: [kind] marks), or
// with
// --labels one line a run: first byte, bytes, kind.
//
// The network reads a text in both directions, so a byte's label depends on all of it, though hardly on what is far
// away. A text of any length is read in windows that overlap by a margin on both sides; only labels between the margins
// are kept. Memory does not depend on the length. What waits for its window is labelled as it stands when nothing more
// comes for some time (--idle, 0: never), so that a log can be followed.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <runnel/runnel.hpp>
#include <string>
#include <vector>

#include "../raspberrypi/memory.h"

namespace {

struct Options {
  std::string model, labels, file;
  bool as_runs = false, time = false;
  int threads = 0, idle = 1000;
  int64_t window = 8192, margin = 1024;
};

int usage() {
  std::fprintf(stderr,
               "usage: typeseg MODEL LABELS [FILE] [--labels | --time] [--idle MS] [--threads N] [--window BYTES] "
               "[--margin BYTES]\n");
  return 2;
}

bool parse(int argc, char** argv, Options& o) {
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    const auto number = [&](int64_t least) {
      return i + 1 < argc ? std::max<int64_t>(least, std::atoll(argv[++i])) : -1;
    };
    if (a == "--labels") o.as_runs = true;
    else if (a == "--time") o.time = true;
    else if (a == "--idle") o.idle = int(number(0));
    else if (a == "--threads") o.threads = int(number(1));
    else if (a == "--window") o.window = number(64);
    else if (a == "--margin") o.margin = number(4);  // no character is longer
    else if (a.rfind("--", 0) == 0) return false;
    else names.push_back(a);
  }
  if (names.size() < 2 || names.size() > 3 || o.threads < 0 || o.idle < 0 || o.margin < 0 || o.window <= 2 * o.margin)
    return false;
  o.model = names[0], o.labels = names[1];
  if (names.size() == 3) o.file = names[2];
  return true;
}

// The vocabulary of the model: visible ASCII and white space stand for themselves, every other byte is a currency sign
// (0xA4).
int32_t id_of(unsigned char byte) {
  return (byte >= 0x20 && byte < 0x7f) || byte == '\t' || byte == '\n' || byte == '\r' ? byte : 0xa4;
}

// Bytes of the character that begins with this byte; a byte that begins none stands alone.
size_t character_bytes(const std::string& s, size_t at) {
  const unsigned char c = static_cast<unsigned char>(s[at]);
  const size_t n = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 1;
  for (size_t i = 1; i < n; ++i)
    if (at + i >= s.size() || (static_cast<unsigned char>(s[at + i]) & 0xc0) != 0x80) return 1;
  return n;
}

class Labeller {
 public:
  rnl::Status open(const Options& o, int classes) {
    options_ = o, classes_ = classes;
    if (rnl::Status s = engine_.create(o.threads); !s) return s;
    if (rnl::Status s = model_.open(engine_, o.model.c_str()); !s) return s;
    logits_.resize(size_t(o.window) * size_t(classes));
    return session_.create(model_, rnl::session_options());
  }
  const rnl::Session& session() const { return session_; }

  // Takes what comes next of the text. keep(bytes, kinds of each, how many) is called for those whose labels are
  // certain: the margin behind them has come.
  template <class Keep>
  rnl::Status feed(const char* data, size_t size, Keep keep) {
    text_.append(data, size);
    const int64_t step = options_.window - 2 * options_.margin;
    while (int64_t(text_.size()) - done_ >= step + options_.margin)
      if (rnl::Status s = label(step, keep); !s) return s;
    return RNL_OK;
  }
  // Labels the rest as if the text ended here.
  template <class Keep>
  rnl::Status finish(Keep keep) {
    const int64_t step = options_.window - 2 * options_.margin;
    while (int64_t(text_.size()) > done_)
      if (rnl::Status s = label(std::min(step, int64_t(text_.size()) - done_), keep); !s) return s;
    return RNL_OK;
  }

 private:
  // The next n bytes, between a margin that was labelled before and one that is not labelled yet. Probabilities of a
  // character's bytes are averaged.
  template <class Keep>
  rnl::Status label(int64_t n, Keep keep) {
    const int64_t last = done_ + n, end = std::min(int64_t(text_.size()), last + options_.margin);
    ids_.resize(size_t(end));
    for (int64_t i = 0; i < end; ++i) ids_[size_t(i)] = id_of(static_cast<unsigned char>(text_[size_t(i)]));
    rnl_tensor in{"bytes", RNL_I32, 1, {end}, ids_.data(), ids_.size() * 4},
        out{"logits", RNL_F32, 0, {}, logits_.data(), logits_.size() * 4};
    if (rnl::Status s = rnl_session_run(session_.get(), nullptr, &in, 1, &out, 1); !s) return s;
    kinds_.assign(size_t(n), 0);
    for (int64_t at = done_; at < last;) {
      const int64_t stop = std::min(at + int64_t(character_bytes(text_, size_t(at))), end);
      const int kind = kind_of(&logits_[size_t(at) * size_t(classes_)], int(stop - at));
      for (int64_t i = at; i < std::min(stop, last); ++i) kinds_[size_t(i - done_)] = kind;
      at = stop;
    }
    keep(text_.data() + done_, kinds_.data(), size_t(n));
    const int64_t begin = std::max<int64_t>(0, last - options_.margin);
    text_.erase(0, size_t(begin));
    done_ = last - begin;
    return RNL_OK;
  }

  // The likeliest class of `rows` bytes together; -1 when it is less likely than 0.3.
  int kind_of(const float* logits, int rows) {
    mean_.assign(size_t(classes_), 0.0f);
    for (int r = 0; r < rows; ++r, logits += classes_) {
      float sum = 0, largest = *std::max_element(logits, logits + classes_);
      for (int k = 0; k < classes_; ++k) sum += std::exp(logits[k] - largest);
      for (int k = 0; k < classes_; ++k) mean_[size_t(k)] += std::exp(logits[k] - largest) / sum / float(rows);
    }
    const auto best = std::max_element(mean_.begin(), mean_.end());
    return *best < 0.3f ? -1 : int(best - mean_.begin());
  }

  Options options_;
  int classes_ = 0;
  rnl::Engine engine_;
  rnl::Model model_;
  rnl::Session session_;
  std::string text_;  // the margin before what is not labelled yet, then that
  int64_t done_ = 0;  // bytes of that margin
  std::vector<int32_t> ids_;
  std::vector<float> logits_, mean_;
  std::vector<int> kinds_;
};

// One of the 216 colours of a terminal, far apart for neighbouring kinds.
int colour_of(int kind) {
  return kind < 0 ? 244 : 16 + (36 * (1 + kind * 7 % 5) + 6 * (1 + kind * 3 % 5) + (1 + kind * 11 % 5)) % 216;
}

// Prints what was labelled, run by run.
class Painter {
 public:
  Painter(const Options& o, std::vector<std::string> names)
      : o_(o), names_(std::move(names)), counts_(names_.size() + 1) {}

  void add(const char* text, const int* kinds, size_t size) {
    for (size_t i = 0, run = 0; i <= size; ++i) {
      if (i < size) ++counts_[size_t(kinds[i] + 1)];
      if (i < size && i > 0 && kinds[i] == kinds[i - 1]) continue;
      if (i > run) print(text + run, kinds[run], i - run), run = i;
    }
    bytes_ += size;
    if (!o_.as_runs && !o_.time) std::fflush(stdout);
  }
  void finish() {
    if (o_.as_runs) print_run();
    if (o_.as_runs || o_.time) return;
    if (is_coloured_) std::printf("\033[0m");
    std::printf("\n");
    for (size_t k = 0; k < counts_.size(); ++k) {
      if (counts_[k] == 0) continue;
      if (is_coloured_) std::printf("\033[38;5;%dm", colour_of(int(k) - 1));
      std::printf("%s %lld bytes%s\n", name_of(int(k) - 1), static_cast<long long>(counts_[k]),
                  is_coloured_ ? "\033[0m" : "");
    }
  }
  size_t bytes() const { return bytes_; }

 private:
  const char* name_of(int kind) const { return kind < 0 ? "other" : names_[size_t(kind)].c_str(); }
  void print(const char* text, int kind, size_t size) {
    if (kind != kind_) {
      if (o_.as_runs) print_run();
      else if (!o_.time && is_coloured_) std::printf("\033[0m\033[38;5;%dm", colour_of(kind));
      else if (!o_.time) std::printf("[%s]", name_of(kind));
      kind_ = kind, run_ = 0;
    }
    run_ += size;
    if (!o_.as_runs && !o_.time) std::fwrite(text, 1, size, stdout);
    begin_ += size;
  }
  void print_run() const {
    if (run_ > 0)
      std::printf("%lld %lld %s\n", static_cast<long long>(begin_ - run_), static_cast<long long>(run_),
                  name_of(kind_));
  }

  const Options& o_;
  std::vector<std::string> names_;
  std::vector<int64_t> counts_;
  const bool is_coloured_ = isatty(1) && !std::getenv("NO_COLOR");
  int kind_ = -2;
  size_t begin_ = 0, run_ = 0, bytes_ = 0;  // what was printed, and of it the run at hand
};

// Feeds all that fd gives.
rnl::Status read_all(int fd, int idle, Labeller& labeller, Painter& painter) {
  const auto keep = [&](const char* text, const int* kinds, size_t size) { painter.add(text, kinds, size); };
  char buffer[4096];
  for (;;) {
    pollfd p{fd, POLLIN, 0};
    const int ready = poll(&p, 1, idle ? idle : -1);
    if (ready == 0)
      if (rnl::Status s = labeller.finish(keep); !s) return s;
    if (ready <= 0) continue;
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return labeller.finish(keep);
    if (rnl::Status s = labeller.feed(buffer, size_t(n), keep); !s) return s;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!parse(argc, argv, o)) return usage();
  const int fd = o.file.empty() ? 0 : open(o.file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::fprintf(stderr, "typeseg: cannot read %s\n", o.file.c_str()), 1;
  std::ifstream list(o.labels);
  std::vector<std::string> names;
  for (std::string line; std::getline(list, line);) names.push_back(line);
  if (names.empty()) return std::fprintf(stderr, "typeseg: no labels in %s\n", o.labels.c_str()), 1;

  Labeller labeller;
  rnl::Status status = labeller.open(o, int(names.size()));
  Painter painter(o, names);
  const auto begun = std::chrono::steady_clock::now();
  if (status) status = read_all(fd, o.idle, labeller, painter);
  if (!status) return std::fprintf(stderr, "typeseg: %s\n", status.message().c_str()), 1;
  painter.finish();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  if (o.time) {
    std::printf("%zu bytes in %.3f s, %.0f a second\n", painter.bytes(), seconds, double(painter.bytes()) / seconds);
    std::fflush(stdout);
    print_memory("typeseg", labeller.session());
  }
  return 0;
}
