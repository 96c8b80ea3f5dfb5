"""One side of graphs.py: python graphs_worker.py runnel|onnxruntime MODEL THREADS INPUTS.npz RESULTS.npz

Prints a line of JSON when it is ready and writes the results of a call; then for each line `SECONDS` of its input the
milliseconds of the calls made in that time, for `memory` the peak above what it began with, in kB, and for `load` the
milliseconds of opening the file once more."""

import json
import sys
import time

import numpy as np

side, model, threads, given, results = sys.argv[1:]
inputs = dict(np.load(given))


def status(key):
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key))


before = status("VmRSS")
if side == "runnel":
    import runnel

    engine = runnel.Engine(int(threads))

    def load():
        opened = runnel.Model(model, engine=engine)
        session = runnel.Session(opened, rollback_window=-1)
        wanted = {v.name for v in opened.inputs()}
        call = {name: a for name, a in inputs.items() if name in wanted}

        def run():
            session.reset()
            return session.run(call)

        return run
else:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.log_severity_level = 3

    def load():
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [v.name for v in session.get_outputs()]
        return lambda: dict(zip(names, session.run(names, inputs)))


def milliseconds(function):
    begin = time.perf_counter()
    function()
    return (time.perf_counter() - begin) * 1e3


run = load()
np.savez(results, **run())
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    if line.strip() == "memory":
        print(status("VmHWM") - before, flush=True)
        continue
    if line.strip() == "load":
        print(milliseconds(load), flush=True)
        continue
    run()
    times, end = [], time.perf_counter() + float(line)
    while not times or time.perf_counter() < end:
        times.append(milliseconds(run))
    print(json.dumps(times), flush=True)
