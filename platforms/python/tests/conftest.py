"""Models that the tests share: those of tests/goldens, made by the package's own converter."""

import os
import signal
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.join(HERE, "..", "..", "..")
sys.path.insert(0, os.path.join(REPOSITORY, "tests", "e2e"))

import runnel  # noqa: E402
import support  # noqa: E402


# A shell that starts the tests in the background leaves the signal ignored, and Python then takes no note of it.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Models(support.Case):
    """tests/e2e's way to convert a golden once."""


@pytest.fixture(scope="session")
def models():
    Models.setUpClass()
    yield Models
    Models.tearDownClass()


@pytest.fixture(scope="session")
def chat_path(models):
    """A small model with a vocabulary, a chat format and a context of 8192."""
    return models.chat_model("chat", max_position_embeddings=8192)


@pytest.fixture(scope="session")
def chat_model(chat_path):
    return runnel.Model(chat_path)


@pytest.fixture(scope="session")
def mamba_path(models):
    """Recurrent states: a stream without end."""
    return models.model("tiny_mamba")


@pytest.fixture
def session(chat_model):
    with runnel.Session(chat_model, context=512) as s:
        yield s


def cli(program, *arguments, **options):
    return support.run(program, *arguments, **options).stdout
