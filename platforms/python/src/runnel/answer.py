"""Answers that are taken piece by piece."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Sequence

from . import _native
from ._abi import ChatResult, Generation, Sampling
from .model import Grammar, Model


class Options(Generation, Sampling, total=False):
    """Keyword arguments of Session.generate and Session.chat. Those of the C interface's structs (runnel.h), and: stop,
    texts that
    end the answer and are not delivered; bias, what is added to the logits of ids; grammar, which the answer follows (a
    Grammar
    or GBNF text); json_schema, likewise (a schema, or True for any JSON value); progress(done, total), called while the
    prompt is fed. Without a seed
    each answer with a temperature is drawn anew. logprobs_count, if only 0, asks for log-probabilities
    (Token.logprob)."""

    stop: Sequence[str]
    bias: Mapping[int, float]
    grammar: Grammar | str | None
    json_schema: Mapping[str, Any] | str | bool
    progress: Callable[[int, int], object] | None


@dataclass(frozen=True)
class Token:
    id: int
    text: str  # what became certain with it: whole characters, maybe none
    logprob: float | None = None  # in the model's own distribution
    best: tuple[tuple[int, float], ...] = ()  # the most probable ids with their log-probabilities, the best first


class Answer(Iterator[str]):
    """Pieces of text, each computed when it is asked for, so the session's stream holds what was taken and no more.

    The session belongs to the answer from its first piece until it has ended or is closed; other calls on the session
    raise Busy
    meanwhile, but for position, stats and cancel. `break` and then close(), or a with statement, end an answer midway;
    the next call
    goes on from there. An answer that nothing refers to any more closes itself.

    text: all pieces so far. tokens: the tokens so far. A model without a tokenizer gives an empty piece for each
    token."""

    def __init__(self, native: _native.Answer, has_text: bool) -> None:
        self._native = native
        self._has_text = has_text
        self.tokens: list[Token] = []
        self._pieces: list[str] = []

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> str:
        while (taken := self._native.next()) is not None:
            id, text, logprobs = taken
            if id is not None:
                self.tokens.append(Token(id, text, *((logprobs[0], tuple(logprobs[1])) if logprobs else ())))
            if text or not self._has_text:
                self._pieces.append(text)
                return str(text)
        raise StopIteration

    def close(self) -> None:
        """Ends the answer. What was taken stays in the stream."""
        self._native.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def ids(self) -> list[int]:
        return [t.id for t in self.tokens]

    @property
    def is_done(self) -> bool:
        return self._native.is_done()

    @property
    def result(self) -> ChatResult:
        """What a chat kept, dropped and fed of the conversation, when the answer has ended."""
        return ChatResult(**self._native.result())


def answer_options(
    model: Model, given: Mapping[str, Any]
) -> tuple[dict[str, Any], Callable[[int, int], object] | None]:
    """What the native call takes, and the progress function."""
    options = {name: value for name, value in given.items() if value is not None}
    progress = options.pop("progress", None)
    schema = options.pop("json_schema", None)
    grammar = options.pop("grammar", None)
    if schema is not None and grammar is not None:
        raise TypeError("an answer follows a grammar or a schema, not both")
    if schema is not None:
        grammar = Grammar.json(model) if schema is True else Grammar.from_json_schema(model, schema)
    elif isinstance(grammar, str):
        grammar = Grammar(model, grammar)
    if grammar is not None:
        options["grammar"] = grammar._native
    if options.get("temperature") and "seed" not in options:
        options["seed"] = secrets.randbits(64)
    if "stop" in options:
        options["stop"] = [options["stop"]] if isinstance(options["stop"], str) else list(options["stop"])
    if "bias" in options:
        options["bias"] = dict(options["bias"])
    return options, progress
