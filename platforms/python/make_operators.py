"""Writes the operators of runnel.graph: make_operators.py RUNTIME_FOLDER PYTHON_FILE

Names, numbers of inputs and outputs come from ops/registry.inc and format/control.h, attributes, their types, enums and
defaults from format/model.fbs, the text of help() from each operator's contract (ops/<name>/<name>.h).
"""

import os
import re
import sys

NUMBERS = {
    "float": "float",
    "double": "float",
    "bool": "bool",
    "string": "str",
    "byte": "int",
    "ubyte": "int",
    "short": "int",
    "ushort": "int",
    "int": "int",
    "uint": "int",
    "long": "int",
    "ulong": "int",
}
ZERO = {"float": "0.0", "bool": "False", "str": '""', "int": "0"}


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


def parse_schema(text):
    """Enums {name: [value names]} and tables {name: [(field, type, default or None)]} of model.fbs."""
    text = re.sub(r"//.*", "", text)
    enums = {
        name: [v.split("=")[0].strip() for v in body.split(",") if v.strip()]
        for name, body in re.findall(r"enum (\w+)\s*:\s*\w+\s*\{(.*?)\}", text, re.S)
    }
    tables = {
        name: re.findall(r"(\w+)\s*:\s*([\w\[\]]+)\s*(?:=\s*([\w.+-]+))?[^;]*;", body)
        for name, body in re.findall(r"table (\w+)\s*\{(.*?)\}", text, re.S)
    }
    return enums, tables


def contract(runtime, name):
    """The comment that opens an operator's header."""
    path = os.path.join(runtime, "ops", name, name + ".h")
    if not os.path.exists(path):
        return ""
    lines = re.match(r"((?://.*\n)+)", read(path)).group(1).splitlines()
    return "\n".join(line[3:] if line.startswith("// ") else line[2:] for line in lines)


def literal(names):
    return "Literal[" + ", ".join(f'"{n}"' for n in names) + "]"


def parameter(field, kind, default, enums):
    """A keyword argument: its name, type and default as Python writes them."""
    if kind in enums:
        return field, kind, f'"{default or enums[kind][0]}"'
    if kind.startswith("["):
        return field, f"Sequence[{NUMBERS[kind[1:-1]]}]", "()"
    python = NUMBERS[kind]
    if default in ("inf", "-inf"):
        default = f'float("{default}")'
    elif python == "bool":
        default = {"true": "True", "false": "False", "": "False"}[default]
    return field, python, default or ZERO[python]


def method(name, table, tables, enums, text):
    parameters = [parameter(*row, enums) for row in tables.get(table, [])]
    arguments = "".join(f", {field}: {kind} = {default}" for field, kind, default in parameters)
    given = "".join(f", {field}=({field}, {default})" for field, _, default in parameters)
    return [
        f'    def {name}(self, *inputs: Operand, shape: Shape | None = None, more: Sequence[Shape | State] = (), name: str | None = None, dtype: str = "f32"{arguments}) -> Any:',
        '        r"""' + text.replace('"""', "'''"),
        '        """',
        f'        return self._add("{name.rstrip("_")}", inputs, shape, more, name, dtype, "{table}"{given})',
        "",
    ]


def main(runtime, python_file):
    enums, tables = parse_schema(read(runtime, "format", "model.fbs"))
    rows = re.findall(
        r"^RNL_OP\((\d+), (\d+), (\w+), (\w+), (\d+), (\d+), (\d+), (\d+)", read(runtime, "ops", "registry.inc"), re.M
    )
    controls = re.findall(r'\{"(\w+)", Control::k', read(runtime, "format", "control.h"))
    out = [
        '"""Made from the schema, the registry of operators and their contracts by make_operators.py."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import TYPE_CHECKING, Any, Literal, Mapping, Sequence",
        "",
        "if TYPE_CHECKING:",
        "    from .graph import Operand, Shape, State",
        "",
    ]
    out += [f"{name} = {literal(values)}" for name, values in enums.items()]
    out += [
        "",
        "# Most inputs and outputs of an operator.",
        "ARITY = {" + ", ".join(f'"{r[2]}": (({r[4]}, {r[5]}), ({r[6]}, {r[7]}))' for r in rows) + "}",
        "",
        "",
        "class Operators:",
        '    """One method an operator. inputs: values, arrays, states, None for one that is absent. shape: of the first output, by',
        "    default the first input's; more: shapes of further outputs, or the states that the operator replaces. A value, or a",
        '    tuple of them, comes back."""',
        "",
        "    def _add(self, operator: str, inputs: Sequence[Operand], shape: Shape | None, more: Sequence[Shape | State], name: str | None, dtype: str, table: str, **attributes: tuple[Any, Any]) -> Any:",
        "        raise NotImplementedError",
        "",
    ]
    for row in rows:
        out += method(row[2], row[3], tables, enums, contract(runtime, row[2]))
    text = "Runs other programs of the graph (runtime/format/control.h)."
    for name in controls:
        out += method(name + "_" if name == "if" else name, "ControlAttrs", tables, enums, text)
    with open(python_file, "w") as f:
        f.write("\n".join(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
