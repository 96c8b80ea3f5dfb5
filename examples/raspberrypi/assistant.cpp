// A text service with one conversation, which lives longer than the process:
//   runnel-assistant MODEL.rnl [--state FOLDER] [--socket PATH] [--system TEXT] [--tokens N] [--context N] [--threads
//   N]
//                    [--temp T] [--seed S]
// reads one message a line, from standard input or from whoever connects to the socket, one at a time, and streams the
// answer, which ends with a line end and a zero byte. SIGTERM, SIGINT and the end of the input save the conversation:
// the messages, and the session's state, from which the next start goes on in milliseconds. After a power cut the
// messages are there all the same, and what the state lacks is read again.
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "conversation.h"
#include "memory.h"

namespace {

constexpr size_t kLongestLine = 65536;

struct Options {
  std::string model, state, socket, system;
  int64_t tokens = 256, context = 2048;
  int threads = 0;
  float temperature = 0;
  uint64_t seed = 0;
};

volatile sig_atomic_t g_is_ending = 0;
void on_end(int) { g_is_ending = 1; }

double ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

bool parse(int argc, char** argv, Options* o) {
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a.rfind("--", 0) != 0) {
      if (!o->model.empty()) return false;
      o->model = a;
      continue;
    }
    if (++i == argc) return false;
    if (a == "--state") o->state = argv[i];
    else if (a == "--socket") o->socket = argv[i];
    else if (a == "--system") o->system = argv[i];
    else if (a == "--tokens") o->tokens = std::atoll(argv[i]);
    else if (a == "--context") o->context = std::atoll(argv[i]);
    else if (a == "--threads") o->threads = std::atoi(argv[i]);
    else if (a == "--temp") o->temperature = float(std::atof(argv[i]));
    else if (a == "--seed") o->seed = std::strtoull(argv[i], nullptr, 10);
    else return false;
  }
  return !o->model.empty() && o->tokens > 0 && o->context > 0 && o->threads >= 0;
}

bool write_all(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR && !g_is_ending) continue;
    if (n <= 0) return false;
    data += n, size -= size_t(n);
  }
  return true;
}

class Assistant {
 public:
  explicit Assistant(const Options& o) : o_(o) {}

  rnl::Status open() {
    const auto begin = std::chrono::steady_clock::now();
    if (rnl::Status s = engine_.create(o_.threads); !s) return s;
    if (rnl::Status s = model_.open(engine_, o_.model); !s) return s;
    const rnl_model_info info = model_.info();
    if (!info.has_chat) return no_chat();
    rnl_session_options options = rnl::session_options();
    const int64_t longest = info.context;
    options.context = longest > 0 && longest < o_.context ? longest : o_.context;
    // A template may write earlier answers shorter than they came. Attention keeps its slots anyway, recurrent states
    // go back to a checkpoint in this window.
    for (const rnl_state_info& s : model_.states())
      if (s.kind == RNL_STATE_RECURRENT) options.rollback_window = o_.tokens < 64 ? 64 : o_.tokens;
    if (rnl::Status s = session_.create(model_, options); !s) return s;
    rnl_session_set_progress(
        session_.get(), [](void*, int64_t, int64_t) { return int(g_is_ending); }, nullptr);
    context_ = options.context;
    const rnl_memory m = session_.memory();
    std::fprintf(stderr, "assistant: opened in %.1f ms, %d threads; planned: %.1f MB mapped, %.1f MB anonymous\n",
                 ms_since(begin), engine_.threads(), double(m.weights + m.tokenizer) / 1e6, double(m.anonymous) / 1e6);
    return RNL_OK;
  }

  // What the library says of a model without a chat format.
  rnl::Status no_chat() {
    chat_.messages = {{"user", ""}};
    std::vector<int32_t> ids;
    return model_.chat_ids(chat_.get(), &ids);
  }

  // The saved conversation, or a new one. A state that does not fit costs time, not the conversation.
  bool restore() {
    const std::string path = messages_path();
    const bool is_saved = !o_.state.empty() && access(path.c_str(), F_OK) == 0;
    std::string why;
    if (is_saved && !load_messages(path, &chat_.messages, &why)) {
      std::fprintf(stderr, "assistant: %s: %s\n", path.c_str(), why.c_str());
      return false;
    }
    if (first_message() == 1) chat_.messages.erase(chat_.messages.begin());
    if (!o_.system.empty()) chat_.messages.emplace(chat_.messages.begin(), "system", o_.system);
    if (!is_saved) return true;
    const auto begin = std::chrono::steady_clock::now();
    const rnl::Status s = session_.restore(state_path());
    if (s)
      std::fprintf(stderr, "assistant: restored %lld tokens in %.2f ms\n", static_cast<long long>(session_.position()),
                   ms_since(begin));
    else std::fprintf(stderr, "assistant: %s; the conversation is read again\n", s.message().c_str());
    return true;
  }

  bool save() {
    if (o_.state.empty()) return true;
    const auto begin = std::chrono::steady_clock::now();
    if (!save_conversation()) return false;
    if (rnl::Status s = session_.save(state_path()); !s)
      return std::fprintf(stderr, "assistant: %s\n", s.message().c_str()), false;
    std::fprintf(stderr, "assistant: saved %lld tokens in %.2f ms\n", static_cast<long long>(session_.position()),
                 ms_since(begin));
    return true;
  }

  // Answers a message into fd. False: whoever listens has gone.
  bool answer(const std::string& message, int fd) {
    chat_.messages.emplace_back("user", message);
    rnl::Status s = make_room();
    std::string text;
    bool is_heard = true;
    if (s) {
      rnl_generate_options g{};
      g.struct_size = sizeof g;
      g.max_tokens = o_.tokens;
      g.sampling.struct_size = sizeof g.sampling;
      g.sampling.temperature = o_.temperature;
      g.sampling.seed = o_.seed;
      s = session_.chat_stream(chat_.get(), g, [&](const char* piece, size_t size) {
        text.append(piece, size);
        is_heard = write_all(fd, piece, size);
        return is_heard && !g_is_ending;
      });
    }
    // What was said stays said; a question without any answer is taken back.
    if (text.empty() && !s) chat_.messages.pop_back();
    else chat_.messages.emplace_back("assistant", text);
    if (!s && s.code() != RNL_CANCELLED) {
      std::fprintf(stderr, "assistant: %s\n", s.message().c_str());
      is_heard = is_heard && write_all(fd, "[no answer: see the service's log]", 34);
    }
    save_conversation();
    return write_all(fd, "\n", 2) && is_heard;  // with the zero behind it
  }

  void print() const { print_memory("assistant", session_); }

 private:
  std::string messages_path() const { return o_.state + "/messages"; }
  std::string state_path() const { return o_.state + "/state"; }

  // Behind the system's.
  size_t first_message() const { return !chat_.messages.empty() && chat_.messages[0].first == "system" ? 1 : 0; }

  bool save_conversation() {
    std::string why;
    if (o_.state.empty() || save_messages(messages_path(), chat_.messages, &why)) return true;
    std::fprintf(stderr, "assistant: %s: %s\n", messages_path().c_str(), why.c_str());
    return false;
  }

  rnl::Status count_tokens(int64_t* count) {
    std::vector<int32_t> ids;
    const rnl::Status s = model_.chat_ids(chat_.get(), &ids);
    *count = int64_t(ids.size());
    return s;
  }

  // The conversation and an answer shall fit into the context. Else the oldest messages are forgotten, so many at once
  // that the rest is not read again at every turn. The stream may hold more tokens than its text has when it is read: a
  // model may spell a word in a way of its own.
  rnl::Status make_room() {
    const size_t first = first_message();
    if (chat_.messages.size() < first + 3) return RNL_OK;
    int64_t now = 0, before = 0;
    if (rnl::Status s = count_tokens(&now); !s) return s;
    auto message = std::move(chat_.messages.back());
    chat_.messages.pop_back();
    chat_.is_closed = true;
    rnl::Status s = count_tokens(&before);
    chat_.is_closed = false;
    chat_.messages.push_back(std::move(message));
    if (!s) return s;
    const int64_t most = context_ - o_.tokens;
    if (std::max(now, session_.position() + now - before) <= most) return RNL_OK;
    while (now > most / 2 && chat_.messages.size() >= first + 3) {
      chat_.messages.erase(chat_.messages.begin() + long(first), chat_.messages.begin() + long(first) + 2);
      if (s = count_tokens(&now); !s) return s;
    }
    return RNL_OK;
  }

  const Options& o_;
  rnl::Engine engine_;
  rnl::Model model_;
  rnl::Session session_;
  rnl::Chat chat_;
  int64_t context_ = 0;
};

// The next bytes of fd, or 0: its end, or the program's. Signals are let in here and while an answer is computed.
ssize_t read_some(int fd, const sigset_t& open_signals, char* buffer, size_t size) {
  pollfd p{fd, POLLIN, 0};
  while (!g_is_ending) {
    if (ppoll(&p, 1, nullptr, &open_signals) < 0) {
      if (errno != EINTR) return -1;
      continue;
    }
    const ssize_t n = read(fd, buffer, size);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    return n;
  }
  return 0;
}

class Signals {
 public:
  Signals() {
    sigemptyset(&ends_);
    sigaddset(&ends_, SIGTERM);
    sigaddset(&ends_, SIGINT);
    sigprocmask(SIG_BLOCK, &ends_, &open_);
    struct sigaction action {};
    action.sa_handler = on_end;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }
  const sigset_t& open() const { return open_; }
  void let_in(bool in) const { sigprocmask(in ? SIG_UNBLOCK : SIG_BLOCK, &ends_, nullptr); }

 private:
  sigset_t ends_, open_;
};

// Answers the lines of `in` into `out` until one of them ends.
void serve(Assistant& assistant, const Signals& signals, int in, int out) {
  char buffer[4096];
  std::string line;
  const auto take = [&] {
    if (line.empty()) return true;
    signals.let_in(true);
    const bool goes_on = assistant.answer(line, out);
    signals.let_in(false);
    line.clear();
    return goes_on && !g_is_ending;
  };
  for (ssize_t n; (n = read_some(in, signals.open(), buffer, sizeof buffer)) > 0;)
    for (ssize_t i = 0; i < n; ++i) {
      if (buffer[i] == '\n') {
        if (!take()) return;
      } else if (line.size() < kLongestLine) {
        line += buffer[i];
      }
    }
  if (!g_is_ending) take();  // the last line may lack its end
}

int listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return errno = ENAMETOOLONG, -1;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  struct stat st;
  if (lstat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode)) unlink(path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, 8) != 0) return -1;
  return fd;
}

bool serve_socket(Assistant& assistant, const Signals& signals, const std::string& path) {
  const int listener = listen_at(path);
  if (listener < 0)
    return std::fprintf(stderr, "assistant: cannot listen at %s: %s\n", path.c_str(), std::strerror(errno)), false;
  pollfd p{listener, POLLIN, 0};
  while (!g_is_ending) {
    if (ppoll(&p, 1, nullptr, &signals.open()) <= 0) continue;
    const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    serve(assistant, signals, client, client);
    close(client);
  }
  close(listener);
  unlink(path.c_str());
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!parse(argc, argv, &o)) {
    std::fprintf(stderr,
                 "usage: runnel-assistant MODEL.rnl [--state FOLDER] [--socket PATH] [--system TEXT] [--tokens N] "
                 "[--context N] [--threads N] [--temp T] [--seed S]\n");
    return 2;
  }
  const Signals signals;  // before the library starts its threads, which then leave them to this one
  Assistant assistant(o);
  if (rnl::Status s = assistant.open(); !s) return std::fprintf(stderr, "assistant: %s\n", s.message().c_str()), 1;
  if (!assistant.restore()) return 1;
  bool is_well = true;
  if (o.socket.empty()) serve(assistant, signals, 0, 1);
  else is_well = serve_socket(assistant, signals, o.socket);
  is_well = assistant.save() && is_well;
  assistant.print();
  return is_well ? 0 : 1;
}
