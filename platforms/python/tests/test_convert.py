"""runnel.convert: the program's work, its messages as exceptions, nothing left behind."""

import os
import re
import signal
import threading

import numpy as np
import pytest
from conftest import cli

import runnel
import support

LLAMA = os.path.join(support.GOLDENS, "tiny_llama")


def big(folder):
    """A graph of 96 MB, whose conversion takes a while."""
    g = runnel.graph.Graph("big")
    x = g.input("x", ["T", 2048])
    for _ in range(6):
        x = g.linear(x, np.ones((2048, 2048), np.float32))
    g.output(x, "y")
    return g.save(folder)


def test_same_file_as_the_command_line(tmp_path):
    done = runnel.convert(LLAMA, tmp_path / "a.rnl", weights="q8", context=77)
    cli("runnel-convert", LLAMA, "-o", tmp_path / "b.rnl", "--weights", "q8", "--context", "77")
    assert (tmp_path / "a.rnl").read_bytes() == (tmp_path / "b.rnl").read_bytes()
    assert done.output == tmp_path / "a.rnl" and "llama" in done.summary and all(isinstance(n, str) for n in done.notes)
    assert runnel.Model(done.output).info.context == 77


def test_progress(tmp_path):
    steps = []
    graph = big(tmp_path)
    runnel.convert(
        graph,
        tmp_path / "m.rnl",
        weights_file=tmp_path / "weights.safetensors",
        weights="f32",
        threads=1,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == sorted(steps) and {total for _, total in steps} == {steps[-1][0]}
    assert abs(steps[-1][0] - os.path.getsize(tmp_path / "m.rnl")) < 1 << 20


def test_failures(tmp_path):
    with pytest.raises(runnel.ConversionFailed, match="nowhere") as e:
        runnel.convert(tmp_path / "nowhere", tmp_path / "m.rnl")
    assert not str(e.value).startswith("runnel-convert") and isinstance(e.value, runnel.Error)
    with pytest.raises(runnel.InvalidArgument, match="weights.*q3"):
        runnel.convert(LLAMA, tmp_path / "m.rnl", weights="q3")
    with pytest.raises(runnel.InvalidArgument, match="frobnicate"):
        runnel.convert(LLAMA, tmp_path / "m.rnl", frobnicate=True)
    with pytest.raises(runnel.InvalidArgument, match="--output"):
        runnel.convert(LLAMA)
    assert not os.listdir(tmp_path)


def test_dry_run(tmp_path):
    done = runnel.convert(LLAMA, dry_run=True, weights="q8")
    assert done.output is None and "nothing was written" in done.summary and "attention" in done.summary


def test_every_option_can_be_given(tmp_path):
    """The keyword arguments are the program's own: none is refused as unknown."""
    text = cli("runnel-convert", "--help").decode()
    options = set(re.findall(r"--([a-z][a-z-]*)", text)) - {"help", "version", "families", "output", "progress-lines"}
    assert {"weights", "lora", "adapter", "tokenizer", "context", "weights-file"} <= options
    for name in options:
        with pytest.raises(runnel.Error) as e:
            runnel.convert(tmp_path / "nowhere", tmp_path / "m.rnl", **{name.replace("-", "_"): "x"})
        assert "following argument" not in str(e.value), name


class Odd(Exception):
    pass


@pytest.mark.parametrize("kind", [Odd, KeyboardInterrupt])
def test_ended_midway(tmp_path, kind):
    graph = big(tmp_path / "source")
    folder = tmp_path / "target"
    folder.mkdir()

    def step(done, total):
        if kind is Odd:
            raise Odd
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(kind):
        runnel.convert(
            graph,
            folder / "m.rnl",
            weights_file=tmp_path / "source" / "weights.safetensors",
            weights="f32",
            threads=1,
            progress=step,
        )
    assert not os.listdir(folder)


def test_conversions_at_once(tmp_path):
    """Each in a process of its own."""
    threads = [threading.Thread(target=runnel.convert, args=(LLAMA, tmp_path / f"{i}.rnl")) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({(tmp_path / f"{i}.rnl").read_bytes() for i in range(3)}) == 1


def test_an_option_given_several_times(tmp_path):
    encoder = os.path.join(support.GOLDENS, "onnx", "models", "encoder_script.onnx")
    for several in (["batch=1", "tokens=7"], ("batch=1", "tokens=7")):
        runnel.convert(encoder, tmp_path / "m.rnl", set=several)
        assert runnel.Model(tmp_path / "m.rnl").inputs()[0].sizes == ("1", "7")
    runnel.convert(encoder, tmp_path / "m.rnl", set=[])
    assert runnel.Model(tmp_path / "m.rnl").inputs()[0].sizes == ("1", "tokens")
