#include "cli/files.h"

#include <signal.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "cli/common.h"

namespace runnel::cli {
namespace {

Failure failure(const std::string& path, const char* what) {
  return Failure((path == "-" ? "standard output" : path) + what + std::strerror(errno));
}

struct Named {
  const char* option;
  const std::string* path;
};

// Files that are read while outputs are written. A saved stream is read before: it may be replaced by what became of
// it.
std::vector<Named> inputs_of(const Options& o) {
  return {{"the model", &o.model},
          {"--adapter", &o.adapter},
          {"--in", &o.in},
          {"--file", &o.file},
          {"--compare", &o.compare},
          {"--grammar", &o.grammar},
          {"--json-schema", &o.json_schema}};
}
std::vector<Named> outputs_of(const Options& o) {
  return {{"--out", &o.out},
          {"--dump", &o.dump},
          {"--trace", &o.trace},
          {"--save-state", &o.save_state},
          {"--logprobs-file", &o.logprobs_file}};
}

void end_by_signal(int number) {
  remove_temporary_files();
  // The handler is gone by now: the signal ends the program as it would have without.
  raise(number);
}

}  // namespace

std::string read_text(const std::string& path) {
  const bool is_stdin = path == "-";
  const auto close = [](std::FILE* f) { std::fclose(f); };
  std::unique_ptr<std::FILE, decltype(close)> opened(is_stdin ? nullptr : std::fopen(path.c_str(), "rb"), close);
  std::FILE* f = is_stdin ? stdin : opened.get();
  const std::string name = is_stdin ? "standard input" : path;
  if (!f) throw Failure(name + ": cannot read: " + std::strerror(errno));
  std::string text;
  char part[65536];
  for (size_t n; (n = std::fread(part, 1, sizeof part, f)) > 0;) text.append(part, n);
  if (std::ferror(f)) throw Failure(name + ": cannot read: " + std::strerror(errno));
  return text;
}

std::string read_prompt(const std::string& path) {
  std::string text = read_text(path);
  if (!text.empty() && text.back() == '\n') text.pop_back();
  if (!text.empty() && text.back() == '\r') text.pop_back();
  return text;
}

TextOutput::TextOutput(const std::string& path) : path_(path) {
  struct stat st;
  if (path == "-") {
    stream_.reset(stdout);
  } else if (::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
    stream_.reset(std::fopen(path.c_str(), "wb"));
    if (!stream_) throw failure(path, ": cannot open: ");
  } else {
    file_ = std::make_unique<AtomicFile>();
    if (Status s = file_->open(path.c_str()); !s.is_ok()) throw Failure(s.message());
  }
}

void TextOutput::write(std::string_view text) {
  if (stream_) {
    if (std::fwrite(text.data(), 1, text.size(), stream_.get()) != text.size())
      throw failure(path_, ": cannot write: ");
    return;
  }
  buffer_ += text;
  if (buffer_.size() < 1 << 16) return;
  if (Status s = file_->write(buffer_.data(), buffer_.size()); !s.is_ok()) throw Failure(s.message());
  buffer_.clear();
}

void TextOutput::commit() {
  if (stream_) {
    if (std::fflush(stream_.get()) != 0) throw failure(path_, ": cannot write: ");
    return;
  }
  Status s = file_->write(buffer_.data(), buffer_.size());
  if (s.is_ok()) s = file_->commit();
  if (!s.is_ok()) throw Failure(s.message());
}

void check_output(const Options& o, const char* what, const std::string& path) {
  for (const Named& in : inputs_of(o))
    if (is_same_file(path.c_str(), in.path->c_str()))
      throw Failure(std::string(what) + " " + path + ": not written: it is the same file as " + in.option +
                    (*in.path == path ? "" : " " + *in.path));
}

void check_outputs(const Options& o) {
  const std::vector<Named> outputs = outputs_of(o);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string& path = *outputs[i].path;
    if (path.empty()) continue;
    check_output(o, outputs[i].option, path);
    for (size_t k = 0; k < i; ++k)
      if (path == *outputs[k].path || is_same_file(path.c_str(), outputs[k].path->c_str()))
        throw Failure(std::string(outputs[i].option) + " " + path + ": not written: it is the same file as " +
                      outputs[k].option);
  }
  // Written at the end: whether it can be is to be known before the work is done.
  AtomicFile probe;
  if (o.save_state.empty()) return;
  if (Status s = probe.open(o.save_state.c_str()); !s.is_ok()) throw Failure(s.message());
}

void remove_files_on_signals() {
  for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) {
    struct sigaction action {};
    // What is ignored stays so, such as in the background of a shell.
    if (sigaction(number, nullptr, &action) != 0 || action.sa_handler != SIG_DFL) continue;
    action.sa_handler = end_by_signal;
    action.sa_flags = SA_RESETHAND;
    sigaction(number, &action, nullptr);
  }
}

}  // namespace runnel::cli
