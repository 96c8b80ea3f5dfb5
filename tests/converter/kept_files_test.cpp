// Files that older releases wrote must open and give the same numbers for ever: tests/goldens/kept/<tiny
// checkpoint>-<format version>.rnl. A file is added with each release that changes the format and is never written
// again.
#include "kit.h"

namespace runnel::convert {
namespace {

TEST(KeptFiles, StillGiveTheOriginalsLogits) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kGoldens / "kept")) {
    if (entry.path().extension() != ".rnl") continue;
    const std::string name = entry.path().filename().string();
    const fs::path folder = kGoldens / name.substr(0, name.find('-'));
    Checkpoint golden = load_safetensors(folder / "logits.safetensors");
    const std::vector<float> wanted = values_of(golden, "logits");
    EXPECT_LE(largest_difference(all_logits(*open_model(entry.path()), ids_of(folder), 7), wanted),
              1e-4f * largest(wanted))
        << name;
    ++files;
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace runnel::convert
