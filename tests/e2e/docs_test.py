"""What the pages say: their commands run, and the messages that they explain are those of the sources."""

import os
import re
import shlex
import unittest

from support import GOLDENS, Case, run

SOURCE = os.path.join(GOLDENS, "..", "..")


def page(name):
    with open(os.path.join(SOURCE, name), encoding="utf-8") as f:
        return f.read()


def literals():
    """The string literals of library and converter, neighbours joined, what printf fills in as one sign."""
    found = []
    for top in ("runtime", "converter"):
        for folder, _, names in os.walk(os.path.join(SOURCE, top)):
            for name in names:
                if not name.endswith((".cpp", ".h")):
                    continue
                text = page(os.path.join(folder, name))
                text = re.sub(r'"\s*PRI[du]64\s*"', "lld", text)
                for neighbours in re.findall(r'(?:"(?:[^"\\\n]|\\.)*"\s*)+', text):
                    joined = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', neighbours)).replace('\\"', '"')
                    found.append(re.sub(r"%[-0-9.]*[a-z]*[sducfgixp]", "…", joined))
    return found


class Docs(Case):
    def test_messages_are_those_of_the_sources(self):
        rows = re.findall(r"^\| `([^`]+)` \|", page("runtime/README.md"), re.M)
        self.assertGreater(len(rows), 25)
        text = "\n".join(literals())
        # Some are put together from several pieces.
        pieces = [(row, p.strip(' :;,()"')) for row in rows for p in re.split("…|: ", row)]
        self.assertEqual([(row, p) for row, p in pieces if p not in text], [])

    def test_commands_of_the_page_on_numbers_run(self):
        model = self.chat_model("numbers")
        text = self.path("text.txt")
        with open(text, "w") as f:
            f.write("the cat sat on the mat " * 8)
        places = {
            "CHECKPOINT": self.path("numbers"),
            "model.rnl": model,
            "model-q8.rnl": self.path("model-q8.rnl"),
            "text.txt": text,
        }
        ran = 0
        for block in re.findall(r"^```bash\n(.*?)^```", page("runtime/README.md"), re.M | re.S):
            for line in block.splitlines():
                words = [places.get(word, word) for word in shlex.split(line)]
                run(*words)
                ran += 1
        self.assertGreaterEqual(ran, 6)


if __name__ == "__main__":
    unittest.main()
