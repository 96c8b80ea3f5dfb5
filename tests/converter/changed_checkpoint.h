// Sources made of the tiny goldens, with another configuration or other tensors.
#pragma once

#include "kit.h"

namespace runnel::convert {

// A copy of a tiny checkpoint whose config.json and tensors a test may change; without counts of training steps.
class ChangedCheckpoint {
 public:
  explicit ChangedCheckpoint(const std::string& folder)
      : source_(load_safetensors(kGoldens / folder / "model.safetensors")) {
    config = read_json(kGoldens / folder / "config.json");
    for (const SourceTensor& t : source_.tensors())
      if (t.type != SourceType::kI64) tensors.push_back({t.name, t.shape, values_of(source_, t.name)});
  }
  PlainTensor& tensor(const std::string& name) {
    for (PlainTensor& t : tensors)
      if (t.name == name) return t;
    throw std::runtime_error("no tensor " + name);
  }
  fs::path write() {
    fs::create_directories(tmp_ / "in");
    write_file(tmp_ / "in/config.json", config.dump());
    write_file(tmp_ / "in/model.safetensors", safetensors_of(tensors));
    return tmp_ / "in";
  }
  std::string convert_error() {
    const fs::path in = write();
    const std::string message = error_of([&] { convert_to(in, tmp_ / "m.rnl"); });
    EXPECT_EQ(tmp_.files(), message.empty() ? 2u : 1u) << "something was left behind";
    return message;
  }
  std::vector<float> logits(const std::vector<int32_t>& ids) {
    convert_to(write(), tmp_ / "m.rnl");
    return all_logits(*open_model(tmp_ / "m.rnl"), ids, 40);
  }

  Json config;
  std::vector<PlainTensor> tensors;

 private:
  Checkpoint source_;
  TemporaryFolder tmp_;
};

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

// A GGUF with one key more; `value` as the file holds one of this type. The file's alignment is 32.
inline std::string with_gguf_key(const std::string& gguf, const std::string& key, uint32_t type,
                                 const std::string& value) {
  const std::string more = Bytes().string(key).put(type).raw(value).text();
  // A text that fills up to the alignment keeps all that is behind in its place.
  const auto filled = [&](size_t n) {
    return Bytes().raw(more).string("general.filler." + key).put(uint32_t(8)).string(std::string(n, ' ')).text();
  };
  const std::string added = filled((32 - filled(0).size() % 32) % 32);
  uint64_t keys = 0;
  std::memcpy(&keys, &gguf[16], 8);
  return Bytes().raw(gguf.substr(0, 16)).put(keys + 2).raw(added).raw(gguf.substr(24)).text();
}

// The same with another number under a key of type u32.
inline std::string with_gguf_number(std::string gguf, const std::string& key, uint32_t value) {
  const size_t at = gguf.find(key);
  if (at == gguf.npos) throw std::runtime_error("no key " + key);
  std::memcpy(&gguf[at + key.size() + 4], &value, 4);
  return gguf;
}

}  // namespace runnel::convert
