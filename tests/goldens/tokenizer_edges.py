"""Small vocabularies at the edges of the originals' rules, with what the originals make of texts: added tokens that the normaliser changes (tokenizers),
unigram models where ways of equal score compete (both libraries), a charsmap whose trie has shared endings (sentencepiece).

Writes edges.json: "added" {name: tokenizer.json}, "added_texts" [[text, {name: [ids, decoded]}]], "ties" [{"pieces" [[text, score, type]], "model" (the
SentencePiece model, hex), "texts", "spm" [ids], "json" [ids]}], "shared" {"model", "cases" [[text, ids]]}.

    pip install sentencepiece==0.2.3 tokenizers==0.23.3 && python tokenizer_edges.py
"""
import itertools
import json
import pathlib
import random
import struct

import sentencepiece
import tokenizers
from tokenizers import Tokenizer, models

assert sentencepiece.__version__ == "0.2.3" and tokenizers.__version__ == "0.23.3"
here = pathlib.Path(__file__).parent


def number(n):
    out = b""
    while True:
        out += bytes([n & 127 | (128 if n > 127 else 0)])
        n >>= 7
        if not n:
            return out


def field(tag, wire, value):
    return number(tag << 3 | wire) + (number(len(value)) + value if wire == 2 else value)


def spm_model(pieces, prefix=False, charsmap=b""):
    """ModelProto of a unigram model: pieces (text, score, type)."""
    made = b"".join(field(1, 2, field(1, 2, p.encode()) + field(2, 5, struct.pack("<f", s)) + field(3, 0, number(t))) for p, s, t in pieces)
    made += field(2, 2, field(3, 0, number(1)))
    return made + field(3, 2, field(1, 2, b"x") + (field(2, 2, charsmap) if charsmap else b"") + field(3, 0, number(prefix)) + field(4, 0, number(0)) + field(5, 0, number(1)))


def added(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False, **flags}


def tokenizer(model, normalizer, tokens, pre=None, decoder=None):
    size = len(model["vocab"])
    known = set(model["vocab"]) if isinstance(model["vocab"], dict) else {p for p, _ in model["vocab"]}
    fresh = itertools.count(size)
    listed = [{"id": list(model["vocab"]).index(t["content"]) if t["content"] in known else next(fresh), **t} for t in tokens]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": listed, "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": None, "decoder": decoder, "model": model}


def bpe(extra=(), **options):
    vocab = {c: i for i, c in enumerate(["<unk>", "<s>", "\u2581", *map(chr, range(33, 127)), *extra])}
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": [], **options}


def added_models():
    prepend, spaces, lower = {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, {"type": "Lowercase"}
    def steps(*all_steps):
        return {"type": "Sequence", "normalizers": list(all_steps)}
    out_of_marks = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "Fuse"}]}
    tokens = [added("<think>"), added("<Tool Use>"), added("<raw>", normalized=False), added("River", single_word=True), added("<l>", lstrip=True, rstrip=True), added("<S>", special=True)]
    letters = [[chr(c), -float(c % 7)] for c in range(33, 127)]
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u2581", -2.0], *letters], "byte_fallback": False}
    words = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
             "vocab": {p: i for i, p in enumerate(["[UNK]", *map(chr, range(33, 127)), *("##" + chr(c) for c in range(97, 123)), "river", "##iver"])}}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    return {
        "prefix": tokenizer(bpe(), steps(prepend, spaces), tokens, decoder=out_of_marks),
        "lower": tokenizer(bpe(), steps(spaces, lower), tokens, decoder=out_of_marks),
        "control_in_vocab": tokenizer(bpe(), steps(prepend, spaces), [added("<s>", special=True), *tokens], decoder=out_of_marks),
        "replace": tokenizer(bpe(), steps({"type": "Replace", "pattern": {"Regex": "i+"}, "content": "y"}, spaces), tokens, decoder=out_of_marks),
        "nfkc": tokenizer(bpe(), steps({"type": "NFKC"}, {"type": "StripAccents"}, spaces), [added("\uff21\uff22"), added("\u00c9t\u00e9"), added("\u2460", normalized=False), added("x\ufb01n", single_word=True)], decoder=out_of_marks),
        "strip": tokenizer(unigram, {"type": "Strip", "strip_left": True, "strip_right": True}, [*tokens, added(" <pad> ")], pre=metaspace, decoder=metaspace),
        "bert": tokenizer(words, {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}, [added("<Think>"), added("R\u00edver", single_word=True), added("<raw>", normalized=False)],
                          pre={"type": "BertPreTokenizer"}, decoder={"type": "WordPiece", "prefix": "##", "cleanup": True}),
    }


ADDED_TEXTS = ["<think>", "a<think>b", "a <think> b", "<think><think>", " <think>", "<THINK>x", "<Tool Use>", "a <tool use>", "<Tool\u2581Use>", "x <raw><think>", "<RAW>", "River", "river rivers River's", "a River b", "the<l> <l>end", "<S>", "<s>a <s>",
               "a<S> b <S>", "\uff21\uff22 AB ab", "\u00c9t\u00e9 Ete e\u0301te\u0301", "\u2460 1", "x\ufb01n xfin xxfin", "  ", "a  b", "<pad>", " <pad> x", "R\u00edver r\u00edver river", "thiink tool", ""]


def ties():
    rng = random.Random(32)
    out = []
    for case in range(24):
        base = rng.choice([-1.0, -0.1, -3.3, -7.7, -12.345])
        alphabet = "ab\u00e9"[:rng.randint(1, 3)]
        pieces, known = [("<unk>", 0.0, 2)], set()
        wanted = range(1, 33) if case < 4 else [rng.randint(1, 5) for _ in range(rng.randint(3, 12))]
        for n in wanted:
            p = "a" * n if case < 4 else "".join(rng.choice(alphabet) for _ in range(n))
            if p in known:
                continue
            known.add(p)
            score = base if case % 2 == 0 else base * len(p)
            pieces.append((p, score, 4 if case % 4 == 3 and rng.random() < 0.3 else 1))
        if all(t != 1 for _, _, t in pieces):
            pieces.append(("z", base, 1))
        model = spm_model(pieces)
        spm = sentencepiece.SentencePieceProcessor(model_proto=model)
        vocab = [(p, s) for p, s, _ in pieces]
        unigram = Tokenizer(models.Unigram(vocab, 0, False))
        texts = ["a" * 32, "a" * 33, "a" * 70] + ["".join(rng.choice(alphabet + ("q" if rng.random() < 0.1 else "")) for _ in range(rng.randint(1, 40))) for _ in range(4)]
        out.append({"pieces": pieces, "model": model.hex(), "texts": texts, "spm": [spm.encode(t) for t in texts], "json": [unigram.encode(t).ids for t in texts]})
    return out


def shared():
    """Strings of five characters that all become one: a trie of few nodes and many ways."""
    import io
    import tempfile
    rules = "".join(" ".join(f"{ord(c):X}" for c in way) + "\t71\n" for way in itertools.product("abcdefgh", repeat=4)) + "41\t61 61\n"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rules.tsv"
        path.write_text(rules)
        out = io.BytesIO()
        sentences = ["abcd efgh qq Aq abcq", "q q hgfe aab A"] * 20
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_writer=out, num_threads=1, minloglevel=2, hard_vocab_limit=False, vocab_size=30, normalization_rule_tsv=str(path))
    p = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    texts = ["abcd", "abcdefgh", "abc", "A", "Abcde q", "hhhh hhh", "zabcdz", "  aaaa  bbbbb"]
    return {"model": out.getvalue().hex(), "cases": [[t, p.encode(t)] for t in texts]}


def main():
    found = added_models()
    texts = []
    for text in ADDED_TEXTS:
        answers = {}
        for name, j in found.items():
            t = Tokenizer.from_str(json.dumps(j))
            try:
                ids = t.encode(text).ids
            except BaseException:  # it panics where what a token strips reaches into the next one
                continue
            answers[name] = [ids, t.decode(ids, skip_special_tokens=False)]
        texts.append([text, answers])
    made = {"added": found, "added_texts": texts, "ties": ties(), "shared": shared()}
    with open(here / "edges.json", "w") as f:
        f.write("{\n" + ",\n".join(f'"{k}": {json.dumps(v, separators=(",", ":"))}' for k, v in made.items()) + "\n}\n")


if __name__ == "__main__":
    main()
