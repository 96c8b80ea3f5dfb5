// Nodes of onnxruntime's that are one of ONNX's with a sum and an activation behind it.
#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

void set_number(OnnxNode& node, const char* name, float value) {
  OnnxAttribute a;
  a.kind = OnnxKind::kFloat, a.f = value;
  node.attributes[name] = a;
}

// Writes `first` and then the activation that the node names. sum: the input that is added before it. parameters: of
// the activation, as far as there are any.
void lower_with_activation(Lowering& l, const Node& n, const char* first, size_t sum,
                           const std::vector<float>& parameters, LowerFn lower_first) {
  OnnxNode plain = n.raw();
  plain.op = first, plain.domain.clear();
  plain.outputs = {n.raw().outputs[0] + " before its activation"};
  plain.inputs.resize(std::min(plain.inputs.size(), sum));
  lower_first(l, Node(l, plain, n.opset()));
  const std::string& made = plain.outputs[0];
  const std::string op = n.text("activation", "");
  Value v = *l.find(made);
  if (n.has(sum)) v = l.binary(format::BinaryKind::add, v, n.in(sum));
  if (op.empty()) return n.set(v);
  OnnxNode activation;
  activation.name = n.name(), activation.op = op, activation.inputs = {made + " and a sum"};
  activation.outputs = {n.raw().outputs[0]};
  l.define(activation.inputs[0], v);
  const auto parameter = [&](size_t i, const char* name) {
    if (i < parameters.size()) set_number(activation, name, parameters[i]);
  };
  LowerFn lower = nullptr;
  if (op == "Relu" || op == "Tanh" || op == "Sigmoid") lower = lower_unary;
  else if (op == "LeakyRelu") lower = lower_math, parameter(0, "alpha");
  else if (op == "HardSigmoid") lower = lower_math, parameter(0, "alpha"), parameter(1, "beta");
  else if (op == "Clip") lower = lower_clip, parameter(0, "min"), parameter(1, "max");
  else fail("activation \"%s\"", printable(op).c_str());
  lower(l, Node(l, activation, n.opset()));
}

}  // namespace

void lower_fused_conv(Lowering& l, const Node& n) {
  const OnnxAttribute* a = n.attribute("activation_params", OnnxKind::kFloats);
  lower_with_activation(l, n, "Conv", 3, a ? a->floats : std::vector<float>(), lower_conv);
}

void lower_fused_gemm(Lowering& l, const Node& n) {
  std::vector<float> parameters;
  for (const char* name : {"activation_alpha", "activation_beta"})
    if (n.has_attribute(name)) parameters.push_back(float(n.real(name, 0)));
  lower_with_activation(l, n, "Gemm", 3, parameters, lower_gemm);
}

}  // namespace runnel::convert
