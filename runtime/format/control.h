// Operators that run other programs of the file, which stand behind the one that names them. The loader puts the
// operators of those programs in their place (link.cpp): planner, sessions and devices see one list, and the ranges of
// it that run under a condition. Operands are handed over by position; values of the program that is run get sizes from
// them.
//
//   call  inputs: the program's; outputs: the program's
//   if    inputs: condition, then those of both programs; runs `program` where the condition's first element is not 0,
//         else `otherwise`
//   loop  inputs: number of rounds, first condition, one value for each output, then whatever else the program reads.
//         The program takes the number of the round, [1] of i32 from 0 on, the values as the round before left them and
//         what else it reads; it gives the values for the next round and, where it gives one output more, whether there
//         is one. Number and first condition may be absent, not both the number and the further output.
// Numbers and conditions are i32 or f32 vectors; their first element counts. Operators inside of `if` and `loop` write
// no states and bind no sizes, and none of them computes for the wanted rows.
#pragma once

#include <cstdint>

namespace runnel {

enum class Control : uint16_t { kNone = 0, kCall = 65001, kIf = 65002, kLoop = 65003 };
inline constexpr uint16_t kControlVersion = 1;

struct ControlName {
  const char* name;
  Control control;
};
inline constexpr ControlName kControls[] = {{"call", Control::kCall}, {"if", Control::kIf}, {"loop", Control::kLoop}};

constexpr Control control_of(uint16_t code) {
  for (const ControlName& row : kControls)
    if (uint16_t(row.control) == code) return row.control;
  return Control::kNone;
}

}  // namespace runnel
