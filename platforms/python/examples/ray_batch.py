"""Embeds or continues many texts on Ray Data workers: python ray_batch.py --model model.rnl [--texts 2000] [--task embed|generate]

Each worker is a process that opens the model once and keeps it; the file's pages are shared between the workers of a machine, so a
second worker costs its session alone. Needs `pip install "ray[data]"`. Prints texts a second with 1 and with 2 workers. Ray runs workers at a low priority, which matters on
a machine that is busy otherwise: RAY_worker_niceness=0 in the environment runs them as other programs.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import ray
import ray.data

import runnel

WORDS = "rivers mountains rain stones forests valleys clouds meadows harbours bridges winters summers lanterns gardens".split()
Batch = dict[str, np.ndarray[Any, Any]]


class Worker:
    """Made once in each worker; one thread each, as the workers share the machine's cores."""

    def __init__(self, path: str, task: str) -> None:
        self.task = task
        self.model = runnel.Model(path, engine=runnel.Engine(threads=1))
        self.session = runnel.Session(self.model, context=256, rows=16 if task == "embed" else 1)

    def __call__(self, batch: Batch) -> Batch:
        return {"id": batch["id"], self.task: np.array([self.one(text) for text in batch["text"]])}

    def one(self, text: str) -> Any:
        if self.task == "embed":
            return self.session.embed(text)
        self.session.reset()
        return "".join(self.session.generate(text, max_tokens=16))


def texts(count: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(1)
    return [{"id": i, "text": " ".join(draw.choice(WORDS, 24))} for i in range(count)]


def throughput(rows: list[dict[str, Any]], path: str, task: str, workers: int) -> tuple[float, list[Any]]:
    """Texts a second from the first finished batch on, without the start of Ray and its workers; and the results in
    order."""
    data = ray.data.from_items(rows, override_num_blocks=max(4 * workers, len(rows) // 50))
    done = data.map_batches(
        Worker,
        fn_constructor_args=(path, task),
        batch_size=max(1, len(rows) // 40),
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    results: list[dict[str, Any]] = []
    begin, before = 0.0, 0
    for batch in done.iter_batches(batch_size=None):
        results += [{"id": int(i), "result": r} for i, r in zip(batch["id"], batch[task])]
        if not begin:
            begin, before = time.perf_counter(), len(results)
    rate = (len(results) - before) / (time.perf_counter() - begin)
    return rate, [r["result"] for r in sorted(results, key=lambda r: r["id"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--task", choices=("embed", "generate"), default="embed")
    given = parser.parse_args()
    rows = texts(given.texts)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    first, one = throughput(rows, given.model, given.task, 1)
    second, two = throughput(rows, given.model, given.task, 2)
    same = all(np.array_equal(a, b) for a, b in zip(one, two))
    print(f"1 worker: {first:.1f} texts/s")
    print(
        f"2 workers: {second:.1f} texts/s, {second / first:.2f} times as many; results are {'the same' if same else 'different'}"
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
