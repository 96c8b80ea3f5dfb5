// GGUF files of any keys and tensors, and small models of random blocks.
#pragma once

#include <random>

#include "kit.h"

namespace runnel::convert {

struct GgufFile {
  struct Tensor {
    std::string name;
    uint32_t type;
    std::vector<uint64_t> shape;  // outermost first
    std::string data;
  };
  Bytes keys;
  uint64_t key_count = 0;
  std::vector<Tensor> tensors;

  GgufFile& u16(const std::string& key, uint16_t v) { return keys.string(key).put(2u).put(v), ++key_count, *this; }
  GgufFile& u32(const std::string& key, uint32_t v) { return keys.string(key).put(4u).put(v), ++key_count, *this; }
  GgufFile& i32(const std::string& key, int32_t v) { return keys.string(key).put(5u).put(v), ++key_count, *this; }
  GgufFile& f32(const std::string& key, float v) { return keys.string(key).put(6u).put(v), ++key_count, *this; }
  GgufFile& flag(const std::string& key, bool v) {
    return keys.string(key).put(7u).put(uint8_t(v)), ++key_count, *this;
  }
  GgufFile& text(const std::string& key, const std::string& v) {
    return keys.string(key).put(8u).string(v), ++key_count, *this;
  }
  GgufFile& texts(const std::string& key, const std::vector<std::string>& list) {
    keys.string(key).put(9u).put(8u).put(uint64_t(list.size()));
    for (const std::string& v : list) keys.string(v);
    return ++key_count, *this;
  }
  template <class T>
  GgufFile& numbers(const std::string& key, uint32_t type, const std::vector<T>& list) {
    keys.string(key).put(9u).put(type).put(uint64_t(list.size()));
    for (const T v : list) keys.put(v);
    return ++key_count, *this;
  }
  GgufFile& tensor(const std::string& name, uint32_t type, const std::vector<uint64_t>& shape,
                   const std::string& data) {
    tensors.push_back({name, type, shape, data});
    return *this;
  }
  GgufFile& floats(const std::string& name, const std::vector<uint64_t>& shape, const std::vector<float>& values) {
    return tensor(name, 0, shape, std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4));
  }
  std::string bytes() const {
    Bytes b;
    b.put(0x46554747u).put(3u).put(uint64_t(tensors.size())).put(key_count).raw(keys.text());
    uint64_t offset = 0;
    for (const Tensor& t : tensors) {
      b.string(t.name).put(uint32_t(t.shape.size()));
      for (size_t i = t.shape.size(); i-- > 0;) b.put(t.shape[i]);
      b.put(t.type).put(offset);
      offset += (t.data.size() + 31) / 32 * 32;
    }
    b.pad(32);
    for (const Tensor& t : tensors) b.raw(t.data).pad(32);
    return b.text();
  }
};

// Random blocks of a type. at: where a block has its f16 scale, which is of either sign and, without it, from `least`
// up to twice as much; least: as f16.
inline std::string random_blocks(std::mt19937& random, size_t count, size_t bytes, size_t at, uint16_t least) {
  std::string out(count * bytes, 0);
  for (char& c : out) c = char(random());
  for (size_t i = 0; i < count; ++i) {
    const uint16_t d = uint16_t((random() & 0x8000) | (least + (random() & 0x3ff)));
    std::memcpy(&out[i * bytes + at], &d, 2);
  }
  return out;
}

}  // namespace runnel::convert
