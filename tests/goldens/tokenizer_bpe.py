"""Trains a small byte-level BPE vocabulary on text of our own and records what tokenizers and tiktoken make of the cases with it, for
every pre-tokenizer that the converter compiles.

Writes bpe_small.json (a tokenizer.json; "variants" names the parts that each variant replaces in it) and bpe_small.jsonl, a case a
line: bytes_hex, the distinct answers, and for each variant the number of its answer; the same in bpe_added.jsonl for added tokens and
their flags, with and without special tokens parsed.

    pip install tokenizers==0.23.3 tiktoken==0.14.0 && python tokenizer_bpe.py
"""

import copy
import json
import pathlib
import random

import tiktoken
import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tokenizer_cases import CASES

assert tokenizers.__version__ == "0.23.3" and tiktoken.__version__ == "0.14.0"
here = pathlib.Path(__file__).parent

SENTENCES = """
A river carries what it is given, and it keeps its bed whatever the rain does. It's the river's, they'll say; we've seen it, I'd know.
THE SMALL MODEL READS ONE WORD AFTER ANOTHER, and Remembers Only What Fits Into ItsState.
Each step costs the same: the tenth word, the thousandth word and the millionth word.
def step(state, token):\n    return update(state, token)  # the state never grows\n\n\nfor (int i = 0; i < n; ++i) sum += values[i] * weights[i];
Das kleine Modell liest ein Wort nach dem anderen. Der Zustand bleibt gleich gro\u00df. L'\u00e9t\u00e9 \u00e0 l'ouest, \u00c9COLE.
\u041c\u0430\u043b\u0435\u043d\u044c\u043a\u0430\u044f \u043c\u043e\u0434\u0435\u043b\u044c \u0447\u0438\u0442\u0430\u0435\u0442 \u0441\u043b\u043e\u0432\u043e \u0437\u0430 \u0441\u043b\u043e\u0432\u043e\u043c.
\u5c0f\u6a21\u578b\u4e00\u4e2a\u8bcd\u4e00\u4e2a\u8bcd\u5730\u8bfb\u3002 \u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3002 \uc548\ub155 \u0627\u0644\u0639\u0627\u0644\u0645 \u0939\u093f\u0928\u094d\u0926\u0940
Numbers: 1 12 123 1234 2026 3.14159 1,000,000 and 0x7f. Ends ...\n\n\n\t\t??!! --- <b></b> ====
""".strip().split("\n")
SENTENCES = [s for s in SENTENCES if s]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{M}\p{N}]+")
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORDS = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+S|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*S"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = WORDS.replace("S", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?") + r"|\p{N}{1,3}" + REST
TEKKEN = WORDS.replace("S", "") + r"|\p{N}" + REST
KIMI = r"[\p{Han}]+|" + O200K.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]").replace("[\\r\\n/]*", "[\\r\\n]*")
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def bytes_after(*steps):
    return {
        "pre_tokenizer": sequence(
            *steps, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        )
    }


def gpt2(prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": True}


DIGITS = {"type": "Digits", "individual_digits": True}
VARIANTS = {
    "gpt2": {"pre_tokenizer": gpt2()},
    "prefix_space": {"pre_tokenizer": gpt2(True)},
    "llama3": bytes_after(split(LLAMA3)),
    "qwen2": bytes_after(split(QWEN2)),
    "qwen35": bytes_after(split(QWEN35)),
    "cl100k": bytes_after(split(CL100K)),
    "o200k": bytes_after(split(O200K)),
    "tekken": bytes_after(split(TEKKEN)),
    "kimi": bytes_after(split(KIMI)),
    "smollm": {"pre_tokenizer": sequence(DIGITS, gpt2())},
    "digits": bytes_after({"type": "Digits", "individual_digits": False}),
    "deepseek_v3": bytes_after(
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK)
    ),
    "deepseek_coder": bytes_after(
        split("[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
        DIGITS,
    ),
    "bloom": bytes_after(split(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+")),
    "bailing": bytes_after(
        split(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
        )
    ),
    "superbpe": bytes_after(split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))")),
    "cohere2": bytes_after(split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K)),
    "falcon": {
        "pre_tokenizer": sequence(
            {"type": "Punctuation", "behavior": "Contiguous"},
            gpt2(),
            {"type": "Digits", "individual_digits": False},
            split("[0-9][0-9][0-9]"),
        )
    },
    "removed": bytes_after(split(r"[aeiou]+", "Removed")),
    "with_previous": bytes_after(split(r"[aeiou ]", "MergedWithPrevious")),
    "with_next": bytes_after(split(r"[aeiou ]", "MergedWithNext")),
    "contiguous": bytes_after(split(r"[aeiou ]", "Contiguous")),
    "inverted": bytes_after(split(r"\w+|[^\w\s]+", "Removed", True)),
    "text": bytes_after({"type": "Split", "pattern": {"String": "e"}, "behavior": "MergedWithNext", "invert": False}),
    "delimiter": bytes_after({"type": "CharDelimiterSplit", "delimiter": "t"}),
    "whitespace": bytes_after({"type": "Whitespace"}),
    "whitespace_split": bytes_after({"type": "WhitespaceSplit"}),
    "bert": bytes_after({"type": "BertPreTokenizer"}),
    "punctuation": bytes_after({"type": "Punctuation", "behavior": "MergedWithPrevious"}),
    "fixed_length": bytes_after({"type": "FixedLength", "length": 5}),
    "metaspace": bytes_after({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}),
    "metaspace_first": bytes_after(
        {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    ),
    "odd": bytes_after(
        split(
            r"^ |\n$|(?<=[a-z])(?=[A-Z])|(?<!\d)\.|(?>a|ab)c|x{2,}?|(?:ab?){2,3}|\bthe\b|[[:punct:]&&[^,]]{2,3}+|\x{4F60}|[^\W\d_]{3}"
        )
    ),
    "whole_words": {**bytes_after(split(LLAMA3)), "ignore_merges": True},
}
ADDED = [
    {"content": "<|turn|>", "special": True, "normalized": False},
    {"content": "<|end|>", "special": True, "normalized": False, "rstrip": True},
    {"content": "<mask>", "special": True, "normalized": False, "lstrip": True},
    {"content": "<think>", "special": False, "normalized": False},
    {"content": "river", "special": False, "normalized": True, "single_word": True},
    {"content": "    ", "special": False, "normalized": True},
    {"content": "<|turn|>x", "special": False, "normalized": True},
    {"content": "\u00e9t\u00e9", "special": False, "normalized": False, "single_word": True},
    {"content": "<b>", "special": False, "normalized": True, "lstrip": True, "rstrip": True},
    {"content": "the", "special": False, "normalized": True, "lstrip": True},
]
ADDED_TEXTS = [
    "<|turn|>user says <|end|>  \n next",
    "a  <mask> b<mask>",
    "<think>hm</think> <think>",
    "river rivers, river",
    "a      b         c",
    "<|turn|>x<|turn|> x",
    "\u00e9t\u00e9 L'\u00e9t\u00e9 \u00e9t\u00e9s\u00e9t\u00e9 x\u00e9t\u00e9",
    "a <b> c  <b>  d<b>",
    "  the  the\u00a0 the",
    "<|end|>\u3000\u2028<mask>",
    "<|turn|><|turn|",
    " ",
    "",
    "<|end|>",
    "no token at all",
    "riverriver river\u0301 river_ river-",
    "<|turn|>\xff",
]


def base():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rng = random.Random(3)
    text = [
        " ".join(rng.sample(line.split(" "), len(line.split(" ")))) for line in SENTENCES for _ in range(30)
    ] + SENTENCES * 20
    t.train_from_iterator(
        text,
        trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    return json.loads(t.to_str())


def variant_of(root, parts):
    root = copy.deepcopy(root)
    for key, value in parts.items():
        (root["model"] if key == "ignore_merges" else root)[key] = value
    return root


def cases():
    rng = random.Random(7)
    pools = [
        "abcde tino'S",
        "  \n\r\t",
        "AEIT's dLL/",
        "\u043c\u043e\u0434\u0435\u043b\u044c \u00df\u00e9\u00c9\u01c5\u02b0",
        "\u5c0f\u6a21\u578b\u8bcd\U0001f600\u3042\uc548",
        "0123456789.,\u0661\u00bd",
        "\u0301\u0939\u093f\u0e32\u0645\u064b\u20dd",
        "!?()[]<>-_='\"",
        *SENTENCES,
    ]
    made = ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 40))).encode() for _ in range(60)]
    made += [bytes(rng.choice(rng.choice(pools).encode()) for _ in range(rng.randint(1, 12))) for _ in range(10)]
    return (
        [c for c in CASES if len(c) < 120]
        + [("\u00e9" * 40 + "a" * 60).encode(), b" " * 70 + b"x", b"123456789 1234567"]
        + made
    )


def alphabet_bytes():
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [b for b in range(256) if b not in shown]
    return {chr(c): b for c, b in zip(shown + [256 + i for i in range(len(other))], shown + other)}


def write(path, names, encoders, texts):
    with open(path, "w") as f:
        for raw in texts:
            answers, numbers = [], []
            for encode in encoders:
                ids = encode(raw.decode(errors="replace"))
                if ids not in answers:
                    answers.append(ids)
                numbers.append(answers.index(ids))
            f.write(
                json.dumps({"bytes_hex": raw.hex(), "answers": answers, "of": numbers}, separators=(",", ":")) + "\n"
            )


root = base()
loaded = {name: Tokenizer.from_str(json.dumps(variant_of(root, parts))) for name, parts in VARIANTS.items()}
encoders = [lambda text, t=t: t.encode(text, add_special_tokens=False).ids for t in loaded.values()]
byte_of = alphabet_bytes()
ranks = {bytes(byte_of[c] for c in piece): index for piece, index in root["model"]["vocab"].items()}
# tiktoken takes the ranks of single bytes from 0 to 255; the vocabulary's alphabet comes first.
TIKTOKEN = {"tiktoken_gpt2": GPT2, "tiktoken_cl100k": CL100K, "tiktoken_o200k": O200K, "tiktoken_kimi": KIMI}
for name, pattern in TIKTOKEN.items():
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    encoders.append(lambda text, e=encoding: e.encode_ordinary(text))
root["variants"] = {**VARIANTS, **{name: {"pattern": pattern} for name, pattern in TIKTOKEN.items()}}
(here / "bpe_small.json").write_text(json.dumps(root, ensure_ascii=True, separators=(",", ":")) + "\n")
write(here / "bpe_small.jsonl", list(root["variants"]), encoders, cases())

defaults = {"single_word": False, "lstrip": False, "rstrip": False}
added = variant_of(
    root, {"pre_tokenizer": gpt2(), "added_tokens": [{"id": i, **defaults, **t} for i, t in enumerate(ADDED)]}
)
added.pop("variants")
parse, plain = Tokenizer.from_str(json.dumps(added)), Tokenizer.from_str(json.dumps(added))
plain.encode_special_tokens = True
write(
    here / "bpe_added.jsonl",
    [],
    [lambda text, t=t: t.encode(text, add_special_tokens=False).ids for t in (parse, plain)],
    [t.encode("latin-1") if "\xff" in t else t.encode() for t in ADDED_TEXTS],
)
(here / "bpe_added.json").write_text(json.dumps(added["added_tokens"]) + "\n")
