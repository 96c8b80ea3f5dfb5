// Two copies of a stream's states, the host's and a device's, and what happens when the device is lost.
//
// While the device's is the newer, the host's block is that of an earlier position; its header of then is kept, and the
// inputs of up to snapshot_every tokens since. Calls that end later than that, or write kept states, bring the host's
// block up to date. A roll-back to before that position does so too. So after a loss the stream can be computed again
// on the CPU; the call that met the loss is taken back.
#include <algorithm>
#include <cstring>

#include "session/pass.h"

namespace runnel {

Status Session::used_ranges(int64_t from, Vec<HostRange>* ranges) const {
  struct List {
    Vec<HostRange>* ranges;
    Status status;
  } list{ranges, {}};
  for_each_range_since(
      *header(), from,
      [](void* context, unsigned char* data, size_t bytes) {
        auto& l = *static_cast<List*>(context);
        if (l.status.is_ok() && bytes) l.status = l.ranges->push({data, bytes});
      },
      &list);
  return std::move(list.status);
}

Status Session::check_device() const {
  if (recover_to_ < 0 && !(backend_ && backend_->is_lost())) return Status::ok();
  return Status::make(Code::kDeviceLost,
                      "the device of this session is lost at position %lld; rnl_session_recover() goes on on the CPU",
                      static_cast<long long>(position()));
}

// From here on the device writes, and the host's block stays as it is.
void Session::note_host_copy() const {
  std::memcpy(host_header_.get(), header(), sizeof(StateHeader));
  same_before_ = position();
}

void Session::host_is_newer() {
  device_is_old_ = true, host_is_old_ = false;
  same_before_ = 0, recover_to_ = -1;
}

Status Session::sync_to_host() const {
  if (recover_to_ >= 0) return check_device();
  if (!backend_ || !host_is_old_) {
    if (backend_ && !device_is_old_) note_host_copy();  // the position alone may have changed
    return Status::ok();
  }
  Vec<HostRange> ranges;
  RNL_TRY(used_ranges(same_before_, &ranges));
  RNL_TRY(backend_->to_host(ranges.data(), ranges.size()));
  host_is_old_ = false;
  note_host_copy();
  return Status::ok();
}

Status Session::sync_to_device() {
  if (!device_is_old_) return Status::ok();
  Vec<HostRange> ranges;
  RNL_TRY(used_ranges(0, &ranges));
  RNL_TRY(backend_->to_device(ranges.data(), ranges.size()));
  device_is_old_ = false;
  note_host_copy();
  return Status::ok();
}

void Session::log_for_recovery(const Pass& pass) {
  const int64_t room = host_header_->position + fed_.capacity - position();
  if (room > 0) write_log(fed_, pass, std::min(room, pass.tokens));
}

Status Session::end_call_on_device(int64_t start, bool writes_kept, Status status) {
  if ((status.is_ok() || status.code() == Code::kCancelled) && !plan_.states.empty() &&
      (writes_kept || position() - host_header_->position >= fed_.capacity)) {
    Status s = sync_to_host();
    if (!s.is_ok()) status = std::move(s);
  }
  if (!status.is_ok()) backend_->drop();
  if (!backend_->is_lost()) return status;
  if (kept_.buffer != -1) bring_back_journal();
  kept_.buffer = -1;
  header()->position = start;
  seen_position_.store(start, std::memory_order_relaxed);
  return status;
}

Status Session::recover() {
  if (!backend_ && recover_to_ < 0) return Status::ok();
  StateHeader* h = header();
  if (backend_) {
    if (!sync_to_host().is_ok()) {
      // What only grows stays: the journal and the rings' slots know of it. So do notes of what was fed.
      recover_to_ = h->position;
      const StateHeader newer = *h;
      std::memcpy(h, host_header_.get(), sizeof *h);
      h->high_water = newer.high_water;
      std::memcpy(h->given, newer.given, sizeof h->given);
    }
    backend_.reset();
    forget_call();
    last_tokens_ = 0;
    plan_.options.backend = BackendKind::kCpu;
    host_is_old_ = false;
  }
  cancel_.store(false, std::memory_order_relaxed);
  while (h->position < recover_to_) {
    const int64_t begin = h->position, end = end_of_logged_pass(fed_, begin, recover_to_);
    if (plan_.has_recurrent) mark_recurrent();
    Status s = replay_pass(fed_, begin, end);
    if (!s.is_ok())
      return std::move(s).with_context("computing tokens from %lld on again", static_cast<long long>(begin));
    h->position = end;
  }
  recover_to_ = -1;
  return Status::ok();
}

}  // namespace runnel
