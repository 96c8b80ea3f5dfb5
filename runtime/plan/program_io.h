// What a program's inputs may be, and how its outputs follow from a call that is cut into passes.
#pragma once

#include "plan/plan.h"

namespace runnel {

// Finds the stream's and the rows' symbols and proves the inputs: the stream and the wanted rows stand alone on axis 0,
// every other axis is the same in all passes of a call. Fills in call_symbols and log_row.
Status plan_inputs(const Model& model, const Plan& plan, PlannedProgram& program);
// Fills in outputs, head_inputs, logits_value and choice_value.
Status plan_outputs(const Model& model, PlannedProgram& program);

// Bytes in front of a token's inputs in a log, see session/journal.cpp.
size_t log_header_bytes(const PlannedProgram& program);
// Bytes of one token's inputs in a log when the program's inputs have these sizes.
Result<size_t> log_row_bytes(const Model& model, const PlannedProgram& program, const SymbolValues& symbols);

}  // namespace runnel
