// An answer that is taken token by token: rnl_session_generate and rnl_session_chat run on a thread of their own, which
// waits in the token callback until the next token is asked for. So the session's stream holds what was taken and no
// more. That thread never touches Python.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "native.h"

namespace runnel_python {
namespace {

using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
constexpr auto kSignalCheck = std::chrono::milliseconds(50);

// The options of an answer, and what they point at.
class Options {
 public:
  explicit Options(const nb::dict& given) {
    options_.sampling = make<rnl_sampling>();
    for (auto [key, value] : given) {
      const std::string name = nb::cast<std::string>(key);
      if (name == "stop") stop_ = option<std::vector<std::string>>(name, value);
      else if (name == "bias") read_bias(option<nb::dict>(name, value));
      else if (name == "grammar") grammar_ = nb::borrow(value);
      else if (!read_option(name, value, options_) && !read_option(name, value, options_.sampling))
        throw nb::type_error(("there is no option \"" + name + "\"").c_str());
      if (name == "logprobs_count") wants_logprobs_ = true;
    }
    for (const std::string& text : stop_) stop_list_.push_back(text.c_str());
    options_.stop = stop_list_.data();
    options_.stop_count = stop_list_.size();
    options_.sampling.bias = bias_.data();
    options_.sampling.bias_count = bias_.size();
    if (grammar_.is_valid() && !grammar_.is_none()) options_.grammar = nb::cast<Grammar&>(grammar_).handle.get();
  }
  Options(const Options&) = delete;
  bool wants_logprobs() const { return wants_logprobs_; }
  rnl_generate_options& get() { return options_; }

 private:
  void read_bias(const nb::dict& given) {
    for (auto [id, bias] : given) bias_.push_back({option<int32_t>("bias", id), option<float>("bias", bias)});
  }
  rnl_generate_options options_ = make<rnl_generate_options>();
  std::vector<std::string> stop_;
  std::vector<const char*> stop_list_;
  std::vector<rnl_logit_bias> bias_;
  nb::object grammar_;
  bool wants_logprobs_ = false;
};

class Answer {
 public:
  // chat set: answers it, ids are not used.
  Answer(nb::object session, std::unique_ptr<Conversation> chat, std::vector<int32_t> ids, const nb::dict& options,
         nb::object progress)
      : owner_(std::move(session)),
        session_(nb::cast<Session&>(owner_)),
        chat_(std::move(chat)),
        ids_(std::move(ids)),
        options_(options),
        progress_(std::move(progress)) {}
  Answer(const Answer&) = delete;
  ~Answer() { close(); }

  nb::object next();
  void close();
  bool is_done() const { return is_done_; }
  nb::dict result() const { return to_dict(result_); }

 private:
  void start();
  void work();
  void end();  // waits for the thread and gives the session back
  bool wait(int64_t* done, int64_t* total);
  int take(int32_t id, const char* text, size_t size);
  nb::object token() const;

  nb::object owner_;
  Session& session_;
  std::unique_ptr<Conversation> chat_;
  std::vector<int32_t> ids_;
  Options options_;
  nb::object progress_;
  rnl_chat_result result_ = make<rnl_chat_result>();

  bool is_started_ = false, is_done_ = false;
  std::atomic<bool> is_taken_{false};  // a thread is in next()
  struct Link {
    std::thread thread;
    std::mutex mutex;
    std::condition_variable changed;
  };
  std::unique_ptr<Link> link_ = std::make_unique<Link>();
  // Under the mutex.
  bool is_wanted_ = false, is_ready_ = false, is_closed_ = false, has_ended_ = false;
  int64_t fed_ = 0, to_feed_ = 0;
  // Of the thread while nothing is ready, of next() when it is.
  int32_t id_ = 0;
  bool is_new_ = false;  // false: only text that a stop text held back
  int64_t last_position_ = -1;
  std::string text_;
  bool has_logprobs_ = false;
  rnl_logprob chosen_{};
  std::vector<rnl_logprob> best_;
  rnl_status_code code_ = RNL_OK;
  std::string message_;
};

int Answer::take(int32_t id, const char* text, size_t size) {
  std::unique_lock lock(link_->mutex);
  if (is_closed_) return 1;
  const int64_t position = rnl_session_position(session_.handle.get());
  is_new_ = position != last_position_;
  last_position_ = position;
  id_ = id;
  text_.assign(text, size);
  is_wanted_ = false;
  is_ready_ = true;
  link_->changed.notify_all();
  link_->changed.wait(lock, [&] { return is_wanted_ || is_closed_; });
  return is_closed_;
}

void Answer::work() {
  rnl_session* s = session_.handle.get();
  rnl_generate_options& o = options_.get();
  o.logprobs_user = this;
  if (options_.wants_logprobs()) {
    o.logprobs = [](void* user, const rnl_logprobs* t) {
      auto& a = *static_cast<Answer*>(user);
      a.has_logprobs_ = true;
      a.chosen_ = t->chosen;
      a.best_.assign(t->best, t->best + t->best_count);
    };
  }
  const rnl_token_fn take = [](void* user, int32_t id, const char* text, size_t size) {
    return static_cast<Answer*>(user)->take(id, text, size);
  };
  rnl_session_set_progress(
      s,
      [](void* user, int64_t done, int64_t total) {
        auto& a = *static_cast<Answer*>(user);
        const std::lock_guard lock(a.link_->mutex);
        a.fed_ = done, a.to_feed_ = total;
        return int(a.is_closed_);
      },
      this);
  const rnl_status_code code =
      chat_ ? rnl_session_chat(s, chat_->get(), &o, take, this, &result_)
            : rnl_session_generate(s, ids_.data(), ids_.size(), &o, take, this, &result_.generated);
  rnl_session_set_progress(s, nullptr, nullptr);
  const std::lock_guard lock(link_->mutex);
  code_ = code;
  if (code != RNL_OK) message_ = rnl_last_error();
  has_ended_ = is_ready_ = true;
  link_->changed.notify_all();
}

void Answer::start() {
  if (session_.is_busy.exchange(true))
    throw Failure(kBusy,
                  "the session is in use: another thread's call, or an answer that is neither at its end nor closed");
  is_started_ = true;
  link_->thread = std::thread([this] { work(); });
}

void Answer::end() {
  std::thread thread = std::move(link_->thread);  // under the GIL, so one caller alone has it
  if (!thread.joinable()) return;
  {
    nb::gil_scoped_release release;
    thread.join();
  }
  is_done_ = true;
  session_.is_busy = false;
}

void Answer::close() {
  is_done_ = true;
  if (!link_ || !link_->thread.joinable()) return;
  if (session_.handle.is_foreign()) {
    // The thread is one of the process that this one was forked from: what waits for it cannot be taken down here.
    (void)link_.release();
    return;
  }
  {
    const std::lock_guard lock(link_->mutex);
    is_closed_ = true;
    link_->changed.notify_all();
  }
  rnl_session* s = session_.handle.get();
  rnl_session_cancel(s);
  end();
  rnl_session_clear_cancel(s);
}

// Until something is ready, or signals are to be looked at again: false. Without the GIL.
bool Answer::wait(int64_t* done, int64_t* total) {
  nb::gil_scoped_release release;
  std::unique_lock lock(link_->mutex);
  const bool is_ready = link_->changed.wait_for(lock, kSignalCheck, [&] { return is_ready_; });
  *done = fed_, *total = to_feed_;
  return is_ready;
}

nb::object Answer::token() const {
  nb::object logprobs = nb::none();
  if (has_logprobs_ && is_new_) {
    nb::list best;
    for (const rnl_logprob& p : best_) best.append(nb::make_tuple(p.id, p.logprob));
    logprobs = nb::make_tuple(chosen_.logprob, best);
  }
  return nb::make_tuple(is_new_ ? nb::object(nb::int_(id_)) : nb::none(), to_text(text_.data(), text_.size()),
                        logprobs);
}

// (id or None, text, log-probabilities or None) of the next token; None at the end.
nb::object Answer::next() {
  if (is_done_) return nb::none();
  session_.handle.get();
  if (is_taken_.exchange(true)) throw Failure(kBusy, "another thread takes tokens of this answer");
  struct Taken {
    std::atomic<bool>& flag;
    ~Taken() { flag = false; }
  } taken{is_taken_};
  {
    const std::lock_guard lock(link_->mutex);
    is_wanted_ = true;
    is_ready_ = has_ended_;
    link_->changed.notify_all();
  }
  if (!is_started_) start();
  int64_t done, total, told = 0;
  for (bool is_ready = false; !is_ready;) {
    is_ready = wait(&done, &total);
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (done != told && !progress_.is_none()) progress_(done, total);
    } catch (...) {
      close();
      throw;
    }
    told = done;
    if (is_done_) return nb::none();  // closed by another thread
  }
  if (!has_ended_) return token();
  end();
  if (code_ != RNL_OK) throw Failure(code_, message_);
  return nb::none();
}

}  // namespace

void define_answer(nb::module_& m) {
  nb::class_<Answer>(m, "Answer")
      .def("next", &Answer::next,
           nb::sig("def next(self) -> tuple[int | None, str, tuple[float, list[tuple[int, float]]] | None] | None"))
      .def("close", &Answer::close)
      .def("is_done", &Answer::is_done)
      .def("result", &Answer::result);
  m.def(
      "generate",
      [](nb::object session, const std::optional<Ids>& ids, const nb::dict& options, nb::object progress) {
        std::vector<int32_t> list;
        if (ids) list.assign(ids->data(), ids->data() + ids->size());
        return new Answer(std::move(session), nullptr, std::move(list), options, std::move(progress));
      },
      nb::arg("session"), nb::arg("ids").none(), nb::arg("options"), nb::arg("progress").none(),
      nb::rv_policy::take_ownership);
  m.def(
      "chat",
      [](nb::object session, Conversation::Messages messages, const nb::dict& variables, int64_t now,
         const nb::dict& options, nb::object progress) {
        auto chat = std::make_unique<Conversation>(std::move(messages), variables, false, now);
        return new Answer(std::move(session), std::move(chat), {}, options, std::move(progress));
      },
      nb::arg("session"), nb::arg("messages"), nb::arg("variables"), nb::arg("now"), nb::arg("options"),
      nb::arg("progress").none(), nb::rv_policy::take_ownership);
}

}  // namespace runnel_python
