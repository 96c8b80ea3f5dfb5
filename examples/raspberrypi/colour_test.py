"""typeseg's program over files and pipes of any length."""

import os
import random
import re
import select
import subprocess
import unittest

from support import BIN, GOLDENS, Case, run


class Colour(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        source, cls.rnl, cls.labels = os.path.join(GOLDENS, "typeseg"), cls.path("typeseg.rnl"), cls.path("labels.txt")
        run(
            "runnel-convert",
            os.path.join(source, "typeseg.json"),
            "--weights-file",
            os.path.join(source, "typeseg.safetensors"),
            "-o",
            cls.rnl,
        )
        with open(cls.labels, "w") as f:
            f.writelines(f"kind{i}\n" for i in range(5))
        rng = random.Random(5)
        cls.text = "".join(rng.choice("abcdefgh <>{}();=\n0123456789é漢😀") for _ in range(30000)).encode()

    def colour(self, *options, text=None):
        return subprocess.run(
            [os.path.join(BIN, "runnel-colour"), self.rnl, self.labels, *map(str, options)],
            input=text or self.text,
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        ).stdout

    def test_a_pipe_is_like_a_file(self):
        path = self.path("text")
        with open(path, "wb") as f:
            f.write(self.text)
        of_file, of_pipe = (
            run("runnel-colour", self.rnl, self.labels, path, "--labels").stdout,
            self.colour("--labels", "--idle", 0),
        )
        self.assertEqual(of_file, of_pipe)
        at = 0
        for line in of_file.decode().splitlines():
            begin, size, kind = line.split()
            self.assertEqual(int(begin), at)
            self.assertRegex(kind, "^(kind[0-4]|other)$")
            at += int(size)
        self.assertEqual(at, len(self.text))
        self.assertGreater(len(of_file.splitlines()), 100)

    def test_the_text_comes_out_whole(self):
        marked = self.colour("--idle", 0, "--window", 512, "--margin", 64)
        plain = re.sub(rb"\[(?:kind[0-4]|other)\]", b"", marked)  # the text has no brackets
        self.assertTrue(plain.startswith(self.text + b"\n"), plain[:80])

    def test_windows_agree_between_their_margins(self):
        """The margins are long enough where they are longer than what the network sees."""
        labels = [[], []]
        for out, window in zip(labels, (8192, 2048)):
            for line in self.colour("--labels", "--idle", 0, "--window", window, "--margin", 512).decode().splitlines():
                out.extend([line.split()[2]] * int(line.split()[1]))
        same = sum(a == b for a, b in zip(*labels)) / len(self.text)
        self.assertGreater(same, 0.999)

    def test_follows_what_comes_slowly(self):
        process = subprocess.Popen(
            [os.path.join(BIN, "runnel-colour"), self.rnl, self.labels, "--idle", "50"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for line in (b"first line;\n", b"second = {}\n"):
            process.stdin.write(line)
            process.stdin.flush()
            seen = b""
            while line.strip() not in re.sub(rb"\[\w+\]", b"", seen):
                self.assertTrue(select.select([process.stdout], [], [], 60)[0], seen)
                seen += os.read(process.stdout.fileno(), 4096)
        process.stdin.close()
        process.stdout.read()
        process.stdout.close()
        self.assertEqual(process.wait(60), 0)

    def peak(self, megabytes):
        """Largest resident size in bytes for a text of so many megabytes."""
        program = [
            os.path.join(BIN, "runnel-colour"),
            self.rnl,
            self.labels,
            "--time",
            "--idle",
            "0",
            "--window",
            "2048",
            "--margin",
            "256",
        ]
        process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(int(megabytes * 1e6 / len(self.text))):
            process.stdin.write(self.text)
        said = process.communicate()[1].decode()
        self.assertEqual(process.returncode, 0)
        anonymous, planned, peak = map(
            float, re.search(r"anonymous memory ([\d.]+) MB, planned ([\d.]+) MB;.* size ([\d.]+) MB", said).groups()
        )
        self.assertLess(anonymous, planned + 4, said)
        return peak

    def test_memory_does_not_grow(self):
        self.assertLess(self.peak(1), self.peak(0.1) + 0.5)

    def test_what_is_refused(self):
        for code, options in (
            (2, []),
            (2, [self.rnl]),
            (2, [self.rnl, self.labels, "--window", "64", "--margin", "32"]),
            (1, [self.rnl, self.labels, self.path("missing")]),
            (1, [self.path("missing"), self.labels]),
        ):
            run("runnel-colour", *options, code=code)


if __name__ == "__main__":
    unittest.main()
