"""What the tests of the examples share."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

sys.dont_write_bytecode = True
REPOSITORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


@pytest.fixture
def repository():
    return REPOSITORY


@pytest.fixture
def fetched():
    """fetched("name==version"): that package alone is installed, or the test is skipped by its name."""

    def fetch(requirement):
        name, version = requirement.split("==")
        try:
            if importlib.metadata.version(name) == version:
                return
        except importlib.metadata.PackageNotFoundError:
            pass
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            requirement,
        ]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            pytest.skip(f"pip cannot fetch {requirement}")
        importlib.invalidate_caches()

    return fetch
