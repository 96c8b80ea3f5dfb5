// What one internal pass of a call works on.
#pragma once

#include "session/session.h"

namespace runnel {

// Element i of a tensor of i32 or i64.
int64_t read_int(const IoTensor& t, int64_t i);

// Tokens [begin, begin + tokens) of the call.
struct Session::Pass {
  uint32_t program_index = 0;
  const PlannedProgram* program = nullptr;
  CallBinding symbols{};
  int64_t begin = 0, tokens = 0, total = 0;
  // Wanted rows of the whole call; null with rows_all or when the default (the last token) is meant.
  const IoTensor* rows = nullptr;
  bool rows_all = false;
  int64_t next_row = 0;  // first entry of rows that no pass has served yet
  const RunOptions* options = nullptr;
  bool wants(uint32_t output) const {
    return options->wanted_outputs ? output < 64 && (options->wanted_outputs >> output & 1)
                                   : output < program->info->required_outputs;
  }
  int from = 0, to = 0;        // buffers of recurrent states
  bool body_ended = false;     // its values are checked and its outputs given out
  int64_t choose_among = 0;    // see RunOptions; above 0 the device does it
  int64_t next_position = -1;  // behind the largest of positions of several axes that were given; -1: none were
  bool has_started = false;    // some operator of this pass may have written a state
};

}  // namespace runnel
