// ViT-MAE: of an image's patches those with the least noise go through a vision transformer; a second one guesses what
// is in the others. The noise [batch, patches] is an input of each call.
#include <cmath>

#include "converter/recipes/deformable.h"
#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {
namespace {

using format::DType;

// The order of the patches by their noise, and the place of each in that order.
struct Order {
  Var ids, restore;  // [patches] i32
  int64_t kept = 0;
};

// Numbers of the places of x's values, from the lowest up.
Var sorted(VisionNet& net, const Var& x) {
  format::TopKAttrsT attrs;
  attrs.smallest = true;
  const Var ids = net.make("order", x.axis, x.dims, false, DType::i32);
  net.op("top_k", {x.name}, x.axis, x.dims, {ids.name}, attrs);
  return ids;
}

Var as_floats(VisionNet& net, const Var& x) { return net.op("cast", {x.name}, x.axis, x.dims); }

Order order_of(VisionNet& net, const Facts& f, int64_t patches) {
  Order order;
  order.kept = int64_t(double(patches) * (1 - f.number("mask_ratio", 0.75)));
  if (order.kept < 1 || order.kept > patches) f.refuse("mask_ratio", "leaves no patch, or more than there are");
  order.ids = sorted(net, net.input("noise", "batch", {patches}));
  order.restore = sorted(net, as_floats(net, order.ids));
  return order;
}

void give_order(VisionNet& net, const Order& order) {
  // 1 where a patch was left out.
  format::MathAttrsT bounds;
  bounds.kind = format::MathKind::clip;
  bounds.beta = 1;
  const Var above = net.plus_numbers(as_floats(net, order.restore), "/kept", {float(1 - order.kept)}, {1});
  net.give(net.op("math", {above.name}, above.axis, above.dims, {}, bounds), "mask");
  net.graph().op("reshape", {order.restore.name},
                 {net.graph().value("ids_restore", shape_of("batch", order.restore.dims), DType::i32)});
  net.graph().add_output("ids_restore");
}

// The guesses for all patches, of the tokens of those that were seen.
Var decoded(VisionNet& net, const VisionEncoder& e, const Facts& f, const Order& order, const Var& seen) {
  const int64_t n = order.restore.dims[0];
  const Var narrow = net.linear(seen, "/decoder.decoder_embed");
  VisionEncoder d = e;
  d.hidden = narrow.dims[1];
  d.heads = f.integer("decoder_num_attention_heads", 1, 65536, 16);
  if (d.hidden % d.heads) f.refuse("decoder_num_attention_heads", "does not divide decoder_hidden_size");
  Var patches = net.slice(narrow, 1, 1, order.kept);
  if (order.kept < n) {
    const std::string token =
        net.constant("/decoder.mask_token", net.numbers("/decoder.mask_token", d.hidden), {d.hidden});
    patches = net.concat({patches, net.op("expand", {token}, "batch", {n - order.kept, d.hidden})}, 1);
  }
  Var x = net.concat({net.slice(narrow, 1, 0, 1), rows_by_id(net, patches, order.restore)}, 1);
  x = net.plus_numbers(x, "/decoder.decoder_pos_embed", net.numbers("/decoder.decoder_pos_embed", (n + 1) * d.hidden),
                       {n + 1, d.hidden});
  const std::string layers = "/decoder.decoder_layers.";
  const bool is_old = net.has(layers + "0.layernorm_before.weight");
  for (int64_t i = 0; i < f.integer("decoder_num_hidden_layers", 0, 4096, 8); ++i)
    x = encoder_layer(net, d, i, (is_old ? layers : "/decoder.decoder_encoder.layer.") + std::to_string(i) + ".", x);
  x = net.linear(net.norm(x, "/decoder.decoder_norm", d.eps), "/decoder.decoder_pred");
  return net.slice(x, 1, 1, n);
}

void build_vit_mae(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const std::string name = class_of(c, "ViTMAE");
  if (name != "Model" && name != "ForPreTraining") refuse_class(f, name);
  VisionEncoder e = vit_like(c, f, "vit.");
  e.tokens = {"embeddings.cls_token"};
  f.pass_over({"decoder_hidden_size", "decoder_intermediate_size", "norm_pix_loss", "decoder_num_attention_heads",
               "decoder_num_hidden_layers"});
  VisionNet net(c, b, e.naming);
  Order order;
  e.choose = [&](const Var& patches) {
    order = order_of(net, f, patches.dims[0]);
    if (order.kept == patches.dims[0]) return rows_by_id(net, patches, order.ids);
    const Var ids = net.make("kept", "batch", {order.kept}, false, DType::i32);
    format::SliceAttrsT first;
    first.axis = 1;
    net.graph().op("slice", {order.ids.name}, {ids.name}, first);
    return rows_by_id(net, patches, ids);
  };
  const Var x = encode_image(net, e);
  if (name == "Model") net.give(x, "last_hidden_state");
  else net.give(decoded(net, e, f, order, x), "logits");
  give_order(net, order);
  c.ignore_containing("decoder.mask_token");  // where nothing is left out
}

}  // namespace

extern const Recipe vit_mae_recipe;
const Recipe vit_mae_recipe = {"vit_mae", {}, {"vit_mae"}, build_vit_mae};

}  // namespace runnel::convert
