// Random calls of runnel.h on every kind of tiny model, compared with what a new session gives that is fed the same:
// bit for bit where the header promises it. Takes RUNNEL_STREAM_SECONDS (30); RUNNEL_STREAM_SEED runs one seed alone
// and tells each step, RUNNEL_STREAM_FIRST is where to begin, RUNNEL_STREAM_THREADS fixes the number of threads,
// RUNNEL_STREAM_KIND takes models whose name begins so, RUNNEL_STREAM_WITHOUT leaves out the steps that it names,
// RUNNEL_STREAM_FAILURES (3) is how many failures end it, RUNNEL_TEST_BACKEND=vulkan runs it on a device.
#include <chrono>
#include <sstream>

#include "models/streams/play_text.h"

namespace runnel::streams {
namespace {

int64_t number_from(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : otherwise;
}

struct Case {
  Setup setup;
  std::vector<Step> steps;
};

Case case_of(const std::vector<Kind>& kinds, uint64_t seed) {
  Dice d(seed * 2 + 1);
  for (int i = 0; i < 4; ++i) d();
  Case c;
  Setup& s = c.setup;
  s.kind = kinds[size_t(d.below(int64_t(kinds.size())))];
  s.threads = int(1 + d.below(2));
  s.has_own_memory = d.one_in(3);
  s.context = d.of({16, 64, 200, 500});
  if (s.kind.longest == 80 && s.context > 80) s.context = 64;  // a table of positions ends
  s.chunk = d.of({0, 1, 3, 7, 16, 64});
  s.rows = d.of({0, 0, 1, 3, 8});
  s.window = d.of({-1, 0, 1, 8, 64});
  s.kv = d.of({0, 0, 0, int(RNL_F32), int(RNL_F16), int(RNL_Q8)});
  s.threads = int(number_from("RUNNEL_STREAM_THREADS", s.threads));
  const int64_t count = 8 + d.below(32);
  const char* without = std::getenv("RUNNEL_STREAM_WITHOUT");
  for (int64_t i = 0; i < count; ++i) {
    uint32_t op = d.one_in(3) ? uint32_t(d.of({kRun, kGenerate, kRollback, kChat})) : uint32_t(d.below(kOps));
    if (op == kChat && !s.kind.has_chat) op = kRun;
    if ((op == kReset || op == kEmbed) && !d.one_in(3)) op = kRun;
    const uint64_t step = uint64_t(d()) << 20 ^ d();
    if (!without || !std::strstr(without, op_name(op))) c.steps.push_back({op, step});
  }
  return c;
}

// What was broken; empty: nothing.
std::string play(Models& models, const Setup& setup, const std::vector<Step>& steps, std::ostream* log) {
  size_t at = 0;
  try {
    World world(models, setup);
    Play p(world, models, log);
    for (const Step& step : steps) p.take(step), ++at;
    p.finish();
  } catch (const Broken& e) {
    return (at < steps.size() ? std::string(op_name(steps[at].op)) : "the end") + ": " + e.what();
  }
  return {};
}

// Fewer steps that still break something: halves, quarters and so on are left out while that is so.
std::vector<Step> shrunk(Models& models, const Setup& setup, std::vector<Step> steps) {
  for (size_t size = std::max<size_t>(steps.size() / 2, 1);; size = std::max<size_t>(size / 2, 1)) {
    bool is_smaller = false;
    for (size_t at = 0; at < steps.size();) {
      std::vector<Step> fewer = steps;
      fewer.erase(fewer.begin() + long(at), fewer.begin() + long(std::min(at + size, fewer.size())));
      if (play(models, setup, fewer, nullptr).empty()) at += size;
      else steps = std::move(fewer), is_smaller = true;
    }
    if (size == 1 && !is_smaller) return steps;
  }
}

TEST(RandomStreams, AreWhatANewSessionGives) {
  std::vector<Kind> kinds = all_kinds();
  if (const char* only = std::getenv("RUNNEL_STREAM_KIND"))
    std::erase_if(kinds, [&](const Kind& k) { return !k.name.starts_with(only); });
  ASSERT_FALSE(kinds.empty());
  Models models;
  const int64_t one = number_from("RUNNEL_STREAM_SEED", -1), most = number_from("RUNNEL_STREAM_FAILURES", 3);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(number_from("RUNNEL_STREAM_SECONDS", 30));
  int64_t failures = 0, cases = 0, steps = 0;
  for (int64_t seed = one >= 0 ? one : number_from("RUNNEL_STREAM_FIRST", 1);
       std::chrono::steady_clock::now() < end && failures < most; ++seed, ++cases) {
    const Case c = case_of(kinds, uint64_t(seed));
    // The last line tells where a crash was.
    std::printf("seed %lld: %s\n", static_cast<long long>(seed), c.setup.text().c_str());
    std::fflush(stdout);
    steps += int64_t(c.steps.size());
    const std::string error = play(models, c.setup, c.steps, one >= 0 ? &std::cout : nullptr);
    if (!error.empty()) {
      const std::vector<Step> fewer = shrunk(models, c.setup, c.steps);
      std::ostringstream log;
      const std::string shorter = play(models, c.setup, fewer, &log);
      ADD_FAILURE() << "RUNNEL_STREAM_SEED=" << seed << ": " << c.setup.text() << "\n"
                    << (shorter.empty() ? error : shorter) << "\n"
                    << log.str();
      ++failures;
    }
    if (one >= 0) break;
  }
  std::printf("%lld cases, %lld steps\n", static_cast<long long>(cases), static_cast<long long>(steps));
}

}  // namespace
}  // namespace runnel::streams
