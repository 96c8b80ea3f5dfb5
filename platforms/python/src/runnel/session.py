"""Sessions: one stream's state and working memory."""

from __future__ import annotations

import contextlib
import os
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np
import numpy.typing as npt

from . import _native
from ._abi import (
    BackendInfo,
    DType,
    Embedding,
    InvalidArgument,
    Memory,
    Role,
    SessionOptions,
    Stats,
    Unsupported,
    Value,
)
from .answer import Answer, Options, answer_options
from .model import Ids, Message, Model, as_ids, as_messages, session_options

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:
        from typing_extensions import Unpack

Array = npt.NDArray[Any]
Progress = Callable[[int, int], object]
# What a call takes by name: arrays (NumPy's and others that speak DLPack, such as PyTorch's on the CPU), numbers and
# lists.
Inputs = Mapping[str, Any]
_NUMPY = {
    dtype: np.dtype({"F": "float", "I": "int", "U": "uint"}[dtype.name[0]] + dtype.name[1:])
    for dtype in DType
    if dtype.name[0] in "FIU"
}


@dataclass(frozen=True)
class State:
    """What a session remembers, as a value: to be compared, pickled, sent elsewhere, restored as often as one likes."""

    data: bytes
    position: int

    @property
    def nbytes(self) -> int:
        return len(self.data)


class Saved(NamedTuple):
    options: SessionOptions  # of the session that saved it, as far as the state depends on them
    position: int


class TraceEvent(NamedTuple):
    op: str
    kernel: str
    begin_ns: int
    end_ns: int


def saved(path: str | os.PathLike[str]) -> Saved:
    """Of a file that Session.save wrote: Session(model, **saved(path).options) fits it."""
    options, position = _native.saved_options(os.fspath(path))
    kept: Any = {name: value for name, value in options.items() if value}
    return Saved(kept, position)


class Session:
    """options: those of rnl_session_options in runnel.h, by name (context, chunk, rows, rollback_window, kv="q8",
    budget_bytes,
    backend="vulkan", snapshot_every). state_memory, arena_memory: arrays of bytes, aligned to 256, that take the place
    of memory
    of the library's own; Model.plan tells how large.

    One call at a time uses a session: a call that finds it in use, by another thread or by an answer under way, raises
    Busy.
    position, stats and cancel may be called at any time from any thread. Ctrl-C ends a call between two of its
    passes."""

    def __init__(
        self,
        model: Model,
        *,
        state_memory: Array | None = None,
        arena_memory: Array | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        self._take(model, _native.Session(model._native, session_options(options), state_memory, arena_memory))

    def _take(self, model: Model, native: _native.Session) -> None:
        self.model = model
        self._native = native
        self._answers: weakref.WeakSet[Answer] = weakref.WeakSet()

    def close(self) -> None:
        """Gives the memory back; an answer under way ends."""
        for answer in list(self._answers):
            answer.close()
        self._native.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What it takes and where it stands.
    @property
    def memory(self) -> Memory:
        return Memory(**self._native.memory())

    @property
    def backend(self) -> BackendInfo:
        return BackendInfo(**self._native.backend())

    @property
    def position(self) -> int:
        """Tokens in the stream."""
        return self._native.position()

    @property
    def stats(self) -> Stats:
        return Stats(**self._native.stats())

    # Tensors.
    def run(
        self,
        inputs: Inputs,
        *,
        program: str | None = None,
        outputs: Sequence[str] | None = None,
        all_rows: bool = False,
        out: Mapping[str, Array] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Array]:
        """Runs a program, by default the first one, on a call of any length; see rnl_session_run.

        Contiguous arrays of a type that the program takes are read where they are, and results are written into the
        arrays that come
        back. outputs: which ones are wanted, by default all that are not optional. all_rows: those of every token, not
        of the last
        alone. out: arrays to write into, by name. progress(done, total) is called between passes."""
        name, given = self._inputs(inputs, program)
        if all_rows:
            self._want_all_rows(name, given)
        wanted = list(outputs) if outputs is not None else [v.name for v in self.model.outputs(name) if not v.optional]
        wanted += [n for n in out or {} if n not in wanted]
        shapes = self._native.output_shapes(name, given, wanted, False)
        arrays: dict[str, Array] = {}
        for n, (dtype, shape, size) in zip(wanted, shapes):
            arrays[n] = _checked(n, out[n], dtype, size) if out and n in out else np.empty(shape, _numpy(n, dtype))
        done = self._native.run(name, given, arrays, progress)
        # An output of no rows is not delivered and has no type.
        return {n: _cut(array, shape) if dtype else array for (n, array), (dtype, shape) in zip(arrays.items(), done)}

    def run_blocks(
        self,
        inputs: Inputs,
        function: Callable[[str, Array, int], object],
        *,
        program: str | None = None,
        outputs: Sequence[str] | None = None,
        all_rows: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """The same, with outputs handed over in blocks of rows: function(name, array, first_row). Memory does not grow
        with the call.

        array lies in the library's memory until function returns: copy what is to be kept. A block that is still used
        then ends
        the call with InvalidArgument, and what function raises ends it too; the pass at hand is taken back."""
        name, given = self._inputs(inputs, program)

        def deliver(output: str, dtype: int, shape: tuple[int, ...], memory: memoryview, first_row: int) -> None:
            _lend(function, output, _numpy(output, dtype), shape, memory, first_row)

        self._native.run_blocks(name, given, list(outputs or ()), all_rows, deliver, progress)

    def output_shapes(
        self,
        inputs: Inputs,
        *,
        program: str | None = None,
        outputs: Sequence[str] | None = None,
        all_rows: bool = False,
    ) -> dict[str, tuple[DType, tuple[int, ...]]]:
        """What a call with these inputs would give; nothing runs."""
        name, given = self._inputs(inputs, program)
        wanted = list(outputs) if outputs is not None else [v.name for v in self.model.outputs(name) if not v.optional]
        shapes = self._native.output_shapes(name, given, wanted, all_rows)
        return {n: (DType(dtype), shape) for n, (dtype, shape, _) in zip(wanted, shapes)}

    def set_top_logits(self, k: int) -> None:
        """Of each row of logits only the k highest are wanted, 0: all; see rnl_session_set_top_logits."""
        self._native.set_top_logits(k)

    def embed(
        self, text: str | Ids, *, progress: Progress | None = None, **options: Unpack[Embedding]
    ) -> npt.NDArray[np.float32]:
        """The embedding of a text or of its ids; empties the stream first. pooling: "last", "mean", "first"; normalise:
        1, -1."""
        ids = self.model.tokenize(text) if isinstance(text, str) else as_ids(text)
        if not self.model.info.embedding:
            raise Unsupported("the model gives no embeddings")
        vector = np.empty(self.model.info.embedding, np.float32)
        self._native.embed(ids, session_options(options), vector, progress)
        return vector

    # Text.
    def generate(self, prompt: str | Ids | None = None, **options: Unpack[Options]) -> Answer:
        """Feeds a prompt and goes on: an iterator of pieces of text. A text gets the model's bos at the stream's start
        alone. None: goes on
        with the answer that was cut off."""
        ids = None
        if isinstance(prompt, str):
            ids = self.model.tokenize(prompt, bos_eos=self.position == 0)
        elif prompt is not None:
            ids = as_ids(prompt)
        given, progress = answer_options(self.model, options)
        return self._answer(_native.generate(self._native, ids, given, progress))

    def chat(
        self,
        messages: str | Iterable[Message],
        *,
        variables: Mapping[str, str | bool] = {},
        now: int = 0,
        **options: Unpack[Options],
    ) -> Answer:
        """Answers a conversation, the whole of it: what the stream holds of it already is not fed again
        (rnl_session_chat)."""
        given, progress = answer_options(self.model, options)
        return self._answer(_native.chat(self._native, as_messages(messages), dict(variables), now, given, progress))

    def _answer(self, native: _native.Answer) -> Answer:
        answer = Answer(native, self.model.info.vocabulary > 0)
        self._answers.add(answer)
        return answer

    # States.
    def reset(self) -> None:
        """Empties the stream."""
        self._native.reset()

    def rollback(self, n: int) -> None:
        """Takes back the last n tokens, n <= rollback_window."""
        self._native.rollback(n)

    def snapshot(self) -> State:
        return State(self._native.snapshot(), self.position)

    def save(self, path: str | os.PathLike[str]) -> None:
        self._native.save(os.fspath(path))

    def restore(self, state: State | str | os.PathLike[str]) -> None:
        """A snapshot, or the path of a saved one. Another model's is refused with StateMismatch."""
        if isinstance(state, State):
            self._native.restore_snapshot(state.data)
        else:
            self._native.restore(os.fspath(state))

    def fork(self) -> Session:
        """A second session with the same contents and options."""
        copy = Session.__new__(Session)
        copy._take(self.model, self._native.fork())
        return copy

    def trim(self) -> None:
        """Gives the arena's pages back to the system until the next call; the stream stays."""
        self._native.trim()

    def recover(self) -> None:
        """Leaves the device for the CPU, where the stream goes on; after DeviceLost."""
        self._native.recover()

    def cancel(self) -> None:
        """From any thread: the running call ends with Cancelled. Without one it ends the next call, unless clear_cancel
        comes before."""
        self._native.cancel()

    def clear_cancel(self) -> None:
        self._native.clear_cancel()

    @contextlib.contextmanager
    def trace(self) -> Iterator[list[TraceEvent]]:
        """Notes every operator that runs in the with statement; the list is filled at its end."""
        events: list[TraceEvent] = []
        self._native.set_trace(True)
        try:
            yield events
        finally:
            self._native.set_trace(False)
            events += [TraceEvent(*e) for e in self._native.take_trace()]

    def _inputs(self, inputs: Inputs, program: str | None) -> tuple[str, dict[str, Any]]:
        """The program's name, and arrays in place of numbers and lists."""
        name = self.model.program(program).name
        declared = {v.name: v for v in self.model.inputs(name)}
        return name, {n: _array(n, value, declared.get(n)) for n, value in inputs.items()}

    def _want_all_rows(self, program: str, given: dict[str, Any]) -> None:
        stream = self.model.program(program).stream
        declared = self.model.inputs(program)
        rows = [v.name for v in declared if v.role == Role.ROWS]
        tokens = [given[v.name].shape[0] for v in declared if v.name in given and v.rank and v.sizes[0] == stream]
        if rows and tokens and rows[0] not in given:
            given[rows[0]] = np.arange(tokens[0], dtype=np.int32)


def _numpy(name: str, dtype: int) -> np.dtype[Any]:
    if DType(dtype) not in _NUMPY:
        raise Unsupported(f"{name}: NumPy has no type for {DType(dtype).name}")
    return _NUMPY[DType(dtype)]


def _array(name: str, value: Any, declared: Value | None) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value) if value.ndim else value
    if hasattr(value, "__dlpack__"):
        return value
    return np.asarray(value, _NUMPY.get(declared.dtype) if declared else None)


def _checked(name: str, array: Array, dtype: int, size: int) -> Array:
    if (
        array.dtype != _numpy(name, dtype)
        or array.nbytes < size
        or not array.flags.c_contiguous
        or not array.flags.writeable
    ):
        raise InvalidArgument(f"{name}: {size} bytes of contiguous, writable {_numpy(name, dtype)} are needed")
    return array


def _cut(array: Array, shape: tuple[int, ...]) -> Array:
    """The front of an array that was made as large as a result may be."""
    if array.shape == shape:
        return array
    return array.reshape(-1)[: int(np.prod(shape, dtype=np.int64))].reshape(shape)


def _lend(
    function: Callable[[str, Array, int], object],
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    memory: memoryview,
    first_row: int,
) -> None:
    flat: Any = np.frombuffer(memory, dtype) if memory.nbytes else np.empty(0, dtype)
    user = weakref.ref(flat)  # every view of the block refers to it
    function(name, flat.reshape(shape), first_row)
    del flat
    if user() is not None:
        raise InvalidArgument(f"{name}: a block is still used behind the function that it was lent to: keep a copy")
