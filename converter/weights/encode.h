// From a source's rows to rows of packed matrices: exact for quantised sources, or quantised here.
#pragma once

#include <optional>
#include <vector>

#include "converter/weights/source_tensor.h"
#include "format/packed.h"

namespace runnel::convert {

// What --weights asks for. kKeep: what the source holds (F64 and wider become f32, F8 becomes f16).
enum class Weights : uint8_t { kKeep, kF32, kF16, kQ8, kQ4 };
const char* weights_name(Weights weights);
// Null when the name is none of f32 f16 q8 q4 keep.
std::optional<Weights> parse_weights(std::string_view name);

// The packed format in which a matrix of `columns` columns is stored. q4 and q8 leave matrices with less than 32
// columns in f32; a source that is in the wanted format already is not quantised again.
PackedFormat choose_format(SourceType type, uint64_t columns, Weights weights);
// The exact image of a quantised source type, but for unit_of.
PackedFormat format_of(SourceType type);
// By what the values of that image have to be multiplied. It is not 1 where a scale of the type lies below what f16
// holds exactly.
float unit_of(const SourceTensor& tensor);
// Whether the blocks of the source are carried over as they are, so that the graph has to multiply by the unit.
bool keeps_blocks(const SourceTensor& tensor, const PackedFormat& format);

// Throws Error when a value is NaN or infinite, with `name` and the place.
// Values of elements [first, first + count), which must be whole blocks.
void decode_values(const SourceTensor& tensor, uint64_t first, uint64_t count, float* out);
// Packs rows [first, first + count) of the matrix `tensor` [rows, columns] (axes before the last are joined) into
// tiles: out is the first tile, zeroed, first a multiple of kTileRows; of a split format the first group, first a
// multiple of its rows.
void pack_rows(const SourceTensor& tensor, const PackedFormat& format, uint64_t first, uint64_t count, uint8_t* out);

}  // namespace runnel::convert
