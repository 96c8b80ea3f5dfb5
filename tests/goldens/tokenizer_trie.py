"""Trains small unigram, WordPiece and BPE models with normalisers on text of our own and records what the original libraries make of the cases.

Writes uni_*.model and .jsonl (SentencePiece: bytes_hex, ids, text), trie_models.json and .jsonl (tokenizers: for each model the ids and
the text of its own decoder), normalizers.json (normalisers, what they make of some texts, and checksums over all characters).

    pip install sentencepiece==0.2.3 tokenizers==0.23.3 && python tokenizer_trie.py
"""
import base64
import io
import json
import pathlib
import random
import tempfile
import zlib

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tokenizer_cases import BROKEN, CASES, TEXTS

assert sentencepiece.__version__ == "0.2.3" and tokenizers.__version__ == "0.23.3"
here = pathlib.Path(__file__).parent

SENTENCES = """
A river carries what it is given, and it keeps its bed whatever the rain does.
The small model reads one word after another and remembers only what fits into its state.
Each step costs the same: the tenth word, the thousandth word and the millionth word.
def step(state, token): return update(state, token)  # the state never grows
Das kleine Modell liest ein Wort nach dem anderen. Der Zustand bleibt gleich gro\u00df.
Le petit mod\u00e8le lit un mot apr\u00e8s l'autre et n'oublie pas l'essentiel.
\u041c\u0430\u043b\u0435\u043d\u044c\u043a\u0430\u044f \u043c\u043e\u0434\u0435\u043b\u044c \u0447\u0438\u0442\u0430\u0435\u0442 \u0441\u043b\u043e\u0432\u043e \u0437\u0430 \u0441\u043b\u043e\u0432\u043e\u043c.
\u5c0f\u6a21\u578b\u4e00\u4e2a\u8bcd\u4e00\u4e2a\u8bcd\u5730\u8bfb\u3002 \u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3002
Numbers: 1 12 123 1234 2026 3.14159 1,000,000 and 0x7f.
""".strip().split("\n")
MARKS = ["e\u0301x", "a\u0323\u0307", "a\u0307\u0323b", "\u1e9b\u0323", "\ufb01ne \ufb01\u0301", "\uff21\uff22\uff23\u3000\uff11", "\u1100\u1161\u11a8 \uac00\u11a8", "\u0344\u0374\u212b", "\U0001d15e\U0001d167",
         "A\u030a\u0301 \u01fa", "\u0130I\u0131i \u03a3\u03c3\u03c2 \u1e9e", "x\u00adx\u200bx\u2060x\ufeffx", "\u0915\u094d\u0937\u093f \u0958", "\u0e33\u0eb3", "\r\n\r\n\x85\u2028", "\u0300 \u0301a",
         "o\u0302\u0323\u0302 \u1ed9", "\u0627\u0654 \u0623\u064b", "\u05e9\u05c1\u05b8", "  a  b  ", "\t\x07\x00a\x7f", "don't  can't do not.", "\U0001f468\u200d\U0001f469 \U0001f1e9\U0001f1ea\U0001f1eb", "\u2460\u00bd\u33a5\ufdfa"]


def corpus(seed=3):
    rng = random.Random(seed)
    parts = ["ri", "ver", "mo", "del", "st", "ate", "ing", "er", "tion", "un", "re", "gro", "ws", "\u00e9t", "gr\u00fc", "\u0441\u043b\u043e", "\u0432\u043e", "\u6a21", "\u578b", "12", "_x", "on"]
    words = ["".join(rng.choice(parts) for _ in range(rng.randint(1, 4))) for _ in range(400)]
    made = [" ".join(rng.choice(words) for _ in range(8)) for _ in range(300)]
    return [" ".join(rng.sample(line.split(), len(line.split()))) for line in SENTENCES for _ in range(40)] + SENTENCES * 20 + made


def texts(seed, count):
    rng = random.Random(seed)
    pools = ["abcde tino", "  \u2581", "<b></b>\n\t ", "\u043c\u043e\u0434\u0435\u043b\u044c \u00df\u00e9", "\u5c0f\u6a21\u578b\u8bcd\U0001f600", "0123456789.,", "e\u0301\u0323\u0307a\u0302o ", "\ufb01\uff21\u3000\u00a0\u200b\u00ad"] + SENTENCES
    short = [c for c in CASES if len(c) <= 120]
    out = short + [m.encode() for m in MARKS]
    out += ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 40))).encode() for _ in range(count)]
    out += [" ".join(rng.choice(" ".join(SENTENCES).split()) for _ in range(rng.randint(1, 10))).encode() for _ in range(count // 3)]
    return out


def rules():
    """A small table in the manner of nmt_nfkc: wide letters, ligatures, marks that join, white space, things that vanish."""
    lines = [(chr(0xFF01 + i), chr(0x21 + i)) for i in range(94)]
    lines += [("\u3000", " "), ("\u00a0", " "), ("\t", " "), ("\n", " "), ("\r", " "), ("\u2009", " "), ("\u2028", " "), ("\u0085", " "), ("\u200b", " "), ("\u00ad", ""), ("\x07", ""), ("\ufeff", "")]
    lines += [("\ufb01", "fi"), ("\ufb02", "fl"), ("\u00bd", "1\u20442"), ("\u2460", "1"), ("\u33a5", "m3"), ("\ufdfa", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647"), ("\u212b", "\u00c5")]
    lines += [("e\u0301", "\u00e9"), ("E\u0301", "\u00c9"), ("o\u0302", "\u00f4"), ("o\u0302\u0323", "\u1ed9"), ("a\u0323\u0307", "\u1ea1\u0307"), ("\u1100\u1161", "\uac00"), ("\u1100\u1161\u11a8", "\uac01")]
    return lines


def train_spm(name, rule=None, **options):
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        if rule:
            path = pathlib.Path(folder) / "rules.tsv"
            path.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in rule))
            options["normalization_rule_tsv"] = str(path)
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=out, num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    (here / f"{name}.model").write_bytes(out.getvalue())
    p = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    with open(here / f"{name}.jsonl", "w") as f:
        for raw in texts(7, 90):
            ids = p.encode(raw.decode(errors="replace"))  # one U+FFFD per maximal invalid part
            f.write(json.dumps({"bytes_hex": raw.hex(), "ids": ids, "text": p.decode(ids)}) + "\n")
    return out.getvalue()


def charsmap(model):
    """Field 2 of field 3, as protobuf writes them."""
    def field(data, wanted):
        at = 0

        def number():
            nonlocal at
            value = shift = 0
            while True:
                at += 1
                value |= (data[at - 1] & 127) << shift
                shift += 7
                if data[at - 1] < 128:
                    return value

        while at < len(data):
            key = number()
            if key & 7 == 2:
                size = number()
                if key >> 3 == wanted:
                    return data[at:at + size]
                at += size
            elif key & 7 == 5:
                at += 4
            else:
                number()

    return field(field(model, 3), 2)


def trained(model, trainer, normalizer, pre, decoder, special, post=None):
    t = Tokenizer(model)
    t.normalizer, t.pre_tokenizer, t.decoder = normalizer, pre, decoder
    t.train_from_iterator(corpus(), trainer)
    if post:
        t.post_processor = post(t)
    t.add_tokens([AddedToken("<kept>", normalized=False), AddedToken("grows", normalized=True, single_word=True)])
    return t


def bert_ends(t):
    return processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))])


def json_models(precompiled):
    metaspace = pre_tokenizers.Metaspace()
    bytes_decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

    def unigram(normalizer, pre, decoder, size=400):
        trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
        return trained(models.Unigram(), trainer, normalizer, pre, decoder, ["<unk>"])

    def word_piece(normalizer, size=400, cleanup=True):
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=bert, show_progress=False)
        return trained(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40), trainer, normalizer, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece("##", cleanup), bert, bert_ends)

    out = {
        "unigram": unigram(normalizers.Sequence([normalizers.Replace(tokenizers.Regex("[\\u00AD\\u200B]"), ""), normalizers.NFC()]), metaspace, decoders.Metaspace()),
        "unigram_charsmap": unigram(normalizers.Sequence([precompiled, normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]), pre_tokenizers.Metaspace(prepend_scheme="first"), decoders.Metaspace()),
        "unigram_whole": unigram(normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None, bytes_decoder),
        "word_piece": word_piece(normalizers.BertNormalizer()),
        "word_piece_cased": word_piece(normalizers.BertNormalizer(lowercase=False), cleanup=False),
    }
    made = {name: json.loads(t.to_str()) for name, t in out.items()}
    # Byte fallback, which the trainer does not make.
    fallback = json.loads(json.dumps(made["unigram_whole"]))
    fallback["model"]["vocab"] += [[f"<0x{b:02X}>", -30.0 - b % 7] for b in range(256)]
    fallback["model"]["byte_fallback"] = True
    fallback["added_tokens"] = [t for t in fallback["added_tokens"] if t["special"]]
    made["unigram_bytes"] = fallback
    with open(here / "trie_models.json", "w") as f:
        json.dump(made, f, separators=(",", ":"))
    with open(here / "trie_models.jsonl", "w") as f:
        special = [t["content"] for j in made.values() for t in j["added_tokens"] if t["special"]]
        for raw in texts(9, 60):
            # As plain text, special tokens are no pieces of ours; the original's unigram model still knows them.
            if any(s in raw.decode(errors="replace") for s in special):
                continue
            line = {"bytes_hex": raw.hex()}
            for name, j in made.items():
                t = Tokenizer.from_str(json.dumps(j))
                t.encode_special_tokens = True  # the user's text is plain text
                ids = t.encode(raw.decode(errors="replace"), add_special_tokens=False).ids
                line[name] = [ids, t.decode(ids)]
            f.write(json.dumps(line) + "\n")


def normalizer_goldens(precompiled):
    N, R = normalizers, tokenizers.Regex
    steps = {
        "nfc": N.NFC(), "nfd": N.NFD(), "nfkc": N.NFKC(), "nfkd": N.NFKD(), "lowercase": N.Lowercase(), "strip_accents": N.StripAccents(), "nmt": N.Nmt(),
        "bert": N.BertNormalizer(), "bert_cased": N.BertNormalizer(lowercase=False), "bert_accents": N.BertNormalizer(strip_accents=False), "bert_plain": N.BertNormalizer(False, False, True, False),
        "strip": N.Strip(), "strip_left": N.Strip(True, False), "prepend": N.Prepend("\u2581"), "replace": N.Replace("ab", "c\u00e9"), "replace_char": N.Replace(" ", "\u2581"),
        "replace_pattern": N.Replace(R("\\s+"), " "), "replace_property": N.Replace(R("\\p{Zs}"), " "), "replace_empty": N.Replace(R("x*"), "-"), "precompiled": precompiled,
        "albert": N.Sequence([N.Replace("``", '"'), N.Replace("''", '"'), N.NFKD(), N.StripAccents(), N.Lowercase(), precompiled]),
    }
    names = list(steps)
    out = {"normalizers": {n: json.loads(steps[n].__getstate__()) for n in names}, "checksums": {}, "cases": []}
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    # Of all characters, and of the first ones, the ends of blocks and each 16th one, for runs that take their time.
    for n in names:
        sums = [0, 0, 0, 0]
        for c in characters:
            some = ord(c) < 0x400 or ord(c) % 16 == 0 or ord(c) % 0x1000 >= 0xFFE
            for i, text in enumerate((c, "e" + c + "\u0323\u0301" + c)):
                got = steps[n].normalize_str(text).encode() + b"\xff"
                sums[i] = zlib.crc32(got, sums[i])
                if some:
                    sums[2 + i] = zlib.crc32(got, sums[2 + i])
        out["checksums"][n] = sums
    for raw in texts(5, 40):
        text = raw.decode(errors="replace")
        changed = {}
        for n in names:
            got = steps[n].normalize_str(text)
            if got != text:
                changed.setdefault(got.encode().hex(), []).append(names.index(n))
        out["cases"].append([raw.hex(), changed])
    with open(here / "normalizers.json", "w") as f:
        f.write("{\n" + ",\n".join(f'"{k}": {json.dumps(v, separators=(",", ":"))}' for k, v in out.items()) + "\n}\n")


model = train_spm("uni_small", rules(), model_type="unigram", vocab_size=420, character_coverage=0.99, user_defined_symbols=["<b>", "</b>", "ell", "\u2581\u2581"], control_symbols=["<turn>"])
train_spm("uni_bytes", model_type="unigram", vocab_size=600, byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
          split_digits=True, allow_whitespace_only_pieces=True, user_defined_symbols=["\n", "\t"])
train_spm("uni_suffix", rules(), model_type="unigram", vocab_size=380, treat_whitespace_as_suffix=True, character_coverage=0.99)
train_spm("spm_rules", rules(), model_type="bpe", vocab_size=400, character_coverage=0.99, user_defined_symbols=["<b>", "ell"])
precompiled = normalizers.Precompiled(charsmap(model))
json_models(precompiled)
normalizer_goldens(precompiled)
