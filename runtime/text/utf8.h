// UTF-8 as the Unicode standard defines it: no surrogates, no overlong forms, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>

namespace runnel {

enum class Utf8 : uint8_t { kValid, kInvalid, kIncomplete };

struct Utf8Step {
  Utf8 kind;
  // kValid: bytes of the character. kInvalid: bytes of the maximal invalid part, which one U+FFFD stands for.
  // kIncomplete: all bytes given, a valid beginning that more bytes could complete.
  uint32_t length;
};

inline constexpr char kReplacement[] = "\xEF\xBF\xBD";  // U+FFFD
inline constexpr char kSpaceMark[] = "\xE2\x96\x81";    // U+2581, how SentencePiece writes a space
inline constexpr size_t kReplacementBytes = 3, kSpaceMarkBytes = 3;

// Looks at the first character of p[0 .. n), n > 0.
inline Utf8Step utf8_step(const unsigned char* p, size_t n) {
  const unsigned lead = p[0];
  if (lead < 0x80) return {Utf8::kValid, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::kInvalid, 1};
  const uint32_t want = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Only the second byte has a range of its own.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (uint32_t i = 1; i < want; ++i) {
    if (i == n) return {Utf8::kIncomplete, i};
    const bool good = i == 1 ? p[i] >= low && p[i] <= high : (p[i] & 0xC0) == 0x80;
    if (!good) return {Utf8::kInvalid, i};
  }
  return {Utf8::kValid, want};
}

struct CodePoint {
  uint32_t value, length;
};

// The first character of p[0 .. n), n > 0; U+FFFD for what is not one.
inline CodePoint code_point_at(const unsigned char* p, size_t n) {
  if (p[0] < 0x80) return {p[0], 1};
  const Utf8Step step = utf8_step(p, n);
  if (step.kind != Utf8::kValid) return {0xFFFD, step.length};
  if (step.length == 2) return {uint32_t(p[0] & 0x1F) << 6 | (p[1] & 0x3F), 2};
  if (step.length == 3) return {uint32_t(p[0] & 0xF) << 12 | uint32_t(p[1] & 0x3F) << 6 | (p[2] & 0x3F), 3};
  return {uint32_t(p[0] & 7) << 18 | uint32_t(p[1] & 0x3F) << 12 | uint32_t(p[2] & 0x3F) << 6 | (p[3] & 0x3F), 4};
}

// Writes a code point and returns its bytes.
inline uint32_t utf8_write(uint32_t code, unsigned char* out) {
  if (code < 0x80) return out[0] = static_cast<unsigned char>(code), 1;
  const uint32_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (uint32_t i = n - 1; i > 0; --i, code >>= 6) out[i] = static_cast<unsigned char>(0x80 | (code & 0x3F));
  out[0] = static_cast<unsigned char>((0xF00u >> n & 0xFF) | code);
  return n;
}

}  // namespace runnel
