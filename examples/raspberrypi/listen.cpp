// Tells where somebody speaks in a recording, or in what a microphone hears:
//   runnel-listen MODEL [FILE.wav | -] [--threshold P] [--threads N]
// The model is Silero's detector of voices (silero_vad.onnx), converted. FILE.wav holds 16-bit samples at 16 kHz;
// without a file, or for -, standard input does, with no header:
//   arecord -q -t raw -f S16_LE -r 16000 -c 1 | runnel-listen silero.rnl
// Prints one line for each stretch of speech: where it begins and ends, in seconds. On a terminal a meter runs beside
// them. 32 ms of sound are read at a time, and memory does not depend on how long it listens.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <runnel/runnel.hpp>
#include <string>
#include <vector>

#include "memory.h"

namespace {

constexpr int kRate = 16000, kChunk = 512, kContext = 64, kState = 2 * 128;
constexpr double kSeconds = double(kChunk) / kRate;

struct Options {
  std::string model, file = "-";
  float threshold = 0.5f;
  int threads = 1;
};

bool parse(int argc, char** argv, Options& o) {
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "--threshold" && i + 1 < argc) o.threshold = float(std::atof(argv[++i]));
    else if (a == "--threads" && i + 1 < argc) o.threads = std::atoi(argv[++i]);
    else if (a.rfind("--", 0) == 0) return false;
    else names.push_back(a);
  }
  if (names.empty() || names.size() > 2 || !(o.threshold > 0 && o.threshold < 1) || o.threads < 1) return false;
  o.model = names[0];
  if (names.size() == 2) o.file = names[1];
  return true;
}

// Goes to the samples of a WAV file; says what is wrong with it, or nothing.
std::string find_samples(std::istream& in, int* channels) {
  const auto number = [](const char* at, int bytes) {
    uint32_t n = 0;
    for (int i = bytes; i-- > 0;) n = n << 8 | uint8_t(at[i]);
    return n;
  };
  char head[12], chunk[8], format[16];
  if (!in.read(head, 12) || std::memcmp(head, "RIFF", 4) || std::memcmp(head + 8, "WAVE", 4)) return "is no WAV file";
  bool is_known = false;
  while (in.read(chunk, 8)) {
    const uint32_t bytes = number(chunk + 4, 4);
    if (!std::memcmp(chunk, "data", 4)) return is_known ? "" : "has samples of no known format";
    if (!std::memcmp(chunk, "fmt ", 4) && bytes >= 16 && in.read(format, 16)) {
      *channels = int(number(format + 2, 2));
      is_known = number(format, 2) == 1 && number(format + 4, 4) == kRate && number(format + 14, 2) == 16 &&
                 *channels >= 1 && *channels <= 16;
      if (!is_known) return "does not hold 16-bit samples at 16 kHz";
      in.ignore(std::streamsize(bytes - 16 + bytes % 2));
    } else {
      in.ignore(std::streamsize(bytes) + bytes % 2);
    }
  }
  return "has no samples";
}

// How likely somebody speaks, chunk by chunk.
class Detector {
 public:
  rnl::Status open(const Options& o) {
    if (rnl::Status s = engine_.create(o.threads); !s) return s;
    if (rnl::Status s = model_.open(engine_, o.model.c_str()); !s) return s;
    return session_.create(model_, rnl::session_options());
  }
  const rnl::Session& session() const { return session_; }

  rnl::Status hear(const float* samples, float* probability) {
    std::copy(heard_ + kChunk, heard_ + kChunk + kContext, heard_);
    std::copy(samples, samples + kChunk, heard_ + kContext);
    rnl_tensor in[] = {{"input", RNL_F32, 2, {1, kContext + kChunk}, heard_, sizeof heard_},
                       {"state", RNL_F32, 3, {2, 1, kState / 2}, state_, sizeof state_}};
    rnl_tensor out[] = {{"output", RNL_F32, 0, {}, probability, sizeof *probability},
                        {"stateN", RNL_F32, 0, {}, next_, sizeof next_}};
    const rnl::Status s = rnl_session_run(session_.get(), nullptr, in, 2, out, 2);
    std::copy(next_, next_ + kState, state_);
    return s;
  }

 private:
  rnl::Engine engine_;
  rnl::Model model_;
  rnl::Session session_;
  float heard_[kContext + kChunk] = {}, state_[kState] = {}, next_[kState] = {};
};

// Stretches of speech. One begins with a likely chunk and ends where none was likely for a tenth of a second; a quarter
// of a second is the shortest.
class Stretches {
 public:
  explicit Stretches(float threshold) : threshold_(threshold) {}
  void add(float probability) {
    if (probability >= threshold_) {
      if (begin_ < 0) begin_ = at_;
      end_ = at_ + 1;
    } else if (probability >= threshold_ - 0.15f && begin_ >= 0) {
      end_ = at_ + 1;
    } else if (begin_ >= 0 && double(at_ + 1 - end_) * kSeconds >= 0.1) {
      finish();
    }
    ++at_;
  }
  void finish() {
    if (begin_ >= 0 && double(end_ - begin_) * kSeconds >= 0.25) {
      std::printf("%s%.2f %.2f\n", isatty(2) ? "\r\033[K" : "", double(begin_) * kSeconds, double(end_) * kSeconds);
      std::fflush(stdout);
    }
    begin_ = -1;
  }
  int64_t chunks() const { return at_; }

 private:
  const float threshold_;
  int64_t at_ = 0, begin_ = -1, end_ = 0;
};

void show(int64_t chunk, float probability) {
  constexpr int kWidth = 40;
  std::string bar(kWidth, '.');
  std::fill(bar.begin(), bar.begin() + int(probability * kWidth + 0.5f), '#');
  std::fprintf(stderr, "\r%8.2f s %s %.2f", double(chunk) * kSeconds, bar.c_str(), double(probability));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!parse(argc, argv, o)) {
    std::fprintf(stderr, "usage: runnel-listen MODEL [FILE.wav | -] [--threshold P] [--threads N]\n");
    return 2;
  }
  std::ifstream file;
  int channels = 1;
  if (o.file != "-") {
    file.open(o.file, std::ios::binary);
    const std::string wrong = file ? find_samples(file, &channels) : "cannot be read";
    if (!wrong.empty()) return std::fprintf(stderr, "runnel-listen: %s %s\n", o.file.c_str(), wrong.c_str()), 1;
  }
  std::istream& in = o.file == "-" ? std::cin : file;

  Detector detector;
  rnl::Status status = detector.open(o);
  Stretches stretches(o.threshold);
  const bool has_meter = isatty(2);
  std::vector<unsigned char> bytes(size_t(kChunk) * 2 * size_t(channels));
  double seconds = 0;
  while (status && in) {
    in.read(reinterpret_cast<char*>(bytes.data()), std::streamsize(bytes.size()));
    const size_t got = size_t(in.gcount());
    if (got == 0) break;
    std::fill(bytes.begin() + long(got), bytes.end(), 0);
    float samples[kChunk], probability = 0;
    for (int i = 0; i < kChunk; ++i) {
      float sum = 0;
      for (int c = 0; c < channels; ++c) {
        const size_t at = 2 * (size_t(i) * size_t(channels) + size_t(c));
        sum += float(int16_t(bytes[at] | bytes[at + 1] << 8));
      }
      samples[i] = sum / 32768 / float(channels);
    }
    const auto begun = std::chrono::steady_clock::now();
    status = detector.hear(samples, &probability);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    if (!status) break;
    stretches.add(probability);
    if (has_meter) show(stretches.chunks(), probability);
  }
  if (!status) return std::fprintf(stderr, "runnel-listen: %s\n", status.message().c_str()), 1;
  stretches.finish();
  const double heard = double(stretches.chunks()) * kSeconds;
  std::fprintf(stderr, "%srunnel-listen: %.1f s heard in %.2f s", has_meter ? "\r\033[K" : "", heard, seconds);
  std::fprintf(stderr, seconds > 0 ? ", %.0f times as fast as it sounds\n" : "\n", heard / seconds);
  print_memory("runnel-listen", detector.session());
  return 0;
}
