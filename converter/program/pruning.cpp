#include "converter/program/pruning.h"

namespace runnel::convert {
namespace {

const std::vector<MethodRow>& rows() {
  static const std::vector<MethodRow> kRows = {
      {"tome",
       {{"r", 8}, {"keep", 1}, {"exact", 0}},
       "behind each attention but the first `exact` the `r` tokens whose keys are most like another's join it, the "
       "first `keep` tokens never, nor those before an image's patches (ToMe)"},
      {"mctf",
       {{"r", 8}, {"keep", 1}, {"exact", 0}, {"info", 0.05}, {"size", 0.025}},
       "of images the same, where also counts how much a token is seen and for how many it stands, each to the power "
       "of minus `info` and minus `size` (MCTF)"},
      {"evit",
       {{"keep", 0.7}, {"exact", 3}, {"every", 3}},
       "of images with a class token: behind the attention of each `every`-th layer from the one behind the first "
       "`exact` this part of the tokens goes on, those that the class token sees most, and the others as one (EViT)"},
      {"topk", {{"keep", 0.7}, {"exact", 3}, {"every", 3}}, "the same, and the others are dropped"},
      {"k-centre",
       {{"keep", 0.7}, {"exact", 3}, {"every", 3}},
       "of images behind the same layers the tokens that are least like each other, one after another (greedy k-centre "
       "by cosines, ToDRE's first step), from the one on that the class token sees most; without it from the first one "
       "on"},
      {"spatten",
       {{"keep", 0.7}, {"heads", 1}, {"exact", 3}, {"every", 3}},
       "of images behind the same layers the tokens that all heads of all layers so far have seen most, and of the "
       "heads "
       "the part `heads` whose outputs were largest so far; the others are dropped for good (SpAtten's cascade)"},
      {"exit",
       {{"sure", 0.9}, {"exact", 3}, {"every", 1}},
       "of models that give classes: behind each `every`-th layer from the one behind the first `exact` they are "
       "computed as behind the last, and each image (or text) for which the likeliest class has at least this part "
       "ends "
       "there; `layers` says how many it had"}};
  return kRows;
}

}  // namespace

std::string prune_methods() { return list_methods(rows()); }

bool thins_tokens(const std::string& method) { return std::string(prune_options(method).row().name) != "exit"; }

MethodOptions prune_options(const std::string& method) { return {"--prune", rows(), method}; }

}  // namespace runnel::convert
