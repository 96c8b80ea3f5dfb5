"""See chat_agreement.sh. Prints tables; exit code 1 when a difference is not explained, or when Runnel is further from the truth than llama.cpp.

Both programs round activations to 8 bits, each in its own way. What that costs is measured against the truth: Runnel on the same weights as 32-bit
floats, with the prompt and llama.cpp's answer as input. An error is that of a margin, the logit of the truth's best token less that of one of its
RIVALS next ones: what all logits have in common changes no answer. Its root mean square over all tokens of all answers is a program's error of
quantisation. Where the answers part, the program that chose the token that is lower in the truth has erred by at least what lies between the two there:
at least RARE of its errors must be as large."""

import argparse
import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

PROGRAMS = ("Runnel", "llama.cpp")
TOKENS = 32
RIVALS = 9
RARE = 0.001
QUESTIONS = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain gravity to a child.",
    "List three uses of a paper clip.",
    "How do I boil an egg?",
    "Translate 'good morning' into German.",
    "What is 17 times 6?",
    "Who wrote Hamlet?",
    "Give me a name for a cat.",
    "Why is the sky blue?",
    "Write a Python function that adds two numbers.",
    "What should I cook tonight?",
    "Tell me a joke.",
    "Name the planets of the solar system.",
    "What does HTTP stand for?",
    "Summarise: The dog chased the cat up the tree, and the cat stayed there all day.",
    "How far is the moon?",
    "Write one sentence about autumn.",
    "What is a prime number?",
    "Ünïcödé: what is 你好?",
]


class Message(ctypes.Structure):
    _fields_ = [("role", ctypes.c_char_p), ("content", ctypes.c_char_p)]


class Chat(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("messages", ctypes.POINTER(Message)),
        ("message_count", ctypes.c_size_t),
        ("is_closed", ctypes.c_int32),
        ("variables", ctypes.c_void_p),
        ("variable_count", ctypes.c_size_t),
        ("now", ctypes.c_int64),
    ]


class Library:
    def __init__(self, path, model):
        self.lib = ctypes.CDLL(path)
        self.lib.rnl_last_error.restype = ctypes.c_char_p
        self.engine, self.model = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.lib.rnl_engine_create(None, ctypes.byref(self.engine)))
        self.check(self.lib.rnl_model_open(self.engine, model.encode(), None, ctypes.byref(self.model)))

    def check(self, code):
        if code:
            raise SystemExit(self.lib.rnl_last_error().decode())

    def chat(self, question):
        message = Message(b"user", question.encode())
        chat = Chat(ctypes.sizeof(Chat), ctypes.pointer(message), 1, 0, None, 0, 0)
        size = ctypes.c_size_t()
        self.check(self.lib.rnl_chat_text(self.model, ctypes.byref(chat), None, ctypes.c_size_t(0), ctypes.byref(size)))
        text = ctypes.create_string_buffer(size.value)
        self.check(self.lib.rnl_chat_text(self.model, ctypes.byref(chat), text, size, ctypes.byref(size)))
        self.check(self.lib.rnl_chat_ids(self.model, ctypes.byref(chat), None, ctypes.c_size_t(0), ctypes.byref(size)))
        ids = (ctypes.c_int32 * size.value)()
        self.check(self.lib.rnl_chat_ids(self.model, ctypes.byref(chat), ids, size, ctypes.byref(size)))
        session, answer = ctypes.c_void_p(), []
        self.check(self.lib.rnl_session_create(self.model, None, ctypes.byref(session)))
        token = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_size_t)
        take = token(lambda user, id, text, size: answer.append(id) or int(len(answer) >= TOKENS))
        self.check(self.lib.rnl_session_chat(session, ctypes.byref(chat), None, take, None, None))
        self.lib.rnl_session_destroy(session)
        return text.raw, list(ids), answer[:TOKENS]

    def text_of(self, ids):
        size = ctypes.c_size_t()
        list_of = (ctypes.c_int32 * len(ids))(*ids)
        self.check(
            self.lib.rnl_detokenize(
                self.model, list_of, ctypes.c_size_t(len(ids)), 0, None, ctypes.c_size_t(0), ctypes.byref(size)
            )
        )
        text = ctypes.create_string_buffer(max(size.value, 1))
        self.check(
            self.lib.rnl_detokenize(self.model, list_of, ctypes.c_size_t(len(ids)), 0, text, size, ctypes.byref(size))
        )
        return text.raw[: size.value]


def eval_logits(runnel, model, ids, count, folder, *options):
    """Logits after the last `count` ids, by `runnel eval`: [count, vocabulary]."""
    given, got = os.path.join(folder, "ids.safetensors"), os.path.join(folder, "logits.safetensors")
    raw = np.array(ids, np.int32).tobytes()
    header = json.dumps({"ids": {"dtype": "I32", "shape": [len(ids)], "data_offsets": [0, len(raw)]}}).encode()
    with open(given, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + raw)
    subprocess.run([runnel, "eval", model, "--in", given, "--out", got, *options], check=True)
    with open(got, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        entry = json.loads(f.read(size))["logits"]
    return np.fromfile(got, np.float32, offset=8 + size + entry["data_offsets"][0]).reshape(entry["shape"])[-count:]


def margin_errors(logits, truth):
    """Of each row, for the truth's best tokens: [rows, RIVALS]."""
    best = np.argsort(-truth, axis=1)[:, : RIVALS + 1]
    of, true = (np.take_along_axis(x, best, 1) for x in (logits, truth))
    return (of[:, :1] - of[:, 1:]) - (true[:, :1] - true[:, 1:])


def divergence(logits, truth):
    """Of each row, from the truth's distribution, in nats."""
    a, b = (
        x.astype(np.float64) - np.logaddexp.reduce(x.astype(np.float64), axis=1, keepdims=True) for x in (truth, logits)
    )
    return (np.exp(a) * (a - b)).sum(axis=1)


def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def answers(o, folder):
    """For each question the prompt's ids by both programs, both answers, and whether `runnel chat` says what the library does; llama.cpp's logits in a row."""
    prompts, logits_file = os.path.join(folder, "prompts.txt"), os.path.join(folder, "logits.f32")
    library = Library(o.library, o.model)
    ours = [library.chat(q) for q in QUESTIONS]
    with open(prompts, "w") as f:
        f.write("".join(text.hex() + "\n" for text, _, _ in ours))
    said = (
        subprocess.run([o.peer, o.gguf, prompts, str(TOKENS), logits_file], check=True, stdout=subprocess.PIPE)
        .stdout.decode()
        .splitlines()
    )
    theirs = [[[int(i) for i in part.split()] for part in line.split("|")] for line in said]
    rows = []
    for question, (_, ids, answer), (their_ids, their_answer) in zip(QUESTIONS, ours, theirs, strict=True):
        shown = subprocess.run(
            [o.runnel, "chat", o.model, "-n", str(TOKENS)],
            input=question.encode() + b"\n",
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        rows.append(
            (ids, their_ids, answer, their_answer, shown.rstrip(b"\n") == library.text_of(answer).rstrip(b"\n"))
        )
    return rows, np.fromfile(logits_file, np.float32).reshape(sum(len(answer) for _, answer in theirs), -1)


def main():
    parser = argparse.ArgumentParser()
    for name in ("gguf", "peer", "bin", "library"):
        parser.add_argument("--" + name, required=True)
    o = parser.parse_args()
    o.runnel = os.path.join(o.bin, "runnel")
    with tempfile.TemporaryDirectory() as folder:
        o.model, exact = os.path.join(folder, "m.rnl"), os.path.join(folder, "f32.rnl")
        for path, *options in ((o.model,), (exact, "--weights", "f32")):
            subprocess.run([os.path.join(o.bin, "runnel-convert"), o.gguf, "-o", path, *options], check=True)
        rows, their_logits = answers(o, folder)
        at, parted, errors, divergences, wrong = 0, {}, ([], []), ([], []), []
        for number, (ids, their_ids, answer, their_answer, says_same) in enumerate(rows):
            n = len(their_answer)
            theirs, at = their_logits[at : at + n], at + n
            fed = ids + their_answer[:-1]
            truth, ours = (
                eval_logits(o.runnel, exact, fed, n, folder, "--kv", "f32"),
                eval_logits(o.runnel, o.model, fed, n, folder),
            )
            for k, logits in enumerate((ours, theirs)):
                errors[k].append(margin_errors(logits, truth))
                divergences[k].append(divergence(logits, truth))
            if ids != their_ids:
                wrong.append(f"{QUESTIONS[number]}: the prompts' ids differ: {ids}, {their_ids}")
            if not says_same:
                wrong.append(f"{QUESTIONS[number]}: `runnel chat` says otherwise than the library")
            same = first_difference(answer, their_answer)
            # Up to the first difference `eval` must choose what the chat chose.
            if [int(i) for i in ours[: same + 1].argmax(axis=1)] != answer[: min(same + 1, n)]:
                wrong.append(f"{QUESTIONS[number]}: `runnel eval` has other best tokens than the chat chose")
            if answer != their_answer:
                a, b = their_answer[same], answer[same]
                parted[number] = (same, *(float(x[same][a] - x[same][b]) for x in (theirs, truth, ours)))
    error = [float(np.sqrt(np.mean(np.concatenate(e) ** 2))) for e in errors]
    print(
        "| question | tokens | first difference | llama.cpp's token above ours: by llama.cpp | in truth | by Runnel | errors as large |\n|---|---|---|---|---|---|---|"
    )
    for number, question in enumerate(QUESTIONS):
        cells = [question, f"{len(rows[number][2])}/{len(rows[number][3])}", "none", "", "", "", ""]
        if number in parted:
            same, by_them, true, by_us = parted[number]
            k = 0 if true > 0 else 1
            share = float(np.mean(np.abs(np.concatenate(errors[k])) >= abs(true)))
            cells[2:] = [
                str(same),
                f"{by_them:.3f}",
                f"{true:.3f}",
                f"{by_us:.3f}",
                f"{100 * share:.1f}% of {PROGRAMS[k]}'s",
            ]
            if share < RARE:
                wrong.append(f"{question}: the difference is not explained by quantisation")
        print("| " + " | ".join(cells) + " |")
    print("\n| | error of a margin | largest | divergence from the truth |\n|---|---|---|---|")
    for name, e, own, d in zip(PROGRAMS, error, errors, divergences):
        print(f"| {name} | {e:.3f} | {np.abs(np.concatenate(own)).max():.3f} | {np.concatenate(d).mean():.5f} |")
    ours_true = sum(1 for _, _, true, _ in parted.values() if true < 0)
    print(
        f"\n{len(QUESTIONS) - len(parted)} of {len(QUESTIONS)} answers equal. Where they part, the truth has Runnel's token {ours_true} times, llama.cpp's {len(parted) - ours_true} times."
    )
    if error[0] > 1.1 * error[1]:
        wrong.append("Runnel is further from the truth than llama.cpp")
    print("\n".join(wrong) if wrong else "Every difference is explained.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
