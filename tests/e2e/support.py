"""What the end-to-end tests share: the programs, small .safetensors files, converted models."""

import array
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDENS = os.path.join(HERE, "..", "goldens")
BIN = os.environ["RUNNEL_BIN"]  # folder of runnel and runnel-convert

CHAT_TEMPLATE = (
    "{% if messages[0].role == 'system' and messages[0].content == 'never' %}{{ raise_exception('No such system!') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{{ opening }}{% endif %}"
)

_CODES = {"F32": "f", "I32": "i", "I64": "q", "U8": "B"}


def read_safetensors(path):
    """{name: (shape, values)} of F32, I32, I64 and U8 tensors."""
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = array.array(_CODES[entry["dtype"]])
        values.frombytes(data[8 + size + begin : 8 + size + end])
        tensors[name] = (entry["shape"], values)
    return tensors


def write_safetensors(path, tensors):
    """tensors: {name: (dtype, shape, values)}"""
    header, body = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        raw = array.array(_CODES[dtype], values).tobytes()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def write_ids(path, ids):
    write_safetensors(path, {"ids": ("I32", [len(ids)], ids)})


def golden(name, file="logits.safetensors"):
    return read_safetensors(os.path.join(GOLDENS, name, file))


def write_llama(folder, rows):
    """The tiny Llama with a vocabulary of that many rows, those that it lacks copied from others."""
    os.makedirs(folder, exist_ok=True)
    source = os.path.join(GOLDENS, "tiny_llama")
    with open(os.path.join(source, "config.json")) as f:
        config = json.load(f)
    config["vocab_size"] = rows
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    tensors = {}
    for name, (shape, values) in read_safetensors(os.path.join(source, "model.safetensors")).items():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            values = values * (rows // shape[0] + 1)
            shape = [rows, shape[1]]
            values = values[: rows * shape[1]]
        tensors[name] = ("F32", shape, values)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)


class Failed(AssertionError):
    pass


def run(program, *arguments, code=0, limits=(), stdout=subprocess.PIPE):
    """Runs a program and returns the finished process; another exit code than expected fails the test.

    limits: pairs of a resource (RLIMIT_...) and its value."""

    def prepare():
        for what, value in limits:
            resource.setrlimit(what, (value, value))

    # A write beyond RLIMIT_FSIZE shall be an error of the call, as on a full disk, and not a signal.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    done = subprocess.run(
        [os.path.join(BIN, program), *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=prepare,
        restore_signals=False,
        timeout=300,
    )
    if done.returncode != code:
        raise Failed(
            f"{program} {' '.join(map(str, arguments))}: exit code {done.returncode} instead of {code}\n"
            f"{done.stderr.decode(errors='replace')[-2000:]}"
        )
    return done


class Case(unittest.TestCase):
    """A test with a scratch folder that all tests of the class share, and models converted once into it."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="runnel-e2e-")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    @classmethod
    def model(cls, source, weights="f32"):
        """The converted model of a golden: a folder's name or a file in it."""
        target = cls.path(source.replace("/", "-") + f"-{weights}.rnl")
        if not os.path.exists(target):
            run("runnel-convert", os.path.join(GOLDENS, source), "-o", target, "--weights", weights)
        return target

    @classmethod
    def chat_model(cls, name, source="tiny_llama", template=CHAT_TEMPLATE, **config):
        """The model of a golden with the vocabulary of goldens/chat, 613 tokens, and a chat template; config: changes of config.json."""
        target = cls.path(name + ".rnl")
        if os.path.exists(target):
            return target
        folder, rows = cls.path(name), 613
        os.makedirs(folder)
        tensors = {}
        for tensor, (shape, values) in read_safetensors(os.path.join(GOLDENS, source, "model.safetensors")).items():
            if tensor.endswith(("embed_tokens.weight", "lm_head.weight")):
                count, shape = len(values), [rows, shape[1]]
                values = [values[i % count] * (1 + i // count / 16) for i in range(rows * shape[1])]
            tensors[tensor] = ("F32", shape, values)
        write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
        with open(os.path.join(GOLDENS, source, "config.json")) as f:
            config = {**json.load(f), "vocab_size": rows, **config}
        for file, content in (("config.json", config), ("tokenizer_config.json", {"chat_template": template})):
            with open(os.path.join(folder, file), "w") as f:
                json.dump(content, f)
        shutil.copy(os.path.join(GOLDENS, "chat", "tokenizer.json"), folder)
        run("runnel-convert", folder, "-o", target)
        return target

    def refused(self, program, *arguments, says=None, **options):
        """The program must end with exit code 1 and a message; returns the message."""
        done = run(program, *arguments, code=1, **options)
        message = done.stderr.decode(errors="replace")
        self.assertTrue(message.strip(), "no message")
        if says is not None:
            self.assertRegex(message, says)
        return message
