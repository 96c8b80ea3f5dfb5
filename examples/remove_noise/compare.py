"""Mixes speech with noise, takes the noise out again and measures both:

    python3 examples/remove_noise/compare.py speech.wav ... [--sounds FOLDER] [--picture spectra.png]

Prints how far the network's gains are from onnxruntime's, then for each loudness of two kinds of noise the ratio of
speech and noise before and after and how much quieter the pauses are, then the time that a second of sound takes.
FOLDER gets the mixtures and what becomes of them as WAV files. Ends with 1 where a gain differs by more than 1e-4.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
import onnxruntime
from remove_noise import HOP, RATE, cleaned, network, open_model, power_of, read_wav, spectra_of, write_wav

import runnel


def noise_of(kind, count):
    """hiss: all frequencies alike; fan: those below 300 Hz 20 dB louder, and a hum of 100 Hz."""
    noise = np.random.default_rng(27).standard_normal(count)
    if kind == "fan":
        spectrum = np.fft.rfft(noise)
        low = np.fft.rfftfreq(count, 1 / RATE) < 300
        noise = np.fft.irfft(np.where(low, spectrum, spectrum / 10), count)
        noise += noise.std() * np.sin(2 * np.pi * 100 * np.arange(count) / RATE)
    return noise


def mixed(speech, kind, decibels):
    noise = noise_of(kind, len(speech))
    return speech + noise * np.sqrt((speech**2).mean() / (noise**2).mean() / 10 ** (decibels / 10))


def ratio(speech, sound):
    """Speech against the rest in decibels, whatever the loudness (SI-SDR)."""
    target = (sound @ speech) / (speech @ speech) * speech
    return 10 * np.log10((target**2).sum() / ((sound - target) ** 2).sum())


def quieter(speech, noisy, clean):
    """By how many decibels the noise falls where nobody speaks: frames 40 dB below the loudest."""
    level = [(np.abs(spectra_of(s[: len(s) // HOP * HOP])) ** 2).sum(axis=1) for s in (speech, noisy, clean)]
    pause = level[0] < level[0].max() / 1e4
    return 10 * np.log10(level[1][pause].mean() / level[2][pause].mean())


def largest_difference(model, sound):
    """Gains of a stream in blocks of 10 ms and of onnxruntime on the whole recording."""
    power = power_of(spectra_of(sound[: len(sound) // HOP * HOP]))
    (wanted,) = onnxruntime.InferenceSession(network(), providers=["CPUExecutionProvider"]).run(
        None, {"input": power[None]}
    )
    session = runnel.Session(model)
    got = np.concatenate([session.run({"power": row[None]})["gain"] for row in power])
    return np.abs(got - wanted[0]).max()


def write_picture(path, sounds):
    """Spectra over time, one sound under the other: 60 dB from black to white."""
    from PIL import Image

    rows = []
    for sound in sounds:
        level = 20 * np.log10(np.abs(spectra_of(sound[: len(sound) // HOP * HOP])) + 1e-9).T[::-1]
        rows += [
            np.uint8(np.clip((level - level.max() + 60) / 60, 0, 1) * 255),
            np.full((4, level.shape[1]), 255, "u1"),
        ]
    Image.fromarray(np.concatenate(rows[:-1])[:, :600] // 16 * 17).quantize(16).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", nargs="+")
    parser.add_argument("--model", default="build/examples/nsnet2.rnl")
    parser.add_argument("--sounds", type=pathlib.Path)
    parser.add_argument("--picture")
    options = parser.parse_args()
    model = open_model(options.model)
    speech = np.concatenate([read_wav(path) for path in options.speech])
    print(f"{len(speech) / RATE:.1f} s of speech")
    difference = largest_difference(model, mixed(speech, "fan", 5))
    print(f"largest difference of a gain: {difference:.1e}")
    seconds = 0
    for kind in ("hiss", "fan"):
        for decibels in (0, 5, 10):
            noisy = mixed(speech, kind, decibels)
            begun = time.perf_counter()
            clean = cleaned(model, noisy)
            seconds += time.perf_counter() - begun
            before, after = ratio(speech, noisy), ratio(speech, clean)
            pauses = quieter(speech, noisy, clean)
            print(f"{kind}: {before:.1f} dB -> {after:.1f} dB; {pauses:.0f} dB quieter in pauses", flush=True)
            if options.sounds:
                options.sounds.mkdir(parents=True, exist_ok=True)
                write_wav(options.sounds / f"{kind}-{decibels}-before.wav", noisy)
                write_wav(options.sounds / f"{kind}-{decibels}-after.wav", clean)
            if options.picture and (kind, decibels) == ("fan", 5):
                write_picture(options.picture, [speech, noisy, clean])
    print(f"speech alone -> {ratio(speech, cleaned(model, speech)):.1f} dB")
    print(f"real-time factor: {seconds / 6 / (len(speech) / RATE):.4f}")
    plan = model.plan(chunk=1, rollback_window=1)
    print(f"memory beside the file: {plan.anonymous} bytes, {plan.state} of them the state")
    return int(not difference <= 1e-4)


if __name__ == "__main__":
    sys.exit(main())
