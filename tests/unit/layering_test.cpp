// The shape of the source tree, checked on the #include lines and on the registry: lower layers never include higher
// ones, files stay short, and every operator has the parts that its row promises.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "backend.h"

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = runnel::test::kSourceDir;

// A folder of the runtime may include itself and lower levels: folders of the same level know nothing of each other.
const std::map<std::string, int> kLevels = {
    {"base", 0},    {"contract", 1},       {"format", 2}, {"cpu", 3}, {"vulkan", 3}, {"ops", 4}, {"plan", 5},
    {"session", 6}, {"vulkan_session", 7}, {"text", 7},   {"api", 8}, {"schema", 8}, {"cli", 9}};

// A folder of the converter may include itself and lower levels: folders of the same level know nothing of each other.
// What stands in none is the program itself.
const std::map<std::string, int> kConverterLevels = {{"base", 0},    {"weights", 1}, {"read", 2},
                                                     {"program", 2}, {"onnx", 3},    {"recipes", 3},
                                                     {"text", 3},    {"passes", 4},  {"write", 5}};
const int kConverterTop = 6;

struct Source {
  fs::path path;  // relative to the root
  std::vector<std::string> lines;
};

std::vector<Source> sources_below(const std::string& folder) {
  static const std::set<std::string> kEndings = {".h", ".hpp", ".cpp", ".inl", ".inc", ".fbs"};
  std::vector<Source> all;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
    if (!entry.is_regular_file() || !kEndings.count(entry.path().extension().string())) continue;
    Source s{fs::relative(entry.path(), kRoot), {}};
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) s.lines.push_back(line);
    all.push_back(std::move(s));
  }
  return all;
}

// Paths between quotes of the #include lines.
std::vector<std::string> own_includes(const Source& s) {
  std::vector<std::string> all;
  for (const std::string& line : s.lines) {
    if (line.rfind("#include \"", 0) != 0) continue;
    all.push_back(line.substr(10, line.find('"', 10) - 10));
  }
  return all;
}

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

int level_of(const std::string& path) {
  const auto it = kLevels.find(folder_of(path));
  return it == kLevels.end() ? -1 : it->second;
}

TEST(Layering, LowerLayersNeverIncludeHigherOnes) {
  int seen = 0;
  for (const Source& s : sources_below("runtime")) {
    const std::string inside = fs::relative(s.path, "runtime").generic_string();
    const int level = level_of(inside);
    if (inside.rfind("include/", 0) == 0) {
      for (const std::string& i : own_includes(s))
        EXPECT_EQ(i, "runnel.h") << "the public header " << inside << " includes " << i;
      continue;
    }
    ASSERT_GE(level, 0) << inside << " is in no layer";
    for (const std::string& i : own_includes(s)) {
      EXPECT_NE(i.rfind("converter/", 0), 0u) << inside << " includes " << i;
      const int other = level_of(i);
      if (other < 0) continue;  // a neighbour, or the public header
      ++seen;
      EXPECT_TRUE(other < level || folder_of(i) == folder_of(inside)) << inside << " includes " << i;
    }
  }
  EXPECT_GT(seen, 100);
}

// The commands are written as an app or a binding would be: over runnel.h, and over small tools of the core that know
// nothing of models. Developers look inside the library in cli/inside, and what these files offer to the commands is
// plain too.
const std::set<std::string> kPlainTools = {"base/clock.h", "base/file.h", "text/utf8.h"};

TEST(Layering, CommandsUseThePublicInterface) {
  std::map<std::string, const Source*> files;
  const std::vector<Source> all = sources_below("runtime/cli");
  for (const Source& s : all) files[fs::relative(s.path, "runtime").generic_string()] = &s;
  std::set<std::string> look_inside;
  const auto check = [&](const std::string& name) {
    for (const std::string& i : own_includes(*files.at(name))) {
      EXPECT_TRUE(files.count(i) || i.rfind("runnel/", 0) == 0 || kPlainTools.count(i)) << name << " includes " << i;
      if (i.rfind("cli/inside/", 0) == 0) look_inside.insert(name + " " + i);
    }
  };
  for (const auto& [name, source] : files)
    if (name.rfind("cli/inside/", 0) != 0) check(name);
  const std::set<std::string> expected = {"cli/bench.cpp cli/inside/memory_bound.h",
                                          "cli/inspect.cpp cli/inside/compare.h",
                                          "cli/inspect.cpp cli/inside/plan_report.h"};
  EXPECT_EQ(look_inside, expected);
  for (const char* header : {"memory_bound.h", "compare.h", "plan_report.h"})
    check(std::string("cli/inside/") + header);
  for (const char* command : {"eval", "embed", "bench", "inspect", "chat", "text_commands"})
    EXPECT_TRUE(files.count(std::string("cli/") + command + ".cpp")) << command;
}

// The level of a path below converter/; -1 for a folder that is in no layer.
int converter_level_of(const fs::path& inside) {
  if (!inside.has_parent_path()) return kConverterTop;
  const auto it = kConverterLevels.find(inside.begin()->string());
  return it == kConverterLevels.end() ? -1 : it->second;
}

TEST(Layering, TheConverterGoesOneWay) {
  int seen = 0;
  std::set<std::string> folders;
  for (const Source& s : sources_below("converter")) {
    const fs::path inside = fs::relative(s.path, "converter");
    const int level = converter_level_of(inside);
    ASSERT_GE(level, 0) << s.path << " is in no layer";
    folders.insert(inside.parent_path().string());
    for (const std::string& i : own_includes(s)) {
      EXPECT_EQ(i.find(".."), std::string::npos) << s.path << " includes " << i;
      if (i.rfind("converter/", 0) != 0) continue;  // the runtime, or a list made by CMake
      const fs::path other = i.substr(10);
      const int below = converter_level_of(other);
      ++seen;
      EXPECT_TRUE(other.parent_path() == inside.parent_path() || (below >= 0 && below < level))
          << s.path << " includes " << i;
    }
  }
  EXPECT_GT(seen, 200);
  EXPECT_EQ(folders.size(), kConverterLevels.size() + 1) << "a layer without files";
}

TEST(Layering, FilesOfTheRuntimeAndConverterStayShort) {
  for (const char* folder : {"runtime", "converter", "tests"})
    for (const Source& s : sources_below(folder)) EXPECT_LE(s.lines.size(), 600u) << s.path;
}

TEST(Layering, TheRuntimeHasNeitherExceptionsNorStreams) {
  for (const Source& s : sources_below("runtime")) {
    const std::string inside = fs::relative(s.path, "runtime").generic_string();
    if (inside.rfind("cli/", 0) == 0 || inside.rfind("schema/", 0) == 0) continue;  // not part of the library
    for (const std::string& line : s.lines)
      for (const char* header : {"<iostream>", "<sstream>", "<fstream>", "<regex>", "<stdexcept>", "<filesystem>"})
        EXPECT_FALSE(line.rfind("#include", 0) == 0 && line.find(header) != std::string::npos)
            << inside << " includes " << header;
  }
}

TEST(Layering, KernelsIncludePlainHeadersAlone) {
  static const std::set<std::string> kPlain = {"contract/op.h",   "cpu/call.h",      "cpu/simd.h",
                                               "format/packed.h", "format/states.h", "contract/dtype.h"};
  for (const Source& s : sources_below("runtime/ops")) {
    const std::string name = s.path.filename().string();
    if (name != "cpu.cpp" && s.path.extension() != ".inl") continue;
    const std::string own = "ops/" + s.path.parent_path().filename().string() + "/";
    for (const std::string& i : own_includes(s))
      EXPECT_TRUE(kPlain.count(i) || i.rfind(own, 0) == 0 || fs::path(i).extension() == ".inl" ||
                  i.find('/') == std::string::npos)
          << s.path << " includes " << i;
  }
}

TEST(Layering, EveryOperatorHasItsParts) {
  std::ifstream in(kRoot / "runtime/ops/registry.inc");
  std::set<std::string> listed;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("RNL_OP(", 0) != 0) continue;
    std::istringstream row(line.substr(7, line.rfind(')') - 7));
    std::vector<std::string> cells;
    for (std::string cell; std::getline(row, cell, ',');) cells.push_back(cell.substr(cell.find_first_not_of(' ')));
    ASSERT_EQ(cells.size(), 10u) << line;
    const std::string& name = cells[2];
    listed.insert(name);
    const fs::path folder = kRoot / "runtime/ops" / name;
    EXPECT_TRUE(fs::exists(folder / (name + ".h"))) << name;
    EXPECT_TRUE(fs::exists(folder / (name + ".cpp"))) << name;
    EXPECT_EQ(fs::exists(folder / "cpu.cpp"), cells[8] == "1") << name;
    EXPECT_EQ(fs::exists(folder / "vulkan.cpp"), cells[9] == "1") << name;
    EXPECT_TRUE(fs::exists(kRoot / "tests/ops" / (name + "_test.cpp"))) << name;
  }
  EXPECT_GE(listed.size(), 15u);
  for (const auto& entry : fs::directory_iterator(kRoot / "runtime/ops"))
    if (entry.is_directory())
      EXPECT_TRUE(listed.count(entry.path().filename().string())) << entry.path() << " has no row in registry.inc";
}

}  // namespace
