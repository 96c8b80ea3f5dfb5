// The whole conversion, as the program and the tests call it.
#pragma once

#include <map>

#include "converter/passes/impose_window.h"
#include "converter/passes/split_head.h"
#include "converter/text/tokenizer.h"
#include "converter/write/write.h"

namespace runnel::convert {

struct ConvertOptions {
  std::filesystem::path input;
  std::filesystem::path weights_file;  // set: input is a graph in JSON
  std::filesystem::path lora;          // set: folder of an adapter that is merged into the weights
  std::filesystem::path adapter;  // set: folder of an adapter that becomes the file, to be opened beside that of the
                                  // input
  double lora_scale = 1;          // of the adapter's products
  TokenizerChoice tokenizer;
  std::filesystem::path output;
  Weights weights = Weights::kKeep;
  Head head = Head::kAuto;
  bool half_states = false;  // large recurrent states as f16
  ImposedWindow imposed;
  std::string sparse;                   // a method of sparse_keys.h; empty: none
  std::string prune;                    // of prune_tokens.h; empty: none
  std::string kv_policy;                // of kv_policy.h; empty: none
  bool features = false;                // a program that takes rows of features in the place of ids
  std::map<std::string, int64_t> axes;  // largest sizes of axes that a call gives
  // Of an ONNX graph: inputs of one number, and axes, with one value in every call.
  std::map<std::string, double> known;
  int64_t context = 0;  // tokens that the file states; 0: the source's
  int threads = 1;
  bool is_dry = false;  // only the plan is made, nothing is written
};

struct ConvertReport {
  WriteReport written;
  std::string architecture;
  uint64_t source_tensor_bytes = 0;
  std::string plan;                  // of a dry run
  std::vector<std::string> notices;  // what the user should know though the conversion succeeded
};

// Throws Error or another std::exception; then no output file was made or changed.
ConvertReport convert(const ConvertOptions& options);

}  // namespace runnel::convert
