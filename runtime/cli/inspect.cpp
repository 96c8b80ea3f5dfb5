// inspect: what a file holds and what a session would need.
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/inside/compare.h"
#include "cli/inside/plan_report.h"
#include "cli/lines.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

std::string dims_text(const std::vector<int64_t>& dims) {
  std::string out = "[";
  for (size_t d = 0; d < dims.size(); ++d) out += (d ? ", " : "") + std::to_string(dims[d]);
  return out + "]";
}

const char* dtype_text(int32_t dtype) {
  static const struct {
    int32_t dtype;
    const char* name;
  } kNames[] = {{RNL_F32, "f32"}, {RNL_F16, "f16"}, {RNL_BF16, "bf16"}, {RNL_I32, "i32"},
                {RNL_I64, "i64"}, {RNL_U8, "u8"},   {RNL_I8, "i8"},     {RNL_Q8, "q8"}};
  for (const auto& row : kNames)
    if (row.dtype == dtype) return row.name;
  return "unknown";
}

json describe(const rnl_value_info& v, bool is_input) {
  std::string shape = "[";
  for (int d = 0; d < v.rank; ++d) shape += (d ? ", " : "") + std::string(v.sizes[d]);
  json out = {{"name", v.name}, {"dtype", dtype_text(v.dtype)}, {"shape", shape + "]"}};
  if (is_input) out["optional"] = v.optional != 0;
  return out;
}

json describe(const rnl_model_info& info) {
  json out = {{"name", info.name},
              {"format", std::to_string(info.format_major) + "." + std::to_string(info.format_minor)},
              {"model_context", info.context},
              {"file_bytes", info.file_bytes}};
  if (*info.converter || *info.source)
    out["provenance"] = {{"source", info.source},
                         {"source_sha256", info.source_sha256},
                         {"source_bytes", info.source_bytes},
                         {"source_tensor_bytes", info.source_tensor_bytes},
                         {"licence", info.licence},
                         {"converter", info.converter},
                         {"architecture", info.architecture}};
  if (*info.passes) out["provenance"]["passes"] = info.passes;
  if (info.adapter_bytes) out["adapter_bytes"] = info.adapter_bytes;
  return out;
}

json describe(const rnl_memory& m) {
  return {{"weights", m.weights},
          {"state", m.state},
          {"arena", m.arena},
          {"packed", m.packed},
          {"tokenizer", m.tokenizer},
          {"fixed", m.fixed},
          {"total", m.weights + m.state + m.arena + m.packed + m.tokenizer + m.fixed},
          {"anonymous", m.anonymous}};
}

json describe(const rnl::Model& model, const PlanReport& plan, const rnl_memory& memory) {
  json out = describe(model.info());
  out["context"] = plan.context;
  out["chunk"] = plan.chunk;
  out["planned_bytes"] = describe(memory);
  for (const PlanReport::Weight& t : plan.weights)
    out["tensors"].push_back({{"name", t.name}, {"shape", t.shape}, {"bytes", t.bytes}, {"type", t.type}});
  out["states"] = json::array();
  for (const PlanReport::State& s : plan.states)
    out["states"].push_back({{"name", s.name},
                             {"kind", s.kind},
                             {"dtype", s.dtype},
                             {"window", s.window},
                             {"shape", s.shape},
                             {"slots", s.slots},
                             {"copies", s.copies},
                             {"bytes", s.bytes}});
  const auto programs = model.programs();
  for (size_t i = 0; i < programs.size(); ++i) {
    json ops = json::array(), inputs = json::array(), outputs = json::array();
    for (const PlanReport::Op& op : plan.programs.at(i))
      ops.push_back({{"op", op.name},
                     {"kernel", op.kernel},
                     {"inputs", op.inputs},
                     {"outputs", op.outputs},
                     {"scratch", op.scratch},
                     {"part", op.is_head ? "head" : "body"}});
    for (const rnl_value_info& v : model.inputs(programs[i].name)) inputs.push_back(describe(v, true));
    for (const rnl_value_info& v : model.outputs(programs[i].name)) outputs.push_back(describe(v, false));
    out["programs"].push_back({{"name", programs[i].name}, {"inputs", inputs}, {"outputs", outputs}, {"ops", ops}});
  }
  return out;
}

std::string shown(const json& text) { return printable(text.get<std::string>()); }

void print_text(const json& d) {
  const json& b = d["planned_bytes"];
  std::printf("%s  (format %s, %s)\n", shown(d["name"]).c_str(), shown(d["format"]).c_str(),
              d.contains("provenance") ? shown(d["provenance"]["architecture"]).c_str() : "unknown architecture");
  if (d.contains("provenance"))
    std::printf("source   %s, sha256 %.16s…, licence %s\n", shown(d["provenance"]["source"]).c_str(),
                shown(d["provenance"]["source_sha256"]).c_str(), shown(d["provenance"]["licence"]).c_str());
  if (d.contains("provenance") && d["provenance"].contains("passes"))
    std::printf("changed  %s\n", shown(d["provenance"]["passes"]).c_str());
  if (d.contains("adapter_bytes")) std::printf("adapter  %llu bytes\n", d["adapter_bytes"].get<unsigned long long>());
  std::printf("\nmemory at context %lld, chunk %lld (bytes)\n", d["context"].get<long long>(),
              d["chunk"].get<long long>());
  for (const char* part : {"weights", "state", "arena", "packed", "tokenizer", "fixed", "total", "anonymous"})
    std::printf("  %-10s %14llu\n", part, b[part].get<unsigned long long>());
  std::printf("\nstates\n");
  for (const json& s : d["states"]) {
    const auto shape = s["shape"].get<std::vector<int64_t>>();
    std::printf("  %-16s %-7s %-4s %-24s %12llu\n", shown(s["name"]).c_str(), shown(s["kind"]).c_str(),
                shown(s["dtype"]).c_str(), dims_text(shape).c_str(), s["bytes"].get<unsigned long long>());
  }
  if (d.contains("device"))
    std::printf("\nVulkan device %s: %llu bytes of buffers, %llu of them the file's own pages\n",
                shown(d["device"]["name"]).c_str(), d["device"]["bytes"].get<unsigned long long>(),
                d["device"]["imported_bytes"].get<unsigned long long>());
  std::printf("\nweights\n");
  for (const json& t : d["tensors"]) {
    const auto shape = t["shape"].get<std::vector<int64_t>>();
    std::printf("  %-28s %-18s %-36s %12llu\n", shown(t["name"]).c_str(), dims_text(shape).c_str(),
                shown(t["type"]).c_str(), t["bytes"].get<unsigned long long>());
  }
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
  if (o.verify) {
    check(rnl_model_verify(opened.model.get()));
    try {
      check_tokenizer(opened.model.get());
    } catch (const Failure& e) {
      throw Failure(o.model + ": " + e.what());
    }
  }
  rnl_session_options options = session_options(o, 0);
  options.rollback_window = 0;  // as apps have it that say nothing
  rnl_memory memory{};
  memory.struct_size = sizeof memory;
  check(rnl_session_plan(opened.model.get(), &options, &memory));
  rnl::Session session;  // only a device has to be asked
  if (o.backend == "vulkan") check(session.create(opened.model, options));
  json d = describe(opened.model, plan_report(opened.model.get(), options, session.get()), memory);
  if (session.get()) {
    rnl_backend_info b{};
    b.struct_size = sizeof b;
    rnl_session_get_backend(session.get(), &b);
    d["device"] = {{"name", b.device}, {"bytes", b.device_bytes}, {"imported_bytes", b.imported_bytes}};
  }
  if (o.verify) d["verified"] = true;
  if (o.json) {
    std::printf("%s\n", json_text(d, 1).c_str());
    return 0;
  }
  print_text(d);
  if (o.verify) std::printf("\nEvery checksum is right, and so is what the tokenizer answers\n");
  return 0;
}

}  // namespace runnel::cli
