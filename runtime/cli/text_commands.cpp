// run and tokenize.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/common.h"
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

namespace {

std::string from_hex(const std::string& hex, size_t line) {
  std::string out;
  auto digit = [&](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    throw Failure("line " + std::to_string(line) + ": bytes_hex holds \"" + c + "\"");
  };
  if (hex.size() % 2) throw Failure("line " + std::to_string(line) + ": bytes_hex has an odd number of digits");
  for (size_t i = 0; i < hex.size(); i += 2) out += char(digit(hex[i]) * 16 + digit(hex[i + 1]));
  return out;
}

}  // namespace

int cmd_tokenize(const Options& o) {
  Opened opened;
  open(o, &opened);
  std::ifstream in(o.in);
  if (!in) throw Failure(o.in + ": cannot open: " + std::strerror(errno));
  std::string out, line;
  const uint32_t flags = o.special ? RNL_TEXT_SPECIAL : 0;
  for (size_t n = 1; std::getline(in, line); ++n) {
    if (line.empty()) continue;
    const json given = json::parse(line, nullptr, false);
    const bool text = given.is_object() && given.contains("text") && given["text"].is_string();
    const bool hex = given.is_object() && given.contains("bytes_hex") && given["bytes_hex"].is_string();
    if (!text && !hex) throw Failure(o.in + ": line " + std::to_string(n) + " is neither {\"text\": …} nor {\"bytes_hex\": …}");
    std::vector<int32_t> ids;
    check(opened.model.tokenize(text ? given["text"].get<std::string>() : from_hex(given["bytes_hex"].get<std::string>(), n), flags, &ids));
    std::string back;
    check(opened.model.detokenize(ids, flags, &back));
    out += json{{"ids", ids}, {"text", back}}.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  }
  if (in.bad()) throw Failure(o.in + ": cannot read: " + std::strerror(errno));
  std::ofstream to(o.out, std::ios::binary);
  to << out;
  to.close();
  if (!to) throw Failure(o.out + ": cannot write: " + std::strerror(errno));
  return 0;
}

}  // namespace runnel::cli
