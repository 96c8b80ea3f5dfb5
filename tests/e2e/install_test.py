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
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout.decode(errors='replace')[-3000:]}")
    return done.stdout.decode()


class Install(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="runnel-install-")

    def tearDown(self):
        shutil.rmtree(self.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def configure(self, name, *options):
        call("cmake", "-G", "Ninja", "-S", CONSUMER, "-B", self.path(name), "-DCMAKE_BUILD_TYPE=Release",
             f"-DCMAKE_C_COMPILER={os.environ['RUNNEL_CC']}", f"-DCMAKE_CXX_COMPILER={os.environ['RUNNEL_CXX']}", *options)

    def test_find_package(self):
        prefix = self.path("prefix")
        call("cmake", "--install", BUILD, "--prefix", prefix)
        installed = {os.path.relpath(os.path.join(d, f), prefix) for d, _, files in os.walk(prefix) for f in files}
        for name in ("bin/runnel", "bin/runnel-convert"):
            self.assertIn(name, installed)
        headers = sorted(n for n in installed if n.startswith("include/"))
        self.assertEqual(headers, [f"include/runnel/{n}" for n in ("json_schema.hpp", "runnel.h", "runnel.hpp")])
        self.configure("found", f"-DCMAKE_PREFIX_PATH={prefix}")
        call("cmake", "--build", self.path("found"))
        for program in ("c_program", "cpp_program"):
            self.assertRegex(call(self.path("found", program)), r"^\d+\.\d+\.\d+\n$")
        self.configure("c", f"-DCMAKE_PREFIX_PATH={prefix}", "-DONLY_C=ON")
        call("cmake", "--build", self.path("c"))
        self.assertRegex(call(self.path("c", "c_program")), r"^\d+\.\d+\.\d+\n$")
        self.check_pkg_config(prefix)
        version = call(os.path.join(prefix, "bin", "runnel"), "--version")
        self.assertTrue(re.search(r"\d+\.\d+\.\d+", version), version)

    def check_pkg_config(self, prefix):
        """runnel.pc is enough to compile and link C by hand; without pkg-config on the machine its two lines are read here."""
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
        program = self.path("by_hand")
        call(os.environ["RUNNEL_CC"], os.path.join(CONSUMER, "main.c"), "-o", program, *expand(fields["Cflags"]), *expand(fields["Libs"]))
        self.assertRegex(call(program), r"^\d+\.\d+\.\d+\n$")
        if shutil.which("pkg-config"):
            os.environ["PKG_CONFIG_PATH"] = os.path.dirname(found[0])
            self.assertEqual(call("pkg-config", "--modversion", "runnel").strip(), call(program).strip())
            self.assertEqual([os.path.normpath(w.removeprefix("-L")) if w.startswith("-L") else w for w in call("pkg-config", "--libs", "runnel").split()],
                             [os.path.normpath(w.removeprefix("-L")) if w.startswith("-L") else w for w in expand(fields["Libs"])])

    def test_subdirectory(self):
        """Configured with its targets' properties and compiled against; the library itself is the same as above."""
        self.configure("sub", f"-DRUNNEL_SOURCE={SOURCE}")
        targets = call("cmake", "--build", self.path("sub"), "--target", "help")
        self.assertNotIn("gtest", targets)
        objects = ["CMakeFiles/c_program.dir/main.c.o", "CMakeFiles/cpp_program.dir/main.cpp.o"]
        call("ninja", *objects, cwd=self.path("sub"))


if __name__ == "__main__":
    unittest.main()
