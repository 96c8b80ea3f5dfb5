"""Models of one's own: a graph of Runnel's operators and its weights, written as graph.json and weights.safetensors.

    g = Graph("two layers")
    x = g.input("x", ["T", 16])
    h = g.unary(g.linear(x, w1, b1), kind="silu")
    g.output(g.linear(h, w2), "y")
    g.convert("two_layers.rnl")

Every operator of the runtime is a method (help(Graph.attention) has its contract: formula, inputs, outputs, states). Sizes are
integers or expressions over symbols, such as "T", "2*T", "ceildiv(T,16)". T is the stream: a call of any length, cut into passes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import tempfile
from typing import Any, Callable, Iterator, Mapping, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._operators import ARITY, Operators, Role
from .convert import Argument, Conversion, convert

Array = npt.NDArray[Any]
Size = Union[int, str]
Shape = Sequence[Size]

OPTIONS = ("context", "chunk", "rollback", "rows")  # symbols that a session's options bind
STREAM, ROWS = "T", "R"
_SAFETENSORS = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


class Value:
    """What an operator makes, or an input. dtype may be set where an operator's outputs differ: f32 and i32."""

    def __init__(self, name: str, shape: Shape, dtype: str) -> None:
        self.name, self.shape, self.dtype = name, list(shape), dtype


class State:
    """What a session keeps between calls. An operator reads it as an input and replaces it as one of `more`."""

    def __init__(self, name: str) -> None:
        self.name = name


Operand = Union[Value, State, Array, None]


class _Program:
    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[tuple[Value, dict[str, Any]]] = []
        self.values: list[tuple[Value, dict[str, Any]]] = []
        self.ops: list[dict[str, Any]] = []
        self.outputs: list[Value] = []
        self.optional: list[Value] = []


class Graph(Operators):
    """fields: further fields of the schema's table Model (runtime/format/model.fbs), such as embedding={"pooling":
    "mean"}."""

    def __init__(self, name: str, *, context: int = 4096, **fields: Any) -> None:
        self.name, self.context, self.fields = name, context, fields
        self._programs = [_Program("main")]
        self._now = self._programs[0]
        self._states: list[dict[str, Any]] = []
        self._symbols: list[dict[str, str]] = []
        self._tensors: dict[str, Array] = {}
        self._names: dict[
            int, tuple[str, Any]
        ] = {}  # of arrays that were given as operands, which are kept so that ids stay theirs
        self._count = 0

    # Programs, sizes, inputs, outputs.
    @contextlib.contextmanager
    def program(self, name: str) -> Iterator[None]:
        """What is added in the with statement belongs to another program of the file."""
        before, self._now = self._now, _Program(name)
        self._programs.append(self._now)
        try:
            yield
        finally:
            self._now = before

    def axis(self, name: str, bound: Size) -> str:
        """A size that each call's inputs bind, at most to the bound. T (the stream) and R (the wanted rows) are there
        already."""
        self._symbols.append({"name": name, "kind": "axis", "bound": str(bound)})
        return name

    def result(self, name: str, bound: Size) -> str:
        """A size that an operator binds: give the value that holds it binds=name with bind()."""
        self._symbols.append({"name": name, "kind": "result", "bound": str(bound)})
        return name

    def bind(self, value: Value, symbol: str) -> Value:
        next(fields for v, fields in self._now.values if v is value)["binds"] = symbol
        return value

    def input(
        self, name: str, shape: Shape, dtype: str = "f32", *, role: Role = "none", optional: bool = False
    ) -> Value:
        value = Value(name, shape, dtype)
        fields = ({} if role == "none" else {"role": role}) | ({"optional": True} if optional else {})
        self._now.inputs.append((value, fields))
        return value

    def tokens(self, name: str = "ids") -> Value:
        """The stream's ids."""
        return self.input(name, [STREAM], "i32", role="tokens")

    def positions(self, name: str = "positions") -> Value:
        """Positions of a call's tokens from the stream's start; the session fills them in."""
        return self.input(name, [STREAM], "i32", role="positions")

    def wanted_rows(self, name: str = "rows") -> Value:
        """The tokens whose outputs are wanted, by default the last one: gather_rows(x, g.wanted_rows()) stands before
        the output matrix."""
        return self.input(name, [ROWS], "i32", role="rows")

    def output(self, value: Value, name: str | None = None, *, optional: bool = False) -> Value:
        """optional: one that a call gets when it names it."""
        if name:
            value.name = name
        (self._now.optional if optional else self._now.outputs).append(value)
        return value

    # Constants and states.
    def tensor(self, name: str, array: npt.ArrayLike) -> Array:
        """A constant with a name of its own; arrays that are given to operators directly get one."""
        kept = np.asarray(array)
        self._names[id(kept)] = (name, kept)
        self._tensors[name] = kept
        return kept

    def state(self, name: str, shape: Shape, *, dtype: str = "f32", initial: npt.ArrayLike | None = None) -> State:
        """A recurrent state: replaced as a whole by the operator that has it both as an input and in `more`. It starts
        as zeros or as `initial`."""
        fields: dict[str, Any] = {"name": name, "kind": "recurrent", "dtype": dtype, "shape": _texts(shape)}
        if initial is not None:
            self._tensors[name + ".initial"] = np.asarray(initial, np.float32)
            fields["initial"] = name + ".initial"
        self._states.append(fields)
        return State(name)

    def cache(
        self, name: str, heads: int, key: int, value: int, *, window: int = 0, stride: int = 1, dtype: str = "f32"
    ) -> tuple[State, State]:
        """Keys and values of attention: its inputs k_state and v_state. With a window the newest positions alone."""
        slots = f"ceildiv(ceildiv(context,{stride}),64)*64"
        kind: dict[str, Any] = {"kind": "append"}
        if window:
            slots, kind = (
                f"min(ceildiv({window}+max(chunk,rollback),64)*64,{slots})",
                {"kind": "ring", "window": window},
            )
        common = kind | {"dtype": dtype, "block_axis": 2, "slots": slots}
        self._states.append({"name": name + ".k", "shape": _texts([heads, f"floordiv({slots},16)", key, 16])} | common)
        self._states.append({"name": name + ".v", "shape": _texts([heads, slots, value])} | common)
        return State(name + ".k"), State(name + ".v")

    # Operators: those of the registry are methods of the base class.
    def linear(self, x: Value, weight: Array, bias: Array | None = None, **more: Any) -> Value:
        """x W^T + b, with W [out, in]."""
        y: Value = self.matmul(x, weight, bias, **more)
        return y

    def add(self, a: Operand, b: Operand, **more: Any) -> Value:
        y: Value = self.binary(a, b, kind="add", **more)
        return y

    def mul(self, a: Operand, b: Operand, **more: Any) -> Value:
        y: Value = self.binary(a, b, kind="mul", **more)
        return y

    def _add(
        self,
        operator: str,
        inputs: Sequence[Operand],
        shape: Shape | None,
        more: Sequence[Shape | State],
        name: str | None,
        dtype: str,
        table: str,
        **attributes: tuple[Any, Any],
    ) -> Any:
        given = {field: value for field, (value, default) in attributes.items() if value != default}
        (least, most), (_, most_outputs) = ARITY.get(operator, ((0, 254), (0, 254)))
        operands = list(inputs)
        while operands and operands[-1] is None:
            operands.pop()
        if not least <= len(operands) <= most or len(more) >= most_outputs:
            raise ValueError(
                f"{operator} takes {least} to {most} inputs and gives up to {most_outputs} outputs, not {len(operands)} and {1 + len(more)}"
            )
        outputs: list[Value | State] = []
        for i, out in enumerate([_shape_of(operator, operands, given) if shape is None else shape, *more]):
            outputs.append(out if isinstance(out, State) else self._value(out, dtype, name if i == 0 else None))
        op: dict[str, Any] = {"name": operator, "inputs": [self._operand(x) for x in operands], "outputs": outputs}
        if table != "NONE" and given:
            op |= {"attrs_type": table, "attrs": {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}}
        self._now.ops.append(op)
        made = [o for o in outputs if isinstance(o, Value)]
        return made[0] if len(made) == 1 else tuple(made)

    def _value(self, shape: Shape, dtype: str, name: str | None) -> Value:
        self._count += 1
        value = Value(name or f"v{self._count}", shape, dtype)
        self._now.values.append((value, {}))
        return value

    def _operand(self, x: Operand) -> Value | State | str:
        if x is None or isinstance(x, (Value, State)):
            return "" if x is None else x
        if id(x) not in self._names:
            self._names[id(x)] = (f"w{len(self._tensors)}", x)
        name, array = self._names[id(x)]
        self._tensors[name] = np.asarray(array)
        return name

    # What comes of it.
    def to_json(self) -> dict[str, Any]:
        """The model in the schema's own JSON form."""
        return {
            "name": self.name,
            "context": self.context,
            "symbols": self._all_symbols(),
            "states": self._states,
            "programs": [_program_json(p) for p in self._programs],
        } | self.fields

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Writes graph.json and weights.safetensors into the folder; returns the path of the former."""
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "graph.json")
        with open(path, "w") as f:
            json.dump(self.to_json(), f, indent=1)
        write_safetensors(os.path.join(folder, "weights.safetensors"), self._tensors)
        return path

    def convert(
        self,
        output: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
        **options: Argument,
    ) -> Conversion:
        """Saves it to a scratch folder and converts that; options: those of runnel.convert."""
        with tempfile.TemporaryDirectory() as folder:
            path = self.save(folder)
            return convert(
                path, output, weights_file=os.path.join(folder, "weights.safetensors"), progress=progress, **options
            )

    def _all_symbols(self) -> list[dict[str, str]]:
        sizes = " ".join(str(s) for p in self._programs for v, _ in p.inputs + p.values for s in v.shape)
        used = set(re.findall(r"[A-Za-z_]\w*", sizes))
        known = [{"name": name, "kind": "option"} for name in OPTIONS]
        known += [
            {"name": name, "kind": "axis", "bound": bound}
            for name, bound in ((STREAM, "chunk"), (ROWS, "rows"))
            if name in used
        ]
        return known + self._symbols


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Array]) -> None:
    """float64 becomes float32, which is what Runnel computes with."""
    header, parts, offset = {}, [], 0
    for name, given in tensors.items():
        array = np.ascontiguousarray(given, np.float32 if given.dtype == np.float64 else given.dtype)
        header[name] = {
            "dtype": _SAFETENSORS[array.dtype.name],
            "shape": list(given.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        parts.append(array)
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for array in parts:
            f.write(array.tobytes())


def _texts(shape: Shape) -> list[str]:
    return [str(size) for size in shape]


def _program_json(p: _Program) -> dict[str, Any]:
    return {
        "name": p.name,
        "inputs": [_value_json(v, fields) for v, fields in p.inputs],
        "values": [_value_json(v, fields) for v, fields in p.values],
        "ops": [
            op | {side: [x if isinstance(x, str) else x.name for x in op[side]] for side in ("inputs", "outputs")}
            for op in p.ops
        ],
        "outputs": [v.name for v in p.outputs],
        "optional_outputs": [v.name for v in p.optional],
    }


def _value_json(v: Value, fields: dict[str, Any]) -> dict[str, Any]:
    return {"name": v.name, "dtype": v.dtype, "shape": _texts(v.shape)} | fields


def _shape_of(operator: str, operands: Sequence[Operand], given: Mapping[str, Any]) -> Shape:
    """The first output's, where it follows from the operands; the first input's for operators that are not named
    here."""
    shapes = [list(x.shape) if isinstance(x, (Value, np.ndarray)) else [] for x in operands]
    first = shapes[0] if shapes else []
    if operator == "embedding":
        return [*first, shapes[1][1]]
    if operator == "matmul":
        return [*first[:-1], shapes[1][0]]
    if operator == "gather_rows":
        return [*shapes[1], *first[1:]]
    if operator == "transpose":
        return [first[axis] for axis in given["perm"]]
    if operator == "concat":
        axis = given.get("axis", 0)
        parts = [s[axis] for s in shapes]
        first[axis] = sum(parts) if all(isinstance(n, int) for n in parts) else "+".join(f"({n})" for n in parts)
        return first
    if operator == "binary":  # as numpy broadcasts: of two sizes the one that is not 1
        rank = max(map(len, shapes))
        aligned = [[1] * (rank - len(s)) + s for s in shapes]
        return [b if str(a) == "1" else a for a, b in zip(*aligned)]
    if operator == "reduce":
        axis = given.get("axis", 0)
        return first[:axis] + first[axis + 1 :]
    if operator in (
        "reshape",
        "slice",
        "batch_matmul",
        "solve",
        "route",
        "routed_matmul",
        "select_greedy",
        "select_tokens",
        "call",
        "if",
        "loop",
    ):
        raise ValueError(f"{operator}: shape= is needed, the size of what it gives")
    return first
