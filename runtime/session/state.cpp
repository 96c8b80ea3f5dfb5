// State as a value: rollback, snapshot, restore, save, load, fork.
//
// Rings and appended slots are written at position mod slots and read by position, so taking tokens back is moving the
// position; what stands behind it is never read. Recurrent states are computed again (recurrent.cpp). A snapshot is the
// header, the text part, then the sizes of kept states, the slots in use of every state with slots, the buffers in use
// of recurrent ones, kept ones whole, and the journal.
#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/xxh64.h"
#include "format/states.h"
#include "session/session.h"

namespace runnel {
namespace {

constexpr size_t kChecksumBytes = 8;

}  // namespace

// Once a ring goes round, a pass may not overwrite what its own first token still sees.
int64_t Session::tokens_that_fit(int64_t tokens) const {
  const int64_t position = header()->position;
  for (size_t i = 0; i < plan_.states.size(); ++i) {
    const StateInfo& s = model().states()[i];
    const int64_t slots = plan_.states[i].slots;
    if (s.kind == format::StateKind::ring && position + tokens > slots)
      tokens = std::min(tokens, std::max(std::max<int64_t>(1, slots - position), slots - int64_t(s.window) + 1));
  }
  return tokens;
}

Status Session::check_rollback(int64_t n, Reach reach) const {
  const StateHeader* h = header();
  RNL_CHECK_ARG(n >= 0, "rolling back %lld tokens", static_cast<long long>(n));
  const auto range = [&](const char* why, int64_t what) {
    return Status::make(Code::kRollbackRange, "rolling back %lld tokens: %s %lld", static_cast<long long>(n), why,
                        static_cast<long long>(what));
  };
  if (n > h->position) return range("the stream holds", h->position);
  if (n > plan_.options.rollback && reach == Reach::kWindow) return range("rollback_window is", plan_.options.rollback);
  RNL_TRY(check_device());
  const int64_t target = h->position - n, mark = plan_.has_recurrent && n > 0 ? rewind_mark(target) : target;
  if (mark < 0) return range("recurrent states can be computed again from position", h->mark[0]);
  return rings_reach(mark) ? Status::ok() : range("rings no longer hold what is needed at position", mark);
}

Status Session::rollback(int64_t n, Reach reach) {
  StateHeader* h = header();
  RNL_TRY(check_rollback(n, reach));
  if (backend_) RNL_TRY(sync_to_device());
  const int64_t target = h->position - n, before = h->position;
  if (plan_.has_recurrent && n > 0) RNL_TRY(rewind_recurrent(target));
  h->position = target;
  if (backend_ && target < same_before_) {
    // The host's copy is of a stream that was not this one.
    same_before_ = target;
    Status s = sync_to_host();
    if (!s.is_ok()) {
      h->position = before;
      return s;
    }
  }
  seen_position_.store(target, std::memory_order_relaxed);
  return Status::ok();
}

void Session::for_each_range_since(const StateHeader& h, int64_t from, RangeFn call, void* context) const {
  const auto fn = [&](unsigned char* data, size_t bytes) { call(context, data, bytes); };
  fn(text_state(), kTextStateBytes);
  if (plan_.kept_bytes) fn(reinterpret_cast<unsigned char*>(kept_sizes(0)), plan_.kept_bytes);
  for (size_t i = 0; i < plan_.states.size(); ++i) {
    const PlannedState& p = plan_.states[i];
    if (model().states()[i].kind == format::StateKind::kept) {
      if (from == 0) fn(state_data(uint32_t(i)), p.bytes);  // written before the first token
      continue;
    }
    if (model().states()[i].is_recurrent()) {
      for (int b = 0; b < p.copies; ++b)
        if (b == h.buffer || b == h.mark_buffer[0] || b == h.mark_buffer[1]) fn(state_data(uint32_t(i), b), p.bytes);
      continue;
    }
    // Axis 0 is the heads; within one, memory runs along the slots, in whole tiles.
    const int64_t heads = p.dims[0];
    const size_t head_bytes = heads ? p.bytes / size_t(heads) : 0, slot_bytes = head_bytes / size_t(p.slots);
    const auto slots = [&](int64_t begin, int64_t end) {
      begin = begin / kSlotTile * kSlotTile;
      end = std::min((end + kSlotTile - 1) / kSlotTile * kSlotTile, p.slots);
      for (int64_t k = 0; begin < end && k < heads; ++k)
        fn(state_data(uint32_t(i)) + size_t(k) * head_bytes + size_t(begin) * slot_bytes,
           size_t(end - begin) * slot_bytes);
    };
    const int64_t written = (h.high_water + p.tokens_per_slot - 1) / p.tokens_per_slot,
                  since = from / p.tokens_per_slot;
    if (model().states()[i].kind == format::StateKind::first) {
      slots(std::min(since, p.slots), std::min(written, p.slots));
      continue;
    }
    if (written - since >= p.slots || since == 0) {
      slots(0, std::min(written, p.slots));
    } else if (since < written) {
      const int64_t begin = since % p.slots, end = (written - 1) % p.slots + 1;
      if (begin < end) slots(begin, end);
      else slots(begin, p.slots), slots(0, end);
    }
  }
  if (plan_.reach > 0) fn(journal_.data, journal_.row * size_t(plan_.reach));
}

size_t Session::snapshot_bytes() const {
  size_t n = sizeof(StateHeader) + kChecksumBytes;
  for_each_used_range(*header(), [&](unsigned char*, size_t bytes) { n += bytes; });
  return n;
}

Status Session::snapshot(void* buffer, size_t size) const {
  RNL_CHECK_ARG(size >= snapshot_bytes(), "a snapshot needs %zu bytes, the buffer has %zu", snapshot_bytes(), size);
  RNL_TRY(sync_to_host());
  auto* out = static_cast<unsigned char*>(buffer);
  std::memcpy(out, header(), sizeof(StateHeader));
  size_t at = sizeof(StateHeader);
  for_each_used_range(*header(), [&](unsigned char* data, size_t bytes) {
    std::memcpy(out + at, data, bytes);
    at += bytes;
  });
  const uint64_t sum = xxh64(out, at);
  std::memcpy(out + at, &sum, kChecksumBytes);
  return Status::ok();
}

Status Session::restore(const void* buffer, size_t size) {
  const auto* in = static_cast<const unsigned char*>(buffer);
  auto mismatch = [](const char* why) { return Status::make(Code::kStateMismatch, "not restored: %s", why); };
  if (size < sizeof(StateHeader) + kChecksumBytes) return mismatch("too short for a saved state");
  StateHeader h;
  std::memcpy(&h, in, sizeof h);
  if (std::memcmp(h.magic, "RNLSTATE", 8) != 0) return mismatch("not a saved state");
  if (h.version != kStateVersion)
    return Status::make(Code::kStateMismatch, "not restored: version %u of saved states; this runtime reads %u",
                        h.version, kStateVersion);
  if (h.model != model().fingerprint()) return mismatch("it was saved with another model");
  if (h.position < 0 || h.high_water < h.position || h.high_water > kMaxSize || !are_positions(h))
    return mismatch("its position is out of range");
  RNL_TRY(check_layout(h));
  if (plan_.is_limited && h.position > plan_.options.context)
    return Status::make(Code::kStateMismatch, "not restored: it holds %lld tokens, the context is %lld",
                        static_cast<long long>(h.position), static_cast<long long>(plan_.options.context));
  const bool has_window = plan_.options.rollback > 0;
  const int copies = recurrent_copies(plan_.options.rollback);
  const bool are_one = h.mark[0] == h.mark[1] && h.mark_buffer[0] == h.mark_buffer[1];
  if (h.buffer >= copies || h.mark_buffer[0] >= copies || h.mark_buffer[1] >= copies || h.mark[0] < 0 ||
      h.mark[1] < h.mark[0] || h.mark[1] > h.position || !(has_window || are_one))
    return mismatch("its checkpoints are out of range");
  if (h.text_bytes > kTextStateBytes) return mismatch("its text part is that of a newer runtime");
  const size_t shorter = kTextStateBytes - h.text_bytes;
  size_t need = sizeof h + kChecksumBytes;
  for_each_used_range(h, [&](unsigned char*, size_t bytes) { need += bytes; });
  need -= shorter;
  if (need != size)
    return Status::make(Code::kStateMismatch, "not restored: %zu bytes where its position needs %zu", size, need);
  uint64_t sum;
  std::memcpy(&sum, in + size - kChecksumBytes, kChecksumBytes);
  if (sum != xxh64(in, size - kChecksumBytes)) return mismatch("it is damaged (checksum differs)");
  if (plan_.kept_bytes && !are_kept_sizes(in + sizeof h + h.text_bytes))
    return mismatch("a kept state has a size that does not fit");
  if (plan_.reach > 0) {
    // The journal is the last part.
    InputLog log = journal_;
    log.data = const_cast<unsigned char*>(in) + size - kChecksumBytes - log.row * size_t(log.capacity);
    if (has_window) RNL_TRY(check_journal(log, h));
  }
  std::memcpy(header(), &h, sizeof h);
  describe_plan(header());
  size_t at = sizeof h;
  for_each_used_range(h, [&](unsigned char* data, size_t bytes) {
    const size_t zeros = data == text_state() ? shorter : 0;
    std::memcpy(data, in + at, bytes - zeros);
    std::memset(data + bytes - zeros, 0, zeros);
    at += bytes - zeros;
  });
  host_is_newer();
  forget_call();
  seen_position_.store(h.position, std::memory_order_relaxed);
  return Status::ok();
}

Status Session::save(const char* path) const {
  RNL_CHECK_ARG(!model().is_at(path), "%s: not written: it is the model", path);
  RNL_TRY(sync_to_host());
  AtomicFile file;
  RNL_TRY(file.open(path));
  Xxh64 sum;
  Status status;
  auto put = [&](const void* data, size_t bytes) {
    if (!status.is_ok()) return;
    sum.update(data, bytes);
    status = file.write(data, bytes);
  };
  put(header(), sizeof(StateHeader));
  for_each_used_range(*header(), [&](unsigned char* data, size_t bytes) { put(data, bytes); });
  RNL_TRY(std::move(status));
  const uint64_t digest = sum.digest();
  RNL_TRY(file.write(&digest, kChecksumBytes));
  return file.commit();
}

Status Session::load(const char* path) {
  RNL_ASSIGN(file, FileView::open(path, false));
  Status s = restore(file.data(), file.size());
  return s.is_ok() ? std::move(s) : std::move(s).with_context("%s", path);
}

Result<std::unique_ptr<Session>> Session::fork() const {
  RNL_TRY(sync_to_host());
  RNL_ASSIGN(copy, Session::create(model(), pool_, plan_.options, nullptr, nullptr));
  std::memcpy(copy->header(), header(), sizeof(StateHeader));
  // Both blocks have the same layout; only pages in use are touched.
  for_each_used_range(*header(), [&](unsigned char* data, size_t bytes) {
    std::memcpy(copy->state_.data() + (data - state_.data()), data, bytes);
  });
  copy->seen_position_.store(position(), std::memory_order_relaxed);
  copy->top_logits_ = top_logits_;
  return copy;
}

}  // namespace runnel
