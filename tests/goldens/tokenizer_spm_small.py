"""Trains a small SentencePiece BPE model on text of our own and records what sentencepiece itself makes of the cases.

Writes spm_small.model, spm_small.jsonl (byte fallback, user-defined and control symbols, a space prefix), and
spm_plain.model, spm_plain.jsonl (no byte fallback, no prefix: unknown pieces). Lines: bytes_hex, ids (no bos or eos), text.

    pip install sentencepiece==0.2.3 && python tokenizer_spm_small.py
"""

import io
import json
import pathlib
import random

import sentencepiece

from tokenizer_cases import CASES

assert sentencepiece.__version__ == "0.2.3"
here = pathlib.Path(__file__).parent

SENTENCES = """
A river carries what it is given, and it keeps its bed whatever the rain does.
The small model reads one word after another and remembers only what fits into its state.
Each step costs the same: the tenth word, the thousandth word and the millionth word.
def step(state, token): return update(state, token)  # the state never grows
for (int i = 0; i < n; ++i) sum += values[i] * weights[i];
Das kleine Modell liest ein Wort nach dem anderen. Der Zustand bleibt gleich gro\u00df.
Le petit mod\u00e8le lit un mot apr\u00e8s l'autre et n'oublie pas l'essentiel.
\u041c\u0430\u043b\u0435\u043d\u044c\u043a\u0430\u044f \u043c\u043e\u0434\u0435\u043b\u044c \u0447\u0438\u0442\u0430\u0435\u0442 \u0441\u043b\u043e\u0432\u043e \u0437\u0430 \u0441\u043b\u043e\u0432\u043e\u043c.
\u5c0f\u6a21\u578b\u4e00\u4e2a\u8bcd\u4e00\u4e2a\u8bcd\u5730\u8bfb\u3002 \u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3002
Numbers: 1 12 123 1234 2026 3.14159 1,000,000 and 0x7f.
""".strip().split("\n")


def train(name, **options):
    out = io.BytesIO()
    rng = random.Random(3)
    text = [
        " ".join(rng.sample(line.split(), len(line.split()))) for line in SENTENCES for _ in range(40)
    ] + SENTENCES * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=out,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    (here / f"{name}.model").write_bytes(out.getvalue())
    p = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    rng = random.Random(5)
    pools = [
        "abcde tino",
        "  \u2581",
        "<b></b>\n\t ",
        "\u043c\u043e\u0434\u0435\u043b\u044c \u00df\u00e9",
        "\u5c0f\u6a21\u578b\u8bcd\U0001f600",
        "0123456789.,",
    ] + SENTENCES
    cases = CASES + [
        "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 50))).encode() for _ in range(120)
    ]
    cases += [
        " ".join(rng.choice(" ".join(SENTENCES).split()) for _ in range(rng.randint(1, 12))).encode() for _ in range(60)
    ]
    with open(here / f"{name}.jsonl", "w") as f:
        for raw in cases:
            ids = p.encode(raw.decode(errors="replace"))  # one U+FFFD per maximal invalid part
            f.write(json.dumps({"bytes_hex": raw.hex(), "ids": ids, "text": p.decode(ids)}) + "\n")


train(
    "spm_small",
    vocab_size=600,
    byte_fallback=True,
    character_coverage=0.99,
    allow_whitespace_only_pieces=True,
    split_digits=True,
    control_symbols=["<turn>", "</turn>", "<two words>"],
    user_defined_symbols=[
        "<b>",
        "</b>",
        "\n",
        "\n\n",
        "\n\n\n",
        "\u2581\u2581",
        "\u2581\u2581\u2581",
        "\u2581\u2581\u2581\u2581",
        "\t",
    ],
)
train(
    "spm_plain",
    vocab_size=400,
    byte_fallback=False,
    character_coverage=0.98,
    add_dummy_prefix=False,
    user_defined_symbols=["<b>", "ell"],
)
