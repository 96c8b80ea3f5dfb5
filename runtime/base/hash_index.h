// From a hash to a number of the caller's, who keeps the keys and compares them. Open addressing; allocations can fail.
#pragma once

#include <cstdint>

#include "base/vec.h"

namespace runnel {

class HashIndex {
 public:
  // The number that was added with this hash and for which equal(number) holds, or -1.
  template <class Equal>
  int64_t find(uint64_t hash, Equal equal) const {
    if (slots_.empty()) return -1;
    const size_t mask = slots_.size() - 1;
    for (size_t i = size_t(hash) & mask; slots_[i].number != kFree; i = (i + 1) & mask)
      if (slots_[i].hash == hash && equal(slots_[i].number)) return slots_[i].number;
    return -1;
  }
  // number < 2^32 - 1, and not yet here.
  Status add(uint64_t hash, uint32_t number) {
    if (2 * (used_ + 1) > slots_.size()) RNL_TRY(grow());
    put(hash, number);
    ++used_;
    return Status::ok();
  }
  void clear() {
    slots_ = {};
    used_ = 0;
  }

 private:
  static constexpr uint32_t kFree = UINT32_MAX;
  struct Slot {
    uint64_t hash = 0;
    uint32_t number = kFree;
  };
  void put(uint64_t hash, uint32_t number) {
    const size_t mask = slots_.size() - 1;
    size_t i = size_t(hash) & mask;
    while (slots_[i].number != kFree) i = (i + 1) & mask;
    slots_[i] = {hash, number};
  }
  Status grow() {
    Vec<Slot> old = std::move(slots_);
    RNL_TRY(slots_.assign(old.empty() ? 64 : 2 * old.size()));
    for (const Slot& s : old)
      if (s.number != kFree) put(s.hash, s.number);
    return Status::ok();
  }
  Vec<Slot> slots_;  // a power of two
  size_t used_ = 0;
};

}  // namespace runnel
