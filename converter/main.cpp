// runnel-convert: exit codes 0 done, 1 a failure that the message explains, 2 wrong usage.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "converter/convert.h"
#include "converter/passes/kv_policy.h"
#include "converter/program/pruning.h"
#include "converter/passes/sparse_keys.h"
#include "converter/recipes/recipe.h"
#include "converter/write/output.h"
#include "converter/write/progress.h"

using namespace runnel::convert;

namespace {

int run(const ConvertOptions& options) {
  const ConvertReport r = convert(options);
  for (const std::string& notice : r.notices) std::fprintf(stderr, "note: %s\n", notice.c_str());
  if (options.is_dry) {
    std::printf("architecture %s\n%snothing was written\n", r.architecture.c_str(), r.plan.c_str());
    return 0;
  }
  const double mb = 1e-6;
  std::printf("%s: %s, %.1f MB (weights %.1f MB, source's tensors %.1f MB, vocabulary %.1f MB)\n",
              options.output.c_str(), r.architecture.c_str(), double(r.written.file_bytes) * mb,
              double(r.written.weight_bytes) * mb, double(r.source_tensor_bytes) * mb,
              double(r.written.tokenizer_bytes) * mb);
  return 0;
}

// A table in Markdown: converter/README.md holds what this prints.
void print_families() {
  const auto listed = [](const std::vector<const char*>& names) {
    std::string text;
    for (const char* name : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text.empty() ? "-" : text;
  };
  std::vector<const Recipe*> recipes = all_recipes();
  std::sort(recipes.begin(), recipes.end(),
            [](const Recipe* a, const Recipe* b) { return std::string(a->name) < b->name; });
  std::printf("| recipe | model_type in config.json | general.architecture in GGUF |\n|---|---|---|\n");
  for (const Recipe* r : recipes)
    std::printf("| %s | %s | %s |\n", r->name, listed(r->config).c_str(), listed(r->gguf).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Turns a trained checkpoint into a Runnel model (.rnl).", "runnel-convert");
  app.set_version_flag("--version", "runnel-convert " RNL_VERSION);
  app.add_flag_callback(
      "--families",
      [] {
        print_families();
        throw CLI::Success();
      },
      "prints the names that the recipes answer to, and ends");
  ConvertOptions options;
  std::string input, output, weights_file, lora, adapter, tokenizer, weights = "keep", head = "auto", state = "f32";
  app.add_option("INPUT", input,
                 "a .gguf file, a directory with config.json and *.safetensors, an RWKV .safetensors in its authors' "
                 "names, an .onnx file, or a graph in JSON with --weights-file")
      ->required();
  CLI::Option* to = app.add_option("-o,--output", output, "the file to write, for example model.rnl");
  app.add_flag("--dry-run", options.is_dry,
               "reads the source and prints what the file would hold: operators, states, tensors; writes nothing");
  app.add_option("--weights", weights,
                 "f32, f16, q8 (8 bits, a scale for each 32) or q4 (4 bits, a scale for each 32); default keep: what "
                 "the source holds, exactly (F8 as f16)")
      ->check(CLI::IsMember({"keep", "f32", "f16", "q8", "q4"}));
  app.add_option("--head", head,
                 "how an 8-bit output matrix is stored: split (its high and low 4 bits apart, 6% more room, greedy and "
                 "top-k decoding read about half of it), whole, or auto (default): "
                 "split when it is large")
      ->check(CLI::IsMember({"auto", "whole", "split"}));
  app.add_option("--state", state, "type of large recurrent states: f32 (default) or f16 (half the memory and traffic)")
      ->check(CLI::IsMember({"f32", "f16"}));
  app.add_flag("--features", options.features,
               "adds a program that takes rows as wide as an embedding in the place of ids, for pictures and sounds");
  app.add_option("--weights-file", weights_file, "safetensors with the weights of a graph in JSON");
  std::vector<std::string> axes;
  app.add_option(
         "--axis", axes,
         "NAME=SIZE: the largest size of an axis that each call gives, where the default is too small or too large "
         "(of an .onnx file: the context, and 1 for what counts inputs side by side)")
      ->check([](const std::string& text) {
        const size_t at = text.rfind('=');
        const std::string digits = at == text.npos ? "" : text.substr(at + 1);
        const bool is_size = !digits.empty() && digits.size() < 10 &&
                             digits.find_first_not_of("0123456789") == digits.npos && digits[0] != '0';
        return is_size && at > 0 ? std::string() : "\"" + text + "\" is not NAME=SIZE";
      });
  std::vector<std::string> known;
  app.add_option(
         "--set", known,
         "NAME=NUMBER: of an .onnx file, an input of one number, or an axis, that has this value in every call: "
         "the input is gone, and what hangs on it is computed now")
      ->check([](const std::string& text) {
        const size_t at = text.rfind('=');
        const char* begin = text.c_str() + (at == text.npos ? 0 : at + 1);
        char* end = nullptr;
        const double value = std::strtod(begin, &end);
        const bool is_number = end != begin && *end == 0 && std::isfinite(value);
        return at != text.npos && at > 0 && is_number ? std::string() : "\"" + text + "\" is not NAME=NUMBER";
      });
  app.add_option("--lora", lora,
                 "folder of a low-rank adapter (adapter_config.json, adapter_model.safetensors) that is merged into "
                 "the weights")
      ->excludes("--weights-file");
  app.add_option("--adapter", adapter,
                 "folder of a low-rank adapter that becomes a small file of its own: runnel --adapter opens it beside "
                 "a model made from the same INPUT, with whatever --weights")
      ->excludes("--weights-file", "--lora", "--dry-run");
  app.add_option("--lora-scale", options.lora_scale, "what an adapter adds is multiplied by this")
      ->capture_default_str();
  CLI::Option* chosen =
      app.add_option(
             "--tokenizer", tokenizer,
             "takes the place of the source's: a tokenizer.json, tokenizer.model, tekken.json or a folder with one")
          ->excludes("--weights-file");
  app.add_flag("--without-tokenizer", options.tokenizer.is_left_out,
               "goes on without a tokenizer: eval, bench and perplexity of ids work, text does not")
      ->excludes(chosen);
  CLI::Option* window =
      app.add_option("--window", options.imposed.window,
                     "imposes a window: each token sees this many of the newest ones at most, in constant memory for "
                     "streams of any length")
          ->check(CLI::Range(int64_t(1), int64_t(1) << 30));
  app.add_option("--sinks", options.imposed.sinks,
                 "with --window: the stream's first tokens that stay in sight, usually 4 (StreamingLLM)")
      ->check(CLI::Range(int64_t(0), int64_t(65536)))
      ->needs(window);
  app.add_option(
      "--sparse", options.sparse,
      "attention over some of the keys, chosen in units of `block` for `queries` queries together, the `first` "
      "units always; calls of fewer than `least` tokens see all, and the first `exact` layers; a choice serves "
      "`layers` layers: " +
          sparse_methods());
  app.add_option("--kv-policy", options.kv_policy,
                 "constant memory of keys and values for streams of any length: " + kv_policies())
      ->excludes(window);
  app.add_option("--prune", options.prune,
                 "fewer tokens in the layers of a model whose tokens all see each other: " + prune_methods());
  app.add_option("--context", options.context, "longest stream in tokens that the file states; default the source's")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 30));
  options.threads = int(std::clamp(std::thread::hardware_concurrency(), 1u, 8u));
  app.add_option("--threads", options.threads, "threads that pack weights; default all processors, at most 8")
      ->check(CLI::Range(1, 256));
  app.add_flag_callback(
      "--progress-lines", progress_as_lines,
      "prints lines \"progress DONE TOTAL\" (bytes) to standard error in place of a bar, for programs "
      "that show progress themselves");
  try {
    app.parse(argc, argv);
    if (!options.is_dry && to->count() == 0) throw CLI::RequiredError("--output");
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  options.input = input;
  options.output = output;
  options.weights_file = weights_file;
  for (const std::string& a : axes) options.axes[a.substr(0, a.rfind('='))] = std::stoll(a.substr(a.rfind('=') + 1));
  for (const std::string& a : known) options.known[a.substr(0, a.rfind('='))] = std::stod(a.substr(a.rfind('=') + 1));
  options.lora = lora;
  options.adapter = adapter;
  options.tokenizer.file = tokenizer;
  options.weights = *parse_weights(weights);
  options.half_states = state == "f16";
  options.head = head == "split" ? Head::kSplit : head == "whole" ? Head::kWhole : Head::kAuto;
  remove_output_when_interrupted();
  try {
    return run(options);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "runnel-convert: not enough memory\n");
  } catch (const std::filesystem::filesystem_error& e) {
    std::fprintf(stderr, "runnel-convert: %s: %s\n", e.path1().c_str(), e.code().message().c_str());
  } catch (const std::runtime_error& e) {
    std::fprintf(stderr, "runnel-convert: %s\n", e.what());
  } catch (const std::exception&) {
    // A library's own words, which say nothing of the file.
    std::fprintf(stderr,
                 "runnel-convert: %s: it holds a value of a kind or size that does not belong where it stands\n",
                 input.c_str());
  }
  return 1;
}
