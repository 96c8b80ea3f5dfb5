// run and tokenize.
#include <cstdio>
#include <cstring>
#include <fstream>
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
  std::fprintf(stderr, "\nrunnel: %s\n", s.message().c_str());
  check(rnl_session_recover(session));
  if (generated > 0) ids.clear();
  if (g.max_tokens) g.max_tokens -= generated;
  return rnl_session_generate(session, ids.data(), ids.size(), &g, print_token, nullptr, nullptr);
}

}  // namespace

int cmd_run(const Options& o) {
  if (o.prompt.empty() && o.load_state.empty()) throw Failure("run: give a prompt with -p, or a saved stream with --load-state");
  Opened opened;
  open(o, &opened);
  TextOptions text_options(o, opened.model);
  rnl::Session session;
  check(session.create(opened.model, session_options(o, default_context(opened.model))));
  Trace trace(o, session.get());
  if (!o.load_state.empty()) check(session.restore(o.load_state));
  std::vector<int32_t> ids;
  if (!o.prompt.empty()) {
    const uint32_t flags = (o.special ? uint32_t(RNL_TEXT_SPECIAL) : 0u) | (o.load_state.empty() ? 0u : uint32_t(RNL_TEXT_NO_BOS_EOS));
    check(opened.model.tokenize(o.prompt, flags, &ids));
  }
  {
    PromptProgress progress{Progress("prompt", int64_t(ids.size()))};
    rnl_session_set_progress(session.get(), PromptProgress::step, &progress);
    const rnl::Status s = generate(session.get(), ids, text_options.get());
    rnl_session_set_progress(session.get(), nullptr, nullptr);
    std::fputc('\n', stdout);
    check(s);
  }
  if (!o.save_state.empty()) check(session.save(o.save_state));
  if (std::fflush(stdout) != 0) throw Failure(std::string("standard output: ") + std::strerror(errno));
  return 0;
}

int cmd_tokenize(const Options& o) {
  Opened opened;
  open(o, &opened);
  std::string out;
  const uint32_t flags = o.special ? RNL_TEXT_SPECIAL : 0;
  for_each_line(o.in, [&](const json& given, size_t n) {
    const std::vector<int32_t> ids = ids_of_line(opened.model, given, flags, n);
    std::string back;
    check(opened.model.detokenize(ids, flags, &back));
    out += json{{"ids", ids}, {"text", back}}.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  });
  std::ofstream to(o.out, std::ios::binary);
  to << out;
  to.close();
  if (!to) throw Failure(o.out + ": cannot write: " + std::strerror(errno));
  return 0;
}

}  // namespace runnel::cli
