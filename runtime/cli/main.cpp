// The runnel program: parses the command line and calls one command.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/common.h"

using namespace runnel::cli;

int main(int argc, char** argv) {
  CLI::App app{"Runs .rnl models: linear-time, sliding-window and pruned-token models on small machines."};
  app.set_version_flag("--version", std::string("runnel ") + rnl_version() + ", format " + rnl_format_version());
  app.require_subcommand(1);
  Options o;
  int (*command)(const Options&) = nullptr;

  auto add = [&](const char* name, const char* help, int (*fn)(const Options&), bool model = true) {
    CLI::App* sub = app.add_subcommand(name, help);
    if (model) sub->add_option("model", o.model, "the .rnl file")->required();
    sub->callback([&command, fn] { command = fn; });
    return sub;
  };
  auto device = [&](CLI::App* sub) {
    sub->add_option("--backend", o.backend, "where it runs")->check(CLI::IsMember({"cpu", "vulkan"}))->capture_default_str();
    sub->add_option("--threads", o.threads, "threads; default: the performance cores, at most 4")->check(CLI::Range(1, 256));
    sub->add_option("--context", o.context, "tokens that the state holds; default: what the call needs")->check(CLI::Range(int64_t(1), int64_t(1) << 31));
    sub->add_option("--kv", o.kv, "type of keys and values; default: as the file says")->check(CLI::IsMember({"f32", "f16", "q8"}));
    sub->add_option("--adapter", o.adapter, "a file of runnel-convert --adapter for this model, whose low-rank products are added");
    sub->add_option("--trace", o.trace, "write the time of every operator as a Chrome trace");
  };
  auto sampling = [&](CLI::App* sub) {
    sub->add_option("--temp", o.temperature, "temperature; 0 is greedy")->check(CLI::Range(0.0f, 100.0f))->capture_default_str();
    sub->add_option("--top-k", o.top_k, "keep the k best tokens; 0 keeps all")->check(CLI::NonNegativeNumber);
    sub->add_option("--top-p", o.top_p, "keep the smallest set with this probability")->check(CLI::Range(0.0f, 1.0f));
    sub->add_option("--min-p", o.min_p, "drop tokens below this share of the best one's probability")->check(CLI::Range(0.0f, 1.0f));
    sub->add_option("--repetition-penalty", o.repetition_penalty, "divide logits of recent tokens; 1 is off")->check(CLI::PositiveNumber);
    sub->add_option("--seed", o.seed, "seed of the draws");
    sub->add_option("-n", o.max_tokens, "tokens to generate at most; 0: until the context is full; default 128, for chat 1024")->check(CLI::Range(int64_t(0), int64_t(1) << 31));
    sub->add_option("--stop", o.stop, "a text that ends the answer; may be given several times")->allow_extra_args(false);
    auto* grammar = sub->add_option("--grammar", o.grammar, "a grammar that the answer follows: a file in GBNF, or the grammar itself");
    auto* schema = sub->add_option("--json-schema", o.json_schema, "a file with a JSON Schema: the answer is a document of it")->excludes(grammar);
    sub->add_flag("--json-output", o.json_output, "the answer is one JSON value")->excludes(grammar)->excludes(schema);
  };

  CLI::App* run = add("run", "Continue a text; streams the continuation", cmd_run);
  run->add_option("-p,--prompt", o.prompt, "the text to continue");
  run->add_flag("--special", o.special, "special tokens written in the prompt count as tokens");
  run->add_option("--load-state", o.load_state, "restore the stream from this file before the prompt");
  run->add_option("--save-state", o.save_state, "save the stream to this file at the end");
  run->add_option("--logprobs", o.logprobs, "log-probabilities of each token and of this many best ones, as lines of JSON")->check(CLI::Range(0, 256));
  run->add_option("--logprobs-file", o.logprobs_file, "where they go; default: standard error");
  sampling(run);
  device(run);

  CLI::App* chat = add("chat", "Talk to a model that has a chat format", cmd_chat);
  chat->add_option("--system", o.system, "system message");
  chat->add_option("--set", o.variables, "NAME=VALUE: a variable of the chat template, such as enable_thinking=false; may be given several times")->allow_extra_args(false);
  chat->add_option("--load-state", o.load_state, "go on with the conversation saved in this file");
  chat->add_option("--save-state", o.save_state, "save the conversation to this file at the end");
  sampling(chat);
  device(chat);

  CLI::App* eval = add("eval", "Run tensors through a program", cmd_eval);
  eval->add_option("--in", o.in, "inputs, a .safetensors file")->required();
  eval->add_option("--out", o.out, "outputs, a .safetensors file")->required();
  eval->add_option("--chunk", o.chunk, "tokens of one pass")->check(CLI::Range(int64_t(1), int64_t(65536)));
  eval->add_option("--program", o.program, "the program's name; default: the first");
  eval->add_option("--output", o.outputs, "an output that is wanted, such as last_hidden_state; may be given several times; default: all that are not optional")->allow_extra_args(false);
  device(eval);

  CLI::App* embed = add("embed", "Embeddings of texts: one vector a line", cmd_embed);
  auto* one_text = embed->add_option("-p,--prompt", o.prompt, "a text; its embedding is printed as a JSON array");
  auto* lines = embed->add_option("--in", o.in, "lines of JSON: {\"text\": …}, {\"bytes_hex\": …} or {\"ids\": […]}")->excludes(one_text);
  auto* vectors = embed->add_option("--out", o.out, "embeddings float32 [lines, width], a .safetensors file")->needs(lines);
  lines->needs(vectors);
  embed->add_option("--pooling", o.pooling, "which of the text's rows count; default: as the model says")->check(CLI::IsMember({"model", "last", "mean", "first"}));
  embed->add_flag("--no-normalize", o.no_normalise, "leave out the scaling to length 1");
  embed->add_flag("--special", o.special, "special tokens written in the text count as tokens");
  embed->add_option("--chunk", o.chunk, "tokens of one pass")->check(CLI::Range(int64_t(1), int64_t(65536)));
  device(embed);

  CLI::App* perplexity = add("perplexity", "Perplexity of a text", cmd_perplexity);
  auto* file = perplexity->add_option("--file", o.file, "a text file");
  auto* ids = perplexity->add_option("--in", o.in, "ids in a .safetensors file");
  file->excludes(ids);
  perplexity->add_option("--window", o.window, "cut the text in windows of this many tokens and score the second half of each")->check(CLI::Range(int64_t(4), int64_t(1) << 31));
  perplexity->add_option("--chunk", o.chunk, "tokens of one pass")->check(CLI::Range(int64_t(1), int64_t(65536)));
  perplexity->add_flag("--json", o.json, "print one JSON object");
  device(perplexity);

  CLI::App* bench = add("bench", "Measure prefill, decode, load and memory", cmd_bench);
  bench->add_option("--prompt", o.prompt_tokens, "tokens of the prompt")->check(CLI::Range(int64_t(0), int64_t(1) << 31))->capture_default_str();
  bench->add_option("--gen", o.gen_tokens, "tokens to generate")->check(CLI::Range(int64_t(0), int64_t(1) << 31))->capture_default_str();
  bench->add_option("--depth", o.depth, "tokens in the stream before decode is measured")->check(CLI::Range(int64_t(0), int64_t(1) << 31))->capture_default_str();
  bench->add_option("--repeat", o.repeat, "runs; the median is printed")->check(CLI::Range(1, 1000))->capture_default_str();
  bench->add_option("--chunk", o.chunk, "tokens of one pass")->check(CLI::Range(int64_t(1), int64_t(65536)));
  bench->add_option("--seed", o.seed, "seed of the ids");
  bench->add_flag("--json", o.json, "print one JSON object");
  device(bench);

  CLI::App* tokenize = add("tokenize", "Text to ids and back, line by line", cmd_tokenize);
  tokenize->add_option("--in", o.in, "lines of JSON: {\"text\": …} or {\"bytes_hex\": …}")->required();
  tokenize->add_option("--out", o.out, "lines of JSON: {\"ids\": […], \"text\": …}")->required();
  tokenize->add_flag("--special", o.special, "special tokens written in the text count as tokens");

  CLI::App* inspect = add("inspect", "Show graph, plan, memory, states and provenance", cmd_inspect);
  inspect->add_option("--chunk", o.chunk, "tokens of one pass")->check(CLI::Range(int64_t(1), int64_t(65536)));
  inspect->add_flag("--json", o.json, "print one JSON object");
  inspect->add_flag("--verify", o.verify, "read everything and check every checksum");
  inspect->add_option("--program", o.program, "the program that --compare and --dump run; default: the first");
  auto* in = inspect->add_option("--in", o.in, "inputs of --dump, a .safetensors file");
  auto* dump = inspect->add_option("--dump", o.dump, "run the inputs and write them and every value of the graph by its name to this .safetensors file")->needs(in);
  in->needs(dump);
  auto* compare = inspect->add_option("--compare", o.compare, "run the inputs of this .safetensors file and compare every value that it holds too; shows the first operator that differs")->excludes(dump);
  inspect->add_option("--tol", o.tolerance, "largest difference, in parts of a value's largest element")->check(CLI::NonNegativeNumber)->capture_default_str()->needs(compare);
  device(inspect);

  add("devices", "Show what this machine offers", cmd_devices, false);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (o.max_tokens < 0) o.max_tokens = command == cmd_chat ? 1024 : 128;
  for (const std::string& text : o.stop) o.stops.push_back(text.c_str());
  if (command == cmd_perplexity && o.file.empty() == o.in.empty()) {
    std::fprintf(stderr, "perplexity: give either --file or --in\n");
    return 2;
  }
  if (command == cmd_embed && one_text->count() == 0 && o.in.empty()) {
    std::fprintf(stderr, "embed: give a text with -p, or lines with --in and --out\n");
    return 2;
  }
  try {
    const int code = command(o);
    // Buffered output that cannot be written, such as to a full disk, is a failure too.
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
      std::fprintf(stderr, "runnel: cannot write to standard output\n");
      return 1;
    }
    return code;
  } catch (const std::exception& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "runnel: %s\n", e.what());
    return 1;
  }
}
