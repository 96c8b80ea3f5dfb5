"""`runnel chat` as people use it: through pipes, saved and restored, and on a terminal with Ctrl-C."""

import json
import os
import pty
import select
import subprocess
import time
import unittest

from support import BIN, CHAT_TEMPLATE, Case


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(os.path.join(BIN, "runnel"), ["runnel", *map(str, arguments)])
        self.seen = b""

    def read(self, until, seconds=60):
        """What comes up to and with `until` (a function of the bytes)."""
        begin, end = len(self.seen), time.monotonic() + seconds
        while not until(self.seen[begin:]):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"nothing more came: {self.seen[-300:]!r}")
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            if not data:
                raise AssertionError(f"it ended: {self.seen[-300:]!r}")
            self.seen += data
        return self.seen[begin:]

    def write(self, data):
        os.write(self.fd, data)

    def code(self):
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Chat(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rnl = cls.chat_model("m", max_position_embeddings=8192)

    def chat(self, text, *options, code=0, model=None):
        done = subprocess.run(
            [os.path.join(BIN, "runnel"), "chat", model or self.rnl, *map(str, options)],
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=120,
        )
        self.assertEqual(done.returncode, code, done.stderr.decode())
        return done.stdout, done.stderr.decode()

    def test_pipes_and_saved_conversations(self):
        both, said = self.chat("Hello\nAnd\\\nmore?\n", "-n", "6", "--system", "Be brief.")
        self.assertEqual(said, "")
        state = self.path("talk.state")
        first, _ = self.chat("Hello\n", "-n", "6", "--system", "Be brief.", "--save-state", state)
        second, said = self.chat("And\\\nmore?\n", "-n", "6", "--load-state", state, "--save-state", state)
        self.assertEqual(first + second, both)
        self.assertEqual(said, "")  # nothing was fed again
        with open(state + ".json") as f:
            self.assertEqual([m["role"] for m in json.load(f)], ["system", "user", "assistant", "user", "assistant"])
        again, _ = self.chat(f"Hello\n/save {self.path('other')}\n/reset\nHello\n", "-n", "6", "--system", "Be brief.")
        self.assertEqual(again, first + first)
        self.assertTrue(os.path.exists(self.path("other")))
        self.chat("x\n", "--load-state", state, "--system", "other", code=1)
        os.remove(state + ".json")
        _, said = self.chat("x\n", "--load-state", state, code=1)
        self.assertIn("talk.state.json", said)

    def test_stop_texts_and_variables(self):
        whole = self.chat("Hello\n", "-n", "24")[0].decode(errors="replace").rstrip("\n")
        stop = next(c for c in whole[4:] if c.isascii() and c.isprintable())
        cut = self.chat("Hello\n", "-n", "24", "--stop", "never said", "--stop", stop)[0].decode(errors="replace")
        self.assertEqual(cut.rstrip("\n"), whole[: whole.index(stop)].rstrip("\n"))
        self.assertNotEqual(
            self.chat("Hello\n", "-n", "24", "--set", "opening=Well, then ")[0].decode(errors="replace").rstrip("\n"),
            whole,
        )
        _, said = self.chat("Hello\n", "--set", "opening", code=1)
        self.assertIn("NAME=VALUE", said)
        _, said = self.chat("Hello\n", "--system", "never", code=1)
        self.assertRegex(said, "line 1: No such system!")

    def test_a_failing_save_keeps_the_conversation(self):
        whole, _ = self.chat("Hello\nMore\n", "-n", 6)
        got, said = self.chat("Hello\n/save /no/such/folder/x\nMore\n", "-n", 6, code=1)
        self.assertEqual(got, whole)
        self.assertIn("/no/such/folder/x", said)
        _, said = self.chat(f"Hello\n/save {self.rnl}\n", "-n", 6, code=1)
        self.assertIn("the same file as the model", said)
        prompt = b"> "
        t = Terminal("chat", self.rnl, "-n", 4)
        t.read(lambda s: s.endswith(prompt))
        t.write(b"Hello\n")
        t.read(lambda s: s.endswith(b"\n" + prompt))
        t.write(b"/save /no/such/folder/x\n")
        self.assertIn(b"cannot create", t.read(lambda s: s.endswith(b"\n" + prompt)))
        t.write(b"More\n")
        t.read(lambda s: s.endswith(b"\n" + prompt))
        t.write(b"\x04")
        self.assertEqual(t.code(), 0)

    def test_a_full_conversation_goes_on_in_a_larger_context(self):
        for source in ("tiny_llama", "tiny_qwen3_5", "tiny_gemma3"):
            state = self.path(source + ".state")
            rnl = self.chat_model("grows-" + source, source, max_position_embeddings=512)
            lines = ["hi there", "hi again", "hi there once more"]
            for rollback in ((), ("--rollback", 32)):
                with self.subTest(source=source, rollback=rollback):
                    whole, _ = self.chat("\n".join(lines) + "\n", "-n", 4, "--context", 512, *rollback, model=rnl)
                    first, said = self.chat(
                        "\n".join([*lines[:2], f"/save {state}"]) + "\n", "-n", 4, "--context", 64, *rollback, model=rnl
                    )
                    self.assertEqual(said, "")
                    _, said = self.chat(
                        lines[2] + " and more" * 20 + "\n",
                        "-n",
                        4,
                        "--context",
                        64,
                        "--load-state",
                        state,
                        model=rnl,
                        code=1,
                    )
                    self.assertIn("a larger --context makes room", said)
                    for options in ((), ("--context", 512), ("--context", 200)):
                        second, said = self.chat(lines[2] + "\n", "-n", 4, "--load-state", state, *options, model=rnl)
                        self.assertEqual(first + second, whole, options)
                        self.assertEqual(said, "")
        _, said = self.chat("x\n", "--load-state", state, "--kv", "q8", model=rnl, code=1)
        self.assertRegex(said, r"saved with.* KV type as the model says \(here q8\)")
        rnl = self.path("grows-tiny_qwen3_5.rnl")
        _, said = self.chat("x\n", "--load-state", self.path("tiny_qwen3_5.state"), "--rollback", 99, model=rnl, code=1)
        self.assertIn("it was saved with rollback window 32 (here 99)", said.replace("context 64 (here 512), ", ""))

    def test_what_stands_before_a_dropped_answer_is_kept(self):
        """A template that writes earlier answers shorter than they were, as those of thinking models do."""
        template = (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and not loop.last %}{{ m.content[:3] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        )
        question = "the license terms of this program, as long as a question may well be\n"
        for source in ("tiny_llama", "tiny_qwen3_5"):
            rnl = self.chat_model("thinks-" + source, source, template, max_position_embeddings=2048)
            alone = len(self.fed(rnl, question))
            with self.subTest(source=source):
                long = ("-n", 300, "--context", 2048, "--grammar", 'root ::= ("q" [0-9]){120}')
                _, said = self.chat(question * 2, *long, model=rnl)
                # Only what the template left of the first answer, and the next question.
                self.assertLess(int(said.split(" tokens were fed again")[0].split()[-1]), alone + 20)
                _, said = self.chat(question * 2, *long, "--rollback", 64, model=rnl)
                fed = int(said.split(" tokens were fed again")[0].split()[-1])
                self.assertTrue(fed > 2 * alone if source == "tiny_qwen3_5" else fed < alone + 20, fed)

    def fed(self, rnl, question):
        """Ids of a question."""
        with open(self.path("question"), "w") as f:
            f.write(json.dumps({"text": question}))
        subprocess.run(
            [os.path.join(BIN, "runnel"), "tokenize", rnl, "--in", self.path("question"), "--out", self.path("ids")],
            check=True,
        )
        with open(self.path("ids")) as f:
            return json.load(f)["ids"]

    def test_a_terminal_and_ctrl_c(self):
        prompt = b"> "
        t = Terminal("chat", self.rnl, "--context", 8192, "-n", 8000)
        t.read(lambda s: s.endswith(prompt))
        t.write(b"Hello\n")
        t.read(lambda s: len(s) > len(b"Hello\r\n") + 8)  # the answer has begun
        t.write(b"\x03")
        answer = t.read(lambda s: s.endswith(b"\n" + prompt))
        self.assertLess(len(answer), 40000)  # not the whole of it
        # At the prompt it drops what was typed, here also a line that goes on.
        t.write(b"dropped\\\n")
        t.read(lambda s: s.endswith(b". "))
        t.write(b"\x03")
        t.read(lambda s: s.endswith(prompt))
        t.write(b"/save " + self.path("tty").encode() + b"\n")
        t.read(lambda s: s.endswith(b"\n" + prompt))
        with open(self.path("tty") + ".json") as f:
            self.assertEqual([m["content"] for m in json.load(f)][0], "Hello")
        t.write(b"More\n")
        t.read(lambda s: len(s) > len(b"More\r\n") + 8)
        t.write(b"\x03")
        t.read(lambda s: s.endswith(b"\n" + prompt))
        t.write(b"\x04")
        self.assertEqual(t.code(), 0)


if __name__ == "__main__":
    unittest.main()
