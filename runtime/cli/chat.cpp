// chat: a conversation whose history stays in the session's state.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/json_text.h"
#include "cli/lines.h"
#include "cli/text_options.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

// While an answer streams, Ctrl-C stops it; at the prompt it drops what was typed.
std::atomic<rnl_session*> g_answering{nullptr};
std::atomic<bool> g_interrupted{false};

void on_interrupt(int) {
  const int saved = errno;
  g_interrupted = true;
  if (rnl_session* s = g_answering.load()) rnl_session_cancel(s);
  else if (write(2, "\n> ", 3) < 0) errno = saved;
  errno = saved;
}

int take_token(void* user, int32_t, const char* text, size_t size) {
  static_cast<std::string*>(user)->append(text, size);
  std::fwrite(text, 1, size, stdout);
  std::fflush(stdout);
  return g_interrupted ? 1 : 0;
}

class Chat {
 public:
  explicit Chat(const Options& o) : o_(o) {
    open(o, &opened_);
    if (!opened_.model.info().has_chat) throw Failure("this model has no chat format; `runnel run` continues a text");
    check(session_.create(opened_.model, options()));
    text_options_ = std::make_unique<TextOptions>(o, opened_.model);
    for (const std::string& v : o.variables) add_variable(v);
    chat_.variables = variables_;
    if (!o.load_state.empty()) load();
    else reset();
  }
  int run();

 private:
  rnl_session_options options() const;
  std::string side_file(const std::string& path) const { return path + ".json"; }
  void add_variable(const std::string& v);
  void reset();
  void load();
  void save(const std::string& path);
  void try_save(const std::string& path);
  // False at the end of input.
  bool read_message(bool terminal, std::string* message);
  rnl::Status answer(std::string* text, rnl_chat_result* result);
  void turn(const std::string& message, bool terminal);

  const Options& o_;
  Opened opened_;
  rnl::Session session_;
  std::unique_ptr<TextOptions> text_options_;
  std::vector<rnl_chat_variable> variables_;
  std::vector<std::string> names_;
  rnl::Chat chat_;
  bool told_ = false;
  bool failed_ = false;  // a command of the conversation
};

// Templates change the ends of answers, those of thinking models all but the end. Attention keeps its slots anyway;
// recurrent states are computed again from a checkpoint at most as old as the window.
rnl_session_options Chat::options() const {
  const Saved saved = o_.load_state.empty() ? Saved{0, rnl::session_options()} : read_saved(o_.load_state);
  const int64_t context = saved.options.context && reads_context(opened_.model)
                              ? saved.options.context
                              : std::max(default_context(opened_.model), saved.options.context);
  rnl_session_options s = session_options(o_, context);
  const bool recurs = has_state(opened_.model, RNL_STATE_RECURRENT);
  constexpr int64_t kWindow = 64, kLongWindow = 1024;
  s.rollback_window = !recurs ? kWindow : o_.max_tokens ? std::clamp(o_.max_tokens, kWindow, kLongWindow) : kLongWindow;
  continue_saved(saved, &s);
  if (o_.rollback) s.rollback_window = o_.rollback;
  return s;
}

void Chat::add_variable(const std::string& v) {
  const size_t equals = v.find('=');
  if (equals == v.npos || equals == 0) throw Failure("--set " + v + ": NAME=VALUE is wanted");
  names_.reserve(2 * o_.variables.size());  // c_str() of them stay
  names_.push_back(v.substr(0, equals));
  const char* name = names_.back().c_str();
  const std::string value = v.substr(equals + 1);
  const bool truth = value == "true" || value == "on";
  if (truth || value == "false" || value == "off") {
    variables_.push_back({name, nullptr, truth});
  } else {
    names_.push_back(value);
    variables_.push_back({name, names_.back().c_str(), 0});
  }
}

void Chat::reset() {
  session_.reset();
  chat_.messages.clear();
  if (!o_.system.empty()) chat_.messages.emplace_back("system", o_.system);
}

void Chat::load() {
  if (!o_.system.empty()) throw Failure("--system: the saved conversation has its own beginning");
  const std::string path = side_file(o_.load_state);
  auto file = FileView::open(path.c_str(), false);
  if (!file.is_ok())
    throw Failure("the messages of the saved conversation: " + std::string(file.take_status().message()));
  const json saved = parse_json({reinterpret_cast<const char*>(file.value().data()), file.value().size()}, path);
  const auto is_message = [](const json& m) {
    return m.is_object() && m.value("role", json()).is_string() && m.value("content", json()).is_string();
  };
  if (!saved.is_array() || !std::all_of(saved.begin(), saved.end(), is_message))
    throw Failure(path + ": not a list of messages");
  for (const json& m : saved)
    chat_.messages.emplace_back(m["role"].get<std::string>(), m["content"].get<std::string>());
  check(session_.restore(o_.load_state));
}

void Chat::save(const std::string& path) {
  const std::string side = side_file(path);
  check_output(o_, "the conversation", path);
  check_output(o_, "its messages", side);
  json messages = json::array();
  for (const auto& [role, content] : chat_.messages) messages.push_back({{"role", role}, {"content", content}});
  TextOutput out(side);
  out.write(json_text(messages, 1) + "\n");
  check(session_.save(path));
  out.commit();
}

// A command that fails leaves the conversation as it is.
void Chat::try_save(const std::string& path) {
  try {
    save(path);
  } catch (const Failure& e) {
    tell(e.what());
    failed_ = true;
  }
}

bool Chat::read_message(bool terminal, std::string* message) {
  message->clear();
  if (terminal) std::fprintf(stderr, "> ");
  g_interrupted = false;
  for (std::string line; std::getline(std::cin, line);) {
    if (g_interrupted.exchange(false)) message->clear();
    if (line.empty() || line.back() != '\\') {
      *message += line;
      return true;
    }
    line.back() = '\n';
    *message += line;
    if (terminal) std::fprintf(stderr, ". ");
  }
  return !message->empty();  // the last line may lack its end
}

// A lost device does not end an answer: the CPU goes on with it.
rnl::Status Chat::answer(std::string* text, rnl_chat_result* result) {
  rnl_generate_options g = text_options_->get();
  rnl::Status s = rnl_session_chat(session_.get(), &chat_.get(), &g, take_token, text, result);
  // A Ctrl-C that came just behind the answer before was not meant for this one.
  if (s.code() == RNL_CANCELLED && !g_interrupted)
    s = rnl_session_chat(session_.get(), &chat_.get(), &g, take_token, text, result);
  if (s.code() != RNL_DEVICE_LOST) return s;
  std::fputc('\n', stderr);
  tell(s.message());
  check(session_.recover());
  if (result->generated == 0) return rnl_session_chat(session_.get(), &chat_.get(), &g, take_token, text, result);
  if (g.max_tokens) g.max_tokens -= result->generated;
  if (o_.max_tokens && g.max_tokens <= 0) return RNL_OK;
  return rnl_session_generate(session_.get(), nullptr, 0, &g, take_token, text, nullptr);
}

void Chat::turn(const std::string& message, bool terminal) {
  chat_.messages.emplace_back("user", message);
  rnl_chat_result result{};
  result.struct_size = sizeof result;
  std::string text;
  PromptProgress progress{Progress("prompt", 0)};
  rnl_session_set_progress(session_.get(), PromptProgress::step, &progress);
  g_answering = session_.get();
  const rnl::Status s = answer(&text, &result);
  g_answering = nullptr;
  rnl_session_set_progress(session_.get(), nullptr, nullptr);
  std::fputc('\n', stdout);
  std::fflush(stdout);
  if (result.dropped > 0 && !told_ && o_.stop.empty()) {
    told_ = true;
    tell(
        "the conversation does not go on where the stream was (the chat template may write earlier turns in another "
        "way): " +
        std::to_string(result.fed) + " tokens were fed again");
  }
  // What was said stays said, also when Ctrl-C cut it off; a question without any answer is taken back.
  if (result.generated > 0) chat_.messages.emplace_back("assistant", text);
  else chat_.messages.pop_back();
  if (s || s.code() == RNL_CANCELLED) return;
  const std::string what = reason(s, "/reset starts anew, ");
  if (!terminal) throw Failure(what);
  tell(what);
}

int Chat::run() {
  Trace trace(o_, session_.get());
  const bool terminal = isatty(0);
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  if (terminal) sigaction(SIGINT, &action, nullptr);
  if (terminal)
    std::fprintf(stderr,
                 "End a line with \\ to go on writing. Ctrl-C stops an answer, /reset starts anew, /save FILE saves "
                 "the conversation, Ctrl-D ends.\n");
  for (std::string message; read_message(terminal, &message);) {
    if (message.empty()) continue;
    if (message == "/reset") reset();
    else if (message.compare(0, 6, "/save ") == 0) try_save(message.substr(6));
    else turn(message, terminal);
  }
  if (terminal) std::fputc('\n', stderr);
  if (!o_.save_state.empty()) save(o_.save_state);
  trace.finish();
  return failed_ && !terminal ? 1 : 0;
}

}  // namespace

int cmd_chat(const Options& o) { return Chat(o).run(); }

}  // namespace runnel::cli
