// Vision transformers with fewer tokens in their layers, against float64 runs of the methods' formulas
// (tests/goldens/make_pruned_vision.py).
#include "calls.h"
#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

std::string prune_to(const fs::path& input, const fs::path& output, const std::string& method) {
  ConvertOptions options;
  options.input = input, options.output = output;
  options.weights = Weights::kF32, options.prune = method, options.threads = 2;
  return error_of([&] { convert(options); });
}

std::unique_ptr<Model> pruned_model(const fs::path& input, const std::string& method) {
  TemporaryFolder tmp;
  if (const std::string message = prune_to(input, tmp / "m.rnl", method); !message.empty())
    throw std::runtime_error(message);
  return open_model(tmp / "m.rnl");
}

void expect_golden(const char* name, const std::string& method, const char* file = "") {
  const fs::path folder = kGoldens / "vision_pruned";
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  const auto model = pruned_model(folder / file, method);
  const Arrays wanted = arrays_of(calls, name + std::string(".")), whole = arrays_of(calls, "whole.");
  ASSERT_EQ(wanted.size(), 2u);
  for (const auto& [output, a] : wanted)
    EXPECT_GT(largest_difference(a.floats, whole.at(output).floats), 1e-3f * largest(a.floats)) << "nothing is pruned";
  expect_like(run(*session_of(*model, 1), "main", arrays_of(calls, "in."), wanted), wanted, 0);
}

TEST(C6, AlikeTokensOfAnImageAreMerged) { expect_golden("tome", "tome:r=3"); }
TEST(C6, OfMoreThanMayBeMergedHalfAre) { expect_golden("half", "tome:r=100"); }
TEST(C6, TokensOfAnOnnxFileAreMerged) {
  expect_golden("tome", "tome:r=3", "vit.onnx");
  expect_golden("half", "tome:r=100", "vit.onnx");
  EXPECT_NE(prune_to(kGoldens / "vision_pruned/vit.onnx", "unused.rnl", "evit").find("plain vision transformers"),
            std::string::npos);
}
TEST(C6, WhatIsSeenAndForHowManyItStandsCountsInMerging) { expect_golden("mctf", "mctf:r=3"); }
TEST(C7, TokensThatTheClassSeesLeastGoOnAsOne) { expect_golden("evit", "evit:keep=0.7,exact=1,every=2"); }
TEST(C7, TokensThatTheClassSeesLeastAreDropped) { expect_golden("topk", "topk:keep=0.7,exact=1,every=2"); }
TEST(C7, TokensThatAreLeastAlikeStay) { expect_golden("centre", "k-centre:keep=0.4,exact=1,every=2"); }
TEST(C7, OneTokenIsLeft) {
  expect_golden("evit_one", "evit:keep=0.01,exact=0,every=1");
  expect_golden("topk_one", "topk:keep=0.01,exact=0,every=1");
}

// A golden of a plain family, with the first of its images.
struct Family {
  const char* name;
  bool has_class_token = true;

  fs::path folder() const { return kGoldens / "vision" / name; }
  bool takes(const std::string& method) const {
    return has_class_token || (!method.starts_with("evit") && !method.starts_with("topk"));
  }
  Arrays run_in(const Model& model) const {
    Checkpoint calls = load_safetensors(folder() / "calls.safetensors");
    Arrays inputs = arrays_of(calls, "in.");
    inputs["pixel_values"] = inputs["pixel_values"].item(0);
    return run(*session_of(model, 64), "main", inputs, arrays_of(calls, "out."));
  }
};
const Family kPlain[] = {{"vit"}, {"deit"}, {"dinov2_with_registers"}, {"clip"}, {"ijepa", false}, {"vitpose", false}};

TEST(C7, WhatPrunesNothingChangesNothing) {
  for (const Family& family : kPlain) {
    TemporaryFolder tmp;
    convert_to(family.folder(), tmp / "whole.rnl", Weights::kF32);
    const Arrays whole = family.run_in(*open_model(tmp / "whole.rnl"));
    for (const char* method :
         {"tome:r=3,keep=100", "evit:keep=1,exact=0", "topk:keep=1,exact=0", "k-centre:keep=1,exact=0"}) {
      if (!family.takes(method)) continue;
      const Arrays got = family.run_in(*pruned_model(family.folder(), method));
      ASSERT_EQ(got.size(), whole.size());
      for (const auto& [name, a] : whole)
        EXPECT_LE(largest_difference(got.at(name).floats, a.floats), 1e-6f * largest(a.floats))
            << family.name << " " << method << " " << name;
    }
  }
}

// The shapes stay those of the whole model, and each family's outputs feel that tokens are gone.
TEST(C7, EveryPlainFamilyIsPruned) {
  for (const Family& family : kPlain) {
    const Arrays whole = family.run_in(*pruned_model(family.folder(), "tome:keep=100"));
    for (const char* method : {"tome:r=1", "mctf:r=1", "evit:keep=0.5,exact=0,every=1", "topk:keep=0.5,exact=0",
                               "k-centre:keep=0.5,exact=0"}) {
      if (!family.takes(method)) continue;
      const Arrays got = family.run_in(*pruned_model(family.folder(), method));
      float largest_change = 0;
      for (const auto& [name, a] : whole) {
        EXPECT_EQ(got.at(name).dims, a.dims) << family.name << " " << method << " " << name;
        largest_change =
            std::max(largest_change, largest_difference(got.at(name).floats, a.floats) / largest(a.floats));
      }
      EXPECT_GT(largest_change, 1e-5f) << family.name << " " << method;
    }
  }
}

// All patches are the same: the first of them stay, whose rows behind the layers are those of tokens that were changed.
TEST(C7, OfTokensThatAreSeenAlikeTheFirstStay) {
  ChangedCheckpoint vit("vision_pruned");
  std::vector<float>& positions = vit.tensor("embeddings.position_embeddings").values;
  std::fill(positions.begin(), positions.end(), 0.0f);
  const auto model = pruned_model(vit.write(), "topk:keep=0.5,exact=0,every=100");
  Arrays inputs, outputs;
  inputs["pixel_values"].dims = {1, 3, 32, 48};
  inputs["pixel_values"].floats.assign(3 * 32 * 48, 0.5f);
  outputs["last_hidden_state"];
  const std::vector<float> rows = run(*session_of(*model, 1), "main", inputs, outputs)["last_hidden_state"].floats;
  ASSERT_EQ(rows.size(), 25u * 16);
  const auto row = [&](size_t i) {
    return std::vector<float>(rows.begin() + long(16 * i), rows.begin() + long(16 * i + 16));
  };
  for (size_t i = 2; i <= 24; ++i) EXPECT_EQ(largest_difference(row(i), row(1)) < 1e-3f, i <= 12) << "patch " << i;
}

TEST(C7, ACallTakesOneImageOfNumbers) {
  const fs::path folder = kGoldens / "vision_pruned";
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  for (const char* method : {"tome:r=3", "mctf:r=3", "evit:exact=0", "topk:exact=0", "k-centre:exact=0"}) {
    const auto model = pruned_model(folder, method);
    const auto session = session_of(*model, 4);
    Arrays inputs = arrays_of(calls, "in."), outputs;
    outputs["pooler_output"];
    Array& pixels = inputs["pixel_values"];
    const Arrays before = run(*session, "main", inputs, outputs);
    pixels.floats[7] = NAN;
    expect_contains(error_of([&] { run(*session, "main", inputs, outputs); }), "holds NaN or infinity");
    pixels = arrays_of(calls, "in.")["pixel_values"];
    EXPECT_EQ(run(*session, "main", inputs, outputs).at("pooler_output").floats, before.at("pooler_output").floats);
    pixels.dims[0] = 2;
    pixels.floats.insert(pixels.floats.end(), pixels.floats.begin(), pixels.floats.end());
    expect_contains(error_of([&] { run(*session, "main", inputs, outputs); }), "axis 0 (batch) is 2, at most 1");
    pixels.dims[0] = 0, pixels.floats.clear();
    EXPECT_NE(error_of([&] { run(*session, "main", inputs, outputs); }), "") << "no image";
  }
}

TEST(C7, WhatCannotBePrunedIsRefusedByItsReason) {
  TemporaryFolder tmp;
  const auto refusal = [&](const char* family, const char* method) {
    return prune_to(kGoldens / "vision" / family, tmp / "m.rnl", method);
  };
  expect_contains(refusal("ijepa", "evit"), "no class token");
  expect_contains(refusal("dinov3_vit", "tome"), "turns tokens by their places");
  expect_contains(refusal("beit", "tome"), "a bias by relative places");
  expect_contains(refusal("depth_anything", "tome"), "the tokens of layers on the way");
  expect_contains(refusal("swin", "evit"), "plain vision transformers");
  expect_contains(refusal("vit", "evit:keep=0"), "keep is no part above 0");
  expect_contains(refusal("vit", "topk:keep=1.5"), "keep is no part above 0");
  expect_contains(refusal("ijepa", "k-centre:keep=0"), "keep is no part above 0");
  expect_contains(refusal("vit", "topk:exact=2"), "exact leaves out all layers");
  expect_contains(refusal("vit", "mctf:info=-1"), "info is no number from 0 to 1");
  expect_contains(prune_to(kGoldens / "encoders/bert", tmp / "m.rnl", "mctf"), "plain vision transformers");
}

TEST(C7, TheFileSaysHowManyTokensAreLeft) {
  TemporaryFolder tmp;
  ASSERT_EQ(prune_to(kGoldens / "vision_pruned", tmp / "m.rnl", "evit:exact=1,every=2"), "");
  expect_contains(read_text(tmp / "m.rnl", 1 << 24), "prune evit:exact=1,every=2: tokens of an image 25, 19, 15");
}

}  // namespace
}  // namespace runnel::convert
