"""The hot shaders with the constants that the bench models give them; read by shaders.py.

A case is (name, variant of shaders/variants.txt, {constant: value}, whether it is meant for Mali). Constants bear their
names in the shaders; one that a shader does not have is an error, one that is not given keeps its default."""

Q4_0 = {"kKind": 0, "kBits": 4, "kBlock": 32, "kZeroPoint": 8, "kHasMin": 0, "kScale": 0, "kSplit": 0}
Q4_K = {"kKind": 0, "kBits": 4, "kBlock": 32, "kZeroPoint": 0, "kHasMin": 1, "kScale": 2, "kSplit": 0}
Q6_K = {"kKind": 0, "kBits": 6, "kBlock": 16, "kZeroPoint": 32, "kHasMin": 0, "kScale": 4, "kSplit": 0}
Q8_0 = {"kKind": 0, "kBits": 8, "kBlock": 32, "kZeroPoint": 128, "kHasMin": 0, "kScale": 0, "kSplit": 0}
HEAD = {**Q8_0, "kSplit": 1}  # Gemma's embedding, whose rows are split
F16 = {"kKind": 2}

MANY, ONE = {"kTokens": 4, "kRows": 1, "kRagged": 0}, {"kTokens": 1, "kRows": 1, "kRagged": 0}


def products():
    for name, format in (("Q4_0", Q4_0), ("Q4_K", Q4_K), ("Q6_K", Q6_K), ("Q8_0", Q8_0), ("f16", F16)):
        yield f"products {name}, many tokens", "matmul", {**format, **MANY}, True
        yield f"products {name}, one token", "matmul", {**format, **ONE}, True
    yield "products of the split head, one token", "matmul", {**HEAD, **ONE}, True
    for name, format in (("Q4_0", Q4_0), ("Q8_0", Q8_0)):
        yield f"products {name} by int8, many tokens", "matmul__int_dot", {**format, **MANY}, True
        yield f"products {name} by int8, one token", "matmul__int_dot", {**format, **ONE}, True


def sequences():
    for head in (64, 128, 256):
        rows = min(8, 16 * 64 // head)
        shape = {"kSource": 2, "kKey": head, "kDims": head // 64}
        for name, tokens, heads in (
            ("many tokens", rows, 1),
            ("one token, 4 heads a key", 1, 4),
            ("one token, one head", 1, 1),
        ):
            yield f"attention, head {head}, {name}", "attention", {**shape, "kTokens": tokens, "kHeads": heads}, False
    for key, kind, constants in (
        (64, "add", {}),
        (64, "delta", {"kRule": 1}),
        (64, "dplr", {"kRule": 2, "kDecay": 3}),
        (64, "normalised", {"kNormalise": 1, "kDecay": 3}),
        (128, "add", {}),
        (128, "delta", {"kRule": 1}),
        (256, "delta", {"kRule": 1}),
        (100, "delta", {"kRule": 1, "kLanes": 16}),
    ):
        lanes = constants.get("kLanes", key // (4 if "kNormalise" in constants else 8))
        constants = {
            "kDecay": 2,
            **constants,
            "kSize": key,
            "kLanes": lanes,
            "kQuads": -(-key // (4 * lanes)),
            "kAligned": 1,
        }
        yield f"matrix_recurrence, key {key}, {kind}", "matrix_recurrence", constants, False
        if key > 64:
            yield f"matrix_recurrence by shuffles, key {key}, {kind}", "matrix_recurrence__shuffle", constants, False
    for n, lanes in ((16, 4), (256, 64)):
        constants = {"kSize": n, "kLanes": lanes, "kQuads": 1, "kAligned": 1, "kSoftplus": 1}
        yield f"selective_scan, {n} elements", "selective_scan", constants, False
        yield (
            f"selective_scan by shuffles, {n} elements",
            "selective_scan__shuffle",
            {**constants, "kNear": min(lanes, 8)},
            False,
        )
    yield "causal_conv", "causal_conv", {"kActivation": 4}, False
    yield "rms_norm", "rms_norm", {}, False
    yield "softmax", "softmax", {}, False


CASES = [*products(), *sequences()]
