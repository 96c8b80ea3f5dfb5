"""The programs that come with the package: runnel and runnel-convert."""

from __future__ import annotations

import os


def path_of(program: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", program)
