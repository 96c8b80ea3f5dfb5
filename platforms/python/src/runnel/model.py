"""Engines, models and grammars."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Sequence, Union

import numpy as np
import numpy.typing as npt

from . import _native
from ._abi import (
    Backend,
    DType,
    Memory,
    ModelInfo,
    NotFound,
    Pooling,
    Program,
    Role,
    SessionOptions,
    StateInfo,
    StateKind,
    Symbol,
    SymbolKind,
    Value,
)

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

# A conversation: (role, content) or {"role": ..., "content": ...} for each message, oldest first.
Message = Union[tuple[str, str], Mapping[str, str]]
Ids = Union[Sequence[int], npt.NDArray[np.integer[Any]]]


class Engine:
    """Threads that compute; models of one engine share them. 0: as many as the library finds best for the machine."""

    _default: Engine | None = None

    def __init__(self, threads: int = 0) -> None:
        self._native = _native.Engine(threads)

    @classmethod
    def default(cls) -> Engine:
        """The process's own engine, made when it is first asked for."""
        if cls._default is None:
            cls._default = cls()
        return cls._default

    @classmethod
    def _forget_default(cls) -> None:
        cls._default = None

    @property
    def threads(self) -> int:
        return self._native.threads()

    def close(self) -> None:
        """Models that use the engine keep it until they are gone too."""
        self._native.close()


# A forked process has none of its parent's threads: it makes an engine of its own.
os.register_at_fork(after_in_child=Engine._forget_default)


class Model:
    """An opened file, to be used from any thread and by any number of sessions. Opening maps it and reads its header
    only.

    copy: read the file into memory, so that it may change on disk. adapter: a file of `runnel-convert --adapter`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        engine: Engine | None = None,
        copy: bool = False,
        adapter: str | os.PathLike[str] | None = None,
    ) -> None:
        native = (engine or Engine.default())._native
        self._take(_native.Model(native, os.fspath(path), copy, None if adapter is None else os.fspath(adapter)))

    @classmethod
    def from_memory(cls, data: npt.NDArray[np.uint8], *, engine: Engine | None = None) -> Model:
        """The model in these bytes, which begin at a multiple of 64 and stay as they are while it is used."""
        model = cls.__new__(cls)
        model._take(_native.Model.open_memory((engine or Engine.default())._native, data))
        return model

    def _take(self, native: _native.Model) -> None:
        self._native = native
        self.info = ModelInfo(**native.info())
        self.programs = [Program(**p) for p in native.programs()]
        self.symbols = [Symbol(**{**s, "kind": SymbolKind(s["kind"])}) for s in native.symbols()]
        self.states = [
            StateInfo(**{**s, "kind": StateKind(s["kind"]), "dtype": DType(s["dtype"])}) for s in native.states()
        ]

    def close(self) -> None:
        """Sessions and grammars of the model keep it until they are gone too."""
        self._native.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def verify(self) -> None:
        """Reads the whole file and compares its checksums."""
        self._native.verify()

    def program(self, name: str | None = None) -> Program:
        """By default the first one."""
        for p in self.programs:
            if name is None or p.name == name:
                return p
        raise NotFound(f'the model has no program "{name}"; it has ' + ", ".join(p.name for p in self.programs))

    def inputs(self, program: str | None = None) -> list[Value]:
        return [_value(v) for v in self._native.inputs(self.program(program).name)]

    def outputs(self, program: str | None = None) -> list[Value]:
        return [_value(v) for v in self._native.outputs(self.program(program).name)]

    def plan(self, **options: Unpack[SessionOptions]) -> Memory:
        """The exact bytes that a session with these options will take; nothing is allocated for it."""
        return Memory(**self._native.plan(session_options(options)))

    def tokenize(self, text: str, *, special: bool = False, bos_eos: bool = True) -> npt.NDArray[np.int32]:
        """special: special tokens that are written in the text count as tokens. bos_eos False: without the model's
        own."""
        return np.array(self._native.tokenize(text, _flags(special, bos_eos)), np.int32)

    def detokenize(self, ids: Ids, *, special: bool = False) -> str:
        return self._native.detokenize(as_ids(ids), _flags(special, True))

    def chat_text(
        self,
        messages: str | Iterable[Message],
        *,
        variables: Mapping[str, str | bool] = {},
        closed: bool = False,
        now: int = 0,
    ) -> str:
        """The conversation as the model's chat template writes it; closed: without the opening of the model's next
        message."""
        return self._native.chat_text(as_messages(messages), dict(variables), closed, now)

    def chat_ids(
        self,
        messages: str | Iterable[Message],
        *,
        variables: Mapping[str, str | bool] = {},
        closed: bool = False,
        now: int = 0,
    ) -> npt.NDArray[np.int32]:
        return np.array(self._native.chat_ids(as_messages(messages), dict(variables), closed, now), np.int32)

    def chat_turn(self, user: str, *, system: str | None = None, first: bool = True) -> npt.NDArray[np.int32]:
        """One turn of a user, for templates that leave earlier turns as they are; see rnl_chat_turn."""
        return np.array(self._native.chat_turn(user, system, first), np.int32)


class Grammar:
    """What an answer must follow, in GBNF's notation (see rnl_grammar in runnel.h). Sessions of the model share it."""

    def __init__(self, model: Model, text: str) -> None:
        self._native = _native.Grammar(model._native, text)
        self.text = text
        self.notes: list[str] = []

    @classmethod
    def from_json_schema(cls, model: Model, schema: str | Mapping[str, Any] | bool) -> Grammar:
        """Answers are documents of the schema. notes: what of it the grammar does not enforce."""
        text, notes = _native.schema_grammar(schema if isinstance(schema, str) else json.dumps(schema))
        grammar = cls(model, text)
        grammar.notes = notes
        return grammar

    @classmethod
    def json(cls, model: Model) -> Grammar:
        """Answers are any JSON value."""
        return cls(model, _native.json_grammar())


def _value(given: dict[str, Any]) -> Value:
    return Value(**{**given, "dtype": DType(given["dtype"]), "role": Role(given["role"])})


def _flags(special: bool, bos_eos: bool) -> int:
    return (_native.TEXT_SPECIAL if special else 0) | (0 if bos_eos else _native.TEXT_NO_BOS_EOS)


def as_ids(ids: Ids) -> npt.NDArray[np.int32]:
    return np.ascontiguousarray(ids, np.int32)


def as_messages(messages: str | Iterable[Message]) -> list[tuple[str, str]]:
    """A text alone is the one message of a user."""
    if isinstance(messages, str):
        return [("user", messages)]
    return [(m["role"], m["content"]) if isinstance(m, Mapping) else (m[0], m[1]) for m in messages]


def session_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with members of enums in place of their names, such as kv="q8"."""
    kinds = {"kv": DType, "backend": Backend, "pooling": Pooling}
    return {
        name: kinds[name][value.upper()] if isinstance(value, str) and name in kinds else value
        for name, value in options.items()
    }
