// Chat programs: what the converter makes of a chat template. A stack machine over the values of chat_values.h, run
// once a rendering.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "format/model_generated.h"
#include "text/chat_values.h"

namespace runnel::chat {

inline constexpr uint16_t kProgramVersion = 1;

enum class Op : uint8_t {
#define RNL_CHAT_OP(number, name) name = number,
#include "text/chat_ops.inc"
};
enum class Plain : uint32_t { kUndefined, kNone, kFalse, kTrue, kMissing };
enum class LoopField : uint32_t {
  kIndex,
  kIndex0,
  kFirst,
  kLast,
  kLength,
  kRevindex,
  kRevindex0,
  kPrevitem,
  kNextitem
};

// The value of a program's variable at its start.
using VariableFn = Value (*)(void* context, const char* name, size_t size);

// Runs a program; what it writes goes to out. Errors name the template's line.
Status run_program(const format::ChatProgram& program, VariableFn variable, void* context, int64_t now, Arena* arena,
                   TextBuilder* out);

}  // namespace runnel::chat
