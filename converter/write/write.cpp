#include "converter/write/write.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <optional>
#include <thread>

#include "base/file.h"
#include "base/xxh64.h"
#include "converter/write/layout.h"
#include "converter/write/output.h"
#include "converter/write/progress.h"
#include "converter/write/sha256.h"
#include "format/model_file.h"

namespace runnel::convert {
namespace {

constexpr uint64_t kBatch = uint64_t(4) << 20;  // bytes made and written at a time, at least one piece

void check(Status status) {
  if (!status.is_ok()) throw Error(status.message());
}

std::string hash_files(const std::vector<std::filesystem::path>& files, const std::atomic<bool>& stop) {
  Sha256 hash;
  for (const auto& file : files) {
    auto view = FileView::open(file.c_str(), false);
    if (!view.is_ok()) throw Error(view.take_status().message());
    for (size_t at = 0; at < view.value().size() && !stop; at += size_t(1) << 20)
      hash.update(view.value().data() + at, std::min(size_t(1) << 20, view.value().size() - at));
  }
  return hash.finish();
}

// Writes sequentially and keeps the checksum of what it writes.
class SegmentWriter {
 public:
  SegmentWriter(AtomicFile& file, Progress& progress) : file_(file), progress_(progress) {}
  void begin() { hash_ = Xxh64(); }
  void write(const void* data, size_t size) {
    hash_.update(data, size);
    check(file_.write(data, size));
    progress_.advance(size);
  }
  void pad(uint64_t n) {
    static constexpr char kZeros[4096] = {};
    for (; n; n -= std::min<uint64_t>(n, sizeof kZeros)) write(kZeros, size_t(std::min<uint64_t>(n, sizeof kZeros)));
  }
  uint64_t digest() const { return hash_.digest(); }

 private:
  AtomicFile& file_;
  Progress& progress_;
  Xxh64 hash_;
};

// Makes the pieces of a blob with several threads, a round of batches at a time, and writes them in order.
void write_blob(const Blob& blob, SegmentWriter& out, int threads) {
  const uint64_t pieces = (blob.bytes + blob.piece_bytes - 1) / blob.piece_bytes;
  const uint64_t batch = std::max<uint64_t>(1, kBatch / blob.piece_bytes);
  std::vector<std::vector<uint8_t>> buffers(size_t(std::max(threads, 1)));
  for (uint64_t next = 0; next < pieces;) {
    std::vector<std::future<void>> running;
    size_t used = 0;
    for (; used < buffers.size() && next < pieces; ++used) {
      const uint64_t first = next, n = std::min(batch, pieces - next);
      next += n;
      std::vector<uint8_t>& buffer = buffers[used];
      buffer.assign(size_t(std::min(n * blob.piece_bytes, blob.bytes - first * blob.piece_bytes)), 0);
      running.push_back(
          std::async(used + 1 < buffers.size() && next < pieces ? std::launch::async : std::launch::deferred,
                     [&blob, first, n, &buffer] { blob.make(first, n, buffer.data()); }));
    }
    for (size_t i = running.size(); i-- > 0;) running[i].get();  // the deferred one is last and runs here
    for (size_t i = 0; i < used; ++i) out.write(buffers[i].data(), buffers[i].size());
  }
}

}  // namespace

WriteReport write_model(ModelBuilder& b, const std::vector<std::filesystem::path>& sources,
                        const std::filesystem::path& output, int threads,
                        const std::function<void(const char*)>& verify) {
  b.model.version_major = kFormatMajor;
  b.model.version_minor = kFormatMinor;
  const std::vector<size_t> order = lay_out(b);
  uint64_t total = 0;
  for (auto& s : b.model.segments) {
    total += s->bytes;
    s->offset = s->checksum = ~uint64_t(0);  // placeholders that take their full room
  }
  if (!b.model.provenance) b.model.provenance = std::make_unique<format::ProvenanceT>();
  b.model.provenance->source_sha256 = std::string(64, '0');
  const uint64_t room = align_up(header_of(b.model).size() + 256, kSegmentAlignment);

  std::atomic<bool> stop{false};
  std::optional<SignalPause> pause(std::in_place);
  auto hash = std::async(std::launch::async, [&] { return hash_files(sources, stop); });
  struct Stopper {
    std::atomic<bool>& flag;
    ~Stopper() { flag = true; }
  } stopper{stop};  // destroyed before the future, whose destructor waits

  AtomicFile file;
  check(file.open(output.c_str()));
  pause.reset();
  Progress progress("writing", room + total);
  SegmentWriter out(file, progress);
  out.pad(room);
  size_t at = 0;
  for (size_t i = 0; i < b.model.segments.size(); ++i) {
    format::SegmentT& s = *b.model.segments[i];
    out.pad(align_up(file.written(), kSegmentAlignment) - file.written());
    s.offset = file.written();
    out.begin();
    for (; at < order.size() && b.model.tensors[b.blobs()[order[at]].tensor]->segment == i; ++at) {
      const Blob& blob = b.blobs()[order[at]];
      out.pad(s.offset + b.model.tensors[blob.tensor]->offset - file.written());
      write_blob(blob, out, threads);
    }
    s.checksum = out.digest();
  }
  b.model.provenance->source_sha256 = hash.get();

  const std::vector<uint8_t> header = header_of(b.model);
  if (header.size() > room)
    fail("%s: the header needs %zu bytes where %llu were kept", output.c_str(), header.size(),
         static_cast<unsigned long long>(room));
  Seal seal{file.written() + kSealBytes, header.size(), xxh64(header.data(), header.size()), {}};
  std::memcpy(seal.magic, kSealMagic, 8);
  check(file.write(&seal, sizeof seal));
  check(file.write_at(0, header.data(), header.size()));
  verify(file.temporary_path());
  WriteReport report;
  report.file_bytes = file.written();
  report.header_bytes = header.size();
  for (const auto& s : b.model.segments)
    (s->kind == format::SegmentKind::weights ? report.weight_bytes : report.tokenizer_bytes) += s->bytes;
  check(file.commit());
  return report;
}

}  // namespace runnel::convert
