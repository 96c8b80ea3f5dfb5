"""Threads, signals, ends: cancelling, sessions in use, objects that go in any order."""

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import runnel

PROMPT = [3, 4, 5]
ENDLESS = dict(ignore_end=True, max_tokens=10**9)


@pytest.fixture
def endless(mamba_path):
    """A session whose answers have no end."""
    with runnel.Session(runnel.Model(mamba_path)) as session:
        yield session


def later(function, seconds=0.2):
    timer = threading.Timer(seconds, function)
    timer.start()
    return timer


def take_all(answer):
    for _ in answer:
        pass


def test_cancel_generate_from_another_thread(endless):
    answer = endless.generate(PROMPT, **ENDLESS)
    timer = later(endless.cancel)
    with pytest.raises(runnel.Cancelled):
        take_all(answer)
    timer.join()
    # What was delivered stays, and the stream goes on.
    assert endless.position == len(PROMPT) + len(answer.ids) - 1
    assert len(list(endless.generate(max_tokens=3, ignore_end=True))) == 3


def test_cancel_run_from_another_thread(endless):
    ids = np.zeros(1 << 20, np.int32)
    timer = later(endless.cancel)
    with pytest.raises(runnel.Cancelled):
        endless.run({"ids": ids})
    timer.join()
    assert 0 < endless.position < len(ids)
    endless.cancel()
    endless.clear_cancel()
    endless.run({"ids": PROMPT})


def test_cancel_between_pieces(endless):
    answer = endless.generate(PROMPT, **ENDLESS)
    next(answer)
    endless.cancel()
    with pytest.raises(runnel.Cancelled):
        take_all(answer)
    assert next(answer, None) is None


def test_python_runs_meanwhile(endless):
    """The GIL is not held while the library computes."""
    counted = 0

    def count():
        nonlocal counted
        while not stop:
            counted += 1
            time.sleep(0.001)

    stop = False
    thread = threading.Thread(target=count)
    thread.start()
    begin = time.monotonic()
    endless.run({"ids": np.zeros(60000, np.int32)})
    seconds = time.monotonic() - begin
    stop = True
    thread.join()
    assert counted > 20 * seconds


def test_in_use(endless):
    answer = endless.generate(PROMPT, **ENDLESS)
    next(answer)
    for call in (
        endless.reset,
        endless.snapshot,
        endless.fork,
        lambda: endless.rollback(1),
        lambda: endless.run({"ids": PROMPT}),
        lambda: next(endless.generate(PROMPT)),
        lambda: endless.save("x"),
    ):
        with pytest.raises(runnel.Busy, match="in use"):
            call()
    assert endless.position == endless.stats.position == len(PROMPT)  # these may be asked
    answer.close()
    endless.reset()

    # By a call on another thread.
    thread = threading.Thread(
        target=lambda: pytest.raises(runnel.Cancelled, endless.run, {"ids": np.zeros(1 << 20, np.int32)})
    )
    thread.start()
    while endless.stats.passes < 3:
        time.sleep(0.001)
    with pytest.raises(runnel.Busy):
        endless.reset()
    with pytest.raises(runnel.Busy):
        endless.close()
    endless.cancel()
    thread.join()
    endless.reset()


def test_closed_by_another_thread(endless):
    answer = endless.generate(PROMPT, **ENDLESS)
    timer = later(answer.close)
    take_all(answer)
    timer.join()
    assert answer.is_done and answer.tokens
    endless.reset()


@pytest.mark.parametrize(
    "work",
    [
        lambda s: take_all(s.generate(PROMPT, **ENDLESS)),
        lambda s: s.run({"ids": np.zeros(1 << 20, np.int32)}),
        lambda s: next(s.generate(np.zeros(1 << 20, np.int32))),
    ],
)
def test_ctrl_c(endless, work):
    timer = later(lambda: os.kill(os.getpid(), signal.SIGINT), 0.5)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work(endless)
    timer.join()
    assert time.monotonic() - begin < 20
    endless.reset()  # the session is free, and no cancel is left behind
    endless.run({"ids": PROMPT})


def test_any_order_of_ends(chat_path):
    """Engine, model, session, grammar and answer may go in any order."""
    for order in itertools.permutations(range(5)):
        engine = runnel.Engine(1)
        model = runnel.Model(chat_path, engine=engine)
        session = runnel.Session(model, context=64)
        grammar = runnel.Grammar(model, "root ::= [a-z ]*")
        answer = session.generate("Hello", grammar=grammar)
        next(answer)
        objects = [engine, model, session, grammar, answer]
        del engine, model, session, grammar, answer
        for i in order:
            objects[i] = None
            if objects[4] is not None:
                next(objects[4], None)
    gc.collect()


def test_closed_in_any_order(chat_path):
    for order in itertools.permutations(range(3)):
        engine = runnel.Engine(1)
        model = runnel.Model(chat_path, engine=engine)
        objects = [engine, model, runnel.Session(model, context=64)]
        for i in order:
            objects[i].close()
            objects[i].close()


def test_closed_during_calls(mamba_path):
    """A model that one thread closes stays for the calls of others that run."""
    for _ in range(50):
        model = runnel.Model(mamba_path)
        threads = [
            threading.Thread(
                target=lambda: [refused_or_done(model.verify), refused_or_done(lambda: runnel.Session(model))]
            )
            for _ in range(3)
        ]
        for t in threads:
            t.start()
        model.close()
        for t in threads:
            t.join()


def refused_or_done(call):
    try:
        call()
    except runnel.InvalidArgument as e:
        assert "is closed" in str(e)


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_no_growth(chat_path):
    """10,000 times open and close."""

    def once(i):
        with runnel.Model(chat_path) as model, runnel.Session(model, context=64) as session:
            if i % 50 == 0:
                next(session.generate("Hello"))

    for i in range(500):
        once(i)
    before, threads = resident(), threading.active_count()
    for i in range(10000):
        once(i)
    assert resident() - before < 4 << 20 and threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) < 100


def test_forked_process(chat_path):
    """A fork has no threads of its parent: its objects refuse, and new ones work."""
    code = f"""
import os, runnel
model = runnel.Model({chat_path!r})
session = runnel.Session(model)
answer = session.generate("Hello", max_tokens=9)
next(answer)
if os.fork() == 0:
    try:
        session.reset()
    except runnel.InvalidArgument as e:
        assert "forked" in str(e)
        del answer, session, model
        print(next(runnel.Session(runnel.Model({chat_path!r})).generate("Hello")), flush=True)
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert len(answer.tokens) < 9 and list(answer) and len(answer.tokens) == 9
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr


def test_end_of_the_interpreter(chat_path):
    """Nothing hangs or complains when answers are under way at the end."""
    code = f"""
import runnel
runnel.set_log(print)
session = runnel.Session(runnel.Model({chat_path!r}))
answer = session.generate("Hello")
print(next(answer))
other = runnel.Session(session.model).generate("Hello")
next(other)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr
