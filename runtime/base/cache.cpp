#include "base/cache.h"

#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>

#include "base/file.h"

namespace runnel {

bool cache_path(const char* name, char* out, size_t size) {
  const char* own = std::getenv("RUNNEL_CACHE_DIR");
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const char *folder = nullptr, *below = "";
  if (own) folder = own;
  else if (xdg && *xdg) folder = xdg, below = "/runnel";
  else if (home && *home) folder = home, below = "/.cache/runnel";
  return folder && *folder && size_t(std::snprintf(out, size, "%s%s/%s", folder, below, name)) < size;
}

bool write_cache_file(const char* path, const void* data, size_t size) {
  char part[1024];
  for (size_t i = 0; path[i] && i < sizeof part; ++i) {
    part[i] = path[i];
    if (i == 0 || path[i] != '/') continue;
    part[i] = 0;
    (void)mkdir(part, 0700);
    part[i] = '/';
  }
  AtomicFile file;
  return file.open(path).is_ok() && file.write(data, size).is_ok() && file.commit().is_ok();
}

}  // namespace runnel
