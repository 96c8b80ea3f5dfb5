// RT-DETR's ResNet, whose stem has three convolutions and whose ways around halve an image by means.
#pragma once

#include "converter/recipes/conv_net.h"

namespace runnel::convert {

// The images behind the stem and behind each stage. root: what the tensors' names begin with.
std::vector<Var> detr_resnet(ConvNet& net, const Facts& facts, const std::string& root);

}  // namespace runnel::convert
