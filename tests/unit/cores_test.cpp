// Which cores are used and how many threads: made-up machines in a folder, and the choice from figures.
#include "cpu/cores.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/cache.h"
#include "cpu/thread_pool.h"
#include "cpu/token_threads.h"

namespace runnel {
namespace {

namespace fs = std::filesystem;

class Machine : public testing::Test {
 protected:
  Machine() {
    char name[] = "/tmp/runnel_cores_XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~Machine() override { fs::remove_all(root_); }
  void put(const std::string& path, const std::string& text) const {
    const fs::path at = root_ / path;
    fs::create_directories(at.parent_path());
    std::ofstream(at) << text << '\n';
  }
  void put_core(int core, const std::string& file, const std::string& text) const {
    put("sys/devices/system/cpu/cpu" + std::to_string(core) + "/" + file, text);
  }
  void put_cores(const std::string& file, const std::vector<int>& values) const {
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i]) put_core(int(i), file, std::to_string(values[i]));
  }
  static CoreSet first(int count) {
    CoreSet s;
    for (int i = 0; i < count; ++i) s.add(i);
    return s;
  }
  Cores find(int count) const { return find_cores(root_.c_str(), first(count)); }
  static std::vector<int> members(const CoreSet& s) {
    std::vector<int> all;
    for (int i = 0; i < CoreSet::kMost; ++i)
      if (s.has(i)) all.push_back(i);
    return all;
  }
  fs::path root_;
};

using Members = std::vector<int>;

TEST_F(Machine, PiFive) {
  put_cores("cpu_capacity", {1024, 1024, 1024, 1024});
  put_cores("cpufreq/cpuinfo_max_freq", {2400000, 2400000, 2400000, 2400000});
  put_core(0, "cache/index0/size", "64K");
  put_core(0, "cache/index2/size", "512K");
  put_core(0, "cache/index3/size", "2048K");
  const Cores c = find(4);
  EXPECT_EQ(c.usable, 4);
  EXPECT_EQ(c.fast, 4);
  EXPECT_FALSE(c.is_mixed());
  EXPECT_EQ(c.quota, 0);
  EXPECT_EQ(c.cache, 2 << 20);
  EXPECT_EQ(c.threads(), 4);
}

// One, three and four cores of three kinds. The system's capacities count before clocks.
TEST_F(Machine, PhoneWithThreeKinds) {
  put_cores("cpu_capacity", {310, 310, 310, 310, 830, 830, 830, 1024});
  put_cores("cpufreq/cpuinfo_max_freq", {2000000, 2000000, 2000000, 2000000, 2100000, 2100000, 2100000, 2200000});
  Cores c = find(8);
  EXPECT_EQ(c.usable, 8);
  EXPECT_EQ(members(c.fast_set), (Members{4, 5, 6, 7}));
  EXPECT_TRUE(c.is_mixed());
  EXPECT_EQ(c.threads(), 4);
  // In the background a phone leaves an app the small ones.
  c = find(4);
  EXPECT_EQ(members(c.fast_set), (Members{0, 1, 2, 3}));
  EXPECT_FALSE(c.is_mixed());
}

TEST_F(Machine, PhoneThatTellsClocksAlone) {
  put_cores("cpu_capacity", {1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024});
  put_cores("cpufreq/cpuinfo_max_freq", {1803000, 1803000, 1803000, 1803000, 2419000, 2419000, 2419000, 2841000});
  const Cores c = find(8);
  EXPECT_EQ(members(c.fast_set), (Members{4, 5, 6, 7}));
  EXPECT_EQ(c.threads(), 4);
}

TEST_F(Machine, TwoBigCores) {
  put_cores("cpu_capacity", {417, 417, 417, 417, 417, 417, 1024, 1024});
  const Cores c = find(8);
  EXPECT_EQ(members(c.fast_set), (Members{6, 7}));
  EXPECT_EQ(c.threads(), 2);
}

TEST_F(Machine, TellsNothing) {
  const Cores c = find(6);
  EXPECT_EQ(c.usable, 6);
  EXPECT_EQ(c.fast, 6);
  EXPECT_EQ(c.cache, 0);
  EXPECT_EQ(c.threads(), 4);
  EXPECT_EQ(find_cores("/nonexistent", CoreSet{}).threads(), 1);
  put_cores("cpu_capacity", {-5, 99999999});
  put_core(2, "cpu_capacity", "fast");
  EXPECT_EQ(find(3).threads(), 1);
}

TEST_F(Machine, QuotaOfThisGroupOrOneAroundIt) {
  put("proc/self/cgroup", "1:cpu:/elsewhere\n0::/slice/service");
  EXPECT_EQ(find(8).quota, 0);
  put("sys/fs/cgroup/slice/service/cpu.max", "max 100000");
  EXPECT_EQ(find(8).quota, 0);
  put("sys/fs/cgroup/slice/cpu.max", "250000 100000");
  EXPECT_EQ(find(8).quota, 3);
  EXPECT_EQ(find(8).threads(), 3);
  put("sys/fs/cgroup/slice/service/cpu.max", "20000 100000");
  EXPECT_EQ(find(8).quota, 1);
  put("sys/fs/cgroup/slice/service/cpu.max", "800000 100000");
  EXPECT_EQ(find(8).quota, 3);
  EXPECT_EQ(find(2).threads(), 2);
}

TEST_F(Machine, QuotaOfAContainer) {
  put("proc/self/cgroup", "0::/");
  put("sys/fs/cgroup/cpu.max", "200000 100000");
  EXPECT_EQ(find(8).quota, 2);
  EXPECT_EQ(find(8).threads(), 2);
  for (const char* bad : {"0 0", "-1 100000", "100000", "x", "9000000000000000000 1"}) {
    put("sys/fs/cgroup/cpu.max", bad);
    EXPECT_EQ(find(8).quota, 0) << bad;
  }
}

TEST_F(Machine, QuotaOfVersionOne) {
  put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1");
  EXPECT_EQ(find(8).quota, 0);
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000");
  EXPECT_EQ(find(8).quota, 2);
}

TEST(Cores, ThisMachine) {
  const Cores c = find_cores();
  EXPECT_GE(c.usable, 1);
  EXPECT_GE(c.fast, 1);
  EXPECT_LE(c.fast, c.usable);
  EXPECT_GE(c.threads(), 1);
  EXPECT_LE(c.threads(), kMostThreads);
}

TEST(TokenThreads, TheLowestNumberThatIsNearTheFastest) {
  const auto choose = [](std::vector<int> mb_per_s) { return choose_threads(mb_per_s.data(), int(mb_per_s.size())); };
  EXPECT_EQ(choose({9300, 13200, 12900, 11600}), 2);  // a Pi 5
  EXPECT_EQ(choose({9300, 13200, 13500, 11600}), 2);
  EXPECT_EQ(choose({1300, 2100, 2200, 2200}), 2);      // small cores that compute no faster than that
  EXPECT_EQ(choose({15000, 27000, 36000, 41000}), 4);  // memory for many
  EXPECT_EQ(choose({4100, 4000, 3900, 3700}), 1);
  EXPECT_EQ(choose({9500, 10000}), 1);
  EXPECT_EQ(choose({9499, 10000}), 2);
  EXPECT_EQ(choose({7}), 1);
}

// The folder of the cache for the time of a test, empty.
class Kept : public testing::Test {
 protected:
  Kept() {
    char name[] = "/tmp/runnel_kept_XXXXXX";
    folder_ = ::mkdtemp(name);
    if (const char* old = std::getenv("RUNNEL_CACHE_DIR")) old_ = old, had_ = true;
    ::setenv("RUNNEL_CACHE_DIR", (folder_ / "a" / "b").c_str(), 1);
    pool_.reset(thread_pool_create(2));
  }
  ~Kept() override {
    if (had_) ::setenv("RUNNEL_CACHE_DIR", old_.c_str(), 1);
    else ::unsetenv("RUNNEL_CACHE_DIR");
    fs::remove_all(folder_);
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> all;
    if (fs::exists(folder_ / "a" / "b"))
      for (const auto& entry : fs::directory_iterator(folder_ / "a" / "b")) all.push_back(entry.path());
    return all;
  }
  // A machine that no other test has, so that nothing is known of it in this process.
  static Cores machine(int64_t cache) {
    static int number = 0;
    Cores c;
    c.usable = c.fast = 2;
    c.fast_set.add(CoreSet::kMost - 1 - number++);
    c.cache = cache;
    return c;
  }
  struct Deleter {
    void operator()(ThreadPool* p) const { thread_pool_destroy(p); }
  };
  std::unique_ptr<ThreadPool, Deleter> pool_;
  fs::path folder_;
  std::string old_;
  bool had_ = false;
};

// What is measured depends on what else the machine does: then it is told and all threads are used.
TEST_F(Kept, MeasuresAndLeavesThePoolWhole) {
  const TokenThreads t = token_threads(pool_.get(), machine(2 << 20));
  EXPECT_EQ(thread_pool_size(thread_pool_part(pool_.get())), 2);
  EXPECT_EQ(t.mb_per_s[2], 0);
  if (std::string(t.how) != "measured") {
    EXPECT_EQ(t.threads, 2);
    EXPECT_TRUE(files().empty());
    GTEST_SKIP() << t.how;
  }
  EXPECT_GT(t.mb_per_s[0], 0);
  EXPECT_GT(t.mb_per_s[1], 0);
  EXPECT_EQ(t.threads, choose_threads(t.mb_per_s, 2));
  EXPECT_EQ(files().size(), 1u);
}

TEST_F(Kept, IsReadUnlessDamaged) {
  // Nothing is measured on this machine, so all that is known of it is what the file says.
  const auto read = [&](const std::string& text) {
    const Cores c = machine(64 << 20);
    char path[256];
    EXPECT_TRUE(token_threads_file(pool_.get(), c, path, sizeof path));
    EXPECT_EQ(write_cache_file(path, text.data(), text.size()), true);
    return token_threads(pool_.get(), c);
  };
  TokenThreads t = read("13000 13100 MB/s with 1, 2, ... threads: a CPU\n");
  EXPECT_EQ(t.threads, 1);
  EXPECT_STREQ(t.how, "measured before");
  EXPECT_EQ(t.mb_per_s[0], 13000);
  EXPECT_EQ(t.mb_per_s[1], 13100);
  EXPECT_EQ(t.mb_per_s[2], 0);
  EXPECT_EQ(read("9300 13200").threads, 2);
  for (const char* bad : {"", "7", "7 -8", "0 5", "x 1 2", "\x01\xff", "99999999999999999999 -1"}) {
    t = read(bad);
    EXPECT_EQ(t.threads, 2) << bad;
    EXPECT_EQ(t.mb_per_s[0], 0) << bad;
    EXPECT_STREQ(t.how, "not measured, the caches are too large") << bad;
  }
  ::setenv("RUNNEL_CACHE_DIR", "", 1);
  char path[256];
  EXPECT_FALSE(token_threads_file(pool_.get(), machine(0), path, sizeof path));
}

TEST_F(Kept, IsNotMeasuredWhereCachesAreLarge) {
  const TokenThreads t = token_threads(pool_.get(), machine(64 << 20));
  EXPECT_EQ(t.threads, 2);
  EXPECT_EQ(t.mb_per_s[0], 0);
  EXPECT_STREQ(t.how, "not measured, the caches are too large");
  EXPECT_TRUE(files().empty());
}

TEST_F(Kept, OneThreadIsNoChoice) {
  pool_.reset(thread_pool_create(1));
  EXPECT_EQ(token_threads(pool_.get(), machine(2 << 20)).threads, 1);
  EXPECT_TRUE(files().empty());
}

}  // namespace
}  // namespace runnel
