// run and tokenize.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/common.h"
#include "cli/lines.h"
#include "cli/text_options.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

int print_token(void*, int32_t, const char* text, size_t size) {
  std::fwrite(text, 1, size, stdout);
  std::fflush(stdout);
  return 0;
}

// A lost device does not end an answer: the CPU goes on with it.
rnl::Status generate(rnl_session* session, std::vector<int32_t> ids, rnl_generate_options g) {
  int64_t generated = 0;
  rnl::Status s = rnl_session_generate(session, ids.data(), ids.size(), &g, print_token, nullptr, &generated);
  if (s.code() != RNL_DEVICE_LOST) return s;
  std::fputc('\n', stderr);
  tell(s.message());
  check(rnl_session_recover(session));
  if (generated > 0) ids.clear();
  if (g.max_tokens) g.max_tokens -= generated;
  return rnl_session_generate(session, ids.data(), ids.size(), &g, print_token, nullptr, nullptr);
}

// Tokens that the session is to hold when --context does not say: of the stream, the prompt and the answer, in whole
// passes and at most the model's. Without a number the answer ends where that is full.
int64_t needed_context(const Options& o, const rnl::Model& model, const Saved& saved, int64_t prompt,
                       rnl_generate_options* g) {
  if (saved.options.context && reads_context(model)) return saved.options.context;
  const int64_t stated = model.info().context > 0 ? model.info().context : INT64_MAX, begin = saved.position + prompt;
  const int64_t open_end = std::max(default_context(model), begin + 1024);
  const int64_t need = std::max(o.max_tokens ? begin + o.max_tokens : open_end, saved.options.context);
  const int64_t context = std::min(std::max(stated, saved.options.context), (need + kPass - 1) / kPass * kPass);
  if (!has_state(model, RNL_STATE_APPEND)) return context;
  if (begin > context)
    throw Failure("the stream's " + std::to_string(saved.position) + " tokens and the prompt's " +
                  std::to_string(prompt) + " are more than the model's context of " + std::to_string(stated) +
                  "; --context " + std::to_string(begin + std::max<int64_t>(o.max_tokens, 1)) +
                  " makes room beyond it");
  if (!o.limits_tokens) g->max_tokens = std::max<int64_t>(std::min(o.max_tokens, context - begin), 1);
  return context;
}

}  // namespace

int cmd_run(const Options& o) {
  Opened opened;
  open(o, &opened);
  TextOptions text_options(o, opened.model);
  rnl_generate_options g = text_options.get();
  const Saved saved = o.load_state.empty() ? Saved{0, rnl::session_options()} : read_saved(o.load_state);
  std::vector<int32_t> ids;
  if (const std::string prompt = o.file.empty() ? o.prompt : read_prompt(o.file); !prompt.empty()) {
    const uint32_t flags =
        (o.special ? uint32_t(RNL_TEXT_SPECIAL) : 0u) | (o.load_state.empty() ? 0u : uint32_t(RNL_TEXT_NO_BOS_EOS));
    check(opened.model.tokenize(prompt, flags, &ids));
  }
  if (ids.empty() && o.load_state.empty()) throw Failure("the prompt is empty");
  rnl_session_options options =
      session_options(o, o.context ? 0 : needed_context(o, opened.model, saved, int64_t(ids.size()), &g));
  continue_saved(saved, &options);
  rnl::Session session;
  check(session.create(opened.model, options));
  Trace trace(o, session.get());
  if (!o.load_state.empty()) check(session.restore(o.load_state));
  {
    PromptProgress progress{Progress("prompt", int64_t(ids.size()))};
    rnl_session_set_progress(session.get(), PromptProgress::step, &progress);
    const rnl::Status s = generate(session.get(), ids, g);
    rnl_session_set_progress(session.get(), nullptr, nullptr);
    std::fputc('\n', stdout);
    if (!s) throw Failure(reason(s));
  }
  if (!o.save_state.empty()) check(session.save(o.save_state));
  text_options.finish();
  trace.finish();
  if (std::fflush(stdout) != 0) throw Failure(std::string("standard output: ") + std::strerror(errno));
  return 0;
}

int cmd_tokenize(const Options& o) {
  Opened opened;
  open(o, &opened);
  TextOutput out(o.out);
  const uint32_t flags = o.special ? RNL_TEXT_SPECIAL : 0;
  for_each_line(o.in, [&](const json& given, size_t n) {
    const std::vector<int32_t> ids = ids_of_line(opened.model, given, flags, n);
    std::string back;
    check(opened.model.detokenize(ids, flags, &back));
    out.write(json_text(json{{"ids", ids}, {"text", back}}) + "\n");
  });
  out.commit();
  return 0;
}

}  // namespace runnel::cli
