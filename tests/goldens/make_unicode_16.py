"""Lists the characters that Unicode 15.1 and 16.0 added, with their general categories, for converters built with an older ICU.

pip install --target new unicodedata2==16.0.0 && pip install --target old unicodedata2==15.0.0
python make_unicode_16.py old new > ../../converter/text/unicode_16.inc
"""

import importlib
import sys


def load(folder, version):
    sys.modules.pop("unicodedata2", None)
    sys.path.insert(0, folder)
    module = importlib.import_module("unicodedata2")
    sys.path.pop(0)
    assert module.unidata_version == version, module.unidata_version
    return module


old, new = load(sys.argv[1], "15.0.0"), load(sys.argv[2], "16.0.0")
ranges = []
for code in range(0x110000):
    category = new.category(chr(code))
    if category == "Cn" or old.category(chr(code)) != "Cn":
        continue
    if ranges and ranges[-1][1] + 1 == code and ranges[-1][2] == category:
        ranges[-1][1] = code
    else:
        ranges.append([code, code, category])
print("// Made by tests/goldens/make_unicode_16.py.")
line = ""
for first, last, category in ranges:
    entry = f'{{0x{first:X}, 0x{last:X}, "{category}"}}, '
    if len(line) + len(entry) > 160:
        print(line.rstrip())
        line = ""
    line += entry
print(line.rstrip())
