// What stands where a file of a source is expected: the file itself, or something in its place that is refused by name.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace runnel::convert {

// Whole text of a regular file, at most limit bytes. Throws Error for FIFOs, devices and folders (which are not waited
// for) and for what refuse_stand_in knows.
std::string read_text(const std::filesystem::path& file, size_t limit);
// At most `size` bytes of the beginning; empty when it is no regular file or cannot be read.
std::string beginning_of(const std::filesystem::path& file, size_t size);

// begin: the first bytes of a file. Throws Error when they are those of a Git LFS pointer or of a web page.
void refuse_stand_in(std::string_view begin, const std::string& where);
// Whether a file of this name or beginning is PyTorch's own kind, which holds a pickle.
bool is_pickle(const std::filesystem::path& file, std::string_view begin);
[[noreturn]] void refuse_pickle(const std::filesystem::path& file);

}  // namespace runnel::convert
