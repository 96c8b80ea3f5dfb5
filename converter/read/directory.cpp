// A directory as transformers saves it: config.json, safetensors in one file or in shards, README.md with a licence
// line.
#include <algorithm>
#include <regex>
#include <set>
#include <sstream>

#include "converter/read/read.h"

namespace runnel::convert {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMaxJson = size_t(64) << 20;

// Files of the directory with this ending, by name.
std::vector<fs::path> files_ending(const fs::path& directory, const std::string& ending) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    if (it->path().extension() == ending) out.push_back(it->path());
  if (error) fail("%s: cannot list the directory: %s", directory.c_str(), error.message().c_str());
  std::sort(out.begin(), out.end());
  return out;
}

// "license: gemma" between the two --- lines at the top.
std::string licence_of_readme(const fs::path& readme) {
  std::istringstream in(beginning_of(readme, 1 << 16));
  std::string line;
  if (!std::getline(in, line) || line.rfind("---", 0) != 0) return {};
  for (int i = 0; i < 200 && std::getline(in, line) && line.rfind("---", 0) != 0; ++i) {
    if (line.rfind("license:", 0) != 0) continue;
    const size_t begin = line.find_first_not_of(" \t", 8);
    if (begin == std::string::npos) return {};
    std::string value = line.substr(begin);
    while (!value.empty() && (value.back() == '\r' || value.back() == ' ')) value.pop_back();
    return printable(value);
  }
  return {};
}

// Says what is there in place of safetensors, if anything.
[[noreturn]] void refuse_without_weights(const fs::path& directory) {
  for (const char* ending : {".bin", ".pt", ".pth", ".ckpt"})
    for (const fs::path& file : files_ending(directory, ending))
      if (is_pickle(file, beginning_of(file, 16)) && file.stem() != "training_args" && file.stem() != "optimizer" &&
          file.stem() != "scheduler")
        refuse_pickle(file);
  const auto ggufs = files_ending(directory, ".gguf");
  if (!ggufs.empty())
    fail("%s: no *.safetensors in this directory; of a GGUF give the file itself, such as %s", directory.c_str(),
         ggufs[0].c_str());
  fail("%s: no *.safetensors in this directory", directory.c_str());
}

void read_shards(const fs::path& directory, const fs::path& index, Checkpoint& c) {
  const Json root = read_json(index);
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object())
    fail("%s: no weight_map", index.c_str());
  std::set<std::string> shards;
  for (const auto& [name, file] : root["weight_map"].items()) {
    if (!file.is_string()) fail("%s: weight_map[\"%s\"] is not a string", index.c_str(), printable(name).c_str());
    const std::string shard = file.get<std::string>();
    if (shard.empty() || shard.size() > 255 || shard.find('/') != std::string::npos ||
        shard.find('\0') != std::string::npos || shard == "..")
      fail("%s: weight_map[\"%s\"] is \"%s\", not a plain file name", index.c_str(), printable(name).c_str(),
           printable(shard).c_str());
    shards.insert(shard);
  }
  for (const std::string& shard : shards) {
    const fs::path file = directory / shard;
    read_safetensors(c.map(file), file.string(), c);
    c.weight_files.push_back(file);
  }
  for (const auto& [name, file] : root["weight_map"].items())
    if (!c.has(name))
      fail("%s: tensor \"%s\" is not in %s", index.c_str(), printable(name).c_str(),
           printable(file.get<std::string>()).c_str());
}

}  // namespace

// Python writes Infinity, -Infinity and NaN, which JSON does not know: outside of strings they become strings.
std::string with_quoted_numbers(const std::string& text) {
  std::string out;
  bool is_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') is_string = !is_string;
    if (is_string && text[i] == '\\' && i + 1 < text.size()) out += text[i++];
    else if (!is_string)
      for (const std::string_view word : {"-Infinity", "Infinity", "NaN"})
        if (text.compare(i, word.size(), word) == 0) {
          out.append("\"").append(word).append("\"");
          i += word.size();
        }
    if (i < text.size()) out += text[i];
  }
  return out;
}

Json read_json(const fs::path& file) {
  return parse_json(with_quoted_numbers(read_text(file, kMaxJson)), file.string());
}

Checkpoint read_directory(const fs::path& directory) {
  Checkpoint c;
  c.kind = Checkpoint::Kind::kDirectory;
  c.path = directory;
  c.name = fs::absolute(directory).lexically_normal().filename().string();
  if (c.name.empty()) c.name = fs::absolute(directory).lexically_normal().parent_path().filename().string();
  if (!fs::exists(directory / "config.json")) {
    const auto ggufs = files_ending(directory, ".gguf");
    fail("%s: no config.json in this directory%s%s", directory.c_str(),
         ggufs.empty() ? "" : "; of a GGUF give the file itself, such as ", ggufs.empty() ? "" : ggufs[0].c_str());
  }
  c.meta = Json::object();
  for (const char* name : {"config", "generation_config", "modules"}) {
    const fs::path file = directory / (std::string(name) + ".json");
    if (fs::exists(file)) c.meta[name] = read_json(file);
  }
  if (!c.meta["config"].is_object()) fail("%s: config.json is not a JSON object", directory.c_str());

  const fs::path index = directory / "model.safetensors.index.json";
  if (fs::exists(index)) {
    read_shards(directory, index, c);
  } else {
    const auto files = files_ending(directory, ".safetensors");
    const fs::path single = directory / "model.safetensors";
    if (files.empty()) refuse_without_weights(directory);
    if (files.size() > 1 && !fs::exists(single))
      fail("%s: %zu safetensors files but no model.safetensors.index.json", directory.c_str(), files.size());
    const fs::path file = files.size() == 1 ? files[0] : single;
    read_safetensors(c.map(file), file.string(), c);
    c.weight_files.push_back(file);
  }
  c.licence = licence_of_readme(directory / "README.md");
  return c;
}

Checkpoint read_checkpoint(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) fail("%s: no such file or directory", path.c_str());
  if (fs::is_directory(status)) return read_directory(path);
  Checkpoint c;
  c.path = path;
  const auto bytes = c.map(path);
  const std::string_view begin(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 16));
  if (begin.compare(0, 4, "GGUF") == 0) {
    read_gguf_parts(bytes, path, c);
    return c;
  }
  if (is_pickle(path, begin)) refuse_pickle(path);
  if (path.extension() != ".safetensors")
    fail(
        "%s: neither a GGUF file, a safetensors file nor a directory with config.json and safetensors; a graph in JSON "
        "needs --weights-file",
        path.c_str());
  if (std::regex_search(path.filename().string(), std::regex("-[0-9]{5}-of-[0-9]{5}\\.safetensors$")))
    fail(
        "%s: one part of a checkpoint; give the directory that holds all of them with config.json and "
        "model.safetensors.index.json",
        path.c_str());
  c.kind = Checkpoint::Kind::kFile;
  read_safetensors(bytes, path.string(), c);
  if (c.name.empty()) c.name = path.stem().string();
  c.weight_files.push_back(path);
  return c;
}

}  // namespace runnel::convert
