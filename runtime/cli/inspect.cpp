// inspect and devices: what a file holds, what a session would need, what this machine offers.
#include <cstring>
#include <nlohmann/json.hpp>

#include "api/handles.h"
#include "cli/compare.h"
#include "cli/lines.h"
#include "cpu/features.h"
#include "cpu/token_threads.h"
#include "text/tokenizer.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

const char* text(const flatbuffers::String* s) { return s ? s->c_str() : ""; }

std::string shape_text(const Model& model, const ShapeExpr& shape) {
  std::string out = "[";
  for (int d = 0; d < shape.rank; ++d) out += (d ? ", " : "") + std::string(model.exprs().text(shape.dims[d]));
  return out + "]";
}

std::string dims_text(const int64_t* dims, int rank) {
  std::string out = "[";
  for (int d = 0; d < rank; ++d) out += (d ? ", " : "") + std::to_string(dims[d]);
  return out + "]";
}

std::string packed_text(const PackedFormat& f) {
  if (f.kind == PackedKind::kF32) return "f32";
  if (f.kind == PackedKind::kF16) return "f16";
  if (f.kind == PackedKind::kBF16) return "bf16";
  static const char* const kScales[] = {"f16", "u4", "u6", "s6", "i8"};
  return std::to_string(f.bits) + " bits, block " + std::to_string(f.block) + ", scales " + kScales[int(f.scale)] +
         (f.has_min ? ", minimums" : "") + (f.split ? ", split" : "");
}

}  // namespace

std::string tensor_type(const TensorInfo& t) {
  return t.view.packed ? packed_text(*t.view.packed) : dtype_name(t.view.dtype);
}

namespace {

std::string operand_name(const Model& model, const ProgramInfo& p, const Operand& o) {
  switch (o.kind) {
    case Operand::Kind::kAbsent: return "-";
    case Operand::Kind::kTensor: return model.tensors()[o.index].name;
    case Operand::Kind::kState: return model.states()[o.index].name;
    case Operand::Kind::kValue: return p.values[o.index].name;
  }
  return "?";
}

// Where an operator runs: its CPU kernel, or the device unless that refuses it.
std::string kernel_text(const PlannedOp& op, const char* name, const char* refused, bool on_device) {
  const std::string cpu = op.kernel ? op.kernel->name : "reference";
  if (op.is_skipped_view) return "view";
  return !on_device ? cpu : refused ? cpu + " (" + refused + ")" : std::string(name) + "__vulkan";
}

json describe(const Model& model, const Plan& plan, const MemoryReport& m, const Backend* backend) {
  const format::Model& root = model.root();
  json out;
  out["name"] = text(root.name());
  out["format"] = std::to_string(root.version_major()) + "." + std::to_string(root.version_minor());
  out["context"] = plan.options.context;
  out["chunk"] = plan.options.chunk;
  out["model_context"] = root.context();
  if (const format::Provenance* p = root.provenance())
    out["provenance"] = {{"source", text(p->source())},
                         {"source_sha256", text(p->source_sha256())},
                         {"source_bytes", p->source_bytes()},
                         {"source_tensor_bytes", p->source_tensor_bytes()},
                         {"licence", text(p->licence())},
                         {"converter", text(p->converter())},
                         {"architecture", text(p->architecture())}};
  out["file_bytes"] = model.file_bytes();
  if (model.base()) out["adapter_bytes"] = model.file_bytes() - model.base()->file_bytes();
  out["planned_bytes"] = {{"weights", m.weights},     {"state", m.state}, {"arena", m.arena},  {"packed", m.packed},
                          {"tokenizer", m.tokenizer}, {"fixed", m.fixed}, {"total", m.total()}};
  for (const TensorInfo& t : model.tensors())
    out["tensors"].push_back({{"name", t.name},
                              {"shape", std::vector<int64_t>(t.view.dims, t.view.dims + t.view.rank)},
                              {"bytes", t.bytes},
                              {"type", tensor_type(t)}});
  out["states"] = json::array();
  for (size_t i = 0; i < model.states().size(); ++i) {
    const StateInfo& s = model.states()[i];
    const PlannedState& p = plan.states[i];
    out["states"].push_back({{"name", s.name},
                             {"kind", format::EnumNameStateKind(s.kind)},
                             {"dtype", dtype_name(p.dtype)},
                             {"window", s.window},
                             {"shape", std::vector<int64_t>(p.dims, p.dims + s.shape.rank)},
                             {"slots", p.slots},
                             {"copies", p.copies},
                             {"bytes", p.bytes * size_t(p.copies)}});
  }
  if (backend) out["device"] = {{"name", backend->device_name()}, {"bytes", backend->device_bytes()}};
  for (size_t program = 0; program < plan.programs.size(); ++program) {
    const PlannedProgram& p = plan.programs[program];
    json ops = json::array();
    for (size_t i = 0; i < p.info->ops.size(); ++i) {
      const OpInfo& op = p.info->ops[i];
      json ins = json::array(), outs = json::array();
      for (uint32_t k = 0; k < op.in_count; ++k)
        ins.push_back(operand_name(model, *p.info, p.info->operands[op.first_operand + k]));
      for (uint32_t k = 0; k < op.out_count; ++k)
        outs.push_back(operand_name(model, *p.info, p.info->operands[op.first_operand + op.in_count + k]));
      ops.push_back({{"op", op.def->name},
                     {"kernel", kernel_text(p.ops[i], op.def->name,
                                            backend ? backend->refuses(uint32_t(program), uint32_t(i)) : nullptr,
                                            backend != nullptr)},
                     {"inputs", ins},
                     {"outputs", outs},
                     {"scratch", p.ops[i].scratch_bytes},
                     {"part", i < p.head_begin ? "body" : "head"}});
    }
    json inputs = json::array(), outputs = json::array();
    for (uint32_t i = 0; i < p.info->input_count; ++i)
      inputs.push_back({{"name", p.info->values[i].name},
                        {"dtype", dtype_name(p.info->values[i].dtype)},
                        {"shape", shape_text(model, p.info->values[i].shape)},
                        {"optional", p.info->is_optional(i)}});
    for (uint32_t v : p.info->outputs)
      outputs.push_back({{"name", p.info->values[v].name},
                         {"dtype", dtype_name(p.info->values[v].dtype)},
                         {"shape", shape_text(model, p.info->values[v].shape)}});
    out["programs"].push_back({{"name", p.info->name}, {"inputs", inputs}, {"outputs", outputs}, {"ops", ops}});
  }
  return out;
}

std::string shown(const json& text) { return printable(text.get<std::string>()); }

void print_text(const json& d, const Model& model) {
  const json& b = d["planned_bytes"];
  std::printf("%s  (format %s, %s)\n", shown(d["name"]).c_str(), shown(d["format"]).c_str(),
              d.contains("provenance") ? shown(d["provenance"]["architecture"]).c_str() : "unknown architecture");
  if (d.contains("provenance"))
    std::printf("source   %s, sha256 %.16s…, licence %s\n", shown(d["provenance"]["source"]).c_str(),
                shown(d["provenance"]["source_sha256"]).c_str(), shown(d["provenance"]["licence"]).c_str());
  if (d.contains("adapter_bytes")) std::printf("adapter  %llu bytes\n", d["adapter_bytes"].get<unsigned long long>());
  std::printf("\nmemory at context %lld, chunk %lld (bytes)\n", d["context"].get<long long>(),
              d["chunk"].get<long long>());
  for (const char* part : {"weights", "state", "arena", "packed", "tokenizer", "fixed", "total"})
    std::printf("  %-10s %14llu\n", part, b[part].get<unsigned long long>());
  std::printf("\nstates\n");
  for (const json& s : d["states"]) {
    const auto shape = s["shape"].get<std::vector<int64_t>>();
    std::printf("  %-16s %-7s %-4s %-24s %12llu\n", shown(s["name"]).c_str(), shown(s["kind"]).c_str(),
                shown(s["dtype"]).c_str(), dims_text(shape.data(), int(shape.size())).c_str(),
                s["bytes"].get<unsigned long long>());
  }
  if (d.contains("device"))
    std::printf("\nVulkan device %s: %llu bytes of buffers\n", shown(d["device"]["name"]).c_str(),
                d["device"]["bytes"].get<unsigned long long>());
  std::printf("\nweights\n");
  for (const TensorInfo& t : model.tensors())
    std::printf("  %-28s %-18s %-36s %12zu\n", printable(t.name).c_str(), dims_text(t.view.dims, t.view.rank).c_str(),
                tensor_type(t).c_str(), t.bytes);
  for (const json& p : d["programs"]) {
    std::printf("\nprogram %s\n", shown(p["name"]).c_str());
    int i = 0;
    for (const json& op : p["ops"]) {
      std::string line;
      for (const json& name : op["inputs"]) line += " " + shown(name);
      line += " ->";
      for (const json& name : op["outputs"]) line += " " + shown(name);
      std::printf("  %4d %-5s %-34s%s\n", i++, shown(op["part"]).c_str(), shown(op["kernel"]).c_str(), line.c_str());
    }
  }
}

}  // namespace

int cmd_inspect(const Options& o) {
  if (!o.compare.empty()) return inspect_compare(o);
  if (!o.dump.empty()) return inspect_dump(o);
  Opened opened;
  open(o, &opened);
  const Model& model = *opened.model.get()->model;
  if (o.verify) {
    check(rnl_model_verify(opened.model.get()));
    Status s = model.root().tokenizer() ? tokenizer_self_check(model) : Status::ok();
    if (!s.is_ok()) throw Failure(o.model + ": " + s.message());
  }
  PlanOptions options;
  options.context = o.context;
  options.chunk = o.chunk;
  options.threads = opened.engine.threads();
  options.kv = o.kv == "f32" ? DType::kF32 : o.kv == "f16" ? DType::kF16 : o.kv == "q8" ? DType::kQ8 : DType::kNone;
  auto plan = make_plan(model, options);
  if (!plan.is_ok()) throw Failure(plan.take_status().message());
  std::unique_ptr<Session> session;  // only a device has to be asked
  if (o.backend == "vulkan") {
    options.backend = BackendKind::kVulkan;
    auto created = Session::create(model, opened.engine.get()->pool, options, nullptr, nullptr);
    if (!created.is_ok()) throw Failure(created.take_status().message());
    session = std::move(created.value());
  }
  json d = describe(model, plan.value(), Session::memory_of(plan.value()), session ? session->backend() : nullptr);
  if (o.verify) d["verified"] = true;
  if (o.json) {
    std::printf("%s\n", json_text(d, 1).c_str());
    return 0;
  }
  print_text(d, model);
  if (o.verify) std::printf("\nEvery checksum is right, and so is what the tokenizer answers\n");
  return 0;
}

int cmd_devices(const Options&) {
  char cpu[96];
  cpu_name(cpu, sizeof cpu);
  const Cores cores = find_cores();
  std::printf("CPU  %s, %d threads by default\n", cpu, cores.threads());
  std::printf("     %d of %d cores are fast%s", cores.fast, cores.usable,
              cores.is_mixed() ? ", the others are left alone" : "");
  if (cores.quota > 0) std::printf("; the control group grants the time of %d", cores.quota);
  if (cores.cache > 0) std::printf("; largest cache %.1f MB", double(cores.cache) / 1e6);
  std::printf("\n");
  rnl::Engine engine;
  check(engine.create());
  const TokenThreads token = token_threads(engine.get()->pool, cores);
  std::printf("     %d for one token: %s", token.threads, token.how);
  for (int i = 0; i < kMostThreads && token.mb_per_s[i] > 0; ++i)
    std::printf("%s%.1f", i ? ", " : ", GB/s of 4-bit weights with 1, 2, ... threads: ", token.mb_per_s[i] / 1e3);
  std::printf("\n");
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  for (int i = 0; i < count; ++i)
    std::printf("     %-14s %s\n", targets[i].name, targets[i].available ? "available" : "not on this machine");
  const rnl_status_code code =
      rnl_vulkan_devices([](void*, const char* text) { std::printf("Vulkan  %s\n", text); }, nullptr);
  if (code != RNL_OK) std::printf("Vulkan  none: %s\n", rnl_last_error());
  return 0;
}

}  // namespace runnel::cli
