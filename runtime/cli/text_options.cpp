#include "cli/text_options.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "runnel/json_schema.hpp"

namespace runnel::cli {
namespace {

// What was asked for as GBNF; empty: nothing.
std::string grammar_text(const Options& o) {
  if (o.json_output) return rnl::json_grammar();
  if (!o.json_schema.empty()) {
    std::string grammar, error;
    std::vector<std::string> notes;
    if (!rnl::json_schema_to_grammar(read_text(o.json_schema), &grammar, &error, &notes))
      throw Failure(o.json_schema + ": " + error);
    for (const std::string& n : notes) tell("note: " + o.json_schema + ": " + n);
    return grammar;
  }
  // No path has this in it.
  return o.grammar.find("::=") != std::string::npos || o.grammar.empty() ? o.grammar : read_text(o.grammar);
}

}  // namespace

TextOptions::TextOptions(const Options& o, const rnl::Model& model) : model_(model), options_(generate_options(o)) {
  if (const std::string text = grammar_text(o); !text.empty()) {
    check(grammar_.create(model, text));
    options_.grammar = grammar_.get();
  }
  if (o.logprobs < 0) return;
  if (!o.logprobs_file.empty()) logprobs_ = std::make_unique<TextOutput>(o.logprobs_file);
  options_.logprobs_count = o.logprobs;
  options_.logprobs = [](void* user, const rnl_logprobs* token) {
    static_cast<TextOptions*>(user)->write_logprobs(*token);
  };
  options_.logprobs_user = this;
}

void TextOptions::write_logprobs(const rnl_logprobs& token) try {
  if (!error_.empty()) return;
  const auto entry = [&](const rnl_logprob& p) {
    std::string text;
    check(model_.detokenize({p.id}, RNL_TEXT_SPECIAL, &text));
    return nlohmann::ordered_json{{"id", p.id}, {"text", text}, {"logprob", p.logprob}};
  };
  nlohmann::ordered_json line = entry(token.chosen);
  line["best"] = nlohmann::ordered_json::array();
  for (size_t i = 0; i < token.best_count; ++i) line["best"].push_back(entry(token.best[i]));
  const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  if (logprobs_) logprobs_->write(text);
  else if (std::fwrite(text.data(), 1, text.size(), stderr) != text.size())
    error_ = "cannot write log-probabilities to standard error";
} catch (const std::exception& e) {
  error_ = e.what();
}

void TextOptions::finish() {
  if (!error_.empty()) throw Failure(error_);
  if (logprobs_) logprobs_->commit();
}

}  // namespace runnel::cli
