#include "vulkan_session/model_on_device.h"

#include <cstdio>
#include <cstring>

#include "base/cache.h"
#include "base/file.h"

namespace runnel::vulkan {
namespace {

std::mutex g_mutex;

struct Opened {
  const Model* model;
  uint64_t fingerprint;  // another model may come to lie at the same address
  std::weak_ptr<ModelOnDevice> on_device;
};
// Made at the first use and kept: it may outlive every static object.
struct Open {
  std::weak_ptr<Device> device;
  Vec<Opened> models;
};
Open* g_open = nullptr;

Open* all_open() {
  if (!g_open) g_open = new (std::nothrow) Open;
  return g_open;
}

Result<std::shared_ptr<Device>> device_locked() {
  Open* open = all_open();
  if (!open) return Status::make(Code::kOutOfMemory, "no memory for a Vulkan device");
  auto device = open->device.lock();
  if (device && !device->is_lost()) return device;
  RNL_ASSIGN(opened, Device::open(nullptr));
  device = std::move(opened);
  open->device = device;
  return device;
}

}  // namespace

Result<std::shared_ptr<Device>> shared_device() {
  std::lock_guard<std::mutex> lock(g_mutex);
  return device_locked();
}

Result<std::shared_ptr<ModelOnDevice>> ModelOnDevice::open(const Model& model) {
  std::lock_guard<std::mutex> lock(g_mutex);
  Open* open = all_open();
  if (!open) return Status::make(Code::kOutOfMemory, "no memory for a Vulkan device");
  Vec<Opened> alive;
  std::shared_ptr<ModelOnDevice> found;
  for (Opened& o : open->models) {
    auto m = o.on_device.lock();
    if (!m) continue;
    if (o.model == &model && !m->device().is_lost() && o.fingerprint == model.fingerprint()) found = m;
    RNL_TRY(alive.push(o));
  }
  open->models = std::move(alive);
  if (found) return found;
  RNL_ASSIGN(device, device_locked());
  std::shared_ptr<ModelOnDevice> m(new (std::nothrow) ModelOnDevice);
  if (!m) return Status::make(Code::kOutOfMemory, "no memory for weights on a device");
  m->device_ = std::move(device);
  m->weights_.reset(new (std::nothrow) WeightBuffers(*m->device_));
  if (!m->weights_) return Status::make(Code::kOutOfMemory, "no memory for weights on a device");
  for (const TensorInfo& t : model.tensors())
    if (t.view.dtype == DType::kPacked) RNL_TRY(m->weights_->add(t.view));
  RNL_TRY(m->weights_->upload(model.mapping()));
  m->fingerprint_ = model.fingerprint();
  RNL_TRY(open->models.push({&model, model.fingerprint(), m}));
  return m;
}

namespace {

constexpr uint32_t kVerdictMagic = 0x4b434e52;  // "RNCK", then the number of operators and each one's program and
                                                // number
constexpr uint32_t kFeaturesLie = UINT32_MAX;   // in place of that number: what there is without optional features
                                                // counts

bool verdict_file(Device& device, uint64_t fingerprint, uint64_t kind, char* out, size_t size) {
  char name[60];
  std::snprintf(name, sizeof name, "%016llx-%016llx.checked", static_cast<unsigned long long>(fingerprint),
                static_cast<unsigned long long>(kind));
  return device.pipelines().cache_file(name, out, size);
}

}  // namespace

const Vec<ModelOnDevice::Operator>* ModelOnDevice::known(uint64_t kind) const {
  for (const Verdict& v : verdicts_)
    if (v.kind == kind && v.features == device_->features()) return &v.failed;
  return nullptr;
}

// A file that cannot be read or is damaged means that the check is made again.
void ModelOnDevice::read_verdict(uint64_t kind) {
  char path[512];
  if (!verdict_file(*device_, fingerprint_, kind, path, sizeof path)) return;
  auto file = FileView::open(path, true);
  uint32_t head[2];
  if (!file.is_ok() || file.value().size() < sizeof head) return;
  std::memcpy(head, file.value().data(), sizeof head);
  if (head[0] == kVerdictMagic && head[1] == kFeaturesLie && device_->features() != 0) {
    device_->drop_features();
    if (!known(kind)) read_verdict(kind);
    return;
  }
  Verdict v{kind, device_->features(), {}};
  if (head[0] != kVerdictMagic || file.value().size() != sizeof head + uint64_t(head[1]) * sizeof(Operator) ||
      !v.failed.assign(head[1]).is_ok())
    return;
  if (head[1])
    std::memcpy(v.failed.data(), static_cast<const unsigned char*>(file.value().data()) + sizeof head,
                head[1] * sizeof(Operator));
  (void)verdicts_.push(std::move(v));
}

bool ModelOnDevice::find_verdict(uint64_t kind, Vec<Operator>* failed) {
  std::lock_guard<std::mutex> lock(g_mutex);
  if (!known(kind)) read_verdict(kind);
  const Vec<Operator>* found = known(kind);
  failed->clear();
  return found && failed->append(found->data(), found->size()).is_ok();
}

void ModelOnDevice::drop_features(uint64_t kind) {
  std::lock_guard<std::mutex> lock(g_mutex);
  const uint32_t data[2] = {kVerdictMagic, kFeaturesLie};
  char path[512];
  if (verdict_file(*device_, fingerprint_, kind, path, sizeof path)) (void)write_cache_file(path, data, sizeof data);
  device_->drop_features();
}

// The first one counts.
Status ModelOnDevice::keep_verdict(uint64_t kind, const Vec<Operator>& failed) {
  std::lock_guard<std::mutex> lock(g_mutex);
  if (known(kind)) return Status::ok();
  Vec<uint32_t> data;
  RNL_TRY(data.push(kVerdictMagic));
  RNL_TRY(data.push(uint32_t(failed.size())));
  for (const Operator& o : failed) {
    RNL_TRY(data.push(o.program));
    RNL_TRY(data.push(o.op));
  }
  Verdict v{kind, device_->features(), {}};
  RNL_TRY(v.failed.append(failed.data(), failed.size()));
  RNL_TRY(verdicts_.push(std::move(v)));
  char path[512];
  if (verdict_file(*device_, fingerprint_, kind, path, sizeof path))
    (void)write_cache_file(path, data.data(), data.size() * 4);
  return Status::ok();
}

}  // namespace runnel::vulkan
