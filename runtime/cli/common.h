// What all commands of the program share: options, failing with a message, opening things.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cli/files.h"
#include "runnel/runnel.hpp"

namespace runnel::cli {

// A failure that the message explains: exit code 1.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
inline void check(const rnl::Status& s) {
  if (!s) throw Failure(s.message());
}
// What a terminal may show of a text that holds names from files: control characters escaped, what stands in quotation
// marks cut to 200 bytes.
std::string printable(std::string_view text);
// "runnel: " and the printable text on standard error.
void tell(std::string_view text);
bool is_terminal(int descriptor);

struct Options {
  std::string model, adapter;
  std::string backend = "cpu";
  int threads = 0;
  int64_t context = 0;  // 0: what the command needs
  std::string kv;
  std::string trace;
  uint64_t seed = 0;
  // run, chat
  std::string prompt, system, load_state, save_state;
  int64_t max_tokens = -1;     // not given
  bool limits_tokens = false;  // it was
  int64_t rollback = 0;        // 0: what suits the model
  float temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;
  int top_k = 0;
  bool special = false;
  std::vector<std::string> stop, variables;
  std::vector<const char*> stops;  // the texts of `stop`
  std::string grammar, json_schema, logprobs_file;
  bool json_output = false;
  int logprobs = -1;  // -1: none are written
  // eval, perplexity, tokenize
  std::string in, out, program, file;
  std::vector<std::string> outputs;
  int64_t chunk = 0, window = 0;
  bool json = false;
  // embed
  std::string pooling = "model";
  bool no_normalise = false;
  // bench
  int64_t prompt_tokens = 512, gen_tokens = 128, depth = 0;
  int repeat = 3;
  // inspect
  bool verify = false;
  std::string compare, dump;
  double tolerance = 1e-4;
};

int cmd_run(const Options& o);
int cmd_chat(const Options& o);
int cmd_eval(const Options& o);
int cmd_embed(const Options& o);
int cmd_perplexity(const Options& o);
int cmd_bench(const Options& o);
int cmd_tokenize(const Options& o);
int cmd_inspect(const Options& o);
int cmd_devices(const Options& o);

// Options of a session as typed; context 0 becomes `need` tokens.
rnl_session_options session_options(const Options& o, int64_t need);
rnl_generate_options generate_options(const Options& o);
// Tokens of a pass where the options say nothing.
inline constexpr int64_t kPass = 256;
// Whether it computes with the context itself: a saved stream then goes on with the same alone.
bool reads_context(const rnl::Model& model);
bool has_state(const rnl::Model& model, rnl_state_kind kind);
// The model's, at most 4096.
int64_t default_context(const rnl::Model& model);
// Why a call failed, with what helps where the context is full.
std::string reason(const rnl::Status& s, const char* more = "");
// The end of a saved stream, and the options of its session.
struct Saved {
  int64_t position = 0;
  rnl_session_options options;
};
Saved read_saved(const std::string& path);
// Gives the session the saved stream's chunk, rollback window and KV type where the command line says none.
void continue_saved(const Saved& saved, rnl_session_options* options);
// Engine and model together.
struct Opened {
  rnl::Engine engine;
  rnl::Model model;
};
void open(const Options& o, Opened* opened);

// Writes a Chrome trace (chrome://tracing, Perfetto) of every operator to the file of --trace.
class Trace {
 public:
  Trace(const Options& o, rnl_session* session);
  // Of a command that failed: what there is.
  ~Trace();
  void finish();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

 private:
  struct Event {
    const char *op, *kernel;
    uint64_t begin, end;
  };
  std::unique_ptr<TextOutput> out_;
  std::vector<Event> events_;
};

// A progress bar on standard error, drawn only on a terminal and only when the work takes over a second.
class Progress {
 public:
  Progress(const char* what, int64_t total);
  ~Progress();
  // total 0: as before.
  void update(int64_t done, int64_t total = 0);

 private:
  const char* what_;
  int64_t total_;
  uint64_t started_;
  bool drawn_ = false, terminal_;
};

// For rnl_session_set_progress.
struct PromptProgress {
  Progress bar;
  static int step(void* user, int64_t done, int64_t total) {
    static_cast<PromptProgress*>(user)->bar.update(done, total);
    return 0;
  }
};

double median(std::vector<double> values);

}  // namespace runnel::cli
