"""The text service as a board runs it: a conversation that goes on after SIGTERM, after a power cut and beyond its context."""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import unittest

from support import BIN, Case, run

QUESTIONS = ["Hello there", "What is a river?", "Say it again."]


class Service:
    """runnel-assistant with pipes, or at a socket."""

    def __init__(self, model, *options, socket_path=None):
        if socket_path:
            options += ("--socket", socket_path)
        self.process = subprocess.Popen(
            [os.path.join(BIN, "runnel-assistant"), model, *map(str, options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.seen = b""
        self.stream = None
        if socket_path:
            self.stream = socket.socket(socket.AF_UNIX)
            end = time.monotonic() + 60
            while self.stream.connect_ex(socket_path) != 0:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"nobody listens: {self.process.stderr.read()}")
                time.sleep(0.01)
        self.out = self.stream.fileno() if self.stream else self.process.stdout.fileno()

    def write(self, text):
        os.write(self.stream.fileno() if self.stream else self.process.stdin.fileno(), text.encode() + b"\n")

    def read(self, until=b"\n\0", seconds=60):
        end = time.monotonic() + seconds
        while until not in self.seen:
            if not select.select([self.out], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"no answer after {self.seen!r}")
            data = os.read(self.out, 65536)
            if not data:
                raise AssertionError(f"it ended after {self.seen!r}: {self.process.stderr.read().decode()}")
            self.seen += data
        answer, _, self.seen = self.seen.partition(until)
        return answer

    def ask(self, question):
        self.write(question)
        return self.read()

    def end(self, how=signal.SIGTERM, code=0):
        """Returns what the service said on stderr."""
        if how is None:
            self.process.stdin.close()
        else:
            self.process.send_signal(how)
        said = self.process.stderr.read().decode()
        got = self.process.wait(60)
        self.process.stdout.close()
        self.process.stderr.close()
        self.process.stdin.close()
        if self.stream:
            self.stream.close()
        assert got == (-how if how == signal.SIGKILL else code), f"exit code {got}: {said}"
        return said


class Assistant(Case):
    MODELS = {"attention": {}, "windows": {"source": "tiny_gemma3"}, "recurrent": {"source": "tiny_qwen3_next"}}

    def kept(self, name):
        os.makedirs(self.path(name))
        return self.path(name)

    def model_of(self, kind):
        return self.chat_model(kind, max_position_embeddings=4096, **self.MODELS[kind])

    def whole(self, model, *options):
        """All answers of one process."""
        service = Service(model, *options)
        answers = [service.ask(q) for q in QUESTIONS]
        service.end(None)
        self.assertTrue(all(answers))
        return answers

    def test_goes_on_after_sigterm(self):
        for kind in self.MODELS:
            for options in ((), ("--temp", "0.8", "--seed", "7")):
                with self.subTest(kind, options=options):
                    model = self.model_of(kind)
                    wanted = self.whole(model, "--tokens", "40", *options)
                    folder, got = self.kept(kind + str(len(options))), []
                    for i, question in enumerate(QUESTIONS):
                        service = Service(model, "--tokens", "40", "--state", folder, *options)
                        got.append(service.ask(question))
                        said = service.end()
                        self.assertRegex(said, r"saved \d+ tokens in [\d.]+ ms")
                        restored = re.search(r"restored (\d+) tokens in ([\d.]+) ms", said)
                        self.assertEqual(restored is not None, i > 0, said)
                        if restored:
                            self.assertGreater(int(restored[1]), 10)
                            self.assertLess(float(restored[2]), 500)
                    self.assertEqual(got, wanted)

    def test_at_a_socket(self):
        model, folder, path = self.model_of("windows"), self.kept("socket"), self.path("s")
        wanted = self.whole(model, "--tokens", "40")
        service = Service(model, "--tokens", "40", "--state", folder, socket_path=path)
        got = [service.ask(QUESTIONS[0])]
        # The next one who connects takes the conversation up.
        service.stream.close()
        service.stream = socket.socket(socket.AF_UNIX)
        service.stream.connect(path)
        service.out = service.stream.fileno()
        got.append(service.ask(QUESTIONS[1]))
        service.end()
        self.assertFalse(os.path.exists(path))
        service = Service(model, "--tokens", "40", "--state", folder, socket_path=path)
        got.append(service.ask(QUESTIONS[2]))
        service.end(signal.SIGINT)
        self.assertEqual(got, wanted)

    def test_sigterm_within_an_answer(self):
        """What was said of it stays said, and the conversation goes on behind it."""
        model, folder = self.model_of("windows"), self.kept("within")
        service = Service(model, "--tokens", "3500", "--context", "4096", "--state", folder)
        service.write(QUESTIONS[0])
        self.assertTrue(select.select([service.out], [], [], 60)[0])
        begun = os.read(service.out, 65536)
        saved = int(re.search(r"saved (\d+) tokens", service.end())[1])
        self.assertLess(saved, 3000)
        with open(os.path.join(folder, "messages"), "rb") as f:
            messages = f.read()
        self.assertTrue(messages.startswith(b"user 11\nHello there\nassistant "), messages[:60])
        self.assertIn(begun.rstrip(b"\0\n"), messages)
        answers = set()
        for name in ("once", "again"):
            shutil.copytree(folder, self.path(name))
            service = Service(model, "--tokens", "40", "--context", "4096", "--state", self.path(name))
            answers.add(service.ask(QUESTIONS[1]))
            self.assertIn(f"restored {saved} tokens", service.end())
            with open(os.path.join(self.path(name), "messages"), "rb") as f:
                self.assertTrue(f.read().startswith(messages))
        self.assertEqual(len(answers), 1)

    def test_power_cut(self):
        """Everything that was said is there; what the state lacks is read again."""
        model, folder = self.model_of("attention"), self.kept("cut")
        wanted = self.whole(model, "--tokens", "40")
        said = []
        for i, question in enumerate(QUESTIONS):
            service = Service(model, "--tokens", "40", "--state", folder)
            answer = service.ask(question)
            self.assertTrue(answer)
            said += [question.encode(), answer]
            self.until_kept(folder, said)
            service.end(signal.SIGTERM if i == 1 else signal.SIGKILL)  # the third finds a state, of two
        self.assertEqual(said[1], wanted[0])
        service = Service(model, "--tokens", "40", "--state", folder)
        self.assertIn("restored", service.end(None))

    def until_kept(self, folder, said):
        """The messages are written behind the answer."""
        wanted = b"".join(
            b"%s %d\n%s\n" % (role, len(text), text) for role, text in zip([b"user", b"assistant"] * 3, said)
        )
        end = time.monotonic() + 30
        while True:
            with open(os.path.join(folder, "messages"), "rb") as f:
                got = f.read()
            if got == wanted:
                return
            self.assertLess(time.monotonic(), end, got)
            time.sleep(0.01)

    def test_longer_than_its_context(self):
        """Old messages are forgotten, memory stays what was planned."""
        model = self.model_of("attention")
        service = Service(model, "--tokens", "20", "--context", "200")
        for i in range(40):
            self.assertNotIn(b"no answer", service.ask(f"Question {i} of forty"))
        said = service.end(None)
        self.assertNotRegex(said, "full|forty")
        anonymous, planned = map(float, re.search(r"anonymous memory ([\d.]+) MB, planned ([\d.]+) MB", said).groups())
        self.assertGreater(planned, 0)
        self.assertLess(anonymous, planned + 4, said)  # the C library, the program's own strings, the threads' stacks

    def test_the_system_says(self):
        model, folder = self.model_of("attention"), self.kept("system")
        answers = set()
        for text in ("Be brief.", "Be long.", "Be long."):
            service = Service(model, "--tokens", "20", "--system", text, "--state", folder)
            answers.add(service.ask(QUESTIONS[0]))
            service.end()
            with open(os.path.join(folder, "messages"), "rb") as f:
                self.assertEqual(f.read().count(b"system "), 1)
        self.assertGreater(len(answers), 1)

    def test_what_is_refused(self):
        for code, options in (
            (1, [self.model("tiny_llama")]),
            (1, [self.path("missing.rnl")]),
            (2, []),
            (2, ["x", "--nonsense", "1"]),
        ):
            run("runnel-assistant", *options, code=code)
        folder = self.kept("broken")
        with open(os.path.join(folder, "messages"), "w") as f:
            f.write("user 100\nHello\n")
        done = run("runnel-assistant", self.model_of("attention"), "--state", folder, code=1)
        self.assertIn(b"messages: it is cut off", done.stderr)


if __name__ == "__main__":
    unittest.main()
