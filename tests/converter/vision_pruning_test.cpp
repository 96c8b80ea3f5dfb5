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
TEST(C5, TokensAndHeadsThatMatteredLeastSoFarAreDropped) {
  expect_golden("spatten", "spatten:keep=0.7,heads=0.5,exact=1,every=2");
}
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
    for (const char* method : {"tome:r=3,keep=100", "evit:keep=1,exact=0", "topk:keep=1,exact=0",
                               "k-centre:keep=1,exact=0", "spatten:keep=1,exact=0"}) {
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
    for (const char* method :
         {"tome:r=1", "mctf:r=1", "evit:keep=0.5,exact=0,every=1", "topk:keep=0.5,exact=0", "k-centre:keep=0.5,exact=0",
          "spatten:keep=0.5,heads=0.5,exact=0", "spatten:keep=1,heads=0.01,exact=0"}) {
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

// Two images one after the other, in one call and in a call each.
void expect_images_in_turn(const Model& model, const Array& first, const Array& second, const Arrays& outputs) {
  const auto session = session_of(model, 4);
  Array both = first;
  both.dims[0] = 2;
  both.floats.insert(both.floats.end(), second.floats.begin(), second.floats.end());
  const Arrays got = run(*session, "main", {{"pixel_values", both}}, outputs);
  const Arrays one = run(*session, "main", {{"pixel_values", first}}, outputs),
               other = run(*session, "main", {{"pixel_values", second}}, outputs);
  for (const auto& [name, a] : got) {
    EXPECT_EQ(a.dims[0], 2);
    std::vector<float> floats = one.at(name).floats;
    floats.insert(floats.end(), other.at(name).floats.begin(), other.at(name).floats.end());
    EXPECT_EQ(a.floats, floats) << name;
    std::vector<int32_t> integers = one.at(name).integers;
    integers.insert(integers.end(), other.at(name).integers.begin(), other.at(name).integers.end());
    EXPECT_EQ(a.integers, integers) << name;
  }
}

Array mirrored(const Array& image) {
  Array out = image;
  std::reverse(out.floats.begin(), out.floats.end());
  return out;
}

TEST(C7, ACallTakesImagesOfNumbersInTurn) {
  const fs::path folder = kGoldens / "vision_pruned";
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  const Array image = arrays_of(calls, "in.").at("pixel_values");
  const Arrays outputs = {{"last_hidden_state", {}}, {"pooler_output", {}}};
  for (const char* method :
       {"tome:r=3", "mctf:r=3", "evit:exact=0", "topk:exact=0", "k-centre:exact=0", "spatten:exact=0,heads=0.5"}) {
    const auto model = pruned_model(folder, method);
    expect_images_in_turn(*model, image, mirrored(image), outputs);
    const auto session = session_of(*model, 4);
    const Arrays before = run(*session, "main", {{"pixel_values", image}}, outputs);
    Array pixels = image;
    pixels.dims[0] = 2;
    pixels.floats.insert(pixels.floats.end(), image.floats.begin(), image.floats.end());
    pixels.floats.back() = NAN;
    expect_contains(error_of([&] {
                      run(*session, "main", {{"pixel_values", pixels}}, outputs);
                    }),
                    "holds NaN or infinity");
    EXPECT_EQ(run(*session, "main", {{"pixel_values", image}}, outputs).at("pooler_output").floats,
              before.at("pooler_output").floats);
    pixels.dims[0] = 0, pixels.floats.clear();
    for (const auto& [name, a] : run(*session, "main", {{"pixel_values", pixels}}, outputs))
      EXPECT_EQ(a.dims.at(0), 0) << name << " of no image";
  }
}

// A model that reads texts beside its images takes one image.
TEST(C7, ImagesBesideTextsAreOneACall) {
  const Family clip = {"clip"};
  Checkpoint calls = load_safetensors(clip.folder() / "calls.safetensors");
  const auto model = pruned_model(clip.folder(), "tome:r=1");
  expect_contains(
      error_of([&] { run(*session_of(*model, 64), "main", arrays_of(calls, "in."), arrays_of(calls, "out.")); }),
      "at most 1");
}

// --- ends behind layers: the same as a model of so many layers

// A model of its first layers alone.
void keep_layers(ChangedCheckpoint* source, int layers) {
  const int64_t all = source->config.at("num_hidden_layers");
  source->config["num_hidden_layers"] = layers;
  for (int64_t i = layers; i < all; ++i)
    std::erase_if(source->tensors, [&](const PlainTensor& t) {
      const std::string number = "." + std::to_string(i) + ".";
      return t.name.find("layer" + number) != t.name.npos || t.name.find("layers" + number) != t.name.npos;
    });
}

// A classifier of four layers over the tiny ViT.
class Classifier {
 public:
  Classifier() {
    Checkpoint calls = load_safetensors(kGoldens / "vision_pruned/calls.safetensors");
    images_ = arrays_of(calls, "in.").at("pixel_values");
    const Array other = mirrored(images_);
    images_.dims[0] = 2;
    images_.floats.insert(images_.floats.end(), other.floats.begin(), other.floats.end());
  }
  // Logits of both images with the first layers alone.
  std::vector<float> logits_of(int layers) const { return run_with("", layers).at("logits").floats; }
  Arrays exits(const std::string& method) const { return run_with(method, 4); }

 private:
  Arrays run_with(const std::string& method, int layers) const {
    ChangedCheckpoint vit("vision_pruned");
    std::erase_if(vit.tensors, [](const PlainTensor& t) { return t.name.starts_with("pooler."); });
    for (PlainTensor& t : vit.tensors) t.name = "vit." + t.name;
    std::vector<float> weight;
    for (int i = 0; i < 5 * 16; ++i) weight.push_back(float((i * 37) % 23 - 11) / 16);
    vit.tensors.push_back({"classifier.weight", {5, 16}, weight});
    vit.tensors.push_back({"classifier.bias", {5}, {0.1f, 0, -0.1f, 0, 0.2f}});
    vit.config["architectures"] = {"ViTForImageClassification"};
    keep_layers(&vit, layers);
    TemporaryFolder tmp;
    if (method.empty()) convert_to(vit.write(), tmp / "m.rnl", Weights::kF32);
    const auto model = method.empty() ? open_model(tmp / "m.rnl") : pruned_model(vit.write(), method);
    return run(*session_of(*model, 2), "main", {{"pixel_values", images_}}, {{"logits", {}}, {"layers", {}}});
  }
  Array images_;
};

void expect_near(const float* got, const float* want, size_t n, const std::string& what) {
  for (size_t i = 0; i < n; ++i) EXPECT_NEAR(got[i], want[i], 1e-4f) << what << " class " << i;
}

TEST(C7, AnEndBehindALayerIsTheModelOfSoManyLayers) {
  const Classifier model;
  for (int layers = 1; layers <= 4; ++layers) {
    const std::string method =
        layers < 4 ? "exit:sure=0.001,exact=" + std::to_string(layers - 1) : "exit:sure=1,exact=0";
    const Arrays got = model.exits(method);
    EXPECT_EQ(got.at("layers").integers, (std::vector<int32_t>{layers, layers})) << method;
    expect_near(got.at("logits").floats.data(), model.logits_of(layers).data(), 10, method);
  }
}

// Each image of a call ends by itself, behind the first layer that is sure of it.
TEST(C7, EachImageEndsWhereItIsSure) {
  const Classifier model;
  std::vector<std::vector<float>> logits;
  std::vector<float> parts[2];
  for (int layers = 1; layers <= 4; ++layers) {
    logits.push_back(model.logits_of(layers));
    for (int image = 0; image < 2; ++image) {
      const float* x = &logits.back()[size_t(5 * image)];
      double sum = 0;
      for (int i = 0; i < 5; ++i) sum += std::exp(double(x[i]) - double(*std::max_element(x, x + 5)));
      parts[image].push_back(float(1 / sum));
    }
  }
  bool differ = false;
  for (const float sure : {0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f, 0.9f, 0.99f}) {
    const Arrays got = model.exits("exit:exact=0,sure=" + std::to_string(sure));
    int32_t ends[2] = {};
    for (size_t image = 0; image < 2; ++image) {
      int32_t& end = ends[image] = 1;
      while (end < 4 && parts[image][size_t(end - 1)] < sure) ++end;
      ASSERT_GT(std::abs(parts[image][size_t(end - 1)] - sure), 1e-4f) << "a choice by rounding";
      EXPECT_EQ(got.at("layers").integers.at(image), end) << sure;
      expect_near(&got.at("logits").floats[5 * image], &logits[size_t(end - 1)][5 * image], 5, std::to_string(sure));
    }
    differ |= ends[0] != ends[1];
  }
  EXPECT_TRUE(differ) << "no two images ended behind different layers";
}

// The families that merge no tokens end early too, and so do encoders of texts.
TEST(C7, ModelsThatGiveClassesEndEarly) {
  for (const char* name : {"vision/beit", "vision/dinov2_with_registers", "vision/deit", "encoders/roberta",
                           "encoders/eurobert", "encoders/rembert"}) {
    ChangedCheckpoint source(name);
    Checkpoint calls = load_safetensors(kGoldens / name / "calls.safetensors");
    Arrays inputs = arrays_of(calls, std::string(name).starts_with("vision/") ? "in." : "full.");
    inputs.erase("logits");
    const auto early = pruned_model(source.write(), "exit:sure=0.001,exact=0");
    const Arrays got = run(*session_of(*early, 64), "main", inputs, {{"logits", {}}, {"layers", {}}});
    keep_layers(&source, 1);
    TemporaryFolder tmp;
    convert_to(source.write(), tmp / "m.rnl", Weights::kF32);
    const Arrays want = run(*session_of(*open_model(tmp / "m.rnl"), 64), "main", inputs, {{"logits", {}}});
    const Array &a = got.at("logits"), &b = want.at("logits");
    EXPECT_EQ(a.dims, b.dims) << name;
    EXPECT_LE(largest_difference(a.floats, b.floats), 1e-4f * largest(b.floats)) << name;
    EXPECT_EQ(got.at("layers").integers, std::vector<int32_t>(size_t(a.dims[0]), 1)) << name;
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
  expect_contains(refusal("vit", "spatten:heads=0"), "heads is no part above 0");
  expect_contains(refusal("vit", "topk:exact=2"), "exact leaves out all layers");
  expect_contains(refusal("vit", "mctf:info=-1"), "info is no number from 0 to 1");
  expect_contains(refusal("vit", "exit:sure=0"), "sure is no part above 0");
  expect_contains(refusal("vit", "exit:exact=1"), "exact leaves out all layers");
  expect_contains(refusal("swin", "exit:exact=0"), "of this model");
  expect_contains(prune_to(kGoldens / "encoders/deberta_v2", tmp / "m.rnl", "exit:exact=0"),
                  "layer 2 of this model is not like those before it");
  expect_contains(prune_to(kGoldens / "vision_pruned", tmp / "m.rnl", "exit"), "gives no classes");
  expect_contains(prune_to(kGoldens / "tiny_gemma3", tmp / "m.rnl", "exit"), "keeps states");
  expect_contains(prune_to(kGoldens / "encoders/bert", tmp / "m.rnl", "mctf"), "plain vision transformers");
}

TEST(C7, TheFileSaysHowManyTokensAreLeft) {
  TemporaryFolder tmp;
  ASSERT_EQ(prune_to(kGoldens / "vision_pruned", tmp / "m.rnl", "evit:exact=1,every=2"), "");
  expect_contains(read_text(tmp / "m.rnl", 1 << 24), "prune evit:exact=1,every=2: tokens of an image 25, 19, 15");
  ASSERT_EQ(prune_to(kGoldens / "vision/vit", tmp / "e.rnl", "exit:exact=0"), "");
  expect_contains(read_text(tmp / "e.rnl", 1 << 24), "prune exit:exact=0: ends may come behind layers 1 of 2");
}

}  // namespace
}  // namespace runnel::convert
