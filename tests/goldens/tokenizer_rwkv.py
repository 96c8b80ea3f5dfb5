"""Makes a small vocabulary in RWKV's format from text of our own and records what the rwkv package's tokenizer makes of the cases.

Writes rwkv_small.txt (all bytes, stretches of the text, parts of characters) and rwkv_small.jsonl. Lines: bytes_hex, ids, text.
With `full FILE` it writes the same lines for the package's own vocabulary to FILE, which is too large to keep.

    pip install --no-deps rwkv==0.8.32 && python tokenizer_rwkv.py [full FILE]
"""

import collections
import importlib.util
import json
import pathlib
import random
import sys
from importlib.metadata import version

from tokenizer_cases import CASES

assert version("rwkv") == "0.8.32"
here = pathlib.Path(__file__).parent
package = pathlib.Path(importlib.util.find_spec("rwkv").submodule_search_locations[0])
spec = importlib.util.spec_from_file_location("rwkv_tokenizer", package / "rwkv_tokenizer.py")
rwkv_tokenizer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rwkv_tokenizer)

SENTENCES = [
    "A river carries what it is given, and it keeps its bed whatever the rain does.\n\n",
    "User: Each step costs the same?\n\nAssistant: The tenth word and the millionth.\n\n",
    '\tfor (int i = 0; i < n; ++i) sum += values[i] * "weights\\n"[i];\r\n',
    "    return update(state, token)  # it's the state's\n",
    "Das kleine Modell bleibt gleich gro\u00df. L'\u00e9t\u00e9 \u00e0 l'ouest.",
    "\u041c\u0430\u043b\u0435\u043d\u044c\u043a\u0430\u044f \u043c\u043e\u0434\u0435\u043b\u044c \u0447\u0438\u0442\u0430\u0435\u0442 \u0441\u043b\u043e\u0432\u043e.",
    "\u5c0f\u6a21\u578b\u4e00\u4e2a\u8bcd\u4e00\u4e2a\u8bcd\u5730\u8bfb\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3002",
    "1 12 123 1234 2026 3.14159 1,000,000 0x7f",
    "\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u00a0\u2028\u0085\ufeff\x1b[0m\x00\x7f",
    "<s></s> ~~~~ ---- ========",
]
LONG = [" " * n for n in (2, 3, 4, 8, 16)] + ["\n" * n for n in (2, 3, 4)] + ["=" * 8, "=" * 64, "\t\t"]


def pieces():
    rng = random.Random(11)
    counts = collections.Counter()
    for sentence in SENTENCES:
        raw = sentence.encode()
        for begin in range(len(raw)):
            for size in (2, 3, 4, 5, 7):
                counts[raw[begin : begin + size]] += 1
    drawn = (
        rng.sample(sorted(counts), 500)
        + [word.encode() for s in SENTENCES for word in s.split(" ") if len(word.encode()) > 1]
        + [p.encode() for p in LONG]
    )
    longer = sorted(set(drawn) - {bytes([b]) for b in range(256)}, key=lambda p: (len(p), p))
    return [bytes([b]) for b in range(256)] + [p for p in longer if len(p) > 1]


def literal(piece, index):
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return f"{index} {piece!r} {len(piece)}\n"
    return f"{index} {text!r} {len(piece)}\n"


def write_cases(tokenizer, path, cases):
    with open(path, "w") as f:
        for raw in cases:
            ids = tokenizer.encodeBytes(raw)
            assert tokenizer.decodeBytes(ids) == raw
            f.write(json.dumps({"bytes_hex": raw.hex(), "ids": ids, "text": raw.decode(errors="replace")}) + "\n")


def cases():
    rng = random.Random(13)
    whole = "".join(SENTENCES).encode()
    stretches = [whole[b : b + rng.randint(1, 60)] for b in (rng.randrange(len(whole)) for _ in range(120))]
    return CASES + stretches + [bytes(rng.randrange(256) for _ in range(rng.randint(1, 40))) for _ in range(60)]


if sys.argv[1:2] == ["full"]:
    write_cases(rwkv_tokenizer.TRIE_TOKENIZER(str(package / "rwkv_vocab_v20230424.txt")), sys.argv[2], cases())
else:
    with open(here / "rwkv_small.txt", "w", encoding="utf-8") as f:
        f.writelines(literal(p, i + 1) for i, p in enumerate(pieces()))
    write_cases(rwkv_tokenizer.TRIE_TOKENIZER(str(here / "rwkv_small.txt")), here / "rwkv_small.jsonl", cases())
