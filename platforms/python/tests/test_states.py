"""States as values: bit for bit what a new session would give."""

import pickle

import numpy as np
import pytest

import runnel

IDS = np.arange(3, 90, dtype=np.int32)


@pytest.fixture(params=["tiny_llama", "tiny_mamba", "tiny_gemma3", "tiny_recurrent_gemma"])
def model(request, models):
    return runnel.Model(models.model(request.param))


def logits(session, ids):
    return session.run({"ids": ids})["logits"]


def test_rollback(model):
    with runnel.Session(model) as session:
        first = logits(session, IDS[:50])
        logits(session, IDS[50:60])
        session.rollback(10)
        assert session.position == 50
        again = logits(session, IDS[50:60])
        session.rollback(60 - 50)
        np.testing.assert_array_equal(logits(session, IDS[50:60]), again)
        with pytest.raises(runnel.RollbackRange):
            session.rollback(65)
        session.reset()
        np.testing.assert_array_equal(logits(session, IDS[:50]), first)


def test_snapshot_is_a_value(model):
    with runnel.Session(model) as session:
        logits(session, IDS[:20])
        state = session.snapshot()
        want = logits(session, IDS[20:25])
        assert state.position == 20 and state.nbytes == len(state.data) > 0
        for given in (state, pickle.loads(pickle.dumps(state))):
            session.restore(given)
            assert session.position == 20 and session.snapshot() == state
            np.testing.assert_array_equal(logits(session, IDS[20:25]), want)
        with runnel.Session(model) as other:
            other.restore(state)
            np.testing.assert_array_equal(logits(other, IDS[20:25]), want)
        damaged = runnel.State(state.data[:-1] + bytes([state.data[-1] ^ 1]), 20)
        with pytest.raises(runnel.StateMismatch):
            session.restore(damaged)
        assert session.position == 25


def test_save_and_restore(model, tmp_path):
    path = tmp_path / "stream"
    with runnel.Session(model, context=200, chunk=32, rollback_window=8) as session:
        logits(session, IDS[:20])
        session.save(path)
        want = logits(session, IDS[20:25])
    kept = runnel.saved(path)
    assert kept.position == 20 and kept.options["chunk"] == 32 and kept.options["rollback_window"] == 8
    with runnel.Session(model, **kept.options) as session:
        session.restore(path)
        np.testing.assert_array_equal(logits(session, IDS[20:25]), want)
        with pytest.raises(runnel.NotFound):
            session.restore(tmp_path / "nowhere")
    path.write_bytes(b"no state" * 100)
    with pytest.raises(runnel.StateMismatch):
        runnel.saved(path)


def test_fork(model):
    with runnel.Session(model) as session:
        logits(session, IDS[:20])
        with session.fork() as copy:
            want = logits(session, IDS[20:25])
            assert copy.position == 20
            np.testing.assert_array_equal(logits(copy, IDS[20:25]), want)
            other = copy.fork()
        session.close()
        np.testing.assert_array_equal(logits(other, IDS[25:30]), logits_after(model, 30))


def logits_after(model, n, at=(20, 25)):
    """Of the calls that end at these places and at n, the last one's."""
    with runnel.Session(model) as session:
        for begin, end in zip((0, *at), at):
            logits(session, IDS[begin:end])
        return logits(session, IDS[at[-1] : n])


def test_other_models_state(models, tmp_path):
    a, b = (runnel.Session(runnel.Model(models.model(name))) for name in ("tiny_llama", "tiny_mamba"))
    logits(a, IDS[:5])
    with pytest.raises(runnel.StateMismatch):
        b.restore(a.snapshot())


def test_trim(model):
    """The stream stays, and numbers are the same."""
    with runnel.Session(model) as session:
        logits(session, IDS[:20])
        session.trim()
        session.rollback(5)
        session.trim()
        logits(session, IDS[15:20])
        np.testing.assert_array_equal(logits(session, IDS[20:25]), logits_after(model, 25, at=(15, 20)))


def test_stats(model):
    with runnel.Session(model, chunk=10) as session:
        logits(session, IDS[:25])
        stats = session.stats
        assert (stats.position, stats.tokens, stats.passes) == (25, 25, 3) and stats.nanoseconds > 0
        assert session.backend.device == "" and session.backend.device_bytes == 0
        session.recover()  # of no effect on the CPU
