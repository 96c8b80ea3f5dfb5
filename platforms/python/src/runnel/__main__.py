"""python -m runnel COMMAND ...: the commands of `runnel`, and `convert` for those of runnel-convert."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from .programs import path_of


def main() -> NoReturn:
    arguments = sys.argv[1:]
    if arguments[:1] == ["convert"]:
        _become("runnel-convert", arguments[1:])
    _become("runnel", arguments)


def convert() -> NoReturn:
    _become("runnel-convert", sys.argv[1:])


def _become(program: str, arguments: list[str]) -> NoReturn:
    os.execv(path_of(program), [program, *arguments])


if __name__ == "__main__":
    main()
