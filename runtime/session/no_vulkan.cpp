// Linked instead of runtime/vulkan into libraries that are built without it.
#include "session/backend.h"

namespace runnel {

const BackendEntry* vulkan_backend() { return nullptr; }

}  // namespace runnel
