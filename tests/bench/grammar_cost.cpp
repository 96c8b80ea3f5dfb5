// Answers under a grammar, and what it costs a token, for grammar_cost.py:
//   grammar_cost MODEL GRAMMAR PROMPT SAMPLES COMPARED MAX_TOKENS TEMPERATURE TOP_K TOP_P THREADS DOCUMENTS
// GRAMMAR: json, FILE.json (a JSON Schema) or FILE.gbnf. Each document goes to DOCUMENTS as a line of JSON: whether it
// is complete, and its text. Beside the first COMPARED answers a second session is fed the same tokens without a
// grammar; the difference of both sessions' steps, feeding a token and choosing the next, is what the grammar costs.
// Prints one JSON object, times in microseconds of this thread's processor time.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cpu/thread_pool.h"
#include "runnel/json_schema.hpp"
#include "text/next_token.h"

using namespace runnel;

namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "grammar_cost: %s\n", what.c_str());
  std::exit(1);
}
void check(Status s) {
  if (!s.is_ok()) fail(s.message());
}
template <class T>
T take(Result<T> r) {
  if (!r.is_ok()) fail(r.take_status().message());
  return std::move(r.value());
}

// Of this thread: other programs then do not count. With several threads the waiting for the others does.
double cpu_us() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) * 1e6 + double(t.tv_nsec) * 1e-3;
}
template <class Fn>
double timed(Fn fn) {
  const double begin = cpu_us();
  fn();
  return cpu_us() - begin;
}

std::string quoted(const std::string& s) {
  std::string out = "\"";
  char code[8];
  for (const char c : s) {
    if (static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\') {
      std::snprintf(code, sizeof code, "\\u%04x", unsigned(static_cast<unsigned char>(c)));
      out += code;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string grammar_text(const std::string& given) {
  if (given == "json") return rnl::json_grammar();
  std::ifstream in(given, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in) fail(given + ": cannot read");
  if (given.size() < 5 || given.compare(given.size() - 5, 5, ".json") != 0) return text;
  std::string grammar, error;
  if (!rnl::json_schema_to_grammar(text, &grammar, &error)) fail(given + ": " + error);
  return grammar;
}

// Of the steps: each a pair of feeding and choosing.
struct Times {
  std::vector<double> fed, chosen;
};
void print(const char* name, std::vector<double> us) {
  double sum = 0;
  for (const double x : us) sum += x;
  std::sort(us.begin(), us.end());
  const auto at = [&](double share) {
    return us.empty() ? 0 : us[std::min(us.size() - 1, size_t(share * double(us.size())))];
  };
  std::printf(", \"%s\": {\"mean\": %.2f, \"median\": %.2f, \"p99\": %.2f}", name,
              us.empty() ? 0 : sum / double(us.size()), at(0.5), at(0.99));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 12)
    fail(
        "MODEL (json | FILE.json | FILE.gbnf) PROMPT SAMPLES COMPARED MAX_TOKENS TEMPERATURE TOP_K TOP_P THREADS "
        "DOCUMENTS");
  const auto model = take(Model::open(argv[1], {}));
  const int samples = std::atoi(argv[4]), compared = std::atoi(argv[5]), most = std::atoi(argv[6]);
  const Tokenizer tokenizer = take(Tokenizer::of_model(*model));
  TokenOrder order;
  const double order_us = timed([&] { check(TokenOrder::build(tokenizer, &order)); });
  const std::string text = grammar_text(argv[2]);
  std::unique_ptr<Grammar> grammar;
  const double grammar_us = timed([&] { grammar = take(Grammar::create(order, text.data(), text.size())); });
  GenerateOptions plain;
  plain.sampling.temperature = float(std::atof(argv[7]));
  plain.sampling.top_k = std::atoi(argv[8]);
  plain.sampling.top_p = float(std::atof(argv[9]));
  ThreadPool* pool = thread_pool_create(std::atoi(argv[10]));
  std::ofstream documents(argv[11]);
  if (!documents) fail(std::string(argv[11]) + ": cannot write");

  Vec<int32_t> prompt;
  EncodeScratch scratch;
  check(tokenizer.encode(argv[3], std::strlen(argv[3]), {}, &scratch, &prompt));
  PlanOptions plan;
  plan.context = int64_t(prompt.size()) + most + 1;
  auto session = take(Session::create(*model, pool, plan, nullptr, nullptr)),
       free_session = take(Session::create(*model, pool, plan, nullptr, nullptr));
  Times under, without;
  std::vector<double> added, first;
  int complete = 0;
  size_t tokens = 0;
  for (int s = 0; s < samples; ++s) {
    GenerateOptions constrained = plain;
    constrained.grammar = grammar.get();
    NextToken next(*session, constrained), free_next(*free_session, plain);
    session->reset(), free_session->reset();
    text_state(*session).sampler.seed = text_state(*free_session).sampler.seed = uint64_t(s);
    check(next.begin(prompt.data(), prompt.size(), true));
    if (s < compared) check(free_next.begin(prompt.data(), prompt.size(), true));
    std::string document;
    DecodeState decode;
    decode.at_start = 0;
    bool ended = false;
    double fed = -1, free_fed = -1;
    for (int i = 0; i < most; ++i, ++tokens) {
      int32_t id = kNoToken;
      const double chosen = timed([&] { id = take(next.choose()); });
      if (s < compared) {
        const double free_chosen = timed([&] { (void)take(free_next.choose()); });
        under.chosen.push_back(chosen), without.chosen.push_back(free_chosen);
        // The prompt is fed alike in both: the first choice is counted with a usual step.
        double more = chosen - free_chosen;
        if (fed >= 0) under.fed.push_back(fed), without.fed.push_back(free_fed), more += fed - free_fed;
        added.push_back(more);
        if (s == 0) first.push_back(more);
      }
      ended = id == kNoToken || tokenizer.vocab().ends_turn(id);
      if (ended) break;
      char out[kMaxTokenText];
      document.append(out, take(tokenizer.decode(id, &decode, out)));
      fed = timed([&] { check(next.feed(&id, 1)); });
      if (s < compared) free_fed = timed([&] { check(free_next.feed(&id, 1)); });
    }
    complete += ended;
    documents << "[" << (ended ? "true" : "false") << ", " << quoted(document) << "]\n";
  }
  std::printf(
      "{\"answers\": %d, \"complete\": %d, \"tokens\": %zu, \"order_us\": %.0f, \"grammar_us\": %.0f, \"cache_bytes\": "
      "%zu",
      samples, complete, tokens, order_us, grammar_us, grammar->cache_bytes());
  print("fed", under.fed), print("chosen", under.chosen), print("free_fed", without.fed),
      print("free_chosen", without.chosen);
  print("added", added), print("added_first", first);
  std::printf("}\n");
  session.reset(), free_session.reset();
  thread_pool_destroy(pool);
  return documents.flush() ? 0 : 1;
}
