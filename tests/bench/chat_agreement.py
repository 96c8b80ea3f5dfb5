"""See chat_agreement.sh. Prints a table; exit code 1 when a difference is not explained by the quantisation of activations.

A difference is explained when, at the first token that differs, both programs agree within twice their measured difference of logits: the logits of
both are taken for the same ids (those of llama.cpp), and the margin between the two tokens is compared with the largest difference of any logit
at that position."""

import argparse
import array
import ctypes
import json
import os
import struct
import subprocess
import sys
import tempfile

TOKENS = 32
QUESTIONS = [
    "What is the capital of France?", "Write a haiku about the sea.", "Explain gravity to a child.", "List three uses of a paper clip.", "How do I boil an egg?",
    "Translate 'good morning' into German.", "What is 17 times 6?", "Who wrote Hamlet?", "Give me a name for a cat.", "Why is the sky blue?",
    "Write a Python function that adds two numbers.", "What should I cook tonight?", "Tell me a joke.", "Name the planets of the solar system.", "What does HTTP stand for?",
    "Summarise: The dog chased the cat up the tree, and the cat stayed there all day.", "How far is the moon?", "Write one sentence about autumn.", "What is a prime number?", "Ünïcödé: what is 你好?",
]


class Message(ctypes.Structure):
    _fields_ = [("role", ctypes.c_char_p), ("content", ctypes.c_char_p)]


class Chat(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("messages", ctypes.POINTER(Message)), ("message_count", ctypes.c_size_t), ("is_closed", ctypes.c_int32),
                ("variables", ctypes.c_void_p), ("variable_count", ctypes.c_size_t), ("now", ctypes.c_int64)]


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
        self.check(self.lib.rnl_detokenize(self.model, list_of, ctypes.c_size_t(len(ids)), 0, None, ctypes.c_size_t(0), ctypes.byref(size)))
        text = ctypes.create_string_buffer(max(size.value, 1))
        self.check(self.lib.rnl_detokenize(self.model, list_of, ctypes.c_size_t(len(ids)), 0, text, size, ctypes.byref(size)))
        return text.raw[:size.value]


def eval_logits(runnel, model, ids, folder):
    """Logits of every position, by `runnel eval`: [(array of floats)]."""
    given, got = os.path.join(folder, "ids.safetensors"), os.path.join(folder, "logits.safetensors")
    raw = array.array("i", ids).tobytes()
    header = json.dumps({"ids": {"dtype": "I32", "shape": [len(ids)], "data_offsets": [0, len(raw)]}}).encode()
    with open(given, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + raw)
    subprocess.run([runnel, "eval", model, "--in", given, "--out", got], check=True)
    with open(got, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + size])["logits"]
    values = array.array("f", data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]])
    width = entry["shape"][1]
    return [values[i * width:(i + 1) * width] for i in range(entry["shape"][0])]


def main():
    parser = argparse.ArgumentParser()
    for name in ("gguf", "peer", "bin", "library"):
        parser.add_argument("--" + name, required=True)
    o = parser.parse_args()
    runnel = os.path.join(o.bin, "runnel")
    unexplained = equal = 0
    with tempfile.TemporaryDirectory() as folder:
        model, prompts, logits_file = (os.path.join(folder, name) for name in ("m.rnl", "prompts.txt", "logits.f32"))
        subprocess.run([os.path.join(o.bin, "runnel-convert"), o.gguf, "-o", model], check=True)
        library = Library(o.library, model)
        ours = [library.chat(q) for q in QUESTIONS]
        with open(prompts, "w") as f:
            f.write("".join(text.hex() + "\n" for text, _, _ in ours))
        said = subprocess.run([o.peer, o.gguf, prompts, str(TOKENS), logits_file], check=True, stdout=subprocess.PIPE).stdout.decode().splitlines()
        theirs = [[[int(i) for i in part.split()] for part in line.split("|")] for line in said]
        with open(logits_file, "rb") as f:
            logits = array.array("f", f.read())
        width = len(logits) // sum(len(answer) for _, answer in theirs)
        print("| question | prompt ids | tokens | first difference | margin | largest difference of logits |\n|---|---|---|---|---|---|")
        at = 0
        for question, (text, ids, answer), (their_ids, their_answer) in zip(QUESTIONS, ours, theirs, strict=True):
            shown = subprocess.run([runnel, "chat", model, "-n", str(TOKENS)], input=question.encode() + b"\n", stdout=subprocess.PIPE, check=True).stdout
            ends = shown.rstrip(b"\n") == library.text_of(answer).rstrip(b"\n")
            same = next((i for i, (a, b) in enumerate(zip(answer, their_answer)) if a != b), min(len(answer), len(their_answer)))
            row = ["same" if ids == their_ids else "DIFFER", f"{len(answer)}/{len(their_answer)}", "none", "", ""]
            if answer != their_answer:
                reference = logits[(at + same) * width:(at + same + 1) * width]
                mine = eval_logits(runnel, model, ids + their_answer[:same], folder)[-1]
                error = max(abs(a - b) for a, b in zip(mine, reference))
                margin = reference[their_answer[same]] - reference[answer[same]]
                row[2:] = [str(same), f"{margin:.3f}", f"{error:.3f}"]
                if margin >= 2 * error:
                    unexplained += 1
                    row[4] += " UNEXPLAINED"
            else:
                equal += 1
            if ids != their_ids or not ends:
                unexplained += 1
                row[0] += "" if ends else ", `runnel chat` SAYS OTHERWISE"
            at += len(their_answer)
            print("| " + " | ".join([question] + row) + " |")
    print(f"\n{equal} of {len(QUESTIONS)} answers equal; {unexplained} not explained")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
