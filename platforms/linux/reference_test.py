"""The reference of the interface names and explains what the headers declare: reference_test.py BUILD_DIR."""

import html
import os
import re
import subprocess
import sys

build = sys.argv[1]
include = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "runtime", "include", "runnel")

# A comment that Doxygen cannot read is an error there.
subprocess.run(["cmake", build], check=True, stdout=subprocess.DEVNULL)
subprocess.run(["cmake", "--build", build, "--target", "reference"], check=True)

folder = os.path.join(build, "reference")
pages = ""
for name in sorted(os.listdir(folder)):
    if name.endswith(".html"):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            pages += html.unescape(re.sub(r"<[^>]*>", " ", f.read()))
text = " ".join(pages.split())

with open(os.path.join(include, "runnel.h"), encoding="utf-8") as f:
    header = f.read()
functions = re.findall(r"\bRNL_API [^;]*?\b(rnl_\w+)\(", header)
types = re.findall(r"^typedef (?:struct|enum) (rnl_\w+) \{", header, re.M)
assert len(functions) > 50 and len(types) > 20, (len(functions), len(types))
missing = [name for name in functions + types if not re.search(rf"\b{name}\b", text)]
assert not missing, missing

# Comments of each kind arrive: before a function, behind a field, at the head of a file.
for comment in re.findall(r"^/\* ([^*]{20,}?)(?: \*/|\n)", header, re.M):
    words = comment.split(" ---- ")[0].strip("- ").split()[:6]
    found = " ".join(words) in text
    assert found or comment.startswith("----"), comment
for comment in re.findall(r"; +/\* ([^*]{10,}?)(?: \*/|\n)", header):
    assert " ".join(comment.split()[:4]) in text, comment
print(f"{len(functions)} functions, {len(types)} types")
