// Files that save work at a next start. They may be missing, old or damaged at any time: whoever reads one checks it.
#pragma once

#include <cstddef>

namespace runnel {

// The path of a file of this name in RUNNEL_CACHE_DIR, else in the user's cache folder. False: there is no such folder.
bool cache_path(const char* name, char* out, size_t size);
// Makes the folder too. False: it cannot be written, which is no failure.
bool write_cache_file(const char* path, const void* data, size_t size);

}  // namespace runnel
