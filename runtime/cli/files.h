// What the program reads and writes: texts from files or standard input, outputs that never take the place of their own
// sources.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"

namespace runnel::cli {

struct Options;

// A file's bytes; "-": those of standard input.
std::string read_text(const std::string& path);
// The same as a prompt: the end of the last line is not a part of it.
std::string read_prompt(const std::string& path);

// Text that goes to a file when all of it is there ("-": standard output), or straight to what is no regular file, such
// as a device. Throws Failure.
class TextOutput {
 public:
  explicit TextOutput(const std::string& path);
  void write(std::string_view text);
  void commit();

 private:
  struct Close {
    void operator()(std::FILE* f) const {
      if (f != stdout) std::fclose(f);
    }
  };
  std::string path_;
  std::string buffer_;  // for the file
  std::unique_ptr<AtomicFile> file_;
  std::unique_ptr<std::FILE, Close> stream_;
};

// Throws Failure when an output of the command is one of its inputs too, by whatever name, or another output.
void check_outputs(const Options& o);
// The same for one more output.
void check_output(const Options& o, const char* what, const std::string& path);

// Has signals that end the program remove its temporary files first.
void remove_files_on_signals();

}  // namespace runnel::cli
