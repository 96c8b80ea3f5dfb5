"""Writes what the binding derives from runnel.h: make_bindings.py RUNNEL_H PYTHON_FILE CPP_FILE

PYTHON_FILE gets the enums, an exception for each status, a frozen dataclass for each struct that the library fills in, and
a TypedDict for each struct of options. CPP_FILE gets the conversions between those structs and dictionaries. So a field or
a status that is appended to the header is in the binding too.
"""

import re
import sys

FILLED_IN = {
    "model_info": "ModelInfo",
    "program_info": "Program",
    "value_info": "Value",
    "symbol_info": "Symbol",
    "state_info": "StateInfo",
    "memory": "Memory",
    "backend_info": "BackendInfo",
    "stats": "Stats",
    "chat_result": "ChatResult",
}
OPTIONS = {
    "session_options": "SessionOptions",
    "sampling": "Sampling",
    "generate_options": "Generation",
    "embed_options": "Embedding",
}
ENUMS = {
    "status_code": "Status",
    "dtype": "DType",
    "role": "Role",
    "symbol_kind": "SymbolKind",
    "state_kind": "StateKind",
    "backend": "Backend",
    "pooling": "Pooling",
}
# Exceptions that are one of Python's own kinds as well.
BUILTIN = {"INVALID_ARGUMENT": "ValueError", "OUT_OF_MEMORY": "MemoryError"}
NUMBERS = {"int32_t": "int", "int64_t": "int", "uint32_t": "int", "uint64_t": "int", "float": "float"}


def squeeze(text):
    return " ".join(text.split())


def parse_enums(header):
    """{C name: [(member, value, comment)]}"""
    enums = {}
    for name, body in re.findall(r"typedef enum rnl_(\w+) \{(.*?)\} rnl_\1;", header, re.S):
        rows = re.findall(r"RNL_(\w+) = (\d+),?\s*(?:/\*(.*?)\*/)?", body, re.S)
        prefix = name.upper().removesuffix("_KIND") + "_" if name not in ("status_code", "dtype") else ""
        enums[name] = [(member.removeprefix(prefix), int(value), squeeze(comment)) for member, value, comment in rows]
    return enums


def parse_structs(header, enums):
    """{C name: [(field, C type, length or "", Python type, enum or None, comment)]}; pointers to other things are left
    out."""
    structs = {}
    for name, body in re.findall(r"typedef struct rnl_(\w+) \{(.*?)\n\} rnl_\1;", header, re.S):
        body = re.sub(r"^\s*/\*.*?\*/", "", body, flags=re.S | re.M)  # comments that stand before a field
        fields = []
        for kind, names, comment in re.findall(r"((?:const )?\w+\*?) ([\w\[\], ]+);(?:\s*/\*(.*?)\*/)?", body, re.S):
            for field in names.split(","):
                field, length = re.fullmatch(r"\s*(\w+)(?:\[(\d+)\])?\s*", field).groups()
                if field == "struct_size" or (kind != "const char*" and kind not in NUMBERS):
                    continue
                comment = squeeze(comment)
                enum = enum_of(field, comment, enums) if kind == "int32_t" else None
                python = "str" if kind == "const char*" else NUMBERS[kind]
                if enum:
                    python = ENUMS[enum]
                elif kind == "int32_t" and comment.startswith("1:") and "-1:" not in comment:
                    python = "bool"
                fields.append((field, kind, length or "", python, enum, comment))
        structs[name] = fields
    return structs


def enum_of(field, comment, enums):
    for name in ENUMS:
        if field == name or re.search(rf"\brnl_{name}\b", comment):
            return name
        if any(re.match(rf"RNL_{member}\b", comment) for member, _, _ in enums[name]):
            return name
    return None


def exception_name(member):
    return "InputOutput" if member == "IO" else "".join(part.capitalize() for part in member.split("_"))


def quoted(text):
    return '"""' + text.replace("\\", "\\\\").replace('"""', "'''") + '"""'


def python_code(enums, structs):
    out = [
        '"""Made from runnel.h by make_bindings.py: enums, exceptions, structs, options."""',
        "",
        "from __future__ import annotations",
        "",
        "import enum",
        "from dataclasses import dataclass",
        "from typing import TypedDict",
        "",
    ]
    for name, python in ENUMS.items():
        out += ["", f"class {python}(enum.IntEnum):"]
        for member, value, comment in enums[name]:
            out.append(f"    {member} = {value}" + (f"  # {comment}" if comment else ""))
        out.append("")
    out += [
        "",
        "class Error(Exception):",
        '    """A call that failed: `status` and the library\'s message."""',
        "",
        "    status: Status = Status.INTERNAL",
        "",
    ]
    for member, _, comment in enums["status_code"][1:]:
        base = "Error" + (", " + BUILTIN[member] if member in BUILTIN else "")
        out += ["", f"class {exception_name(member)}({base}):"]
        out += [f"    {quoted(comment)}", ""] if comment else []
        out += [f"    status = Status.{member}", ""]
    out += [
        "",
        "class Busy(InvalidArgument):",
        '    """The session is in use: by a call on another thread, or by an answer that is neither at its end nor closed."""',
        "",
    ]
    for name, python in FILLED_IN.items():
        out += ["", "@dataclass(frozen=True)", f"class {python}:", f"    {quoted('rnl_' + name)}", ""]
        for field, kind, length, kind_python, _, comment in structs[name]:
            out.append(
                f"    {field}: "
                + (f"tuple[{kind_python}, ...]" if length else kind_python)
                + (f"  # {comment}" if comment else "")
            )
        out.append("")
    for name, python in OPTIONS.items():
        out += ["", f"class {python}(TypedDict, total=False):", f"    {quoted('rnl_' + name)}", ""]
        for field, _, _, kind_python, enum, comment in structs[name]:
            out.append(
                f"    {field}: {kind_python}" + (" | str" if enum else "") + (f"  # {comment}" if comment else "")
            )
        out.append("")
    errors = ", ".join(exception_name(member) for member, _, _ in enums["status_code"][1:])
    return "\n".join(out + ["", f"ERRORS: tuple[type[Error], ...] = ({errors})", ""])


def cpp_code(structs):
    out = ["// Made from runnel.h by make_bindings.py."]
    for name in (*FILLED_IN, "session_options"):
        out += [f"inline nb::dict to_dict(const rnl_{name}& s) {{", "  nb::dict d;"]
        for field, _, length, python, _, _ in structs[name]:
            value = f"texts(s.{field}, {length})" if length else f"s.{field} != 0" if python == "bool" else f"s.{field}"
            out.append(f'  d["{field}"] = {value};')
        out += ["  return d;", "}"]
    for name in OPTIONS:
        out += [f"inline bool read_option(const std::string& name, nb::handle value, rnl_{name}& o) {{"]
        for field, kind, _, python, _, _ in structs[name]:
            given = "bool" if python == "bool" else kind
            out.append(f'  if (name == "{field}") return o.{field} = option<{given}>(name, value), true;')
        out += ["  return false;", "}"]
    return "\n".join(out + [""])


def main(header_file, python_file, cpp_file):
    with open(header_file) as f:
        header = f.read()
    enums = parse_enums(header)
    structs = parse_structs(header, enums)
    with open(python_file, "w") as f:
        f.write(python_code(enums, structs))
    with open(cpp_file, "w") as f:
        f.write(cpp_code(structs))


if __name__ == "__main__":
    main(*sys.argv[1:])
