"""The hot shaders with the constants that the bench models give them; read by shaders.py.

A case is (name, variant of shaders/variants.txt, {constant: value}, whether it is meant for Mali). Constants bear their
names in the shaders; one that a shader does not have is an error, one that is not given keeps its default."""

Q4_0 = {"kKind": 0, "kBits": 4, "kBlock": 32, "kZeroPoint": 8, "kHasMin": 0, "kScale": 0, "kSplit": 0}
Q4_K = {"kKind": 0, "kBits": 4, "kBlock": 32, "kZeroPoint": 0, "kHasMin": 1, "kScale": 2, "kSplit": 0}
Q6_K = {"kKind": 0, "kBits": 6, "kBlock": 16, "kZeroPoint": 32, "kHasMin": 0, "kScale": 4, "kSplit": 0}
Q8_0 = {"kKind": 0, "kBits": 8, "kBlock": 32, "kZeroPoint": 128, "kHasMin": 0, "kScale": 0, "kSplit": 0}
HEAD = {**Q8_0, "kSplit": 1}  # Gemma's embedding, whose rows are split
F16 = {"kKind": 2}

MANY = {"kTokens": 4, "kQuads": 1, "kRagged": 0, "kParts": 1}
MANY_ROUNDED = {"kTokens": 2, "kQuads": 1, "kRagged": 0, "kParts": 1}
MANY_HALVES = {"kTokens": 2, "kQuads": 2, "kRagged": 0, "kParts": 1}
ONE = {"kTokens": 1, "kQuads": 2, "kRagged": 0, "kParts": 2}


def products():
    for name, format in (("Q4_0", Q4_0), ("Q4_K", Q4_K), ("Q6_K", Q6_K), ("Q8_0", Q8_0), ("f16", F16)):
        yield f"products {name}, many tokens", "matmul", {**format, **(MANY_HALVES if format is F16 else MANY)}, True
        yield f"products {name}, one token", "matmul", {**format, **ONE}, True
    yield "products of the split head, one token", "matmul", {**HEAD, **ONE}, True
    for name, format in (("Q4_0", Q4_0), ("Q8_0", Q8_0)):
        yield f"products {name} by int8, many tokens", "matmul__int_dot", {**format, **MANY_ROUNDED}, True
        yield f"products {name} by int8, one token", "matmul__int_dot", {**format, **ONE}, True


def sequences():
    for head in (64, 128, 256):
        yield (
            f"attention, head {head}, f16 states",
            "attention",
            {"kSource": 2, "kKey": head, "kDims": head // 64},
            False,
        )
    for key in (64, 128):
        name = f"matrix_recurrence, key {key}"
        yield f"{name}, add", "matrix_recurrence", {"kKey": key, "kRule": 0, "kDecay": 2}, False
        yield f"{name}, delta", "matrix_recurrence", {"kKey": key, "kRule": 1, "kDecay": 2}, False
    yield "selective_scan, Mamba 130M", "selective_scan", {"kN": 16, "kSoftplus": 1}, False
    yield "causal_conv", "causal_conv", {"kActivation": 4}, False
    yield "rms_norm", "rms_norm", {}, False
    yield "softmax", "softmax", {}, False


CASES = [*products(), *sequences()]
