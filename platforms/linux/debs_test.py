"""What cpack made: python3 debs_test.py FOLDER ARCHITECTURE [COMPILER]

Contents, dependencies and copyright of the packages in FOLDER; with a compiler of this machine also a C program against them, in a root of their own.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

FOLDER, ARCHITECTURE, COMPILER = (sys.argv[1:] + [None])[:3]
HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, "..", "..")
MACHINES = {"amd64": "X86-64", "arm64": "AArch64", "armhf": "ARM"}
# The newest versions of symbols that these packages of Debian have.
GLIBCXX = {"12": (3, 4, 30)}


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()


def version_of(text):
    return tuple(map(int, text.split(".")))


class Debs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(os.path.join(SOURCE, "CMakeLists.txt")) as f:
            cls.version = re.search(r"project\(runnel VERSION ([\d.]+)", f.read())[1]
        cls.library = "librunnel" + cls.version.split(".")[0]
        cls.scratch = tempfile.TemporaryDirectory(prefix="runnel-debs-")
        cls.root = cls.scratch.name
        cls.files, cls.fields, cls.owners = {}, {}, set()
        for name in (cls.library, "librunnel-dev", "runnel", "runnel-examples"):
            path = os.path.join(FOLDER, f"{name}_{cls.version}_{ARCHITECTURE}.deb")
            listed = output("dpkg-deb", "-c", path)
            cls.files[name] = {line.split(None, 5)[5][2:] for line in listed.splitlines() if not line.startswith("d")}
            cls.fields[name] = dict(re.findall(r"^([\w-]+): (.*)$", output("dpkg-deb", "-f", path), re.M))
            subprocess.run(["dpkg-deb", "-x", path, cls.root], check=True)
            cls.owners |= {line.split()[1] for line in listed.splitlines()}

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def test_each_file_is_in_one_package(self):
        everything = [f for files in self.files.values() for f in files]
        self.assertEqual(len(everything), len(set(everything)))
        self.assertEqual(self.owners, {"root/root"})

    def test_contents(self):
        shared = f"usr/lib/librunnel.so.{self.version}"
        wanted = {
            self.library: {shared, f"usr/lib/librunnel.so.{self.version.split('.')[0]}"},
            "librunnel-dev": {
                "usr/lib/librunnel.so",
                "usr/lib/librunnel.a",
                "usr/lib/librunnel_json_schema.a",
                "usr/include/runnel/runnel.h",
                "usr/include/runnel/runnel.hpp",
                "usr/include/runnel/json_schema.hpp",
                "usr/lib/pkgconfig/runnel.pc",
                "usr/lib/cmake/runnel/runnel-config.cmake",
                "usr/lib/cmake/runnel/runnel-targets.cmake",
            },
            "runnel": {"usr/bin/runnel"} | ({"usr/bin/runnel-convert"} if ARCHITECTURE == "amd64" else set()),
            "runnel-examples": {
                "usr/bin/runnel-assistant",
                "usr/bin/runnel-colour",
                "usr/bin/runnel-listen",
                "usr/lib/systemd/system/runnel-assistant.service",
            },
        }
        for name, files in wanted.items():
            got = {f.split(" -> ")[0] for f in self.files[name]}
            self.assertLessEqual(files, got, name)
            self.assertIn(f"usr/share/doc/{name}/copyright", got)
        # Nothing else that could meet another package's files.
        self.assertEqual(
            {f.split(" -> ")[0] for f in self.files[self.library]},
            wanted[self.library] | {f"usr/share/doc/{self.library}/copyright"},
        )
        for name in wanted:
            with open(os.path.join(self.root, "usr/share/doc", name, "copyright")) as f:
                text = f.read()
            for part in (
                "The Runnel authors",
                "Apache License",
                "==== libflatbuffers-dev",
                "==== nlohmann-json3-dev",
                "==== libcli11-dev",
            ):
                self.assertIn(part, text)

    def test_fields(self):
        for name, fields in self.fields.items():
            self.assertEqual(
                (fields["Package"], fields["Version"], fields["Architecture"]), (name, self.version, ARCHITECTURE)
            )
            for key in ("Maintainer", "Description", "Section", "Installed-Size"):
                self.assertTrue(fields.get(key), f"{name}: {key}")
        self.assertIn(f"{self.library} (= {self.version})", self.fields["librunnel-dev"]["Depends"])
        path = os.path.join(FOLDER, f"{self.library}_{self.version}_{ARCHITECTURE}.deb")
        self.assertIn("ldconfig", output("dpkg-deb", "-I", path, "postinst"))
        self.assertIn(
            f"librunnel {self.version.split('.')[0]} {self.library}", output("dpkg-deb", "-I", path, "shlibs")
        )

    def elf_files(self):
        for name, files in self.files.items():
            for f in files:
                path = os.path.join(self.root, f.split(" -> ")[0])
                if os.path.islink(path) or path.endswith(".a"):
                    continue
                with open(path, "rb") as data:
                    if data.read(4) == b"\x7fELF":
                        yield name, path

    def test_programs_and_library(self):
        """For this machine, without symbols, and with what they ask for among the dependencies."""
        count = 0
        for name, path in self.elf_files():
            count += 1
            self.assertIn(MACHINES[ARCHITECTURE], output("readelf", "-h", path))
            self.assertNotIn(".symtab", output("readelf", "-S", "-W", path))
            needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", output("readelf", "-d", path)))
            self.assertIn("libc.so.6", needed, path)
            depends = dict(re.findall(r"([\w+.-]+) \(>= ([\w.~:+-]+)\)", self.fields[name]["Depends"]))
            symbols = output("readelf", "-V", "-W", path)
            asked = max(map(version_of, re.findall(r"Name: GLIBC_([\d.]+)", symbols)))
            self.assertLessEqual(asked, version_of(re.match(r"[\d.]+", depends["libc6"])[0]), path)
            if "libstdc++.so.6" in needed:
                asked = max(map(version_of, re.findall(r"Name: GLIBCXX_([\d.]+)", symbols)), default=(3, 4))
                self.assertLessEqual(asked, GLIBCXX.get(depends["libstdc++6"].split(".")[0], (3, 4, 30)), path)
        self.assertGreaterEqual(count, 4)

    @unittest.skipUnless(COMPILER, "no compiler for these packages")
    def test_a_program_links_them(self):
        program, usr = os.path.join(self.root, "program"), os.path.join(self.root, "usr")
        subprocess.run(
            [
                COMPILER,
                os.path.join(SOURCE, "tests/e2e/consumer/main.c"),
                "-o",
                program,
                f"-I{usr}/include",
                f"-L{usr}/lib",
                "-lrunnel",
            ],
            check=True,
        )
        done = subprocess.run(
            [program], env={**os.environ, "LD_LIBRARY_PATH": usr + "/lib"}, check=True, stdout=subprocess.PIPE
        )
        self.assertEqual(done.stdout.decode().strip(), self.version)
        self.assertIn(self.version, output(os.path.join(usr, "bin/runnel"), "--version"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
