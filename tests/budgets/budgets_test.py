"""Budgets of the library, measured with binutils on what the build made."""

import ctypes
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ["RUNNEL_BUILD"]
ARCHIVE = os.environ["RUNNEL_ARCHIVE"]
SHARED = os.environ["RUNNEL_SHARED_LIBRARY"]
PROGRAM = os.environ["RUNNEL_PROGRAM"]
PROGRAM_LEAST = os.environ["RUNNEL_PROGRAM_LEAST"]
SHARED_LEAST = os.environ["RUNNEL_SHARED_LEAST"]
SHARED_CPU = os.environ["RUNNEL_SHARED_CPU"]
SHARED_ALL = os.environ["RUNNEL_SHARED_ALL"]
CONVERT = os.environ["RUNNEL_CONVERT"]
# A cross build's libraries cannot be opened here, and its tools are others.
IS_CROSS = os.environ["RUNNEL_IS_CROSS"] == "1"
NM, READELF, STRIP = (os.environ["RUNNEL_" + tool] for tool in ("NM", "READELF", "STRIP"))
GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "goldens")

# With the operators of transformers and the kernels of every target of one architecture; tokenizers, chats and grammars are 220 KiB of it.
STRIPPED_BYTES = 744 * 1024
# The same without chats and grammars: what an app pays that generates text, and the library with all other calls of runnel.h.
PROGRAM_BYTES_LEAST = 600 * 1024
SHARED_BYTES_LEAST = 644 * 1024  # sizes go in steps of a page of 16 KiB
STRIPPED_BYTES_CPU = 1540 * 1024  # with every operator
STRIPPED_BYTES_ALL = 2232 * 1024  # and with Vulkan, of which some 590 KiB are shaders
SHADER_BYTES = 60 * 1024  # SPIR-V of one operator, with its variants for optional features
SHADER_BYTES_ALL = 592 * 1024


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()


def stripped_size(path):
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy")
        shutil.copy(path, copy)
        subprocess.run([STRIP, copy], check=True)
        return os.path.getsize(copy)


class Budgets(unittest.TestCase):
    def test_size(self):
        budgets = (
            (PROGRAM_LEAST, PROGRAM_BYTES_LEAST),
            (SHARED_LEAST, SHARED_BYTES_LEAST),
            (PROGRAM, STRIPPED_BYTES),
            (SHARED, STRIPPED_BYTES),
            (SHARED_CPU, STRIPPED_BYTES_CPU),
            (SHARED_ALL, STRIPPED_BYTES_ALL),
        )
        for path, most in budgets[:1] if IS_CROSS else budgets:
            size = stripped_size(path)
            print(f"{os.path.basename(path)}: {size} bytes stripped")
            self.assertLessEqual(size, most, path)

    def test_shaders(self):
        folder = os.path.join(BUILD, "gen", "shaders")
        if not os.path.isdir(folder):
            self.skipTest("built without Vulkan")
        sizes = {}
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "shaders", "variants.txt")) as f:
            for line in f:
                if line.strip() and not line.startswith("#"):
                    name, source = line.split()[:2]
                    operator = source.split("/")[0]
                    sizes[operator] = sizes.get(operator, 0) + os.path.getsize(
                        os.path.join(folder, name + ".small.spv")
                    )
        self.assertGreater(len(sizes), 20)
        for operator, size in sizes.items():
            self.assertLessEqual(size, SHADER_BYTES, operator)
        print(f"shaders: {sum(sizes.values())} bytes")
        self.assertLessEqual(sum(sizes.values()), SHADER_BYTES_ALL)

    @unittest.skipIf(IS_CROSS, "a library of another machine")
    def test_refuses_what_it_was_built_without(self):
        """The library with the operators of transformers opens a Llama, and names what a Mamba needs beyond that."""
        library = ctypes.CDLL(SHARED)
        library.rnl_last_error.restype = ctypes.c_char_p
        engine, model = ctypes.c_void_p(), ctypes.c_void_p()
        self.assertEqual(library.rnl_engine_create(None, ctypes.byref(engine)), 0)
        with tempfile.TemporaryDirectory() as folder:
            for name, said in (("llama", None), ("mamba", b'built without operator "causal_conv"')):
                path = os.path.join(folder, name + ".rnl")
                subprocess.run(
                    [CONVERT, os.path.join(GOLDENS, "tiny_" + name), "-o", path],
                    check=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                code = library.rnl_model_open(engine, path.encode(), None, ctypes.byref(model))
                if said is None:
                    self.assertEqual(code, 0, library.rnl_last_error())
                    library.rnl_model_close(model)
                else:
                    self.assertNotEqual(code, 0)
                    self.assertIn(said, library.rnl_last_error())
        library.rnl_engine_destroy(engine)

    @unittest.skipIf(IS_CROSS, "a library of another machine")
    def test_refuses_the_parts_that_it_was_built_without(self):
        """Chats and grammars are refused with the option's name; the headers and all else stay."""
        engine, model, grammar, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
        with tempfile.TemporaryDirectory() as folder:
            for file in ("config.json", "model.safetensors"):
                shutil.copy(os.path.join(GOLDENS, "tiny_llama", file), folder)
            with open(os.path.join(folder, "tokenizer.json"), "w") as f:
                json.dump(
                    {
                        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
                        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
                        "decoder": {"type": "ByteLevel"},
                    },
                    f,
                )
            path = os.path.join(folder, "llama.rnl")
            subprocess.run([CONVERT, folder, "-o", path], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for library, is_full in ((ctypes.CDLL(SHARED_LEAST), False), (ctypes.CDLL(SHARED), True)):
                library.rnl_last_error.restype = ctypes.c_char_p
                self.assertEqual(library.rnl_engine_create(None, ctypes.byref(engine)), 0)
                self.assertEqual(
                    library.rnl_model_open(engine, path.encode(), None, ctypes.byref(model)),
                    0,
                    library.rnl_last_error(),
                )
                self.assertNotEqual(
                    library.rnl_chat_turn(model, None, b"Hi", 1, None, ctypes.c_size_t(0), ctypes.byref(size)), 0
                )  # this model has no chat format
                self.assertEqual(b"built without chats (RUNNEL_CHAT)" in library.rnl_last_error(), not is_full)
                code = library.rnl_grammar_create(model, b'root ::= "a"', ctypes.c_size_t(12), ctypes.byref(grammar))
                self.assertEqual(code == 0, is_full, library.rnl_last_error())
                if is_full:
                    library.rnl_grammar_destroy(grammar)
                else:
                    self.assertIn(b"built without grammars (RUNNEL_GRAMMAR)", library.rnl_last_error())
                library.rnl_model_close(model)
                library.rnl_engine_destroy(engine)

    def test_exports_are_the_c_api(self):
        exported = {line.split()[-1] for line in output(NM, "-D", "--defined-only", SHARED).splitlines()}
        exported = {
            name for name in exported if not name.startswith("RUNNEL_0")
        }  # the version itself, which newer tools spell in two ways
        with open(os.environ["RUNNEL_HEADER"]) as f:
            declared = set(re.findall(r"^RNL_API\b[^(]*?\b(rnl_\w+)\(", f.read(), re.M))
        self.assertGreater(len(declared), 30)
        self.assertEqual(exported, {name + "@@RUNNEL_0" for name in declared})

    def test_links_libc_and_the_cpp_library_alone(self):
        needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", output(READELF, "-d", SHARED)))
        extra = {n for n in needed if not re.match(r"(libc|libm|libstdc\+\+|libgcc_s|ld-linux.*|libpthread)\.so", n)}
        self.assertEqual(extra, set())

    def test_no_static_initialisers(self):
        sections = output(READELF, "-S", "-W", ARCHIVE)
        self.assertIn("File: ", sections)
        member, found = "", []
        for line in sections.splitlines():
            if line.startswith("File: "):
                member = line
            if re.search(r"\.(init_array|ctors|preinit_array)\b", line):
                found.append(member)
        self.assertEqual(found, [])

    def test_nothing_calls_abort_or_exit(self):
        undefined = {line.split()[-1] for line in output(NM, "-u", ARCHIVE).splitlines() if " U " in f" {line} "}
        self.assertEqual(undefined & {"abort", "exit", "_exit", "__cxa_throw", "__assert_fail"}, set())

    def test_kernels_of_a_target_define_only_their_own_names(self):
        """Weak or global names outside of the target's namespace would clash between targets, or let the linker take code of a
        newer instruction set for the whole library."""
        folders = glob.glob(os.path.join(BUILD, "runtime", "CMakeFiles", "runnel_cpu_*.dir"))
        self.assertGreaterEqual(len(folders), 2)
        for folder in folders:
            target = re.search(r"runnel_cpu_(\w+)\.dir", folder).group(1)
            objects = glob.glob(os.path.join(folder, "**", "*.o"), recursive=True)
            self.assertGreater(len(objects), 3)
            for path in objects:
                for line in output(NM, "--defined-only", path).splitlines():
                    kind, name = line.split()[-2:]
                    if kind in "TDRBwWvVu":
                        self.assertTrue(name.startswith(f"_ZN6runnel{len(target)}{target}"), f"{path}: {name}")


if __name__ == "__main__":
    unittest.main()
