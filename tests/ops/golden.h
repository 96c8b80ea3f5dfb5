// Reads the small safetensors files of tests/goldens/operators: F32 and I32 arrays, in the plain form that their maker
// writes.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "ops/op_test.h"

namespace runnel::test {

class Golden {
 public:
  explicit Golden(const std::string& name) {
    const char* moved = std::getenv("RUNNEL_TEST_SOURCE");  // on another machine the goldens lie elsewhere
                                                            // (platforms/linux/measure.sh)
    std::ifstream in(std::string(moved ? moved : kSourceDir) + "/tests/goldens/operators/" + name + ".safetensors",
                     std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    uint64_t header = 0;
    if (bytes_.size() >= 8) std::memcpy(&header, bytes_.data(), 8);
    EXPECT_TRUE(header > 0 && header + 8 <= bytes_.size()) << name;
    if (header + 8 <= bytes_.size()) header_ = bytes_.substr(8, header), data_ = 8 + header;
  }
  // The array of that name; one that is not there is a failure. Other axes with as many elements may be asked for.
  Array operator[](const std::string& name) const { return get(name, {}); }
  Array get(const std::string& name, std::vector<int64_t> dims) const {
    const size_t at = header_.find("\"" + name + "\":");
    EXPECT_NE(at, std::string::npos) << "no array " << name;
    if (at == std::string::npos) return Array();
    const bool is_int = header_.compare(header_.find("\"dtype\":\"", at) + 9, 3, "I32") == 0;
    if (dims.empty()) dims = list(header_.find("\"shape\":[", at) + 9);
    const std::vector<int64_t> span = list(header_.find("\"data_offsets\":[", at) + 16);
    Array a(is_int ? DType::kI32 : DType::kF32, dims);
    EXPECT_EQ(size_t(span[1] - span[0]), a.bytes()) << name;
    if (size_t(span[1] - span[0]) == a.bytes()) std::memcpy(a.data<char>(), bytes_.data() + data_ + span[0], a.bytes());
    return a;
  }

 private:
  std::vector<int64_t> list(size_t at) const {
    std::vector<int64_t> all;
    for (const size_t end = header_.find(']', at); at < end; at = header_.find_first_of(",]", at) + 1)
      all.push_back(std::strtoll(header_.c_str() + at, nullptr, 10));
    return all;
  }

  std::string bytes_, header_;
  size_t data_ = 0;
};

// The reference and every kernel give the golden output `o`.
inline void expect_golden(const Case& t, size_t o, const Array& want, double tolerance, const std::string& what) {
  expect_close(run_reference(t).out[o], want, tolerance, what);
  for_each_kernel(t, [&](const Kernel& k, const std::string&) {
    expect_close(run_kernel(t, k, nullptr).out[o], want, tolerance, what + " " + k.name);
  });
}

}  // namespace runnel::test
