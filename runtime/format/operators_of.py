"""The operators that model files use, for builds that leave the others out (RUNNEL_MODELS):

python3 operators_of.py [--flatc FLATC] MODEL.rnl...        prints their names, separated by semicolons
"""

import argparse
import json
import os
import re
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SEAL = struct.Struct("<QQQ8s")  # bytes of the file, of the header, its checksum, a mark; see FORMAT.md
CONTROL = 65001  # call, if and loop: the loader copies with `transpose` where they hand values over
NAME = re.compile(r"^RNL_OP\((\d+), \d+, (\w+),", re.M)


def header_of(path):
    try:
        with open(path, "rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - SEAL.size))
            seal = f.read(SEAL.size)
            file_bytes, header_bytes, _, mark = SEAL.unpack(seal) if len(seal) == SEAL.size else (0, 0, 0, b"")
            f.seek(0)
            header = f.read(header_bytes) if mark == b"RNLSEAL1" and header_bytes < size else b""
    except OSError as e:
        sys.exit(f"{path}: {e.strerror}")
    if header[4:8] != b"RNNL":
        sys.exit(f"{path}: this is no model file (.rnl), or it was not written to its end")
    if file_bytes != size:
        sys.exit(f"{path}: the file has {size} bytes, {file_bytes} were written")
    return header


def codes_of(path, flatc):
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "header.bin")
        with open(copy, "wb") as f:
            f.write(header_of(path))
        done = subprocess.run(
            [flatc, "--json", "--strict-json", "-o", folder, os.path.join(HERE, "model.fbs"), "--", copy],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            with open(os.path.join(folder, "header.json"), encoding="utf-8", errors="replace") as f:
                model = json.load(f)
        except (OSError, ValueError):
            sys.exit(
                f"{path}: flatc cannot read the header, exit code {done.returncode}: {done.stdout.decode(errors='replace').strip()}"
            )
    return {op.get("code", 0) for program in model.get("programs", []) for op in program.get("ops", [])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flatc", default="flatc")
    parser.add_argument("models", nargs="+")
    o = parser.parse_args()
    with open(os.path.join(HERE, "..", "ops", "registry.inc")) as f:
        names = {int(number): name for number, name in NAME.findall(f.read())}
    used = set()
    for path in o.models:
        for code in codes_of(path, o.flatc):
            if code not in names and code < CONTROL:
                sys.exit(f"{path}: it uses operator {code}, which this version does not know")
            used.add(names.get(code, "transpose"))
    print(";".join(name for name in names.values() if name in used))


if __name__ == "__main__":
    main()
