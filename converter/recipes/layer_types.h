// Which layers see a window, and with which rotary base: the older and the newer way in which config.json says it.
#pragma once

#include "converter/recipes/decoder.h"

namespace runnel::convert {

// Every layer but each `pattern`th sees `window` positions; pattern 0: every layer. window 0: none.
void set_window_layers(int64_t window, int64_t pattern, std::vector<Layer>& layers);
// From layer_types, else from sliding_window_pattern or `pattern`; the width is sliding_window, which counts the own
// position.
void set_window_layers(const Facts& config, int64_t pattern, std::vector<Layer>& layers);
// From layer_types, else every layer but each `pattern`th from the first one on.
void set_window_layers_after_first(const Facts& config, int64_t pattern, std::vector<Layer>& layers);
// Qwen2's way: without use_sliding_window no window, else from layer max_window_layers on (or as layer_types says).
void set_late_window_layers(const Facts& config, std::vector<Layer>& layers);
// The names in layer_types (or the older layers_block_type), one a layer; `otherwise` for every layer when the
// configuration has neither.
std::vector<std::string> layer_types(const Facts& config, size_t layers, const std::string& otherwise);
// What says how rotary positions are scaled, if anything does.
std::optional<Facts> rope_facts(const Facts& config);
// Frequencies of layers of this type, as the source says them: config_rope's, or those of a GGUF, whose layers with a
// window have a base of their own and are never scaled.
Rope read_rope(Checkpoint& checkpoint, const Facts& facts, const std::string& layer_type, double base, int64_t head_dim,
               double partial = 1);
// Of config.json: frequencies from rope_parameters (one object, or one for each layer type) or from rope_theta,
// rope_local_base_freq and rope_scaling. layer_type is empty for models with one kind; partial: the part of a head that
// turns where the configuration does not say it.
Rope config_rope(const Facts& config, const std::string& layer_type, double base, int64_t head_dim, double partial = 1);

}  // namespace runnel::convert
