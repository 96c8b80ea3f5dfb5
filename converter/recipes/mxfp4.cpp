// MXFP4 as gpt-oss is published: blocks of 32 values in two U8 tensors, made into the blocks that a GGUF has, without
// rounding anything.
#include "converter/recipes/blocks.h"

namespace runnel::convert {

const SourceTensor& mxfp4_rows(Net& net, const std::string& name, int64_t experts, int64_t rows, int64_t columns) {
  constexpr int64_t kBlock = 32, kBytes = 16;
  if (columns % kBlock)
    fail("%s: %s_blocks: rows of %lld values are no whole blocks of 32", net.checkpoint().path.c_str(),
         net.full_name(name).c_str(), static_cast<long long>(columns));
  const SourceTensor& blocks = net.take(name + "_blocks", {experts, rows, columns / kBlock, kBytes});
  const SourceTensor& scales = net.take(name + "_scales", {experts, rows, columns / kBlock});
  for (const SourceTensor* t : {&blocks, &scales})
    if (t->type != SourceType::kU8)
      fail("%s: tensor \"%s\" is not U8", net.checkpoint().path.c_str(), t->describe().c_str());
  std::vector<uint8_t> bytes(size_t(scales.bytes) * (1 + kBytes));
  const auto value = [](const uint8_t* block, int64_t i) { return uint8_t(block[i / 2] >> (i % 2 * 4) & 15); };
  for (uint64_t i = 0; i < scales.bytes; ++i) {
    uint8_t* to = bytes.data() + i * (1 + kBytes);
    *to++ = scales.data[i];
    for (int64_t k = 0; k < kBytes; ++k)
      to[k] = uint8_t(value(blocks.data + i * kBytes, k) | value(blocks.data + i * kBytes, k + kBytes) << 4);
  }
  SourceTensor t = blocks;
  t.type = SourceType::kMXFP4;
  t.shape = {uint64_t(experts * rows), uint64_t(columns)};
  return net.derived(std::move(t), std::move(bytes));
}

}  // namespace runnel::convert
