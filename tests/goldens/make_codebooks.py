#!/usr/bin/env python3
"""Writes converter/weights/codebooks.inc: the code books of GGUF's IQ types, from the tables of the gguf package (0.19.0, MIT).

python3 tests/goldens/make_codebooks.py > converter/weights/codebooks.inc
"""

import numpy as np
from gguf import quants

print(
    "// Made by tests/goldens/make_codebooks.py: groups of eight (kIq2...) or four (kIq3...) magnitudes, the first in the lowest bits,"
)
print(
    "// as numbers of two or three bits that stand for 8, 25, 43 and for 4, 12, 20, 28, 36, 44, 52, 62 (kIq3S: 1, 3, .. 15)."
)
for name, bits in (("IQ2_XXS", 2), ("IQ2_XS", 2), ("IQ2_S", 2), ("IQ3_XXS", 3), ("IQ3_S", 3)):
    kind = getattr(quants, name)
    kind.init_grid()
    grid = kind.grid.reshape(kind.grid_shape)
    levels = {value: i for i, value in enumerate(kind.grid_map)}
    codes = [sum(levels[int(v)] << (bits * k) for k, v in enumerate(row)) for row in grid]
    print(
        f"constexpr uint16_t k{name[0]}{name[1].lower()}{name[2]}{name[4].upper()}{name[5:].lower()}[{len(codes)}] = {{"
    )
    for i in range(0, len(codes), 20):
        print("    " + " ".join(f"{c}," for c in codes[i : i + 20]))
    print("};")
