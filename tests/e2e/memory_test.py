"""Anonymous bytes: what the plan says beside what Linux counts. Weights stay the file's pages, however many there are."""

import json
import os
import unittest

from support import Case, run, write_llama

# What the plan does not count: the C library's heap around it, stacks of threads, the program's own JSON.
MARGIN = 3 << 20


@unittest.skipUnless(os.path.exists("/proc/self/smaps_rollup"), "the kernel tells no sums")
class Anonymous(Case):
    def check(self, model, *options, least):
        """A stream as long as its context has touched what was planned for it, at least this share of it."""
        done = json.loads(run("runnel", "bench", model, "--json", "--gen", 8, *options).stdout)
        planned, counted = done["planned_bytes"]["anonymous"], done["anonymous_bytes"]
        self.assertEqual(planned, sum(done["planned_bytes"][part] for part in ("state", "arena", "packed", "fixed")))
        self.assertLess(counted, planned + MARGIN, done)
        self.assertGreater(counted, least * planned, done)
        return done

    def test_tiny_models(self):
        for name in ("tiny_gemma3", "tiny_mamba2", "tiny_qwen3_next"):
            with self.subTest(name):
                self.check(self.model(name), "--prompt", 100, "--depth", 100, least=0.5)

    def test_a_larger_model(self):
        """46 MB of weights, 11 MB of keys and values."""
        folder, model = self.path("wide"), self.path("wide.rnl")
        write_llama(folder, 240000)
        run("runnel-convert", folder, "-o", model)
        done = self.check(model, "--prompt", 64, "--depth", 8000, "--kv", "f32", least=0.8)
        self.assertGreater(done["planned_bytes"]["weights"], 40e6)
        self.assertGreater(done["planned_bytes"]["anonymous"], 10e6)
        self.assertLess(done["anonymous_bytes"], done["planned_bytes"]["weights"])

    def test_inspect_prints_them(self):
        model = self.model("tiny_gemma3")
        planned = json.loads(run("runnel", "inspect", model, "--json", "--context", 512).stdout)["planned_bytes"]
        self.assertEqual(planned["anonymous"], planned["total"] - planned["weights"] - planned["tokenizer"])
        self.assertRegex(
            run("runnel", "inspect", model, "--context", 512).stdout.decode(), rf"anonymous +{planned['anonymous']}\n"
        )


if __name__ == "__main__":
    unittest.main()
