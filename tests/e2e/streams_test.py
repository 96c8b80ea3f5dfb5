"""Text of a stream: the same in one process and in two, with the state saved between; greedy and drawn."""

import json
import unittest

from support import Case, run

MODELS = ("tiny_gemma3/model-f32.gguf", "tiny_llama/model-f32.gguf")


class Streams(Case):
    def text(self, model, *options):
        return run("runnel", "run", model, *options).stdout.decode().removesuffix("\n")

    def test_saved_in_one_process_and_restored_in_another(self):
        for source in MODELS:
            for sampling in ([], ["--temp", 1.5], ["--temp", 1, "--top-k", 20, "--top-p", 0.95]):
                with self.subTest(source=source, sampling=sampling):
                    model, state = self.model(source, "keep"), self.path("state")
                    # A draw of the end of the text would leave nothing to restore for: the first seed without one.
                    for seed in range(50):
                        options = sampling + ["--seed", seed] if sampling else []
                        whole = self.text(model, "-p", "t5t9t77", "-n", 60, *options)
                        if whole.count("t") >= 50:
                            break
                    sampling = options
                    first = self.text(model, "-p", "t5t9t77", "-n", 23, "--save-state", state, *sampling)
                    second = self.text(model, "-n", 37, "--load-state", state, *sampling)
                    self.assertEqual(first + second, whole)
                    self.assertGreaterEqual(whole.count("t"), 50)

    def test_threads_change_nothing(self):
        for source in MODELS:
            model = self.model(source, "keep")
            one = self.text(model, "-p", "t5t9t77", "-n", 40, "--threads", 1)
            self.assertEqual(self.text(model, "-p", "t5t9t77", "-n", 40, "--threads", 3), one)

    def test_seeds(self):
        model = self.model(MODELS[1], "keep")
        draws = {self.text(model, "-p", "t5", "-n", 30, "--temp", 2, "--seed", seed) for seed in (1, 2, 3, 1, 2, 3)}
        self.assertEqual(len(draws), 3)

    def test_bench_and_inspect_as_json(self):
        model = self.model(MODELS[0], "keep")
        bench = json.loads(
            run(
                "runnel",
                "bench",
                model,
                "--prompt",
                32,
                "--gen",
                8,
                "--depth",
                16,
                "--repeat",
                2,
                "--threads",
                1,
                "--json",
            ).stdout
        )
        for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "load_ms", "first_token_ms", "peak_bytes"):
            self.assertGreater(bench[key], 0, key)
        self.assertEqual(
            (bench["threads"], bench["token_threads"], bench["depth"], bench["backend"]), (1, 1, 16, "cpu")
        )
        # A token reads the tied output matrix whole and one row of the table, all other weights, and keys and values.
        self.assertGreater(bench["bytes_per_token"], bench["planned_bytes"]["weights"])
        self.assertLess(
            bench["bytes_per_token"], bench["planned_bytes"]["weights"] + bench["planned_bytes"]["state"] + 4096
        )
        self.assertGreater(bench["read_gb_per_s"], 0)
        self.assertAlmostEqual(
            bench["bound_share"],
            bench["bytes_per_token"] * bench["decode_tokens_per_s"] / 1e9 / bench["read_gb_per_s"],
            places=6,
        )
        for key in ("weights", "state", "arena", "packed", "tokenizer", "fixed"):
            self.assertIn(key, bench["planned_bytes"])
        json.loads(run("runnel", "inspect", model, "--context", 64, "--json").stdout)

    def test_devices_tells_how_many_threads_and_why(self):
        text = run("runnel", "devices").stdout.decode()
        self.assertRegex(
            text, r"CPU  .+, \d+ threads by default\n     \d+ of \d+ cores are fast.*\n     \d+ for one token: .+\n"
        )


if __name__ == "__main__":
    unittest.main()
