// Writing files: what is in the place of the target, and who else writes it.
#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace runnel {
namespace {

namespace fs = std::filesystem;

class AtomicFileTest : public testing::Test {
 protected:
  AtomicFileTest() {
    char name[] = "/tmp/runnel_file_XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~AtomicFileTest() override { fs::remove_all(folder_); }
  fs::path at(const std::string& name) const { return folder_ / name; }
  static void put(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }
  static std::string text_of(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // The message; empty: written.
  static std::string write(const fs::path& path, const std::string& text) {
    AtomicFile file;
    Status s = file.open(path.c_str());
    if (s.is_ok()) s = file.write(text.data(), text.size());
    if (s.is_ok()) s = file.commit();
    return s.message();
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder_)) out.push_back(entry.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }
  fs::path folder_;
};

TEST_F(AtomicFileTest, FollowsLinks) {
  put(at("target"), "old");
  fs::create_directory(at("sub"));
  fs::create_symlink("../target", at("sub/near"));
  fs::create_symlink(at("sub/near"), at("far"));
  EXPECT_EQ(write(at("far"), "new"), "");
  EXPECT_EQ(text_of(at("target")), "new");
  EXPECT_TRUE(fs::is_symlink(at("far")) && fs::is_symlink(at("sub/near")));
  fs::create_symlink("sub/later", at("dangling"));
  EXPECT_EQ(write(at("dangling"), "made"), "");
  EXPECT_EQ(text_of(at("sub/later")), "made");
  EXPECT_TRUE(fs::is_symlink(at("dangling")));
  fs::create_symlink("circle", at("circle"));
  EXPECT_NE(write(at("circle"), "x").find("cannot follow the link"), std::string::npos);
  EXPECT_EQ(names(), (std::vector<std::string>{"circle", "dangling", "far", "sub", "target"}));
}

TEST_F(AtomicFileTest, RefusesWhatIsNoRegularFile) {
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0600), 0);
  fs::create_directory(at("folder"));
  const int s = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, at("socket").c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(s, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  fs::create_symlink("/dev/null", at("link"));
  EXPECT_NE(write(at("fifo"), "x").find("no regular file but a FIFO"), std::string::npos);
  EXPECT_NE(write(at("folder"), "x").find("no regular file but a directory"), std::string::npos);
  EXPECT_NE(write(at("socket"), "x").find("no regular file but a socket"), std::string::npos);
  EXPECT_NE(write(at("link"), "x").find("no regular file but a device"), std::string::npos);
  EXPECT_NE(write("/dev/full", "x").find("no regular file but a device"), std::string::npos);
  EXPECT_TRUE(fs::is_fifo(at("fifo")) && fs::is_socket(at("socket")) && fs::is_symlink(at("link")));
  EXPECT_NE(write(at("none/x"), "x").find("none/x: cannot create: No such file"), std::string::npos);
  ::close(s);
  // Reading: a FIFO that nobody writes is not waited for.
  EXPECT_STREQ(FileView::open(at("fifo").c_str(), false).take_status().message(),
               (at("fifo").string() + ": not a regular file but a FIFO").c_str());
}

TEST_F(AtomicFileTest, KeepsTheMode) {
  for (const mode_t mode : {0600, 0640, 0755}) {
    put(at("file"), "old");
    ASSERT_EQ(::chmod(at("file").c_str(), mode), 0);
    if (::geteuid() == 0) ASSERT_EQ(::chown(at("file").c_str(), 12345, 12346), 0);
    ASSERT_EQ(write(at("file"), "new"), "");
    struct stat st;
    ASSERT_EQ(::stat(at("file").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, mode);
    if (::geteuid() == 0) EXPECT_TRUE(st.st_uid == 12345 && st.st_gid == 12346);
    fs::remove(at("file"));
  }
  const mode_t before = ::umask(027);
  EXPECT_EQ(write(at("fresh"), "new"), "");
  ::umask(before);
  struct stat st;
  ASSERT_EQ(::stat(at("fresh").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0640u);
}

TEST_F(AtomicFileTest, TheLongestName) {
  const std::string name(255, 'n');
  EXPECT_EQ(write(at(name), "x"), "");
  EXPECT_EQ(names(), std::vector<std::string>{name});
}

TEST_F(AtomicFileTest, ThreadsThatWriteOnePath) {
  constexpr int kThreads = 4, kRounds = 50;
  std::atomic<int> failed{0}, torn{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      // Of another length for each: one that writes into another's file is seen.
      const std::string text(size_t(20000 * (t + 1)), char('a' + t));
      for (int i = 0; i < kRounds; ++i) {
        AtomicFile file;
        bool good = file.open(at("same").c_str()).is_ok();
        for (size_t k = 0; good && k < text.size(); k += 10000) good = file.write(text.data() + k, 10000).is_ok();
        failed += !(good && file.commit().is_ok());
        const std::string seen = text_of(at("same"));
        torn += seen.empty() || seen.size() != size_t(20000 * (seen[0] - 'a' + 1)) ||
                seen.find_first_not_of(seen[0]) != seen.npos;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(names(), std::vector<std::string>{"same"});
}

TEST_F(AtomicFileTest, LeavesNothingBehind) {
  put(at("file"), "old");
  {
    AtomicFile file;
    ASSERT_TRUE(file.open(at("file").c_str()).is_ok());
    ASSERT_TRUE(file.write("new", 3).is_ok());
    EXPECT_EQ(names().size(), 2u);
  }
  EXPECT_EQ(names(), std::vector<std::string>{"file"});
  AtomicFile a, b;
  ASSERT_TRUE(a.open(at("file").c_str()).is_ok());
  ASSERT_TRUE(b.open(at("file").c_str()).is_ok());
  EXPECT_EQ(names().size(), 3u);
  remove_temporary_files();
  EXPECT_EQ(names(), std::vector<std::string>{"file"});
  EXPECT_FALSE(a.commit().is_ok());
  EXPECT_EQ(text_of(at("file")), "old");
}

TEST_F(AtomicFileTest, SameFile) {
  put(at("file"), "x");
  put(at("other"), "x");
  fs::create_directory(at("sub"));
  fs::create_symlink("file", at("link"));
  fs::create_hard_link(at("file"), at("hard"));
  for (const char* name : {"file", "link", "hard", "sub/../file", "./file"})
    EXPECT_TRUE(is_same_file(at("file").c_str(), at(name).c_str())) << name;
  for (const char* name : {"other", "none", "sub", ""})
    EXPECT_FALSE(is_same_file(at("file").c_str(), at(name).c_str())) << name;
}

}  // namespace
}  // namespace runnel
