// The C++ wrapper as a stranger meets it.
#include <cstdio>
#include <runnel/runnel.hpp>
#include <string>

int main() {
  rnl::Engine engine;
  if (!engine.create()) return 1;
  rnl::Model model;
  const rnl::Status s = model.open(engine, "/missing.rnl");
  if (s || std::string(s.message()).find("missing.rnl") == std::string::npos) return 2;
  std::printf("%s\n", rnl_version());
  return 0;
}
