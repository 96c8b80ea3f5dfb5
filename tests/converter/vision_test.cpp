// Models of images on tiny random checkpoints whose outputs were computed by transformers
// (tests/goldens/make_tiny_vision.py, make_tiny_convnets.py, make_tiny_timm.py).
#include "calls.h"
#include "changed_checkpoint.h"

namespace runnel::convert {
namespace {

class TinyVision : public testing::TestWithParam<const char*> {};

TEST_P(TinyVision, EveryOutputIsThatOfTheOriginal) {
  const fs::path folder = kGoldens / "vision" / GetParam();
  Checkpoint calls = load_safetensors(folder / "calls.safetensors");
  TemporaryFolder tmp;
  convert_to(folder, tmp / "m.rnl", Weights::kF32);
  const auto model = open_model(tmp / "m.rnl");
  const Arrays outputs = arrays_of(calls, "out.");
  ASSERT_FALSE(outputs.empty());
  const auto session = session_of(*model, 64);  // images, or places along a side
  expect_like(run(*session, "main", arrays_of(calls, "in."), outputs), outputs, values_of(calls, "difference")[0]);
}

INSTANTIATE_TEST_SUITE_P(All, TinyVision,
                         testing::Values("vit", "deit", "ijepa", "dinov2_with_registers", "dinov3_vit", "beit", "clip",
                                         "swin", "swinv2", "segformer", "glpn", "metaclip_2", "aimv2", "cvt", "hiera",
                                         "vitpose", "depth_anything", "resnet", "regnet", "convnextv2", "poolformer",
                                         "swiftformer", "focalnet", "dinov3_convnext", "bit", "rt_detr", "rt_detr_v2",
                                         "mobilenetv3", "mobilenetv4"),
                         [](const auto& row) { return std::string(row.param); });

TEST(Vision, WhatIsNotKnownIsRefusedByName) {
  ChangedCheckpoint vit("vision/vit");
  vit.config["architectures"] = {"ViTForObjectDetection"};
  expect_contains(vit.convert_error(), "ForObjectDetection");
  ChangedCheckpoint swin("vision/swinv2");
  swin.config["architectures"] = {"Swinv2Backbone"};
  expect_contains(swin.convert_error(), "architectures names a class ...Backbone, which is not supported");
  ChangedCheckpoint heads("vision/vit");
  heads.config["num_attention_heads"] = 3;
  expect_contains(heads.convert_error(), "num_attention_heads does not divide hidden_size");
}

TEST(Vision, NeighboursWithoutDilationsAreThoseOfTheFamilyBefore) {
  ChangedCheckpoint own("vision/dinat");
  own.config.erase("dilations");
  expect_contains(own.convert_error(), "dilations is missing");
  own.config["model_type"] = "nat";
  own.config["architectures"] = {"NatForImageClassification"};
  for (PlainTensor& t : own.tensors)
    if (t.name.starts_with("dinat.")) t.name = "nat." + t.name.substr(6);
  EXPECT_EQ(own.convert_error(), "");
}

TEST(Vision, SomePatchHasToBeLeft) {
  ChangedCheckpoint own("vision/vit_mae");
  own.config["mask_ratio"] = 1.0;
  expect_contains(own.convert_error(), "mask_ratio leaves no patch");
}

TEST(Vision, FilesOfTimmAreKnownWithoutAModelType) {
  ChangedCheckpoint own("vision/mobilenetv3");
  for (const char* key : {"model_type", "architectures", "do_pooling", "model_args"}) own.config.erase(key);
  own.config["pretrained_cfg"] = {{"input_size", {3, 64, 64}}, {"tag", "lamb_in1k"}};
  for (PlainTensor& t : own.tensors) t.name = t.name.substr(std::string("timm_model.").size());
  EXPECT_EQ(own.convert_error(), "");
  ChangedCheckpoint other("vision/mobilenetv3");
  other.config["architecture"] = "mobilenetv3_rw";
  expect_contains(other.convert_error(),
                  "architecture is \"mobilenetv3_rw\"; those that are read begin with mobilenetv2_");
}

TEST(Vision, ADetectorSaysWhichPartItDoesNotKnow) {
  ChangedCheckpoint backbone("vision/rt_detr");
  backbone.config["backbone_config"]["model_type"] = "hgnet_v2";
  expect_contains(backbone.convert_error(), "model_type is not rt_detr_resnet");
  ChangedCheckpoint size("vision/rt_detr");
  size.config["image_size"] = {32, 40};
  expect_contains(size.convert_error(), "image_size gives an image of 2 3 where one of 2 4 is needed");
  ChangedCheckpoint queries("vision/rt_detr");
  queries.config["num_queries"] = 100;
  expect_contains(queries.convert_error(), "num_queries is more than there are tokens: 21");
}

}  // namespace
}  // namespace runnel::convert
