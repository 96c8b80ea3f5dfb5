"""Checkpoints to models, by the program runnel-convert."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Tuple, Union

from ._abi import Error, InvalidArgument, Status
from .programs import path_of

_One = Union[str, int, float, bool, None, "os.PathLike[str]"]
Argument = Union[_One, List[_One], Tuple[_One, ...]]
_PROGRESS = "progress "


class ConversionFailed(Error):
    """What runnel-convert says of it; no file was written or changed."""

    status = Status.UNSUPPORTED


@dataclass(frozen=True)
class Conversion:
    output: Path | None
    summary: str  # what was written; of a dry run what would be
    notes: tuple[str, ...]  # what one should know though it succeeded


def convert(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[int, int], object] | None = None,
    **options: Argument,
) -> Conversion:
    """Turns a checkpoint into a model: a .gguf file, a folder with config.json and safetensors, or graph.json with
    weights_file.

    options: those of `runnel-convert --help` with _ for -, such as weights="q4", context=8192, lora=folder,
    dry_run=True; a list is the option given several times. progress(done, total) is called with bytes while the file is
    written; what it raises, and Ctrl-C, end the conversion and leave nothing behind."""
    arguments = [path_of("runnel-convert"), os.fspath(input), "--progress-lines"]
    if output is not None:
        arguments += ["--output", os.fspath(output)]
    for name, given in options.items():
        flag = "--" + name.replace("_", "-")
        for value in given if isinstance(given, (list, tuple)) else [given]:
            if value is True:
                arguments.append(flag)
            elif value is not None and value is not False:
                arguments.append(f"{flag}={os.fspath(value) if isinstance(value, os.PathLike) else value}")
    # Not a pipe, which would be full before the program's errors are read to their end.
    with tempfile.TemporaryFile("w+", errors="replace") as stdout:
        with subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as child:
            try:
                said = _listen(child, progress)
                code = child.wait()
            except BaseException:
                child.terminate()
                raise
        stdout.seek(0)
        summary = stdout.read().strip()
    if code == 0:
        notes = tuple(line.removeprefix("note: ") for line in said)
        return Conversion(None if output is None else Path(output), summary, notes)
    message = "\n".join(said).strip().removeprefix("runnel-convert: ")
    raise (InvalidArgument if code == 2 else ConversionFailed)(message or f"runnel-convert ended with code {code}")


def _listen(child: subprocess.Popen[str], progress: Callable[[int, int], object] | None) -> list[str]:
    """What the program says on standard error, but for its progress."""
    said = []
    assert child.stderr
    for line in child.stderr:
        if line.startswith(_PROGRESS):
            done, total = map(int, line[len(_PROGRESS) :].split())
            if progress:
                progress(done, total)
        else:
            said.append(line.rstrip("\n"))
    return said
