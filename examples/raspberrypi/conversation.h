// A conversation's messages in a file: of each a line with its role and its bytes, then the text and a line end.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <runnel/runnel.hpp>
#include <string>

inline bool load_messages(const std::string& path, rnl::Messages* messages, std::string* why) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return *why = std::strerror(errno), false;
  rnl::Messages read;
  std::string role;
  for (size_t size; file >> role >> size && file.get() == '\n';) {
    std::string text;
    if (size > (size_t(1) << 30)) return *why = "not a conversation", false;
    text.resize(size);
    if (!file.read(&text[0], std::streamsize(size)) || file.get() != '\n') return *why = "it is cut off", false;
    read.emplace_back(role, text);
    role.clear();
  }
  if (!file.eof() || !role.empty()) return *why = "not a conversation", false;
  *messages = std::move(read);
  return true;
}

// Written whole or not at all, also when the power goes.
inline bool save_messages(const std::string& path, const rnl::Messages& messages, std::string* why) {
  std::string all;
  for (const auto& [role, text] : messages) all += role + " " + std::to_string(text.size()) + "\n" + text + "\n";
  const std::string temporary = path + ".new";
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  bool is_well = fd >= 0 && write(fd, all.data(), all.size()) == ssize_t(all.size()) && fsync(fd) == 0;
  if (fd >= 0) is_well = close(fd) == 0 && is_well;
  is_well = is_well && std::rename(temporary.c_str(), path.c_str()) == 0;
  if (!is_well) *why = std::strerror(errno);
  return is_well;
}
