"""Tensors in and out: numbers of `runnel eval`, memory that is used where it is."""

import numpy as np
import pytest
from conftest import cli

import runnel
import support


def eval_logits(models, path, ids, *options):
    support.write_ids(models.path("in.safetensors"), ids)
    cli(
        "runnel", "eval", path, "--in", models.path("in.safetensors"), "--out", models.path("out.safetensors"), *options
    )
    shape, values = support.read_safetensors(models.path("out.safetensors"))["logits"]
    return np.array(values, np.float32).reshape(shape)


@pytest.mark.parametrize("name", ["tiny_gemma3", "tiny_mamba"])
def test_numbers_are_those_of_eval(models, name):
    path = models.model(name)
    ids = np.array(support.golden(name, "ids.safetensors")["ids"][1], np.int32)
    want = eval_logits(models, path, ids.tolist())
    model = runnel.Model(path)
    with runnel.Session(model) as session:
        all_of_them = session.run({"ids": ids}, all_rows=True)["logits"]
        np.testing.assert_array_equal(all_of_them, want)
        assert session.position == len(ids)
        session.reset()
        last = session.run({"ids": ids.astype(np.int64)})["logits"]  # both types of ids
        np.testing.assert_array_equal(last, want[-1:])
        session.reset()
        some = session.run({"ids": ids.tolist(), "rows": [1, 4]}, outputs=["logits"])["logits"]
        np.testing.assert_array_equal(some, want[[1, 4]])
        session.reset()
        shapes = session.output_shapes({"ids": ids}, all_rows=True)
        assert shapes == {"logits": (runnel.DType.F32, want.shape)}
        assert session.run({"ids": ids}, outputs=["last_hidden_state"]).keys() == {"last_hidden_state"}
        session.reset()
        assert session.run({"ids": ids, "rows": np.empty(0, np.int32)})["logits"].shape == (0, want.shape[1])


def test_blocks(models):
    path = models.model("tiny_llama")
    ids = support.golden("tiny_llama", "ids.safetensors")["ids"][1].tolist()
    model = runnel.Model(path)
    want = eval_logits(models, path, ids)
    with runnel.Session(model, chunk=7, rows=3) as session:
        blocks, steps = [], []
        session.run_blocks(
            {"ids": ids},
            lambda name, block, row: blocks.append((name, row, block.copy())),
            all_rows=True,
            progress=lambda done, total: steps.append((done, total)),
        )
        assert {name for name, _, _ in blocks} == {"logits"} and len(blocks) > 1
        assert [row for _, row, _ in blocks] == np.cumsum([0] + [len(b) for _, _, b in blocks])[:-1].tolist()
        np.testing.assert_array_equal(np.concatenate([b for _, _, b in blocks]), want)
        assert steps and all(total == len(ids) for _, total in steps)
        session.reset()

        class Odd(Exception):
            pass

        def fail(name, block, row):
            raise Odd(name)

        with pytest.raises(Odd, match="logits"):
            session.run_blocks({"ids": ids}, fail)
        session.reset()
        kept = []
        with pytest.raises(runnel.InvalidArgument, match="keep a copy"):
            session.run_blocks({"ids": ids}, lambda name, block, row: kept.append(block[:1]))
        kept.clear()
        session.reset()
        with pytest.raises(Odd):
            session.run({"ids": ids}, progress=fail_progress(Odd))


def fail_progress(kind):
    def step(done, total):
        raise kind(done)

    return step


def aligned(size):
    room = np.empty(size + 256, np.uint8)
    begin = -room.ctypes.data % 256
    return room[begin : begin + size]


def test_outputs_are_written_in_place(models):
    model = runnel.Model(models.model("tiny_llama"))
    ids = np.arange(9, dtype=np.int32)
    memory = model.plan(chunk=16)
    state, arena = aligned(memory.state), aligned(memory.arena)
    with runnel.Session(model, chunk=16, state_memory=state, arena_memory=arena) as session:
        given = np.full((1, model.info.vocabulary or 131), np.nan, np.float32)
        shape = session.output_shapes({"ids": ids})["logits"][1]
        given = np.full(shape, np.nan, np.float32)
        out = session.run({"ids": ids}, out={"logits": given})["logits"]
        assert out is given and np.isfinite(given).all()
        assert state.any()  # the lent memory holds the stream

        # Blocks lie in the arena itself.
        def inside(name, block, row):
            assert (
                arena.ctypes.data <= block.ctypes.data
                and block.ctypes.data + block.nbytes <= arena.ctypes.data + arena.nbytes
            )
            assert not block.flags.writeable

        session.run_blocks({"ids": ids}, inside)
        for bad in (np.empty(shape, np.float64), np.empty((1, 3), np.float32), np.empty(shape, np.float32)[:, ::-1]):
            with pytest.raises(runnel.InvalidArgument, match="contiguous, writable float32"):
                session.run({"ids": ids}, out={"logits": bad})
    with pytest.raises(runnel.InvalidArgument, match="bytes of memory"):
        runnel.Session(model, state_memory=aligned(256))


def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024


def test_inputs_are_read_in_place(tmp_path):
    """A call of 128 MB leaves the process's peak where it was."""
    g = runnel.graph.Graph("wide", context=64)
    g.output(g.unary(g.input("x", ["T", 4096]), kind="neg"), "y")
    g.convert(tmp_path / "wide.rnl")
    x = np.ones((8192, 4096), np.float32)
    with runnel.Session(runnel.Model(tmp_path / "wide.rnl")) as session:
        session.run_blocks({"x": x[:256]}, lambda *_: None, all_rows=True)
        before = peak()
        session.run_blocks({"x": x}, lambda *_: None, all_rows=True)
        assert peak() - before < 8 << 20
        # One that is not contiguous is copied, and right.
        strided = np.arange(2 * 8192, dtype=np.float32).reshape(2, 8192)[:, ::2]
        np.testing.assert_array_equal(session.run({"x": strided}, all_rows=True)["y"], -strided)


def test_wrong_inputs(session):
    with pytest.raises(runnel.InvalidArgument, match="ids"):
        session.run({"ids": np.zeros((2, 2), np.int32)})
    with pytest.raises(runnel.InvalidArgument, match="no model takes an array of this type"):
        session.run({"ids": np.zeros(3, np.float64)})
    with pytest.raises(runnel.InvalidArgument):
        session.run({"other": np.zeros(3, np.int32)})
    with pytest.raises(runnel.InvalidArgument):
        session.run({"ids": [1, 2]}, outputs=["other"])
    with pytest.raises(runnel.InvalidArgument):
        session.run({"ids": [1, 10**6]})
    with pytest.raises(runnel.ContextFull):
        session.run({"ids": np.zeros(2000, np.int32)})
    assert session.position == 0


def test_top_logits_and_trace(session):
    full = session.run({"ids": [1, 2, 3]})["logits"]
    session.reset()
    session.set_top_logits(4)
    with session.trace() as events:
        few = session.run({"ids": [1, 2, 3]})["logits"]
    kept = np.isfinite(few)
    np.testing.assert_array_equal(few[kept], full[kept])
    assert {"matmul", "attention"} <= {e.op for e in events} and all(
        e.begin_ns <= e.end_ns and e.kernel for e in events
    )


def test_embeddings_are_those_of_the_program(models):
    path = models.model("tiny_qwen3")
    ids = [1, 5, 9, 2]
    lines, out = models.path("embed.jsonl"), models.path("embed.safetensors")
    with open(lines, "w") as f:
        f.write('{"ids": [1, 5, 9, 2]}\n')
    model = runnel.Model(path)
    with runnel.Session(model) as session:
        for pooling, options in (("mean", ["--pooling", "mean"]), ("last", ["--pooling", "last"]), ("of_model", [])):
            cli("runnel", "embed", path, "--in", lines, "--out", out, *options)
            got = session.embed(ids, pooling=pooling)
            np.testing.assert_array_equal(got, np.array(support.read_safetensors(out)["embeddings"][1], np.float32))
            assert abs(float(np.linalg.norm(got)) - 1) < 1e-5
        assert abs(float(np.linalg.norm(session.embed(ids, normalise=-1))) - 1) > 1e-3
