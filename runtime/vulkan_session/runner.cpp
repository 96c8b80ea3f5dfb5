#include "vulkan_session/runner.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "base/xxh64.h"

namespace runnel::vulkan {
RNL_SHADER(check_finite)
RNL_SHADER(choose)
namespace {

constexpr size_t kMostRecordings = 24;
constexpr uint32_t kOpsOfShortSubmission = 32;
constexpr uint64_t kNoPlace = UINT64_MAX;
// Values of the fault word, as in shaders/common/common.glsl.
enum Fault : uint32_t { kFaultIndex = 1, kFaultNonFinite = 2 };
constexpr uint64_t kStagedAlignment = 256;
// Values that a workgroup chooses from at least, and the number of workgroups at most.
constexpr uint32_t kLeastChoices = 1024, kMostChoosers = 256;

struct FinitePush {
  uint32_t n, x;
};
struct ChoosePush {
  uint32_t n, x, part, to;
};

}  // namespace

namespace {
bool all_finite(const TensorView& v) {
  bool is_finite = true;
  for (size_t i = 0; i < view_bytes(v) / 4; ++i)
    is_finite = is_finite && std::isfinite(static_cast<const float*>(v.data)[i]);
  return is_finite;
}

Status not_finite(int64_t position) {
  return Status::make(Code::kNonFinite, "a value holds NaN or infinity for tokens from %lld of the stream on",
                      static_cast<long long>(position));
}

// Whether operators up to `end` are those before a head.
bool ends_body(const PlannedProgram& p, uint32_t end) {
  return end == p.head_begin && end > 0 && end < p.info->ops.size();
}
bool ends_body(const OpRange& r) { return r.begin < r.end && ends_body(*r.program, r.end); }
}  // namespace

Result<std::unique_ptr<Backend>> create_runner(const Plan& plan, const BackendMemory& memory) {
  RNL_ASSIGN(runner, Runner::create(plan, memory));
  return std::unique_ptr<Backend>(std::move(runner));
}

Result<std::unique_ptr<Runner>> Runner::create(const Plan& plan, const BackendMemory& memory) {
  std::unique_ptr<Runner> r(new (std::nothrow) Runner(plan, memory));
  if (!r) return Status::make(Code::kOutOfMemory, "no memory for a Vulkan session");
  RNL_ASSIGN(model, ModelOnDevice::open(*plan.model));
  r->model_ = std::move(model);
  Device& device = r->model_->device();
  r->shadow_.reset(new (std::nothrow) Shadow(device));
  if (!r->shadow_) return Status::make(Code::kOutOfMemory, "no memory for a Vulkan session");
  RNL_TRY(r->plan_programs());
  // What every shader reads comes first, so that one binding reaches it; states have a window of their own.
  RNL_TRY(r->shadow_->add(memory.arena, plan.arena_bytes));
  r->scratch_offset_ = r->shadow_->bytes();
  r->shadow_->reserve(r->scratch_bytes_);
  RNL_TRY(r->add_constants());
  RNL_TRY(r->shadow_->add(memory.states, plan.kept_offset));
  RNL_TRY(r->plan_limits());
  RNL_TRY(r->shadow_->allocate());
  for (const TensorInfo& t : plan.model->tensors()) {
    uint64_t offset = 0;
    if (t.view.dtype != DType::kPacked && r->shadow_->find(t.view.data, &offset))
      RNL_TRY(r->shadow_->push(t.view.data, t.bytes));
  }
  RNL_ASSIGN(words, device.create_buffer(kCallWords * 4, MemoryKind::kReadback, "the words of a call"));
  r->call_words_ = words;
  std::memset(r->call_words_.mapped, 0, kCallWords * 4);
  VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
  pool.flags = device.info().quirks.has_resettable_pools ? VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT : 0;
  pool.queueFamilyIndex = device.queue_family();
  RNL_VK_TRY(device.api().vkCreateCommandPool(device.handle(), &pool, nullptr, &r->command_pool_),
             "creating a command pool");
  RNL_TRY(r->recordings_.reserve(kMostRecordings));
  r->kind_ = r->kind_of_session();
  r->take_verdict();
  return r;
}

Runner::~Runner() {
  if (!model_) return;
  Device& device = model_->device();
  for (Recording& r : recordings_) free_recording(&r);
  if (command_pool_) device.api().vkDestroyCommandPool(device.handle(), command_pool_, nullptr);
  device.destroy(&io_in_);
  device.destroy(&io_out_);
  device.destroy(&call_words_);
  device.pipelines().save();
}

BackendStats Runner::stats() const {
  BackendStats s = stats_;
  const Pipelines::Stats p = model_->device().pipelines().stats();
  s.driver_ns = model_->device().driver_ns();
  s.pipeline_ns = p.ns, s.pipelines = p.made, s.pipelines_cached = p.from_cache;
  return s;
}
bool Runner::is_lost() const { return model_->device().is_lost(); }
uint64_t Runner::device_bytes() const {
  return shadow_->bytes() + io_in_.bytes + io_out_.bytes + call_words_.bytes + model_->weights().bytes() +
         model_->device().staging_bytes();
}
const char* Runner::device_name() const { return model_->device().info().name; }

// What runs where, scratch, and places of inputs and outputs, at the upper bounds of all sizes.
Status Runner::plan_programs() {
  Device& device = model_->device();
  uint64_t in = 0, out = 0;
  RNL_TRY(refusals_.assign(plan_.programs.size()));
  RNL_TRY(sets_.assign(plan_.programs.size()));
  RNL_TRY(io_offsets_.assign(plan_.programs.size()));
  for (size_t i = 0; i < plan_.programs.size(); ++i) {
    const PlannedProgram& p = plan_.programs[i];
    const ProgramInfo& info = *p.info;
    RNL_TRY(refusals_[i].assign(info.ops.size() + 1));
    RNL_TRY(sets_[i].assign(info.ops.size() + 1));
    Vec<TensorView> views;
    for (size_t k = 0; k < info.ops.size(); ++k) {
      const OpInfo& op = info.ops[k];
      const Kernel* kernel = find_vulkan_kernel(op.def->number);
      if (!kernel) refusals_[i][k] = "no shader";
      RNL_TRY(views.assign(size_t(op.in_count) + op.out_count));
      RNL_TRY(for_each_absence(info, op, plan_.bounds, [&](const CallBinding& binding) -> Status {
        RNL_TRY(operand_views(plan_, p, op, binding, views.data()));
        const OpCall call{views.data(), views.data() + op.in_count, op.in_count, op.out_count, &op.params, 0, nullptr,
                          nullptr};
        if (!refusals_[i][k]) refusals_[i][k] = refusal(device, *kernel, call);
        const uint64_t scratch = refusals_[i][k] ? 0 : op_scratch_bytes(*kernel, call);
        // plan_limits() refuses what needs more.
        if (align_up(plan_.arena_bytes) + scratch <= device.info().storage_range)
          scratch_bytes_ = std::max(scratch_bytes_, scratch);
        return Status::ok();
      }));
    }
    RNL_TRY(io_offsets_[i].assign(info.values.size()));
    for (uint64_t& o : io_offsets_[i]) o = kNoPlace;
    const auto place = [&](uint32_t value, uint64_t* end) {
      io_offsets_[i][value] = *end;
      *end += (p.values[value].bytes + kStagedAlignment - 1) / kStagedAlignment * kStagedAlignment;
    };
    refusals_[i][info.ops.size()] = p.choice_value < 0 ? "no output to choose from" : nullptr;
    if (p.choice_value >= 0) scratch_bytes_ = std::max<uint64_t>(scratch_bytes_, kMostChoosers * 8);
    uint64_t own_in = 0, own_out = 0;
    for (uint32_t v = 0; v < info.input_count; ++v) place(v, &own_in);
    for (const uint32_t v : p.numbers_written)
      if (io_offsets_[i][v] == kNoPlace) place(v, &own_in);
    for (const auto* list : {&info.outputs, &p.numbers_read})
      for (const uint32_t v : *list)
        if (io_offsets_[i][v] == kNoPlace) place(v, &own_out);
    in = std::max(in, own_in), out = std::max(out, own_out);
  }
  RNL_ASSIGN(a, device.create_buffer(in, MemoryKind::kUpload, "inputs of calls"));
  io_in_ = a;
  RNL_ASSIGN(b, device.create_buffer(out, MemoryKind::kReadback, "outputs of calls"));
  io_out_ = b;
  return Status::ok();
}

Recorder Runner::recorder_of(VkDescriptorPool pool) const {
  Recorder recorder(model_->device(), *shadow_, model_->weights(), call_words_, pool);
  recorder.set_scratch(scratch_offset_, scratch_bytes_);
  return recorder;
}

// What an operator would record at these sizes stays within the device's limits, or the CPU keeps it.
Status Runner::plan_op_limits(uint32_t program, uint32_t number, const CallBinding& binding) {
  const PlannedProgram& p = plan_.programs[program];
  const OpInfo& op = p.info->ops[number];
  const uint32_t count = uint32_t(op.in_count) + op.out_count, choice = uint32_t(p.info->ops.size());
  TensorView views[kMaxOpInputs + kMaxOpOutputs];
  if (!operand_views(plan_, p, op, binding, views).is_ok()) return Status::ok();  // no call has such sizes
  for (uint32_t k = 0; k < count; ++k) {
    const Operand& o = p.info->operands[op.first_operand + k];
    if (o.kind == Operand::Kind::kValue && views[k].dtype != DType::kNone)
      views[k].data = memory_.arena + p.values[o.index].offset;
    if (o.kind == Operand::Kind::kState) views[k].data = memory_.states + plan_.states[o.index].offset;
  }
  const OpCall call{views, views + op.in_count, op.in_count, op.out_count, &op.params, 0, nullptr, nullptr};
  if (!op.def->check(call).is_ok()) return Status::ok();
  const auto is_within = [&](Recorder& r, uint32_t entry) {
    sets_[program][entry] = std::max(sets_[program][entry], r.most_sets());
    if (r.limit()) refusals_[program][entry] = r.limit();
    return r.limit() ? Status::ok() : r.end();
  };
  if (!refusals_[program][number]) {
    Recorder r = recorder_of(VK_NULL_HANDLE);
    record_op(r, *find_vulkan_kernel(op.def->number), call);
    if (number + 1 == p.head_begin) record_finite(r, call);
    RNL_TRY(is_within(r, number));
  }
  for (int k = 0; k < op.out_count; ++k) {
    const Operand& o = p.info->operands[op.first_operand + uint32_t(op.in_count + k)];
    if (o.kind != Operand::Kind::kValue || int(o.index) != p.choice_value || refusals_[program][choice]) continue;
    Recorder r = recorder_of(VK_NULL_HANDLE);
    record_choice(r, call.out[k], INT64_MAX);
    RNL_TRY(is_within(r, choice));
  }
  return Status::ok();
}

// At the bounds of all sizes, and with one token and two, for which some kernels use more workgroups.
Status Runner::plan_limits() {
  for (uint32_t i = 0; i < plan_.programs.size(); ++i) {
    const PlannedProgram& p = plan_.programs[i];
    const uint32_t ops = uint32_t(p.info->ops.size());
    uint32_t kept = 0, first = ops;
    for (uint32_t k = 0; k < ops; ++k) {
      if (p.ops[k].is_skipped_view) continue;
      const char* refused = refusals_[i][k];
      for (const int64_t most : {INT64_MAX, int64_t(1), int64_t(2)}) {
        CallBinding sizes = plan_.bounds;
        for (const int s : {p.stream_symbol, p.rows_symbol})
          if (s >= 0) sizes.v[s] = std::min(most, sizes.v[s]);
        for (const ResultSize& r : p.info->results) sizes.v[r.symbol] = std::min(most, sizes.v[r.symbol]);
        RNL_TRY(for_each_absence(*p.info, p.info->ops[k], sizes,
                                 [&](const CallBinding& binding) { return plan_op_limits(i, k, binding); }));
      }
      if (refused || !refusals_[i][k]) continue;
      if (kept++ == 0) first = k;
    }
    if (kept)
      log(LogLevel::kWarning,
          "Vulkan: %s: the CPU computes %u of %u operators of program \"%s\", the first of them %u (%s): %s",
          model_->device().info().name, kept, ops, p.info->name, first, p.info->ops[first].def->name,
          refusals_[i][first]);
  }
  return Status::ok();
}

// Sessions whose self-check would do the same: of the same state types, sizes of passes, and operators that run here.
uint64_t Runner::kind_of_session() const {
  Xxh64 h;
  const int64_t sizes[] = {plan_.options.chunk, plan_.options.rows,
                           int64_t(shadow_->bytes() / model_->device().info().storage_range)};
  h.update(sizes, sizeof sizes);
  for (const PlannedState& s : plan_.states) h.update(&s.dtype, sizeof s.dtype);
  for (const auto& program : refusals_)
    for (const char* why : program) {
      const bool is_refused = why != nullptr;
      h.update(&is_refused, sizeof is_refused);
    }
  return h.digest();
}

// Dense tensors that operators use.
Status Runner::add_constants() {
  for (const PlannedProgram& p : plan_.programs)
    for (const Operand& o : p.info->operands) {
      if (o.kind != Operand::Kind::kTensor) continue;
      const TensorInfo& t = plan_.model->tensors()[o.index];
      uint64_t offset = 0;
      if (t.view.dtype != DType::kPacked && !shadow_->find(t.view.data, &offset))
        RNL_TRY(shadow_->add(t.view.data, t.bytes));
    }
  return Status::ok();
}

void Runner::free_recording(Recording* r) {
  Device& device = model_->device();
  for (Part& part : r->parts)
    if (part.commands) device.api().vkFreeCommandBuffers(device.handle(), command_pool_, 1, &part.commands);
  if (r->pool) device.api().vkDestroyDescriptorPool(device.handle(), r->pool, nullptr);
  *r = Recording();
}

Result<Runner::Recording*> Runner::recording_of(const OpRange& range) {
  ++clock_;
  for (Recording& r : recordings_)
    if (r.program == range.program_index && r.begin == range.begin && r.end == range.end && r.from == range.from &&
        r.to == range.to && r.choose_among == range.choose_among &&
        std::memcmp(&r.symbols, &range.symbols, sizeof r.symbols) == 0) {
      r.last_used = clock_;
      return &r;
    }
  Recording* r = nullptr;
  if (recordings_.size() < kMostRecordings) {
    RNL_TRY(recordings_.push(Recording()));
    r = &recordings_[recordings_.size() - 1];
  } else {
    RNL_TRY(finish());
    r = std::min_element(recordings_.begin(), recordings_.end(),
                         [](const Recording& a, const Recording& b) { return a.last_used < b.last_used; });
    free_recording(r);
  }
  Status s = record(range, r);
  if (!s.is_ok()) {
    free_recording(r);
    r->end = UINT32_MAX;  // matches nothing
    return s;
  }
  r->program = range.program_index, r->begin = range.begin, r->end = range.end, r->from = range.from, r->to = range.to,
  r->choose_among = range.choose_among, r->symbols = range.symbols;
  r->last_used = clock_;
  ++stats_.recordings;
  return r;
}

Status Runner::record(const OpRange& range, Recording* r) {
  Device& device = model_->device();
  const Api& api = device.api();
  const PlannedProgram& p = *range.program;
  uint32_t sets = 1 + sets_[range.program_index][p.info->ops.size()];
  for (uint32_t i = range.begin; i < range.end; ++i) sets += sets_[range.program_index][i];
  const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, sets * kBaseBuffers};
  VkDescriptorPoolCreateInfo pool{VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO};
  pool.maxSets = sets;
  pool.poolSizeCount = 1;
  pool.pPoolSizes = &size;
  RNL_VK_TRY(api.vkCreateDescriptorPool(device.handle(), &pool, nullptr, &r->pool), "creating a descriptor pool");
  Part part;
  part.begin = range.begin;
  for (uint32_t i = range.begin; i < range.end; ++i) {
    const bool on_cpu = refusals_[range.program_index][i] && !p.ops[i].is_skipped_view;
    if (!on_cpu && !(device.info().quirks.has_short_submissions && i + 1 - part.begin == kOpsOfShortSubmission))
      continue;
    part.end = on_cpu ? i : i + 1;
    part.cpu_op = on_cpu ? int64_t(i) : -1;
    RNL_TRY(r->parts.push(part));
    part = Part();
    part.begin = i + 1;
  }
  part.end = range.end;
  RNL_TRY(r->parts.push(part));
  // Inputs that these operators read; those that an operator on the CPU reads are in the arena anyway.
  const auto io = [&](uint32_t value, Vec<IoCopy>* list) {
    const TensorView* view = find_view(range, value, list == &r->outputs);
    return view && view->dtype != DType::kNone ? list->push({static_cast<unsigned char*>(view->data), view_bytes(*view),
                                                             io_offsets_[range.program_index][value]})
                                               : Status::ok();
  };
  for (uint32_t v = 0; v < p.info->input_count; ++v) RNL_TRY(io(v, &r->inputs));
  for (const uint32_t v : p.numbers_written) RNL_TRY(io(v, &r->inputs));
  for (const auto* list : {&p.info->outputs, &p.numbers_read})
    for (const uint32_t v : *list)
      if (v >= p.info->input_count && range.choose_among == 0) RNL_TRY(io(v, &r->outputs));
  for (Part& one : r->parts) RNL_TRY(record_part(range, r, &one));
  return Status::ok();
}

const TensorView* Runner::find_view(const OpRange& range, uint32_t value, bool is_output) {
  for (uint32_t i = range.begin; i < range.end; ++i) {
    const OpInfo& op = range.program->info->ops[i];
    const uint32_t begin = is_output ? op.in_count : 0, end = op.in_count + (is_output ? op.out_count : 0);
    for (uint32_t k = begin; k < end; ++k) {
      const Operand& o = range.program->info->operands[op.first_operand + k];
      if (o.kind == Operand::Kind::kValue && o.index == value) return &range.ops[i].call.in[k];
    }
  }
  return nullptr;
}

void Runner::record_choice(Recorder& recorder, const TensorView& all, int64_t among) {
  const uint32_t n = uint32_t(std::min<int64_t>(last_axis(all), among)),
                 part = std::max(kLeastChoices, (n + kMostChoosers - 1) / kMostChoosers),
                 groups = (n + part - 1) / part;
  const OpCall read{&all, nullptr, 1, 0, nullptr, 0, nullptr, nullptr};
  recorder.start_op(read, 0, uint64_t(groups) * 8);
  recorder.grid(shader_choose, {0}, ChoosePush{n, recorder.at(all), part, recorder.scratch()}, groups, 1, 1);
  recorder.barrier();
  recorder.grid(shader_choose, {1}, ChoosePush{groups, recorder.scratch(), groups, 0}, 1, 1, 1);
}

// What a later range reads must be finite: the last values before the head.
void Runner::record_finite(Recorder& recorder, const OpCall& last) {
  for (int k = 0; k < last.out_count; ++k) {
    if (last.out[k].dtype != DType::kF32) continue;
    const uint32_t n = elements(last.out[k]);
    const OpCall read{&last.out[k], nullptr, 1, 0, nullptr, 0, nullptr, nullptr};
    recorder.start_op(read, 0, 0);
    recorder.items(shader_check_finite, {}, FinitePush{n, recorder.at(last.out[k])}, n);
  }
}

Status Runner::record_part(const OpRange& range, Recording* r, Part* part) {
  const PlannedProgram& p = *range.program;
  const bool is_first = part == r->parts.begin(), is_last = part + 1 == r->parts.end();
  Device& device = model_->device();
  VkCommandBufferAllocateInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
  info.commandPool = command_pool_;
  info.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  info.commandBufferCount = 1;
  RNL_VK_TRY(device.api().vkAllocateCommandBuffers(device.handle(), &info, &part->commands),
             "allocating a command buffer");
  Recorder recorder = recorder_of(r->pool);
  RNL_TRY(recorder.begin(part->commands));
  if (is_first)
    for (const IoCopy& c : r->inputs) recorder.copy_in(io_in_, c.offset, c.host, c.bytes);
  for (uint32_t i = part->begin; i < part->end; ++i) {
    if (p.ops[i].is_skipped_view) continue;
    const Kernel* kernel = find_vulkan_kernel(p.info->ops[i].def->number);
    record_op(recorder, *kernel, range.ops[i].call);
  }
  if (is_last) {
    // States that the program does not replace go along to the new buffer.
    if (range.from != range.to && range.begin == 0)
      for (uint32_t s = 0; s < plan_.states.size(); ++s) {
        if (!plan_.model->states()[s].is_recurrent() || p.replaces[s]) continue;
        unsigned char* at = memory_.states + plan_.states[s].offset;
        recorder.copy(at + size_t(range.from) * plan_.states[s].stride, at + size_t(range.to) * plan_.states[s].stride,
                      plan_.states[s].bytes);
      }
    if (ends_body(range) && !refusals_[range.program_index][range.end - 1])
      record_finite(recorder, range.ops[range.end - 1].call);
    if (range.choose_among > 0) {
      const TensorView* all = find_view(range, uint32_t(p.choice_value), true);
      if (!all) return Status::make(Code::kInternal, "Vulkan: nothing to choose from");
      record_choice(recorder, *all, range.choose_among);
    }
    for (const IoCopy& c : r->outputs) recorder.copy_out(c.host, io_out_, c.offset, c.bytes);
  }
  stats_.dispatches += recorder.dispatches(), stats_.barriers += recorder.barriers();
  return recorder.end();
}

Status Runner::submit() {
  if (waiting_.empty()) return Status::ok();
  auto* words = static_cast<uint32_t*>(call_words_.mapped);
  words[kPosition] = uint32_t(position_);
  words[kFault] = 0;
  words[kChoice] = UINT32_MAX;  // nothing
  Status s = model_->device().submit(waiting_.data(), uint32_t(waiting_.size()));
  waiting_.clear();
  ++stats_.submissions;
  RNL_TRY(std::move(s));
  choice_ = int32_t(words[kChoice]);
  switch (words[kFault]) {
    case 0: return Status::ok();
    case kFaultIndex:
      return Status::make(Code::kInvalidArgument,
                          "an index that the model computed is out of range, for tokens from %lld of the stream on",
                          static_cast<long long>(position_));
    default: return not_finite(position_);
  }
}

void Runner::drop() {
  waiting_.clear();
  finishing_.clear();
}

Status Runner::enqueue(const OpRange& range, int64_t position) {
  Status s = enqueue_range(range, position);
  if (!s.is_ok()) drop();
  return s;
}

Status Runner::enqueue_range(const OpRange& range, int64_t position) {
  RNL_CHECK_ARG(position >= 0 && position <= int64_t(UINT32_MAX),
                "Vulkan: position %lld of the stream is beyond what shaders count", static_cast<long long>(position));
  RNL_ASSIGN(r, recording_of(range));
  if (!waiting_.empty()) {
    bool again = position != position_;
    for (const Recording* f : finishing_) again = again || f == r;
    if (again) RNL_TRY(finish());
  }
  position_ = position;
  for (const IoCopy& c : r->inputs) std::memcpy(static_cast<unsigned char*>(io_in_.mapped) + c.offset, c.host, c.bytes);
  RNL_TRY(finishing_.reserve(finishing_.size() + 1));
  for (const Part& part : r->parts) {
    RNL_TRY(waiting_.push(part.commands));
    if (&part + 1 == r->parts.end()) break;
    RNL_TRY(submit());
    if (part.cpu_op >= 0) RNL_TRY(run_on_cpu(range, uint32_t(part.cpu_op), position));
  }
  return finishing_.push(r);
}

Status Runner::finish() {
  Status s = submit();
  if (s.is_ok())
    for (const Recording* r : finishing_)
      for (const IoCopy& c : r->outputs)
        std::memcpy(c.host, static_cast<const unsigned char*>(io_out_.mapped) + c.offset, c.bytes);
  finishing_.clear();
  return s;
}

// All operands are on the device; this one operator has them on the host.
Status Runner::run_on_cpu(const OpRange& range, uint32_t op, int64_t position) {
  const OpInfo& info = range.program->info->ops[op];
  BoundOp& b = range.ops[op];
  const auto bytes_of = [&](int k) -> uint64_t {
    const Operand& o = range.program->info->operands[info.first_operand + uint32_t(k)];
    if (o.kind == Operand::Kind::kState) return plan_.states[o.index].bytes;
    return o.kind == Operand::Kind::kValue ? view_bytes(b.call.in[k]) : 0;
  };
  const int count = info.in_count + info.out_count;
  for (int k = 0; k < info.in_count; ++k)
    if (const uint64_t n = bytes_of(k)) {
      RNL_TRY(shadow_->pull(b.call.in[k].data, n));
      stats_.copied_bytes += n;
    }
  b.call.position = position;
  if (info.def->check_data) RNL_TRY(info.def->check_data(b.call));
  if (b.kernel) b.kernel->run(b.call);
  else info.def->reference(b.call);
  ++stats_.cpu_ops;
  for (int k = 0; k < info.out_count && ends_body(*range.program, op + 1); ++k)
    if (b.call.out[k].dtype == DType::kF32 && !all_finite(b.call.out[k])) return not_finite(position);
  for (int k = 0; k < count; ++k) {
    const bool is_state = range.program->info->operands[info.first_operand + uint32_t(k)].kind == Operand::Kind::kState;
    const uint64_t n = k < info.in_count && !is_state ? 0 : bytes_of(k);
    if (n == 0) continue;
    RNL_TRY(shadow_->push(b.call.in[k].data, n));
    stats_.copied_bytes += n;
  }
  return Status::ok();
}

Status Runner::to_host(const HostRange* ranges, size_t count) {
  RNL_TRY(finish());
  return shadow_->pull_all(ranges, count);
}

Status Runner::to_device(const HostRange* ranges, size_t count) {
  RNL_TRY(finish());
  return shadow_->push_all(ranges, count);
}

namespace {
const char* feature(const DeviceInfo& d, Feature f) {
  return d.features_that_pay & f ? "yes" : d.features & f ? "slow" : "no";
}
}  // namespace

Status describe_devices(void (*line)(void* context, const char* text), void* context) {
  RNL_ASSIGN(instance, Instance::create());
  Vec<DeviceInfo> list;
  Vec<VkPhysicalDevice> handles;
  RNL_TRY(instance->list(&list, &handles));
  char text[1024];
  for (size_t i = 0; i < list.size(); ++i) {
    const DeviceInfo& d = list[i];
    std::snprintf(
        text, sizeof text,
        "%zu  %s\n        Vulkan %u.%u, %s\n        memory %.1f GiB, binding %.0f MiB, shared %u KiB, "
        "subgroup %u\n        integer dot product %s, subgroup arithmetic %s, shuffles %s, f16 %s, 16-bit storage %s, "
        "cooperative matrix %s%s%s%s%s%s",
        i, d.name, VK_API_VERSION_MAJOR(d.api_version), VK_API_VERSION_MINOR(d.api_version), d.driver,
        double(d.memory_bytes) / (1 << 30), double(d.storage_range) / (1 << 20), d.shared_bytes / 1024, d.subgroup_size,
        feature(d, kIntDot), feature(d, kSubgroups), feature(d, kShuffle), d.has_f16 ? "yes" : "no",
        d.has_16bit_storage ? "yes" : "no", d.has_cooperative_matrix ? "yes" : "no",
        d.quirks.has_short_submissions ? "\n        work-around: short submissions" : "",
        d.quirks.has_resettable_pools ? "\n        work-around: resettable pools" : "",
        d.quirks.has_short_loops ? "\n        work-around: no long loops" : "",
        d.refused ? "\n        not usable: " : "", d.refused ? d.refused : "");
    line(context, text);
  }
  return Status::ok();
}

}  // namespace runnel::vulkan
