"""Compares `runnel tokenize --special` with the original libraries on random small tokenizers: added tokens of every kind beside normalisers that change
them, and unigram models (tokenizer.json and SentencePiece's) whose scores are mostly equal. Prints the first differences; fails when there are any.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 numpy safetensors
    python vary_tokenizers.py BUILD_BIN_FOLDER WORK_FOLDER [--count 60] [--texts 150] [--seed 1]
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys

import numpy
import sentencepiece
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tokenizer_edges import spm_model

here = pathlib.Path(__file__).parent
CONTENTS = [
    "<think>",
    "<Tool>",
    "<|A b|>",
    "\uff21\uff22",
    "\u00c9t",
    "e\u0301w",
    "\ufb01n",
    "  ",
    "\n\n",
    "\u2581x",
    "don't",
    "The",
    "tool",
    "x",
    "\u2460",
    "\u4e00",
    " y",
    "z ",
    "<a><b>",
    "[MASK]",
    "cd",
    "\u0130",
]
WORDS = [
    "think",
    "Tool",
    "TOOL",
    "river",
    "a",
    "b",
    "x",
    "The",
    "the",
    "don",
    "'t",
    "\u00e9",
    "e\u0301",
    "\ufb01",
    "\uff21",
    "AB",
    "<",
    ">",
    "[",
    "]",
    "|",
    "\u4e00",
    "\u2460",
    "q",
    "mask",
    "i\u0307",
]
SPACES = ["", "", "", " ", " ", "  ", "\n", "\n\n", "\t", "\u2581", "\u3000"]


def random_normalizer(rng):
    N = normalizers
    single = [
        lambda: N.Lowercase(),
        lambda: N.NFC(),
        lambda: N.NFKC(),
        lambda: N.NFD(),
        lambda: N.Prepend("\u2581"),
        lambda: N.Replace(" ", "\u2581"),
        lambda: N.StripAccents(),
        lambda: N.Replace("a", "bc"),
        lambda: N.Replace("<", ""),
        lambda: N.BertNormalizer(),
        lambda: N.Strip(),
        lambda: N.Replace("T", "t"),
    ]
    kind = rng.randrange(4)
    if kind == 0:
        return N.Sequence([N.Prepend("\u2581"), N.Replace(" ", "\u2581")])
    return N.Sequence([rng.choice(single)() for _ in range(rng.randint(1, 3))])


def random_json(rng):
    letters = sorted({c for w in WORDS + CONTENTS for c in w} | set("abcdefghijklmnopqrstuvwxyz\u2581\u0301\u0307"))
    kind = rng.choice(["bpe", "unigram", "words", "bytes"])
    if kind == "words":
        vocab = {p: i for i, p in enumerate(["[UNK]", *letters, *("##" + c for c in letters)])}
        t = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
        t.pre_tokenizer, t.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece("##", rng.random() < 0.5)
        t.normalizer = (
            normalizers.BertNormalizer(lowercase=rng.random() < 0.7) if rng.random() < 0.7 else random_normalizer(rng)
        )
    elif kind == "unigram":
        vocab = [("<unk>", 0.0), *((c, -2.0 - rng.random()) for c in letters)]
        t = Tokenizer(models.Unigram(vocab, 0, False))
        t.pre_tokenizer, t.decoder = (
            pre_tokenizers.Metaspace(prepend_scheme=rng.choice(["always", "first", "never"])),
            decoders.Metaspace(),
        )
        t.normalizer = random_normalizer(rng)
    elif kind == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        t = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
        t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.3), decoders.ByteLevel()
        t.normalizer = random_normalizer(rng)
    else:
        vocab = {p: i for i, p in enumerate(["<unk>", *letters, *(f"<0x{b:02X}>" for b in range(256))])}
        t = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", fuse_unk=True, byte_fallback=rng.random() < 0.7))
        t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
        t.normalizer = random_normalizer(rng)
    for content in rng.sample(CONTENTS, rng.randint(2, 7)):
        token = AddedToken(
            content,
            single_word=rng.random() < 0.2,
            lstrip=rng.random() < 0.15,
            rstrip=rng.random() < 0.15,
            normalized=rng.random() < 0.7,
        )
        # Ours knows control pieces by their markup alone: a character of the model's is none.
        (t.add_special_tokens if rng.random() < 0.3 and t.token_to_id(content) is None else t.add_tokens)([token])
    return t.to_str()


def random_texts(rng, count):
    return [
        "".join(
            rng.choice(CONTENTS if rng.random() < 0.4 else WORDS) + rng.choice(SPACES) for _ in range(rng.randint(1, 8))
        )
        for _ in range(count)
    ]


def random_unigram(rng):
    alphabet, base = "ab\u00e9\u2581"[: rng.randint(1, 4)], rng.choice([-1.0, -0.1, -3.3, -7.7, -12.345])
    pieces, known = [("<unk>", 0.0, 2)], set()
    for _ in range(rng.randint(3, 14)):
        p = "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 6)))
        if p not in known:
            known.add(p)
            pieces.append(
                (
                    p,
                    rng.choice([base, base * len(p), rng.uniform(-10, -1)]),
                    rng.choices([1, 4, 5], [8, rng.choice([0, 1, 3]), 0.5])[0],
                )
            )
    pieces.append(("z", base, 1))
    texts = [
        "".join(
            rng.choice(alphabet.replace("\u2581", " ") + ("q" if rng.random() < 0.05 else ""))
            for _ in range(rng.randint(1, 70))
        )
        for _ in range(150)
    ]
    return pieces, texts


def make_model(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((here / "tiny_llama/config.json").read_text())
    tensors = load_file(here / "tiny_llama/model.safetensors")
    for name in {"model.embed_tokens.weight", "lm_head.weight"} & tensors.keys():
        tensors[name] = numpy.resize(tensors[name], (rows, tensors[name].shape[1]))
    config["vocab_size"] = rows
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")


def tokenized(binaries, folder, texts):
    """None: refused, with the message printed."""
    target, given, got = (str(folder) + end for end in (".rnl", ".in", ".out"))
    done = subprocess.run([binaries / "runnel-convert", folder, "-o", target], capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode or "without a tokenizer" in said:
        print("refused:", [line for line in said.splitlines() if "tokenizer" in line or "error" in line][:1])
        return None
    pathlib.Path(given).write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    subprocess.run([binaries / "runnel", "tokenize", target, "--in", given, "--out", got, "--special"], check=True)
    return [json.loads(line) for line in pathlib.Path(got).read_text().split("\n")[:-1]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--texts", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    different = refused = compared = skipped = 0
    for number in range(o.count):
        rng = random.Random(o.seed * 1000 + number)
        folder = o.work / f"t{number}"
        make_model(folder, 1200)
        for file in ("tokenizer.json", "tokenizer.model"):
            (folder / file).unlink(missing_ok=True)
        if number % 3 == 2:
            pieces, texts = random_unigram(rng)
            if rng.random() < 0.5 and all(t == 1 for _, _, t in pieces[1:]):
                vocab = [(p, s) for p, s, _ in pieces]
                t = Tokenizer(models.Unigram(vocab, 0, False))
                t.normalizer, t.decoder = normalizers.Replace(" ", "\u2581"), decoders.Metaspace(prepend_scheme="never")
                (folder / "tokenizer.json").write_text(t.to_str())
                encode = lambda text: t.encode(text).ids
            else:
                model = spm_model(pieces)
                (folder / "tokenizer.model").write_bytes(model)
                encode = sentencepiece.SentencePieceProcessor(model_proto=model).encode
        else:
            made = random_json(rng)
            (folder / "tokenizer.json").write_text(made)
            t = Tokenizer.from_str(made)
            texts, encode = random_texts(rng, o.texts), lambda text: t.encode(text).ids
        answers = tokenized(o.binaries, folder, texts)
        if answers is None:
            refused += 1
            continue
        shown = 0
        for text, got in zip(texts, answers, strict=True):
            try:
                want = encode(text)
            except BaseException:
                skipped += 1
                continue
            compared += 1
            if want != got["ids"]:
                different += 1
                shown += 1
                if shown <= 2:
                    print(f"{folder}: {text!r}\n  original {want}\n  runnel   {got['ids']}")
    print(
        f"{different} of {compared} texts differ; {refused} of {o.count} tokenizers refused, {skipped} texts that the original fails on"
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
