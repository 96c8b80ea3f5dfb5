// A window imposed on a model: constant memory for streams of any length.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

struct ImposedWindow {
  int64_t window = 0;  // newest positions that are seen, the own one included; 0: none imposed
  int64_t sinks = 0;   // first positions of the stream that are seen too, as if they stood right before the window
};

// Every attention over a stream that sees more than the window sees the newest `window` positions and the first `sinks`
// ones. Queries meet the latter as from position window + sinks - 1 at most, so that no distance is longer than that
// (StreamingLLM). What was changed, in words for a person. Throws Error where it does not apply.
std::string impose_window(const ImposedWindow& imposed, ModelBuilder& builder);

}  // namespace runnel::convert
