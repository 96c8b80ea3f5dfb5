// The runnel program: parses the command line and calls one command.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>

#include "cli/common.h"
#include "cli/files.h"

using namespace runnel::cli;

namespace {

// A number from low to high; the message is ours.
template <class T>
CLI::Validator between(T low, T high, std::string range = "") {
  const auto text = [](T v) {
    char digits[64];
    if constexpr (std::is_floating_point_v<T>) std::snprintf(digits, sizeof digits, "%g", double(v));
    else std::snprintf(digits, sizeof digits, "%s", std::to_string(v).c_str());
    return std::string(digits);
  };
  if (range.empty()) range = text(low) + (high == std::numeric_limits<T>::max() ? " or more" : " to " + text(high));
  return CLI::Validator(
      [low, high, range](std::string& given) {
        T v{};
        const bool good = !given.empty() && (std::is_floating_point_v<T> || given[0] != '-' || low < 0) &&
                          CLI::detail::lexical_cast(given, v) && v >= low && v <= high;
        return good ? std::string() : range + " is wanted, not \"" + given + "\"";
      },
      range);
}

CLI::Validator one_of(std::vector<std::string> names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return CLI::Validator(
      [names, list](std::string& given) {
        return std::find(names.begin(), names.end(), given) != names.end()
                   ? std::string()
                   : "one of " + list + " is wanted, not \"" + given + "\"";
      },
      list);
}

constexpr int64_t kMost = int64_t(1) << 31;
constexpr float kAny = std::numeric_limits<float>::max();

class CommandLine {
 public:
  CommandLine();
  // The command's exit code.
  int run(int argc, char** argv);

 private:
  using Command = int (*)(const Options&);
  CLI::App* add(const char* name, const char* help, Command command, bool model = true);
  void device(CLI::App* sub, const char* context, bool traces = true);
  void chunk(CLI::App* sub) {
    sub->add_option("--chunk", o_.chunk, "tokens of one pass; default 256")->check(between<int64_t>(1, 65536));
  }
  void special(CLI::App* sub, const char* what) {
    sub->add_flag("--special", o_.special,
                  std::string("special tokens written in the ") + what +
                      " count as tokens; default: they are plain text");
  }
  void sampling(CLI::App* sub, const char* tokens);
  void add_run();
  void add_chat();
  void add_eval();
  void add_embed();
  void add_perplexity();
  void add_bench();
  void add_tokenize();
  void add_inspect();
  int wrong_usage(const std::string& what) const;
  int explain(const CLI::ParseError& error, int argc, char** argv) const;
  bool is_given(const char* option) const { return app_.get_subcommands().at(0)->count(option) > 0; }
  // What the parser cannot see; empty: nothing is wrong.
  std::string check() const;

  CLI::App app_{"Runs .rnl models: linear-time, sliding-window and pruned-token models on small machines."};
  Options o_;
  Command command_ = nullptr;
};

CLI::App* CommandLine::add(const char* name, const char* help, Command command, bool model) {
  CLI::App* sub = app_.add_subcommand(name, help);
  if (model) sub->add_option("model", o_.model, "the .rnl file")->required();
  sub->callback([this, command] { command_ = command; });
  return sub;
}

void CommandLine::device(CLI::App* sub, const char* context, bool traces) {
  sub->add_option("--backend", o_.backend, "where it runs")->check(one_of({"cpu", "vulkan"}))->capture_default_str();
  sub->add_option("--threads", o_.threads, "threads; default: the performance cores, at most 4")
      ->check(between(1, 256));
  sub->add_option("--context", o_.context, std::string("tokens that the state holds; default: ") + context)
      ->check(between<int64_t>(1, kMost));
  sub->add_option("--kv", o_.kv, "type of keys and values; default: as the file says")
      ->check(one_of({"f32", "f16", "q8"}));
  sub->add_option(
      "--adapter", o_.adapter,
      "a file of runnel-convert --adapter for this model, whose low-rank products are added; default: none");
  if (traces)
    sub->add_option("--trace", o_.trace,
                    "write the time of every operator to this file as a Chrome trace; default: none is taken");
}

void CommandLine::sampling(CLI::App* sub, const char* tokens) {
  sub->add_option("--temp", o_.temperature, "temperature; 0 is greedy")
      ->check(between(0.0f, 100.0f))
      ->capture_default_str();
  sub->add_option("--top-k", o_.top_k, "keep the k best tokens; 0 keeps all")
      ->check(between(0, std::numeric_limits<int>::max()))
      ->capture_default_str();
  sub->add_option("--top-p", o_.top_p,
                  "keep the smallest set of tokens with this probability, at least one; 1 keeps all")
      ->check(between(0.0f, 1.0f))
      ->capture_default_str();
  sub->add_option("--min-p", o_.min_p, "drop tokens below this share of the best one's probability; 0 drops none")
      ->check(between(0.0f, 1.0f))
      ->capture_default_str();
  sub->add_option("--repetition-penalty", o_.repetition_penalty, "divide logits of the 64 newest tokens; 1 is off")
      ->check(between(std::numeric_limits<float>::min(), kAny, "a number above 0"))
      ->capture_default_str();
  sub->add_option("--seed", o_.seed, "seed of the draws; default: another one each time")
      ->check(between<uint64_t>(0, std::numeric_limits<uint64_t>::max()));
  sub->add_option("-n", o_.max_tokens,
                  std::string("tokens to generate at most; 0: until the context is full; default ") + tokens)
      ->check(between<int64_t>(0, kMost));
  sub->add_option("--stop", o_.stop, "a text that ends the answer; may be given several times; default: none")
      ->allow_extra_args(false);
  auto* grammar =
      sub->add_option("--grammar", o_.grammar,
                      "a grammar that the answer follows: a file in GBNF, or the grammar itself; default: none");
  auto* schema = sub->add_option("--json-schema", o_.json_schema,
                                 "a file with a JSON Schema: the answer is a document of it; default: none")
                     ->excludes(grammar);
  sub->add_flag("--json-output", o_.json_output, "the answer is one JSON value")->excludes(grammar)->excludes(schema);
}

void CommandLine::add_run() {
  CLI::App* run = add("run", "Continue a text; streams the continuation", cmd_run);
  auto* prompt = run->add_option("-p,--prompt", o_.prompt, "the text to continue");
  run->add_option("--file", o_.file,
                  "a file with the text, \"-\" for standard input, without the end of its last line; default: standard "
                  "input when that is no terminal")
      ->excludes(prompt);
  special(run, "text");
  run->add_option(
      "--load-state", o_.load_state,
      "restore the stream from this file; a text is then taken from -p or --file alone, and there may be none");
  run->add_option("--save-state", o_.save_state, "save the stream to this file at the end");
  auto* logprobs =
      run->add_option(
             "--logprobs", o_.logprobs,
             "log-probabilities of each token and of this many best ones, as lines of JSON; default: none are written")
          ->check(between(0, 256));
  run->add_option("--logprobs-file", o_.logprobs_file, "where they go; default: standard error")->needs(logprobs);
  sampling(run, "128");
  device(run, "what the call needs, at most the model's");
}

void CommandLine::add_chat() {
  CLI::App* chat = add("chat", "Talk to a model that has a chat format", cmd_chat);
  chat->add_option("--system", o_.system, "system message; default: none");
  chat->add_option("--set", o_.variables,
                   "NAME=VALUE: a variable of the chat template, such as enable_thinking=false; may be given several "
                   "times; default: as the template says")
      ->allow_extra_args(false);
  chat->add_option("--load-state", o_.load_state, "go on with the conversation saved in this file");
  chat->add_option("--save-state", o_.save_state, "save the conversation to this file at the end");
  chat->add_option("--rollback", o_.rollback,
                   "tokens that can be taken back where the chat template writes earlier answers in another way; more "
                   "cost memory in models with sliding windows; default: 64, with recurrent "
                   "states as many as an answer may have, at most 1024")
      ->check(between<int64_t>(1, 65536));
  sampling(chat, "1024");
  device(chat, "the model's, at most 4096; with --load-state at least as saved");
}

void CommandLine::add_eval() {
  CLI::App* eval = add("eval", "Run tensors through a program", cmd_eval);
  eval->add_option("--in", o_.in, "inputs, a .safetensors file")->required();
  eval->add_option("--out", o_.out, "outputs, a .safetensors file")->required();
  chunk(eval);
  eval->add_option("--program", o_.program, "the program's name; default: the first");
  eval->add_option("--output", o_.outputs,
                   "an output that is wanted, such as last_hidden_state; may be given several times; default: all that "
                   "are not optional")
      ->allow_extra_args(false);
  device(eval, "what the inputs need");
}

void CommandLine::add_embed() {
  CLI::App* embed = add("embed", "Embeddings of texts: one vector a line", cmd_embed);
  auto* one_text = embed->add_option("-p,--prompt", o_.prompt, "a text; its embedding is printed as a JSON array");
  auto* lines =
      embed
          ->add_option("--in", o_.in,
                       "lines of JSON, \"-\" for standard input: {\"text\": …}, {\"bytes_hex\": …} or {\"ids\": […]}")
          ->excludes(one_text);
  auto* vectors =
      embed->add_option("--out", o_.out, "embeddings float32 [lines, width], a .safetensors file")->needs(lines);
  lines->needs(vectors);
  embed->add_option("--pooling", o_.pooling, "which of the text's rows count; default: as the model says")
      ->check(one_of({"model", "last", "mean", "first"}));
  embed->add_flag("--no-normalize", o_.no_normalise, "leave out the scaling to length 1; default: as the model says");
  special(embed, "text");
  chunk(embed);
  device(embed, "what the longest text needs");
}

void CommandLine::add_perplexity() {
  CLI::App* perplexity = add("perplexity", "Perplexity of a text", cmd_perplexity);
  auto* file = perplexity->add_option("--file", o_.file, "a text file, \"-\" for standard input");
  auto* ids = perplexity->add_option("--in", o_.in, "ids in a .safetensors file");
  file->excludes(ids);
  perplexity
      ->add_option("--window", o_.window,
                   "cut the text in windows of this many tokens and score the second half of each; default: the text "
                   "is one stream")
      ->check(between<int64_t>(4, kMost));
  chunk(perplexity);
  perplexity->add_flag("--json", o_.json, "print one JSON object");
  device(perplexity, "what the text or the window needs");
}

void CommandLine::add_bench() {
  CLI::App* bench = add("bench", "Measure prefill, decode, load and memory", cmd_bench);
  bench->add_option("--prompt", o_.prompt_tokens, "tokens of the prompt")
      ->check(between<int64_t>(0, kMost))
      ->capture_default_str();
  bench->add_option("--gen", o_.gen_tokens, "tokens to generate")
      ->check(between<int64_t>(0, kMost))
      ->capture_default_str();
  bench->add_option("--depth", o_.depth, "tokens in the stream before decode is measured")
      ->check(between<int64_t>(0, kMost))
      ->capture_default_str();
  bench->add_option("--repeat", o_.repeat, "runs; the median is printed")
      ->check(between(1, 1000))
      ->capture_default_str();
  chunk(bench);
  bench->add_option("--seed", o_.seed, "seed of the ids")
      ->check(between<uint64_t>(0, std::numeric_limits<uint64_t>::max()))
      ->capture_default_str();
  bench->add_flag("--json", o_.json, "print one JSON object");
  device(bench, "what the call needs");
}

void CommandLine::add_tokenize() {
  CLI::App* tokenize = add("tokenize", "Text to ids and back, line by line", cmd_tokenize);
  tokenize->add_option("--in", o_.in, "lines of JSON, \"-\" for standard input: {\"text\": …} or {\"bytes_hex\": …}")
      ->required();
  tokenize->add_option("--out", o_.out, "lines of JSON, \"-\" for standard output: {\"ids\": […], \"text\": …}")
      ->required();
  special(tokenize, "text");
}

void CommandLine::add_inspect() {
  CLI::App* inspect = add("inspect", "Show graph, plan, memory, states and provenance", cmd_inspect);
  chunk(inspect);
  inspect->add_flag("--json", o_.json, "print one JSON object");
  inspect->add_flag("--verify", o_.verify, "read everything and check every checksum");
  inspect->add_option("--program", o_.program, "the program that --compare and --dump run; default: the first");
  auto* in = inspect->add_option("--in", o_.in, "inputs of --dump, a .safetensors file");
  auto* dump =
      inspect
          ->add_option(
              "--dump", o_.dump,
              "run the inputs and write them and every value of the graph by its name to this .safetensors file")
          ->needs(in);
  in->needs(dump);
  auto* compare = inspect
                      ->add_option("--compare", o_.compare,
                                   "run the inputs of this .safetensors file and compare every value that it holds "
                                   "too; shows the first operator that differs")
                      ->excludes(dump);
  inspect->add_option("--tol", o_.tolerance, "largest difference, in parts of a value's largest element")
      ->check(between(0.0, std::numeric_limits<double>::max()))
      ->capture_default_str()
      ->needs(compare);
  device(inspect, "the model's, at most 4096; of --compare and --dump what the inputs need", false);
}

CommandLine::CommandLine() {
  app_.set_version_flag("--version", std::string("runnel ") + rnl_version() + ", format " + rnl_format_version());
  app_.require_subcommand(1);
  add_run();
  add_chat();
  add_eval();
  add_embed();
  add_perplexity();
  add_bench();
  add_tokenize();
  add_inspect();
  add("devices", "Show what this machine offers", cmd_devices, false);
}

int CommandLine::wrong_usage(const std::string& what) const {
  const auto used = app_.get_subcommands();
  const std::string name = used.empty() ? "runnel" : "runnel " + used[0]->get_name();
  std::fprintf(stderr, "%s: %s\n%s --help says what there is\n", name.c_str(), printable(what).c_str(), name.c_str());
  return 2;
}

// The parser's errors in our words.
int CommandLine::explain(const CLI::ParseError& error, int argc, char** argv) const {
  std::string commands;
  for (const CLI::App* sub : app_.get_subcommands(nullptr))
    commands += (commands.empty() ? "" : ", ") + sub->get_name();
  const auto used = app_.get_subcommands();
  if (used.empty() && argc > 1 && argv[1][0] != '-')
    return wrong_usage("unknown command \"" + std::string(argv[1]) + "\"; there are " + commands);
  const std::string text = error.what();
  const auto swapped = [&](const char* from, const char* to) {
    const size_t at = text.find(from);
    return at == text.npos ? text : text.substr(0, at) + to + text.substr(at + std::strlen(from));
  };
  const auto before_colon = [&] { return text.substr(0, text.find(": ")); };
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
    const std::vector<std::string> extras = used.empty() ? app_.remaining() : used[0]->remaining();
    return wrong_usage("unknown argument \"" + (extras.empty() ? std::string() : extras[0]) + "\"");
  }
  if (used.empty() && argc > 1) return wrong_usage("unknown argument \"" + std::string(argv[1]) + "\"");
  if (used.empty()) return wrong_usage("which command? There are " + commands);
  if (dynamic_cast<const CLI::RequiredError*>(&error)) return wrong_usage(swapped(" is required", " is missing"));
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error))
    return wrong_usage(before_colon() + ": a value is missing, or there are too many");
  if (dynamic_cast<const CLI::ExcludesError*>(&error)) return wrong_usage(swapped(" excludes ", " does not go with "));
  if (dynamic_cast<const CLI::RequiresError*>(&error)) return wrong_usage(swapped(" requires ", " needs "));
  if (dynamic_cast<const CLI::ConversionError*>(&error))
    return wrong_usage("a value is no number that fits, or stands where none belongs");
  return wrong_usage(text);
}

std::string CommandLine::check() const {
  if (command_ == cmd_run && o_.prompt.empty() && o_.load_state.empty() && o_.file.empty())
    return "give a prompt with -p, --file or standard input, or a saved stream with --load-state";
  if (command_ == cmd_perplexity && o_.file.empty() == o_.in.empty()) return "give either --file or --in";
  if (command_ == cmd_embed && !is_given("--prompt") && o_.in.empty())
    return "give a text with -p, or lines with --in and --out";
  return {};
}

int CommandLine::run(int argc, char** argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app_.exit(e);  // help and version
    return explain(e, argc, argv);
  }
  if ((command_ == cmd_run || command_ == cmd_chat) && o_.temperature > 0 && !is_given("--seed")) {
    std::random_device random;
    o_.seed = uint64_t(random()) << 32 | random();
  }
  o_.limits_tokens = o_.max_tokens >= 0;
  if (o_.max_tokens < 0) o_.max_tokens = command_ == cmd_chat ? 1024 : 128;
  for (const std::string& text : o_.stop) o_.stops.push_back(text.c_str());
  if (command_ == cmd_run && !is_given("--prompt") && o_.file.empty() && o_.load_state.empty() && !is_terminal(0))
    o_.file = "-";
  if (const std::string wrong = check(); !wrong.empty()) return wrong_usage(wrong);
  try {
    check_outputs(o_);
    const int code = command_(o_);
    // Buffered output that cannot be written, such as to a full disk, is a failure too.
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw Failure("cannot write to standard output");
    return code;
  } catch (const Failure& e) {
    std::fflush(stdout);
    tell(e.what());
  } catch (const std::bad_alloc&) {
    tell("not enough memory");
  } catch (const std::exception&) {
    // None of our messages: of the C++ library or of what reads JSON.
    tell("an internal error of this program");
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  remove_files_on_signals();
  return CommandLine().run(argc, argv);
}
