#include "converter/write/sha256.h"

#include <bit>
#include <cstring>

namespace runnel::convert {
namespace {

constexpr uint32_t kRound[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
                                 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
                                 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
                                 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
                                 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
                                 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
                                 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
                                 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
                                 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
                                 0xc67178f2};

}  // namespace

void Sha256::block(const uint8_t* p) {
  uint32_t w[64];
  for (int i = 0; i < 16; ++i)
    w[i] = uint32_t(p[4 * i]) << 24 | uint32_t(p[4 * i + 1]) << 16 | uint32_t(p[4 * i + 2]) << 8 | p[4 * i + 3];
  for (int i = 16; i < 64; ++i) {
    const uint32_t a = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const uint32_t b = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + a + w[i - 7] + b;
  }
  uint32_t s[8];
  std::memcpy(s, h_, sizeof s);
  // Eight rounds at a time: the names of the eight words rotate instead of their values.
  const auto round = [&](int i, uint32_t a, uint32_t b, uint32_t c, uint32_t& d, uint32_t e, uint32_t f, uint32_t g,
                         uint32_t& h) {
    h += (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
    d += h;
    h += (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
  };
  for (int i = 0; i < 64; i += 8) {
    round(i, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]);
    round(i + 1, s[7], s[0], s[1], s[2], s[3], s[4], s[5], s[6]);
    round(i + 2, s[6], s[7], s[0], s[1], s[2], s[3], s[4], s[5]);
    round(i + 3, s[5], s[6], s[7], s[0], s[1], s[2], s[3], s[4]);
    round(i + 4, s[4], s[5], s[6], s[7], s[0], s[1], s[2], s[3]);
    round(i + 5, s[3], s[4], s[5], s[6], s[7], s[0], s[1], s[2]);
    round(i + 6, s[2], s[3], s[4], s[5], s[6], s[7], s[0], s[1]);
    round(i + 7, s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[0]);
  }
  for (int i = 0; i < 8; ++i) h_[i] += s[i];
}

void Sha256::update(const void* data, size_t size) {
  const auto* p = static_cast<const uint8_t*>(data);
  const size_t held = size_t(total_ % 64);
  total_ += size;
  if (held) {
    const size_t take = size < 64 - held ? size : 64 - held;
    std::memcpy(buffer_ + held, p, take);
    p += take;
    size -= take;
    if (held + take < 64) return;
    block(buffer_);
  }
  for (; size >= 64; p += 64, size -= 64) block(p);
  if (size) std::memcpy(buffer_, p, size);
}

std::string Sha256::finish() {
  const uint64_t bits = total_ * 8;
  const uint8_t one = 0x80, zero = 0;
  update(&one, 1);
  while (total_ % 64 != 56) update(&zero, 1);
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = uint8_t(bits >> (56 - 8 * i));
  update(length, 8);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (uint32_t h : h_)
    for (int i = 28; i >= 0; i -= 4) out += kDigits[h >> i & 15];
  return out;
}

}  // namespace runnel::convert
