"""The package as a whole: it covers runnel.h, its types hold, its README and examples run."""

import glob
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from conftest import HERE, REPOSITORY, cli

import runnel
from runnel import _native

PYTHON = os.path.join(HERE, "..")
# Functions of runnel.h that the binding does without.
LEFT_OUT = {
    "rnl_session_run_blocks": "rnl_session_run_named_blocks with no names is the same",
    "rnl_session_generate_parts": "features in the place of ids come with models that see or hear, none of which the library runs whole yet",
}


def sources(pattern):
    text = ""
    for path in sorted(glob.glob(os.path.join(PYTHON, pattern))):
        with open(path) as f:
            text += f.read()
    return text


def test_every_function_is_bound():
    with open(os.path.join(REPOSITORY, "runtime", "include", "runnel", "runnel.h")) as f:
        functions = set(re.findall(r"^RNL_API [^(]*?\b(rnl_\w+)\(", f.read(), re.M))
    assert len(functions) > 40
    used = set(re.findall(r"\brnl_\w+", sources("native/*")))
    assert functions - used == set(LEFT_OUT)
    assert not set(LEFT_OUT) & used


def test_every_bound_function_is_used():
    """What the native module gives is reached by the package's own code."""
    code = sources("src/runnel/*.py")
    names = {
        n
        for c in (_native.Engine, _native.Model, _native.Session, _native.Answer, _native.Grammar, _native)
        for n in vars(c)
        if not n.startswith("_")
    }
    assert len(names) > 40
    assert [
        n for n in sorted(names) if not re.search(rf"_native\b.*\.{n}\b|\bnative\.{n}\b|_native\.{n}\b", code)
    ] == []


def test_only_public_headers():
    includes = set(re.findall(r'#include "([^"]+)"', sources("native/*")))
    assert includes == {"native.h", "structs.inc", "runnel/runnel.h", "runnel/json_schema.hpp"}


def test_programs(chat_path):
    def module(*arguments):
        return subprocess.run([sys.executable, "-m", "runnel", *arguments], capture_output=True, text=True, timeout=120)

    assert module("--version").stdout == cli("runnel", "--version").decode()
    assert module("convert", "--version").stdout == cli("runnel-convert", "--version").decode()
    assert (
        module("run", chat_path, "-p", "Hello", "-n", "9").stdout
        == cli("runnel", "run", chat_path, "-p", "Hello", "-n", "9").decode()
    )
    wrong = module("inspect", chat_path + "x")
    assert wrong.returncode == 1 and "runnel: " in wrong.stderr
    assert module("frobnicate").returncode == 2
    scripts = os.path.dirname(sys.executable)
    for script in ("runnel", "runnel-convert"):
        assert subprocess.run([os.path.join(scripts, script), "--version"], capture_output=True).returncode == 0


def test_types_come_with_it():
    folder = os.path.dirname(runnel.__file__)
    assert os.path.exists(os.path.join(folder, "py.typed"))
    with open(os.path.join(folder, "_native.pyi")) as f:
        stub = f.read()
    for name in ("class Session", "def run_blocks", "def generate", "class Answer"):
        assert name in stub


def run(code, folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code] if "\n" in code else [sys.executable, code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def readme(language):
    with open(os.path.join(PYTHON, "README.md")) as f:
        return re.findall(rf"```{language}\n(.*?)```", f.read(), re.S)


def test_readme(tmp_path, chat_path):
    """Its Python blocks, one after the other, and what it types in the shell, with a small model in the place of the
    reader's."""
    shutil.copy(chat_path, tmp_path / "model.rnl")
    shutil.copytree(os.path.join(REPOSITORY, "tests", "goldens", "tiny_llama"), tmp_path / "checkpoint")
    assert len(readme("python")) >= 6
    assert run("\n".join(readme("python")), tmp_path)
    commands = [block for block in readme("bash") if "python -m runnel" in block]
    assert len(commands) == 1
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    done = subprocess.run(
        ["bash", "-e", "-c", commands[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0 and "memory" in done.stdout, done.stdout + done.stderr


def test_notebook(tmp_path, chat_path):
    with open(os.path.join(PYTHON, "examples", "notebook.py")) as f:
        assert f.read().count("\n# %%") >= 5
    assert "tokens/s" in run(os.path.join(PYTHON, "examples", "notebook.py"), tmp_path, RUNNEL_MODEL=chat_path)


@pytest.mark.slow
def test_ray(tmp_path, chat_path):
    out = run_ray(tmp_path, "--model", chat_path, "--texts", "40")
    assert re.search(r"1 worker: .* texts/s", out) and re.search(r"2 workers: .* texts/s", out)


def run_ray(folder, *arguments):
    done = subprocess.run(
        [sys.executable, os.path.join(PYTHON, "examples", "ray_batch.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_plain_install(tmp_path, chat_path):
    """`pip install ./platforms/python` in a fresh environment, which compiles everything."""

    def call(*command):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3 * 3600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    call(sys.executable, "-m", "venv", "venv")
    begin = time.monotonic()
    call("venv/bin/pip", "install", "--disable-pip-version-check", os.path.abspath(PYTHON))
    print(f"pip install took {(time.monotonic() - begin) / 60:.1f} minutes")
    text = call(
        "venv/bin/python",
        "-c",
        f"import runnel; print(''.join(runnel.Session(runnel.Model({chat_path!r})).generate('Hello', max_tokens=9)))",
    )
    assert text == cli("runnel", "run", chat_path, "-p", "Hello", "-n", "9").decode()
    goldens = os.path.abspath(os.path.join(REPOSITORY, "tests", "goldens", "tiny_llama"))
    call("venv/bin/python", "-c", f"import runnel; runnel.convert({goldens!r}, 'm.rnl')")


@pytest.mark.slow
def test_types_hold(tmp_path):
    """The package and what its users write, by mypy in its strict mode."""
    (tmp_path / "readme.py").write_text("\n".join(readme("python")))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file",
            os.path.join(PYTHON, "pyproject.toml"),
            "--cache-dir",
            str(tmp_path / "cache"),
            "-p",
            "runnel",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--cache-dir",
            str(tmp_path / "cache"),
            str(tmp_path / "readme.py"),
            os.path.join(PYTHON, "examples", "notebook.py"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
