// Labels the content type of every character of a text, such as a page of HTML with CSS, JavaScript and SQL in it, with
// a bidirectional Mamba.
//   typeseg MODEL LABELS FILE [--labels | --time] [--threads N] [--window BYTES] [--margin BYTES]
// prints the file with a colour for each kind of content (NO_COLOR and pipes: [kind] marks), or with --labels one line
// a run: first byte, bytes, kind.
//
// The network reads a text in both directions, so a byte's label depends on all of it, though hardly on what is far
// away. A text of any length is read in windows that overlap by a margin on both sides; only labels between the margins
// are kept. Memory does not depend on the length.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <runnel/runnel.hpp>
#include <string>
#include <vector>

namespace {

struct Options {
  std::string model, labels, file;
  bool as_runs = false, time = false;
  int threads = 0;
  int64_t window = 8192, margin = 1024;
};

int usage() {
  std::fprintf(
      stderr, "usage: typeseg MODEL LABELS FILE [--labels | --time] [--threads N] [--window BYTES] [--margin BYTES]\n");
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
    else if (a == "--threads") o.threads = int(number(1));
    else if (a == "--window") o.window = number(64);
    else if (a == "--margin") o.margin = number(0);
    else if (a.rfind("--", 0) == 0) return false;
    else names.push_back(a);
  }
  if (names.size() != 3 || o.threads < 0 || o.margin < 0 || o.window <= 2 * o.margin) return false;
  o.model = names[0], o.labels = names[1], o.file = names[2];
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
  rnl::Status open(const Options& o) {
    options_ = o;
    if (rnl::Status s = engine_.create(o.threads); !s) return s;
    if (rnl::Status s = model_.open(engine_, o.model.c_str()); !s) return s;
    return session_.create(model_, rnl::session_options());
  }

  // Calls keep(first byte, bytes, kinds of the bytes) from the text's begin to its end. Probabilities of a character's
  // bytes are averaged.
  template <class Keep>
  rnl::Status label(const std::string& text, int classes, Keep keep) {
    std::vector<int32_t> ids;
    std::vector<float> logits(size_t(options_.window) * size_t(classes));
    std::vector<int> kinds;
    const int64_t size = int64_t(text.size()), step = options_.window - 2 * options_.margin;
    for (int64_t first = 0; first < size; first += step) {
      const int64_t begin = std::max<int64_t>(0, first - options_.margin),
                    end = std::min(size, first + step + options_.margin), last = std::min(size, first + step);
      ids.resize(size_t(end - begin));
      for (int64_t i = begin; i < end; ++i) ids[size_t(i - begin)] = id_of(static_cast<unsigned char>(text[size_t(i)]));
      rnl_tensor in{"bytes", RNL_I32, 1, {end - begin}, ids.data(), ids.size() * 4},
          out{"logits", RNL_F32, 0, {}, logits.data(), logits.size() * 4};
      if (rnl::Status s = rnl_session_run(session_.get(), nullptr, &in, 1, &out, 1); !s) return s;
      kinds.assign(size_t(last - first), 0);
      for (int64_t at = first; at < last;) {
        const int64_t n = int64_t(character_bytes(text, size_t(at))), stop = std::min(at + n, end);
        const int kind = kind_of(&logits[size_t(at - begin) * size_t(classes)], int(stop - at), classes);
        for (int64_t i = at; i < std::min(stop, last); ++i) kinds[size_t(i - first)] = kind;
        at = stop;
      }
      keep(first, last - first, kinds.data());
    }
    return RNL_OK;
  }

 private:
  // The likeliest class of `rows` bytes together; -1 when it is less likely than 0.3.
  static int kind_of(const float* logits, int rows, int classes) {
    std::vector<float> mean(size_t(classes), 0.0f);
    for (int r = 0; r < rows; ++r, logits += classes) {
      float sum = 0, largest = *std::max_element(logits, logits + classes);
      for (int k = 0; k < classes; ++k) sum += std::exp(logits[k] - largest);
      for (int k = 0; k < classes; ++k) mean[size_t(k)] += std::exp(logits[k] - largest) / sum / float(rows);
    }
    const auto best = std::max_element(mean.begin(), mean.end());
    return *best < 0.3f ? -1 : int(best - mean.begin());
  }

  Options options_;
  rnl::Engine engine_;
  rnl::Model model_;
  rnl::Session session_;
};

// One of the 216 colours of a terminal, far apart for neighbouring kinds.
int colour_of(int kind) {
  return kind < 0 ? 244 : 16 + (36 * (1 + kind * 7 % 5) + 6 * (1 + kind * 3 % 5) + (1 + kind * 11 % 5)) % 216;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!parse(argc, argv, o)) return usage();
  std::ifstream file(o.file, std::ios::binary), list(o.labels);
  if (!file) return std::fprintf(stderr, "typeseg: cannot read %s\n", o.file.c_str()), 1;
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::string> names;
  for (std::string line; std::getline(list, line);) names.push_back(line);
  if (names.empty()) return std::fprintf(stderr, "typeseg: no labels in %s\n", o.labels.c_str()), 1;

  Labeller labeller;
  rnl::Status status = labeller.open(o);
  const bool coloured = isatty(1) && !std::getenv("NO_COLOR");
  int64_t run_begin = 0;
  int run_kind = -2;
  const auto name_of = [&](int kind) { return kind < 0 ? "other" : names[size_t(kind)].c_str(); };
  const auto flush = [&](int64_t end) {
    if (end == run_begin) return;
    if (o.as_runs) {
      std::printf("%lld %lld %s\n", static_cast<long long>(run_begin), static_cast<long long>(end - run_begin),
                  name_of(run_kind));
    } else if (!o.time) {
      if (coloured) std::printf("\033[38;5;%dm", colour_of(run_kind));
      else std::printf("[%s]", name_of(run_kind));
      std::fwrite(text.data() + run_begin, 1, size_t(end - run_begin), stdout);
      if (coloured) std::printf("\033[0m");
    }
    run_begin = end;
  };
  std::vector<int64_t> counts(names.size() + 1, 0);
  const auto begun = std::chrono::steady_clock::now();
  if (status)
    status = labeller.label(text, int(names.size()), [&](int64_t first, int64_t bytes, const int* kinds) {
      for (int64_t i = 0; i < bytes; ++i) {
        if (kinds[i] != run_kind) flush(first + i), run_kind = kinds[i];
        ++counts[size_t(kinds[i] + 1)];
      }
    });
  if (!status) return std::fprintf(stderr, "typeseg: %s\n", status.message().c_str()), 1;
  flush(int64_t(text.size()));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  if (o.time) std::printf("%zu bytes in %.3f s, %.0f a second\n", text.size(), seconds, double(text.size()) / seconds);
  if (o.as_runs || o.time) return 0;
  std::printf("\n");
  for (size_t k = 0; k < counts.size(); ++k) {
    if (counts[k] == 0) continue;
    if (coloured) std::printf("\033[38;5;%dm", colour_of(int(k) - 1));
    std::printf("%s %lld bytes%s\n", name_of(int(k) - 1), static_cast<long long>(counts[k]), coloured ? "\033[0m" : "");
  }
  return 0;
}
