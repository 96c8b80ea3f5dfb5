"""What the program writes, and where: never in the place of a device, a FIFO or a link, never onto its own source, nothing left behind."""

import json
import os
import signal
import stat
import subprocess
import time
import unittest

from support import BIN, Case, run, write_ids


def put(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def get(path):
    with open(path, "rb") as f:
        return f.read()


class Outputs(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rnl = cls.chat_model("m", max_position_embeddings=32768)
        cls.ids = cls.path("ids.safetensors")
        write_ids(cls.ids, [3, 1, 4, 1, 5])
        cls.lines = put(cls.path("lines.jsonl"), '{"text": "a b"}\n{"ids": [3, 1, 4]}\n')
        cls.texts = put(cls.path("texts.jsonl"), '{"text": "a b"}\n')

    def setUp(self):
        self.before = set(os.listdir(self.folder))

    def left(self):
        return sorted(set(os.listdir(self.folder)) - self.before)

    def writers(self):
        """Name and arguments of each command that writes a file, without the file's name."""
        yield "eval --out", ("eval", self.rnl, "--in", self.ids, "--out")
        yield "embed --out", ("embed", self.rnl, "--in", self.lines, "--out")
        yield "inspect --dump", ("inspect", self.rnl, "--in", self.ids, "--dump")
        yield "run --save-state", ("run", self.rnl, "-p", "a", "-n", 2, "--save-state")
        yield from self.texts_out()

    def texts_out(self):
        yield "tokenize --out", ("tokenize", self.rnl, "--in", self.texts, "--out")
        yield "run --trace", ("run", self.rnl, "-p", "a", "-n", 2, "--trace")
        yield "run --logprobs-file", ("run", self.rnl, "-p", "a", "-n", 2, "--logprobs", 2, "--logprobs-file")

    def test_no_regular_file(self):
        fifo, device, link = self.path("fifo"), self.path("device"), self.path("link")
        os.mkfifo(fifo)
        os.symlink("device", link)
        places = [fifo, self.path(".")]
        try:
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            places += [device, link]
        except PermissionError:
            pass
        before = [os.lstat(p) for p in places]
        straight = [name for name, _ in self.texts_out()]
        for name, arguments in self.writers():
            for place in places:
                with self.subTest(name=name, place=place):
                    if name not in straight:
                        self.refused("runnel", *arguments, place, says="no regular file but a (FIFO|device|directory)")
                    elif place == fifo:
                        # It is written to, as it is: somebody reads it.
                        reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)
                        try:
                            run("runnel", *arguments, place)
                            self.assertTrue(reader.communicate(timeout=60)[0])
                        finally:
                            reader.kill()
                    elif place in (device, link):
                        run("runnel", *arguments, place)
                    else:
                        self.refused("runnel", *arguments, place)
        for place, was in zip(places, before):
            now = os.lstat(place)
            self.assertEqual((now.st_mode, now.st_ino, now.st_rdev), (was.st_mode, was.st_ino, was.st_rdev), place)
        for place in set(self.left()):
            os.remove(self.path(place))

    def test_links_and_modes(self):
        target, link, plain = self.path("target"), self.path("to-target"), self.path("plain")
        os.symlink("target", link)
        for name, arguments in self.writers():
            with self.subTest(name=name):
                run("runnel", *arguments, plain)
                put(target, "old")
                os.chmod(target, 0o600)
                run("runnel", *arguments, link)
                self.assertTrue(os.path.islink(link))
                if name != "run --trace":  # times differ
                    self.assertEqual(get(target), get(plain))
                self.assertEqual(stat.S_IMODE(os.stat(target).st_mode), 0o600)
                self.assertNotEqual(get(target), b"old")
        self.assertEqual(self.left(), ["plain", "target", "to-target"])
        for name in self.left():
            os.remove(self.path(name))

    def test_never_onto_its_own_source(self):
        os.mkdir(self.path("sub"))
        grammar = put(self.path("g.gbnf"), 'root ::= "a"*\n')
        cases = [(a, self.rnl) for _, a in self.writers()]
        cases += [
            (("eval", self.rnl, "--in", self.ids, "--out"), self.ids),
            (("embed", self.rnl, "--in", self.lines, "--out"), self.lines),
            (("inspect", self.rnl, "--in", self.ids, "--dump"), self.ids),
            (("tokenize", self.rnl, "--in", self.texts, "--out"), self.texts),
            (("run", self.rnl, "-p", "a", "-n", 2, "--grammar", grammar, "--save-state"), grammar),
            (("run", self.rnl, "--file", self.texts, "-n", 2, "--trace"), self.texts),
        ]
        for arguments, source in cases:
            was = get(source)
            soft, hard, around = (
                self.path("soft"),
                self.path("hard"),
                os.path.join(self.path("sub"), "..", os.path.basename(source)),
            )
            os.symlink(source, soft)
            os.link(source, hard)
            for name in (source, soft, hard, around):
                with self.subTest(arguments=arguments[0] + " " + str(arguments[-1]), name=name):
                    self.refused("runnel", *arguments, name, says="not written: it is the same file as")
                    self.assertEqual(get(source), was)
            os.remove(soft)
            os.remove(hard)
        self.refused(
            "runnel",
            "run",
            self.rnl,
            "-p",
            "a",
            "-n",
            2,
            "--trace",
            self.path("one"),
            "--save-state",
            self.path("one"),
            says="same file as --trace",
        )
        os.rmdir(self.path("sub"))
        os.remove(grammar)
        self.assertEqual(self.left(), [])

    def test_a_saved_stream_may_replace_itself(self):
        state = self.path("s.state")
        run("runnel", "run", self.rnl, "-p", "a b", "-n", 3, "--save-state", state)
        run("runnel", "run", self.rnl, "--load-state", state, "-n", 3, "--save-state", state)
        os.remove(state)

    def test_writing_fails(self):
        for option in (("--trace",), ("--logprobs", "20", "--logprobs-file")):
            for place in ("/dev/full", "/no/such/folder/x"):
                if place != "/dev/full" or os.path.exists(place):
                    with self.subTest(option=option, place=place):
                        self.refused("runnel", "run", self.rnl, "-p", "a", "-n", 3, *option, place, says=place)
        for _, arguments in self.writers():
            self.refused("runnel", *arguments, "/no/such/folder/x", says="/no/such/folder/x: cannot create")
        # A state that cannot be written is known before the answer.
        self.assertEqual(
            run("runnel", "run", self.rnl, "-p", "a", "-n", 3, "--save-state", "/no/such/folder/x", code=1).stdout, b""
        )

    def test_signals(self):
        """Whatever ends the program while it writes: no temporary file stays."""
        long = self.path("long.safetensors")
        write_ids(long, [3, 1, 4, 1] * 5000)
        self.before.add("long.safetensors")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = subprocess.Popen(
                [
                    os.path.join(BIN, "runnel"),
                    "eval",
                    self.rnl,
                    "--in",
                    long,
                    "--out",
                    self.path("out"),
                    "--context",
                    "20000",
                ],
                stderr=subprocess.PIPE,
            )
            end = time.monotonic() + 60
            while not self.left() and time.monotonic() < end:
                time.sleep(0.002)
            self.assertTrue(self.left(), "it wrote nothing")
            process.send_signal(number)
            process.communicate(timeout=60)
            self.assertEqual(process.returncode, -number)
            self.assertEqual(self.left(), [])
        os.remove(long)

    def test_sources_that_are_fifos(self):
        fifo = self.path("source")
        os.mkfifo(fifo)
        for arguments in (
            ("run", fifo, "-p", "a"),
            ("inspect", fifo),
            ("run", self.rnl, "-p", "a", "--adapter", fifo),
            ("eval", self.rnl, "--in", fifo, "--out", self.path("x")),
            ("run", self.rnl, "--load-state", fifo),
            ("inspect", self.rnl, "--compare", fifo),
        ):
            with self.subTest(arguments=arguments):
                done = subprocess.run([os.path.join(BIN, "runnel"), *arguments], capture_output=True, timeout=20)
                self.assertEqual(done.returncode, 1)
                self.assertIn(b"not a regular file but a FIFO", done.stderr)
        os.remove(fifo)

    def test_processes_that_save_to_one_path(self):
        state = self.path("same.state")
        for _ in range(5):
            running = [
                subprocess.Popen(
                    [os.path.join(BIN, "runnel"), "run", self.rnl, "-p", "a b " * n, "-n", "2", "--save-state", state],
                    stdout=subprocess.DEVNULL,
                )
                for n in (1, 20)
            ]
            self.assertEqual([p.wait(60) for p in running], [0, 0])
            run("runnel", "run", self.rnl, "--load-state", state, "-n", 2)
        os.remove(state)

    def test_a_trace_is_json(self):
        trace = self.path("t.json")
        run("runnel", "run", self.rnl, "-p", "a", "-n", 2, "--trace", trace)
        with open(trace) as f:
            self.assertTrue(json.load(f)["traceEvents"])
        os.remove(trace)


if __name__ == "__main__":
    unittest.main()
