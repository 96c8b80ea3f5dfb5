#include "converter/convert.h"

#include <optional>

#include "converter/onnx/onnx.h"
#include "converter/passes/adapt_graph.h"
#include "converter/passes/add_features.h"
#include "converter/passes/half_states.h"
#include "converter/passes/kv_policy.h"
#include "converter/passes/merge_lora.h"
#include "converter/passes/name_values.h"
#include "converter/passes/prune_tokens.h"
#include "converter/passes/scale_products.h"
#include "converter/passes/sparse_keys.h"
#include "converter/read/facts.h"
#include "converter/read/read.h"
#include "converter/recipes/embedding.h"
#include "converter/recipes/graph_json.h"
#include "converter/recipes/recipe.h"
#include "converter/write/describe.h"
#include "converter/write/output.h"
#include "converter/write/planned_file.h"

namespace runnel::convert {
namespace {

constexpr size_t kMaxGraph = size_t(64) << 20;

// A source that holds f32 alone is kept in f32, with all that --weights f32 means for states.
Weights effective_weights(const Checkpoint& c, Weights asked) {
  if (asked != Weights::kKeep) return asked;
  for (const SourceTensor& t : c.tensors())
    if (t.type != SourceType::kF32 && t.shape.size() > 1) return asked;
  return Weights::kF32;
}

void state_provenance(const Checkpoint& c, const ConvertOptions& options, const std::string& architecture,
                      ModelBuilder& b, uint64_t* tensor_bytes) {
  b.model.provenance = std::make_unique<format::ProvenanceT>();
  format::ProvenanceT& p = *b.model.provenance;
  p.source = std::filesystem::absolute(options.input).lexically_normal().filename().string();
  if (p.source.empty()) p.source = c.name;
  for (const auto& file : c.weight_files) p.source_bytes += uint64_t(std::filesystem::file_size(file));
  for (const SourceTensor& t : c.tensors()) p.source_tensor_bytes += t.bytes;
  p.licence = c.licence;
  p.converter = "runnel-convert " RNL_VERSION;
  p.architecture = architecture;
  *tensor_bytes = p.source_tensor_bytes;
}

// Largest sizes of axes that a recipe or a graph leaves to each call.
void bound_axes(const std::map<std::string, int64_t>& axes, format::ModelT& model) {
  for (const auto& [name, size] : axes) {
    bool found = false;
    std::string known;
    for (const auto& s : model.symbols) {
      if (s->kind != format::SymbolKind::axis) continue;
      if (s->name == name) s->bound = std::to_string(size), found = true;
      known += (known.empty() ? "" : ", ") + s->name;
    }
    if (!found) fail("no axis is called \"%s\"; each call gives %s", printable(name).c_str(), known.c_str());
  }
}

}  // namespace

ConvertReport convert(const ConvertOptions& options) {
  ConvertReport report;
  const bool is_graph = !options.weights_file.empty();
  Checkpoint c;
  std::string graph;
  std::optional<Lora> lora;
  std::optional<OnnxImport> onnx;
  if (options.input.extension() == ".onnx") {
    onnx.emplace(options.input, c);
  } else if (is_graph) {
    c.kind = Checkpoint::Kind::kGraph;
    c.path = options.weights_file;
    graph = read_text(options.input, kMaxGraph);
    read_safetensors(c.map(options.weights_file), options.weights_file.string(), c);
    c.weight_files = {options.input, options.weights_file};
    c.name = options.input.stem().string();
  } else {
    c = read_checkpoint(options.input);
    if (!options.lora.empty()) merge_lora(lora.emplace(read_lora(options.lora, c, options.lora_scale)), c);
  }
  if (!options.is_dry) {
    std::vector<std::filesystem::path> sources = c.weight_files;
    sources.insert(sources.end(),
                   {options.input, options.weights_file, options.lora, options.adapter, options.tokenizer.file});
    refuse_own_source(options.output, sources);
  }
  ModelBuilder builder(effective_weights(c, options.weights));
  builder.prune = options.prune;
  if (onnx) {
    report.architecture = "onnx";
    const OnnxReport lowered = onnx->build({options.axes, options.known}, builder);
    report.notices = lowered.notices;
    report.plan = lowered.lowered;
  } else if (is_graph) {
    report.architecture = "graph";
    read_graph_json(graph, options.input.string(), builder);
    add_graph_tensors(c, builder);
  } else {
    report.architecture = architecture_of(c);
    leave_out_further_layers(c);
    find_recipe(c).build(c, builder);
    if (lora) check_head(*lora, builder);
    pass_over_harmless_tensors(c);
    name_values(builder.model);
    report.notices = add_tokenizer(c, options.tokenizer, builder);
    for (std::string& notice : add_embedding(c, builder)) report.notices.push_back(std::move(notice));
    report.notices.insert(report.notices.begin(), c.notices.begin(), c.notices.end());
  }
  if (!onnx && !options.known.empty()) fail("--set is for .onnx files");
  if (!onnx) bound_axes(options.axes, builder.model);
  std::string passes;
  const auto note_pass = [&](const std::string& text) { passes += (passes.empty() ? "" : "; ") + text; };
  if (options.imposed.window > 0) note_pass(impose_window(options.imposed, builder));
  if (!options.kv_policy.empty()) note_pass(impose_policy(options.kv_policy, builder));
  if (!options.sparse.empty()) note_pass(choose_keys(options.sparse, builder));
  if (!options.prune.empty()) note_pass(prune_tokens(builder));
  if (options.features) add_features(builder.model), note_pass("features");
  scale_products(builder);
  split_heads(options.head, builder);
  if (options.half_states) halve_states(builder);
  c.refuse_unused();
  if (!is_graph && !onnx) refuse_unasked(c);
  if (builder.model.name.empty()) builder.model.name = c.name;
  if (options.context) builder.model.context = uint64_t(options.context);
  state_provenance(c, options, report.architecture, builder, &report.source_tensor_bytes);
  builder.model.provenance->passes = passes;
  if (options.is_dry) {
    report.plan += (passes.empty() ? "" : "changed: " + passes + "\n") + describe_plan(builder, options.context);
    return report;
  }
  if (options.adapter.empty()) {
    report.written = write_model(builder, c.weight_files, options.output, options.threads);
    return report;
  }
  PlannedFile base(builder);
  lora = read_lora(options.adapter, c, options.lora_scale);
  ModelBuilder adapter(options.weights);
  adapt_graph(*lora, builder, adapter);
  report.written = write_model(adapter, c.weight_files, options.output, options.threads, [&](const char* path) {
    verify_adapter(path, base.open(adapter.model.provenance->source_sha256));
  });
  return report;
}

}  // namespace runnel::convert
