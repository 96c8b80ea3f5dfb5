"""The library in other people's projects: installed and found, or as a subdirectory."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ["RUNNEL_BUILD"]
SOURCE = os.environ["RUNNEL_SOURCE"]
CONSUMER = os.path.join(SOURCE, "tests", "e2e", "consumer")


def call(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout.decode(errors='replace')[-3000:]}"
        )
    return done.stdout.decode()


class Install(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="runnel-install-")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def configure(self, name, *options):
        call(
            "cmake",
            "-G",
            "Ninja",
            "-S",
            CONSUMER,
            "-B",
            self.path(name),
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_C_COMPILER={os.environ['RUNNEL_CC']}",
            f"-DCMAKE_CXX_COMPILER={os.environ['RUNNEL_CXX']}",
            *options,
        )

    def test_installed(self):
        prefix = self.path("prefix")
        call("cmake", "--install", BUILD, "--prefix", prefix)
        installed = {os.path.relpath(os.path.join(d, f), prefix) for d, _, files in os.walk(prefix) for f in files}
        for name in (
            "bin/runnel",
            "bin/runnel-convert",
            "share/doc/runnel/LICENSE",
            "share/doc/runnel/NOTICE",
            "share/doc/runnel/THIRD_PARTY_NOTICES",
        ):
            self.assertIn(name, installed)
        headers = sorted(n for n in installed if n.startswith("include/"))
        self.assertEqual(headers, [f"include/runnel/{n}" for n in ("json_schema.hpp", "runnel.h", "runnel.hpp")])
        for kind in ("shared", "static"):
            self.check_find_package(prefix, kind)
        self.check_library(prefix)
        self.check_pkg_config(prefix)
        version = call(os.path.join(prefix, "bin", "runnel"), "--version")
        self.assertTrue(re.search(r"\d+\.\d+\.\d+", version), version)

    def check_find_package(self, prefix, kind):
        """Programs in C and in C++, and in C alone in a project that knows no C++."""
        for name, programs, options in (
            ("both", ("c_program", "cpp_program"), ()),
            ("c", ("c_program",), ("-DONLY_C=ON",)),
        ):
            name += "_" + kind
            self.configure(name, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DLIBRARY=runnel::{kind}", *options)
            call("cmake", "--build", self.path(name))
            for program in programs:
                self.assertRegex(call(self.path(name, program)), r"^\d+\.\d+\.\d+\n$")
                self.assertEqual("librunnel.so" in call("readelf", "-d", self.path(name, program)), kind == "shared")
        if kind == "shared":
            # runnel::runnel, for those who do not choose, is the shared one.
            self.configure("default", f"-DCMAKE_PREFIX_PATH={prefix}")
            self.assertIn("librunnel.so", call("ninja", "-t", "commands", cwd=self.path("default")))

    def check_library(self, prefix):
        """Its name and the version of its symbols say which other libraries can take its place."""
        library = os.path.join(prefix, "lib", "librunnel.so")
        major = call(os.path.join(prefix, "bin", "runnel"), "--version").split()[1].split(".")[0]
        self.assertIn(f"Library soname: [librunnel.so.{major}]", call("readelf", "-d", library))
        self.assertTrue(os.path.realpath(library).endswith(call(self.path("c_shared", "c_program")).strip()))
        symbols = [line.split()[-1] for line in call("nm", "-D", "--defined-only", library).splitlines()]
        self.assertIn(f"rnl_version@@RUNNEL_{major}", symbols)
        for symbol in symbols:
            self.assertRegex(symbol, rf"^(rnl_\w+@@)?RUNNEL_{major}$")
        self.assertIn(f"rnl_version@RUNNEL_{major}", call("nm", "-D", self.path("c_shared", "c_program")))

    def check_pkg_config(self, prefix):
        """runnel.pc is enough to compile and link C by hand; without pkg-config on the machine its lines are read here."""
        found = [os.path.join(d, f) for d, _, files in os.walk(prefix) for f in files if f == "runnel.pc"]
        self.assertEqual(len(found), 1)
        variables, fields = {"pcfiledir": os.path.dirname(found[0])}, {}
        for line in open(found[0]):
            if m := re.match(r"(\w+)=(.*)", line):
                variables[m[1]] = m[2]
            elif m := re.match(r"([\w.]+):(.*)", line):
                fields[m[1]] = m[2]

        def expand(text):
            while "${" in text:
                text = re.sub(r"\$\{(\w+)\}", lambda m: variables[m[1]], text)
            return text.split()

        libraries = {
            "shared": expand(fields["Libs"]),
            "static": [w if w != "-lrunnel" else "-l:librunnel.a" for w in expand(fields["Libs"])]
            + expand(fields["Libs.private"]),
        }
        for kind, words in libraries.items():
            program = self.path("by_hand_" + kind)
            call(
                os.environ["RUNNEL_CC"],
                os.path.join(CONSUMER, "main.c"),
                "-o",
                program,
                *expand(fields["Cflags"]),
                *words,
            )
            done = subprocess.run(
                [program],
                env={**os.environ, "LD_LIBRARY_PATH": os.path.join(prefix, "lib")},
                stdout=subprocess.PIPE,
                check=True,
            )
            self.assertRegex(done.stdout.decode(), r"^\d+\.\d+\.\d+\n$")
            self.assertEqual("librunnel.so" in call("readelf", "-d", program), kind == "shared")
        if shutil.which("pkg-config"):
            os.environ["PKG_CONFIG_PATH"] = os.path.dirname(found[0])
            self.assertEqual(
                call("pkg-config", "--modversion", "runnel").strip(), call(self.path("by_hand_static")).strip()
            )
            self.assertEqual(
                [
                    os.path.normpath(w.removeprefix("-L")) if w.startswith("-L") else w
                    for w in call("pkg-config", "--libs", "runnel").split()
                ],
                [os.path.normpath(w.removeprefix("-L")) if w.startswith("-L") else w for w in expand(fields["Libs"])],
            )

    def test_subdirectory(self):
        """Configured with its targets' properties and compiled against; the library itself is the same as above."""
        self.configure("sub", f"-DRUNNEL_SOURCE={SOURCE}")
        targets = call("cmake", "--build", self.path("sub"), "--target", "help")
        self.assertNotIn("gtest", targets)
        objects = ["CMakeFiles/c_program.dir/main.c.o", "CMakeFiles/cpp_program.dir/main.cpp.o"]
        call("ninja", *objects, cwd=self.path("sub"))


if __name__ == "__main__":
    unittest.main()
