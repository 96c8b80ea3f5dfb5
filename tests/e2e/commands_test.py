"""What people type: where a prompt comes from, what options are when they are not given, what the program says."""

import json
import os
import re
import subprocess
import sys
import unittest

from support import BIN, GOLDENS, Case, run, write_ids, write_safetensors

COMMANDS = ("run", "chat", "eval", "embed", "perplexity", "bench", "tokenize", "inspect", "devices")


class Commands(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rnl = cls.chat_model("m", max_position_embeddings=8192)

    def run_in(self, text, *arguments, code=0):
        done = subprocess.run(
            [os.path.join(BIN, "runnel"), *map(str, arguments)],
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=120,
        )
        self.assertEqual(done.returncode, code, done.stderr.decode(errors="replace")[-1000:])
        return done

    def file(self, text):
        with open(self.path("text"), "w") as f:
            f.write(text)
        return self.path("text")

    def test_prompts_from_anywhere(self):
        text = "Rivers run\n\ndown."
        want = run("runnel", "run", self.rnl, "-p", text, "-n", 5).stdout
        self.assertEqual(self.run_in(text + "\n", "run", self.rnl, "-n", 5).stdout, want)
        self.assertEqual(self.run_in(text + "\r\n", "run", self.rnl, "-n", 5, "--file", "-").stdout, want)
        self.assertEqual(run("runnel", "run", self.rnl, "--file", self.file(text), "-n", 5).stdout, want)
        self.assertNotEqual(run("runnel", "run", self.rnl, "--file", self.file(text + "\n\n"), "-n", 5).stdout, want)
        self.assertIn(
            b"--prompt does not go with --file",
            self.run_in("", "run", self.rnl, "-p", "a", "--file", "-", code=2).stderr,
        )
        self.assertIn(b"the prompt is empty", self.run_in("", "run", self.rnl, code=1).stderr)
        # A saved stream needs no prompt, so standard input is left alone.
        run("runnel", "run", self.rnl, "-p", text, "-n", 5, "--save-state", self.path("s"))
        alone = self.run_in("Not read", "run", self.rnl, "--load-state", self.path("s"), "-n", 5).stdout
        self.assertNotEqual(
            self.run_in(" and", "run", self.rnl, "--load-state", self.path("s"), "--file", "-", "-n", 5).stdout, alone
        )
        # Linux takes 128 KiB as one argument.
        long = "Rivers run down to the sea. " * 9000
        self.assertIn(b"--context", self.run_in(long, "run", self.rnl, "-n", 2, code=1).stderr)

    def test_a_terminal_is_no_prompt(self):
        parent, child = os.openpty()
        done = subprocess.run(
            [os.path.join(BIN, "runnel"), "run", self.rnl], stdin=child, capture_output=True, timeout=60
        )
        os.close(parent)
        os.close(child)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"give a prompt", done.stderr)

    def test_lines_by_pipes(self):
        line = json.dumps({"text": "a b"}) + "\n"
        with open(self.path("lines"), "w") as f:
            f.write(line)
        run("runnel", "tokenize", self.rnl, "--in", self.path("lines"), "--out", self.path("ids"))
        with open(self.path("ids"), "rb") as f:
            self.assertEqual(self.run_in(line, "tokenize", self.rnl, "--in", "-", "--out", "-").stdout, f.read())
        self.run_in(line, "embed", self.rnl, "--in", "-", "--out", self.path("e.safetensors"))
        self.assertIn(
            b"standard input: line 1",
            self.run_in("x\n", "tokenize", self.rnl, "--in", "-", "--out", "-", code=1).stderr,
        )
        text = "Rivers run down to the sea."
        self.assertEqual(
            self.run_in(text, "perplexity", self.rnl, "--file", "-").stdout,
            run("runnel", "perplexity", self.rnl, "--file", self.file(text)).stdout,
        )

    def test_the_context_is_what_the_call_needs(self):
        count = 5000
        text = "a " * count
        got = self.run_in(text, "run", self.rnl, "-n", 3).stdout
        self.assertEqual(got, self.run_in(text, "run", self.rnl, "-n", 3, "--context", 8192).stdout)
        # Without -n the answer ends where the model's context does; with it the message tells what helps.
        self.run_in("a " * 8100, "run", self.rnl)
        self.assertIn(
            b"a larger --context makes room", self.run_in("a " * 8100, "run", self.rnl, "-n", 128, code=1).stderr
        )
        self.assertRegex(
            self.run_in("a " * 9000, "run", self.rnl, "-n", 1, code=1).stderr,
            rb"more than the model's context of 8192; --context \d+ makes room",
        )
        self.run_in("a " * 9000, "run", self.rnl, "-n", 1, "--context", 9100)
        # A saved stream brings its own; it grows where the call needs more.
        state = self.path("grown")
        self.run_in("a " * 100, "run", self.rnl, "-n", 3, "--save-state", state)
        whole = self.run_in("a " * 100, "run", self.rnl, "-n", 43).stdout
        first = self.run_in("a " * 100, "run", self.rnl, "-n", 3).stdout
        second = run("runnel", "run", self.rnl, "--load-state", state, "-n", 40).stdout
        self.assertEqual(first.rstrip(b"\n") + second, whole)
        run(
            "runnel",
            "run",
            self.rnl,
            "--load-state",
            state,
            "-n",
            3,
            "--file",
            self.file("a " * 1000),
            "--save-state",
            state,
        )
        run("runnel", "run", self.rnl, "--load-state", state, "-n", 3)

    def test_seeds(self):
        def text(*options):
            return run("runnel", "run", self.rnl, "-p", "The sea", "-n", 25, "--temp", 1, *options).stdout

        self.assertEqual(len({text() for _ in range(3)}), 3)
        self.assertEqual(len({text("--seed", 0), text("--seed", 0)}), 1)
        self.assertEqual(
            run("runnel", "bench", self.rnl, "--prompt", 4, "--gen", 2, "--repeat", 1, "--json").returncode, 0
        )

    def test_the_smallest_top_p(self):
        def text(*options):
            return run("runnel", "run", self.rnl, "-p", "The sea", "-n", 16, *options).stdout

        greedy = text("--temp", 0)
        self.assertEqual(text("--temp", 1, "--seed", 1, "--top-p", 0), greedy)
        self.assertEqual(text("--temp", 1, "--seed", 1, "--top-p", 0.0000001), greedy)
        self.assertNotEqual(text("--temp", 1, "--seed", 1), greedy)

    def test_help_states_every_default(self):
        flags = ("--help", "--json", "--verify", "--json-output")
        for command in COMMANDS:
            text = run("runnel", command, "--help").stdout.decode()
            options = re.split(r"\n  (?=-)", text[text.index("Options:") :])[1:]
            self.assertTrue(options, command)
            for option in options:
                name = option.split()[0].rstrip(",")
                said = " ".join(option.split())
                # The last four are the command's own work: which input, which output.
                known = (
                    "default" in said
                    or "REQUIRED" in said
                    or re.search(r"=\S+", said)
                    or any(f in said.split()[:2][0] for f in flags)
                )
                known = known or re.match(r"-(h|p)|--(load-state|save-state|file|in|out|dump|compare|version)\b", name)
                self.assertTrue(known, f"{command} {said}")

    def test_the_table_of_families_is_what_the_recipes_say(self):
        table = run("runnel-convert", "--families").stdout.decode()
        self.assertGreater(table.count("\n"), 50)
        with open(os.path.join(GOLDENS, "..", "..", "converter", "README.md")) as f:
            self.assertTrue(
                f.read().endswith("\n\n" + table),
                "the end of converter/README.md is to be what runnel-convert --families prints",
            )

    def test_wrong_usage(self):
        cases = (
            (["foo", self.rnl], 'unknown command "foo"'),
            ([], "which command"),
            (["--foo"], 'unknown argument "--foo"'),
            (["run"], "model is missing"),
            (["run", self.rnl, "--foo"], 'unknown argument "--foo"'),
            (["run", self.rnl, "-p"], "--prompt: a value is missing"),
            (["run", self.rnl, "-p", "a", "--context", "many"], '--context: 1 to 2147483648 is wanted, not "many"'),
            (["run", self.rnl, "-p", "a", "--temp", "-1"], '--temp: 0 to 100 is wanted, not "-1"'),
            (["run", self.rnl, "-p", "a", "--kv", "q9"], '--kv: one of f32, f16, q8 is wanted, not "q9"'),
            (["run", self.rnl, "-p", "a", "--seed", "-1"], "--seed: 0 or more is wanted"),
            (["run", self.rnl, "-p", "a", "--top-k", "99999999999"], "--top-k: 0 or more is wanted"),
            (["run", self.rnl, "-p", "a", "--grammar", "a", "--json-output"], "does not go with"),
            (["inspect", self.rnl, "--in", "x"], "--in needs --dump"),
            (["run", self.rnl, "-p", "a", "--logprobs-file", "x"], "--logprobs-file needs --logprobs"),
            (["bench", self.rnl, "other"], 'unknown argument "other"'),
        )
        for arguments, says in cases:
            with self.subTest(arguments=arguments):
                done = run("runnel", *arguments, code=2)
                self.assertIn(says, done.stderr.decode())
                self.assertEqual(done.stdout, b"")
                self.assertRegex(
                    done.stderr.decode(), r"\Arunnel( \w+)?: [^\n]*\nrunnel( \w+)? --help says what there is\n\Z"
                )

    def test_messages_hold_names_cut_and_escaped(self):
        name = "\x1b[31mred\n" + "n" * 5000
        write_safetensors(self.path("named.safetensors"), {"ids": ("I32", [2], [1, 2]), name: ("F32", [1], [0.0])})
        for arguments in (
            ("eval", self.rnl, "--in", self.path("named.safetensors"), "--out", self.path("o")),
            ("inspect", self.rnl, "--in", self.path("named.safetensors"), "--dump", self.path("o")),
            ("eval", self.rnl, "--in", self.path("named.safetensors"), "--out", self.path("o"), "--program", name),
        ):
            with self.subTest(arguments=arguments[:2]):
                message = self.refused("runnel", *arguments)
                self.assertNotIn("\x1b", message)
                self.assertEqual(message.count("\n"), 1)
                self.assertLess(len(message), 800)
                self.assertIn("\\x1b[31mred\\n", message)
        for line in ('{"text": 1}', "[", '{"bytes_hex": "\x1b\x1b"}', '{"ids": "' + "n" * 5000 + '"}'):
            with open(self.path("bad"), "w") as f:
                f.write(line)
            message = self.refused("runnel", "embed", self.rnl, "--in", self.path("bad"), "--out", self.path("o"))
            self.assertNotRegex(message, r"exception|json\.|\x1b")
            self.assertLess(len(message), 600)

    def test_bench_tells_its_own_peak(self):
        code = (
            "import subprocess, sys; held = bytearray(b'x') * (400 << 20); "
            "sys.stdout.write(subprocess.run(sys.argv[1:], stdout=subprocess.PIPE).stdout.decode())"
        )
        arguments = [
            os.path.join(BIN, "runnel"),
            "bench",
            self.rnl,
            "--prompt",
            "8",
            "--gen",
            "2",
            "--repeat",
            "1",
            "--json",
        ]
        done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, timeout=120)
        self.assertLess(json.loads(done.stdout)["peak_bytes"], 200 << 20)


if __name__ == "__main__":
    unittest.main()
