"""The hot kernels of a token on Arm, one row each: where their loops are found, and the work that the figures are stated for.

A part is one loop of a kernel: `function` (a pattern of its readable name), `measure` and `work` (what arm_loops.py counts on a turn, and how much of
it the unit has), and rules for which loop it is; see arm_loops.choose. A kernel's cycles are the sum over its parts. Units are counted in the
compiled loop, so that a kernel may do more or less a turn; a kernel that is renamed or loses its loop is an error here."""

import collections

# armv7: whether the row also stands in the table of 32-bit Arm. peer: {target: pattern of the peer's function, rules}.
Kernel = collections.namedtuple("Kernel", "name source parts armv7 peer")
Section = collections.namedtuple("Section", "title kernels")


def part(function, measure, work, **rules):
    return {"function": function, "measure": measure, "work": work, **rules}


FUSED, TIMES, PLUS, HALVES = r"\b(v?fmla|fmadd|vfma)", r"\bfmul\b", r"\bfadd\b", r"\bfcvtl|\bvcvt\.f32\.f16"
EXP = FUSED  # of the loops that store, the ones with a polynomial


def kernel(name, source, *parts, armv7=False, peer=None):
    return Kernel(name, source, parts, armv7, peer or {})


# One row of a matrix: the loop over its units, 16 rows x `columns` columns a unit, whose scales are halves. Units of 256 columns have small scales,
# which a function expands (the last part), and a loop over rows of blocks.
def one_row(name, bits, block, columns, peer, scales=None, **rules):
    kind = {"around": 16 * columns, "calls": True, "lacks": HALVES} if columns == 256 else {"holds": HALVES}
    parts = [part(rf"\bone_row<{bits}, {block}>", "products", 512, **kind, **rules)]
    if scales:
        parts.append(part("expand_small_scales", "stores", 512 // block * (2 if rules.get("longest") else 1), **scales))
    return kernel("one row, " + name, "ops/matmul/cpu.cpp", *parts, armv7=True, peer=peer)


def gemv(kind, narrow=None, wide=None, rows=0):
    """The peer's kernels of one row by target: repacked where there are dot products, else row by row. K-quants have a loop around, of 256 columns."""
    super_block = kind.endswith("K")
    block = "q8_K" if super_block else "q8_0"
    rule = lambda rows: {"around": 256 * rows, "calls": None} if super_block else {}
    single = part(f"ggml_vec_dot_{kind}_{block}$", "products", 512, **rule(1))
    if not narrow:
        return {"neon": single, "neon_dotprod": single}
    repacked = lambda form: part(f"ggml_gemv_{kind}_{form}_{block}$", "products", 512, **rule(rows))
    return {"neon": single, "neon_dotprod": repacked(narrow), "neon_i8mm": repacked(wide)}


ONE_ROW = Section("16 rows x 32 columns, one token", [
    one_row("q4 (Q4_0)", 4, 32, 32, gemv("q4_0", "4x4", "4x8")),
    one_row("q5 (Q5_0)", 5, 32, 32, gemv("q5_0")),
    one_row("q6", 6, 32, 32, {}),
    one_row("q8 (Q8_0)", 8, 32, 32, gemv("q8_0", "4x4", "4x8")),
    one_row("Q2_K", 2, 16, 256, gemv("q2_K"), {"turn": 32}, longest=True),
    one_row("Q3_K", 3, 16, 256, gemv("q3_K"), {"turn": 64}),
    one_row("Q4_K", 4, 32, 256, gemv("q4_K", "8x4", "8x8", 8), {"turn": 128}, longest=True),
    one_row("Q5_K", 5, 32, 256, gemv("q5_K", "8x4", "8x8", 8), {"turn": 128}, longest=True),
    one_row("Q6_K", 6, 16, 256, gemv("q6_K", "8x4", "8x8", 8), {"turn": 16}),
])


# Many rows: groups of tokens meet a piece of a tile that was unpacked before.
def many_rows(name, block, peer=None, **rules):
    return kernel("many rows, " + name, "ops/matmul/cpu.cpp", part(rf"\bmultiply_piece<\d+, {block}\b", "products", 1024, **rules), armv7=True, peer=peer)


def gemm(kind, narrow, wide, rows=0):
    block = "q8_K" if rows else "q8_0"
    rule = {"around": 256 * rows * 4, "calls": None} if rows else {}
    repacked = lambda form: part(f"ggml_gemm_{kind}_{form}_{block}$", "products", 1024, **rule)
    return {"neon_dotprod": repacked(narrow), "neon_i8mm": repacked(wide)}


def unpack(bits):
    return kernel(f"unpacking q{bits}, 16 rows x 32 columns", "ops/matmul/cpu.cpp", part(rf"\bunpack_blocks<{bits}>", "stores", 128))


MANY_ROWS = Section("1,024 multiply-adds of many rows", [
    many_rows("blocks of 32, q4", 32, gemm("q4_0", "4x4", "4x8")),
    many_rows("blocks of 32, q8", 32, gemm("q8_0", "4x4", "4x8")),
    many_rows("Q4_K", 32, gemm("q4_K", "8x4", "8x8", 8), longest=True),
    many_rows("Q6_K", 16, gemm("q6_K", "8x4", "8x8", 8)),
    unpack(4), unpack(5), unpack(6), unpack(8),
])


def floats(name, function):
    return kernel(name, "ops/matmul/cpu.cpp", part(function, "fused", 1024))


FLOAT_WEIGHTS = Section("1,024 multiply-adds with weights of float kinds", [
    floats("one row, f32", r"\bone_row_float<\(PackedKind\)1>"),
    floats("one row, f16", r"\bone_row_float<\(PackedKind\)2>"),
    floats("one row, bf16", r"\bone_row_float<\(PackedKind\)3>"),
    floats("many rows", r"\bmultiply_float<4>|\b(product_task|run_tiles)\("),
])


def attention(name, function, measure="fused", work=1024, **rules):
    return kernel(name, "ops/attention/cpu.cpp", part(function, measure, work, **rules))


ATTENTION = Section("attention: 1,024 multiply-adds; softmax and panels: 64 floats", [
    attention("keys f16, one query row", r"\bkey_products<1, \d, unsigned short>"),
    attention("keys f16, two query rows", r"\bkey_products<2, \d, unsigned short>"),
    attention("keys f16, four query rows", r"\bkey_products<4, \d, unsigned short>"),
    attention("keys, six query rows", r"\bkey_products<6, 1, float>"),
    attention("values f16, one query row", r"\bvalue_products<1, \d, unsigned short>"),
    attention("values f16, two query rows", r"\bvalue_products<2, \d, unsigned short>"),
    attention("values f16, four query rows", r"\bvalue_products<4, \d, unsigned short>"),
    attention("values, six query rows", r"\bvalue_products<6, 1, float>"),
    attention("softmax of a span", "", "stores", 64, holds=EXP, least=64),
])


RECURRENCES = Section("recurrences, each for what it names", [
    kernel("matrix_recurrence, sum over 4 keys x 32 columns", "ops/matrix_recurrence/cpu.cpp", part(r"^product\(", "fused", 128)),
    kernel("matrix_recurrence, 4 keys x 32 columns changed and read", "ops/matrix_recurrence/cpu.cpp", part(r"\bchange<false, false, true>", "fused", 256)),
    kernel("matrix_recurrence, with decays by key and dplr", "ops/matrix_recurrence/cpu.cpp", part(r"\bchange<true, true, true>", "fused", 384)),
    kernel("selective_scan, 16 states of a channel", "ops/selective_scan/cpu.cpp", part("", "stores", 16, holds=FUSED, turn=16)),
    kernel("selective_scan by columns, 16 states of 16 channels", "ops/selective_scan/cpu.cpp", part("", "turns", 1, least=1024)),
    kernel("cell_recurrence, 16 rows x 16 columns", "ops/cell_recurrence/cpu.cpp", part(r"\bproducts\(", "fused", 256)),
    kernel("scan, 16 channels", "ops/scan/cpu.cpp", part(r"\breal_slice\(", "stores", 16, holds=FUSED)),
    kernel("causal_conv, 4 taps of 16 channels", "ops/causal_conv/cpu.cpp", part("", "fused", 64)),
])

VECTORS = Section("64 floats", [
    kernel("rms_norm", "ops/rms_norm/cpu.cpp", part("", "fused", 64), part("", "stores", 64, lacks=FUSED, holds=TIMES, longest=True)),
    kernel("layer_norm", "ops/layer_norm/cpu.cpp", part("", "loads", 64, lacks=f"{FUSED}|{TIMES}", holds=PLUS), part("", "fused", 64),
           part("", "stores", 64, lacks=FUSED, holds=TIMES, longest=True)),
    kernel("softmax", "ops/softmax/cpu.cpp", part("", "loads", 64, lacks=f"{FUSED}|{PLUS}", holds=TIMES), part("", "stores", 64, holds=EXP),
           part("", "stores", 64, lacks=FUSED, holds=TIMES)),
    kernel("rope, halves", "ops/rope/cpu.cpp", part("", "stores", 64, lacks=FUSED, holds=TIMES)),
    kernel("silu, gated", "ops/unary/cpu.cpp", part(r"\bspan<\(UnaryKind\)4>", "stores", 64, longest=True)),
    kernel("gelu_tanh, gated", "ops/unary/cpu.cpp", part(r"\bspan<\(UnaryKind\)6>", "stores", 64, longest=True)),
])

SAMPLING = Section("sampling: 64 logits", [
    kernel("highest", "text/sampler_passes.cpp", part(r"\b(argmax|highest_of|scan)\(", "loads", 64)),
    kernel("weights of all", "text/sampler_passes.cpp", part(r"\bblock_mass\(", "stores", 64, longest=True)),
    kernel("their sum", "text/sampler_passes.cpp", part(r"\bblock_mass\(", "loads", 64, holds="fcvtl")),
])

SECTIONS = [ONE_ROW, MANY_ROWS, FLOAT_WEIGHTS, ATTENTION, RECURRENCES, VECTORS, SAMPLING]
