"""Inner loops of compiled Arm kernels: found in the disassembly, counted, and timed by llvm-mca's models of cores.

A loop is what jumps back to its head; a path is one way from its head back to it, so that a branch inside counts on one side alone. Static: no cache
misses, no mispredicted branches. Whatever is not found is an error. To see what an object holds: python3 arm_loops.py OBJECT [FUNCTION]"""

import collections
import copy
import functools
import os
import re
import subprocess
import sys
import tempfile

LLVM = 19  # packages of Debian 12; figures of other versions differ
OLDER_LLVM = 14  # of the cores that have no dot products
FEATURES = "+dotprod,+i8mm,+fullfp16,+bf16"
# Core: (what people know it by, llvm-mca's name, LLVM's version whose model is taken).
Core = collections.namedtuple("Core", "title cpu llvm")
CORES = {
    "aarch64": [
        Core("N1", "neoverse-n1", LLVM),
        Core("V1", "neoverse-v1", LLVM),
        Core("A510", "cortex-a510", LLVM),
        Core("A55", "cortex-a55", LLVM),
        Core("A72", "cortex-a72", OLDER_LLVM),
        Core("A53", "cortex-a53", OLDER_LLVM),
    ],
    "armv7": [Core("A57", "cortex-a57", LLVM)],
}
TRIPLES = {"aarch64": "aarch64-linux-gnu", "armv7": "armv7-linux-gnueabihf"}
MOST_PATHS = 512

Instruction = collections.namedtuple("Instruction", "address name operands target")
CONDITIONAL = re.compile(r"(b\.\w+|cbn?z|tbn?z|b(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le))$")
RETURNS = re.compile(r"(ret|br|bx|udf|brk)$")


class Missing(Exception):
    pass


def run(*command):
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    ).stdout


@functools.lru_cache(None)
def functions(path, machine):
    """{readable name: lines of the disassembly} of an object file."""
    arguments = ["-d", "--no-show-raw-insn", "--demangle"] + (["--mattr=" + FEATURES] if machine == "aarch64" else [])
    found, lines = {}, []
    for line in run(f"llvm-objdump-{LLVM}", *arguments, path).splitlines():
        if line.endswith(">:"):
            name = re.sub(r"\(anonymous namespace\)::|runnel::(neon\w*::)?", "", line[line.index("<") + 1 : -2])
            lines = found.setdefault(name, [])
        else:
            lines.append(line)
    return found


ROW = re.compile(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")


def instructions(lines):
    code = []
    for row in filter(None, map(ROW.match, lines)):
        operands = re.sub(r"\s*(//|@|<).*$", "", row.group(3))
        jump = (
            re.search(r"0x([0-9a-f]+)$", operands) if CONDITIONAL.match(row.group(2)) or row.group(2) == "b" else None
        )
        code.append(
            Instruction(int(row.group(1), 16), row.group(2), operands, int(jump.group(1), 16) if jump else None)
        )
    return code


class Loop:
    """Instructions by address, with the ways on from each one inside the loop."""

    def __init__(self, function, code, steps, head, inside):
        self.function, self.code, self.steps, self.head, self.inside = function, code, steps, head, inside

    @functools.cached_property
    def stack(self):
        """What holds addresses of the stack at the head."""
        stack = Stack()
        for address in sorted(self.code):
            if address < self.head:
                stack.step(self.code[address])
        return stack

    def paths(self):
        """Ways from the head back to it that pass nothing twice; of a loop of too many, the shortest and the longest."""
        found, open_paths = [], [[self.head]]
        while open_paths:
            path = open_paths.pop()
            passed = set(path)
            while True:
                nexts = [n for n in self.steps[path[-1]] if n in self.inside]
                if self.head in nexts:
                    found.append(path[:])
                nexts = [n for n in nexts if n not in passed]
                if len(found) + len(open_paths) > MOST_PATHS:
                    return [self.extreme(1), self.extreme(-1)]
                if not nexts:
                    break
                open_paths += [path + [n] for n in nexts[1:]]
                path.append(nexts[0])
                passed.add(nexts[0])
        return [[self.code[a] for a in path] for path in found]

    def extreme(self, sign):
        """The shortest path (sign 1) or the longest one (-1) of a loop without another one inside."""
        best, todo = {}, [self.head]
        while todo:
            nexts = [n for n in self.steps[todo[-1]] if n in self.inside]
            missing = [n for n in nexts if n != self.head and n not in best]
            if any(n in todo for n in missing):
                raise Missing(
                    f"{self.function}: at {self.head:#x} a loop of more than {MOST_PATHS} paths that holds others"
                )
            todo += missing[:1]
            if not missing:
                ways = [[n] + best[n] if n != self.head else [] for n in nexts]
                best[todo.pop()] = min(ways, key=lambda w: sign * len(w))
        return [self.code[a] for a in [self.head] + best[self.head]]


def steps_of(code):
    """{address: addresses that may come next}"""
    steps = {}
    for i, x in enumerate(code):
        behind = [code[i + 1].address] if i + 1 < len(code) else []
        if x.name == "b" or RETURNS.match(x.name) or (x.name == "pop" and "pc" in x.operands):
            behind = []
        steps[x.address] = behind + ([x.target] if x.target is not None else [])
    return steps


def circles(nodes, steps):
    """Sets of nodes that reach each other (Tarjan), of more than one node or with a step to itself."""
    number, low, stack, on_stack, found = {}, {}, [], set(), []
    for root in nodes:
        if root in number:
            continue
        work = [(root, iter(steps[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, nexts = work[-1]
            for n in nexts:
                if n not in nodes:
                    continue
                if n not in number:
                    number[n] = low[n] = len(number)
                    stack.append(n)
                    on_stack.add(n)
                    work.append((n, iter(steps[n])))
                    break
                if n in on_stack:
                    low[node] = min(low[node], number[n])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    group = set()
                    while node not in group:
                        group.add(stack.pop())
                    on_stack -= group
                    if len(group) > 1 or node in steps[node]:
                        found.append(group)
    return found


@functools.lru_cache(None)
def loops(path, machine, function, innermost=True):
    """Loops of a function; innermost: those that hold no other one. A loop's head is where it is entered."""
    code = instructions(functions(path, machine)[function])
    steps, by_address, found = steps_of(code), {x.address: x for x in code}, []
    todo = [set(by_address)]
    while todo:
        for group in circles(todo.pop(), steps):
            heads = {n for a, nexts in steps.items() if a not in group for n in nexts if n in group}
            head = min(heads or group)
            inner = group - {head}
            todo.append(inner)
            if not innermost or not circles(inner, steps):
                found.append(Loop(function, by_address, steps, head, group))
    return found


# What a path is measured by. Registers of 16 bytes are q.. or v..; multiply-adds of int8 by the width of their operands.
PRODUCTS = {"sdot": 16, "udot": 16, "usdot": 16, "smmla": 32, "ummla": 32, "usmmla": 32}


def products(path):
    """Multiply-adds of 8-bit values."""
    total = 0
    for x in path:
        total += PRODUCTS.get(x.name, 0)
        if (
            re.match(r"[su]m(ul|la)l2?$", x.name)
            and re.match(r"v\d+\.8h", x.operands)
            or re.match(r"vm[ul][la]l\.[su]8$", x.name)
        ):
            total += 8
    return total


def fused(path):
    """Fused multiply-adds of floats."""
    total = 0
    for x in path:
        if x.name == "fmla":
            total += 4 if ".4s" in x.operands else 8 if ".8h" in x.operands else 2
        elif x.name == "vfma.f32":
            total += 4 if x.operands.startswith("q") else 2 if x.operands.startswith("d") else 1
        elif x.name == "fmadd":
            total += 1
    return total


FLOATS = {"q": 4, "v": 4, "d": 2, "s": 1}


@functools.lru_cache(None)
def moved(x):
    """Floats that a load or a store of vector registers moves."""
    registers = re.sub(r"\[[^\]]*\].*$", "", x.operands)
    return sum(FLOATS[r] for r in re.findall(r"\b([qvds])\d+", registers))


@functools.lru_cache(None)
def is_load(x):
    return re.match(r"(ld[pru1]|ldur|vld[1r]|vldm|ld[234])", x.name) is not None


@functools.lru_cache(None)
def is_store(x):
    return re.match(r"(st[pru1]|stur|vst[1r]|vstm|st[234])", x.name) is not None


@functools.lru_cache(None)
def base_of(x):
    found = re.search(r"\[(\w+)", x.operands)
    return found.group(1) if found else None


class Stack:
    """What holds addresses of the stack, as far as the order of the instructions tells: registers, and places of the stack where such were kept."""

    def __init__(self):
        self.registers, self.places = {"sp"}, set()

    def holds(self, x):
        return (is_load(x) or is_store(x)) and base_of(x) in self.registers

    def step(self, x):
        names = re.findall(r"\b(?:x\d+|r\d+|lr|fp|sp)\b", x.operands)
        place = re.search(r"\[sp(?:, #(-?\w+))?\]$", x.operands)
        if place and x.name in ("str", "stp", "ldr", "ldp"):
            at = int(place.group(1) or "0", 0)
            for i, name in enumerate(re.findall(r"\b(?:x\d+|r\d+)\b", x.operands.split("[")[0])):
                if x.name.startswith("ld"):
                    self.set(name, at + 8 * i in self.places)
                else:
                    (self.places.add if name in self.registers else self.places.discard)(at + 8 * i)
        elif x.name in ("add", "sub", "mov") and names and x.operands.startswith(names[0]):
            self.set(names[0], any(n in self.registers for n in names[1:]))
        elif (
            names
            and x.operands.startswith(names[0])
            and x.target is None
            and not is_store(x)
            and not re.match(r"cmp|cmn|tst|prfm|pld", x.name)
        ):
            for name in names[: 2 if x.name.startswith("ldp") else 1]:
                self.set(name, False)

    def set(self, name, is_stack):
        if name == "sp":
            return
        (self.registers.add if is_stack else self.registers.discard)(name)


def of_stack(loop, path):
    """For each instruction of the path, whether it loads from or stores to the stack."""
    stack, found = copy.deepcopy(loop.stack), []
    for x in path:
        found.append(stack.holds(x))
        stack.step(x)
    return found


def spills(loop, path):
    """Loads and stores of the stack."""
    return sum(of_stack(loop, path))


def loads(loop, path):
    return sum(moved(x) for x, stack in zip(path, of_stack(loop, path)) if is_load(x) and not stack)


def stores(loop, path):
    return sum(moved(x) for x, stack in zip(path, of_stack(loop, path)) if is_store(x) and not stack)


MEASURES = {
    "products": lambda loop, path: products(path),
    "fused": lambda loop, path: fused(path),
    "loads": loads,
    "stores": stores,
    "turns": lambda loop, path: 1,
}


CALL = re.compile(r"(bl|blr|blx)$")


@functools.lru_cache(None)
def model(text, machine, core):
    turns = max(10, min(100, 20000 // text.count("\n")))  # a long loop fills the core by itself
    with tempfile.NamedTemporaryFile("w", suffix=".s") as f:
        f.write(text)
        f.flush()
        attributes = FEATURES if machine == "aarch64" else "+neon,+vfp4"
        report = run(
            f"llvm-mca-{core.llvm}",
            "-mtriple=" + TRIPLES[machine],
            "-mcpu=" + core.cpu,
            "-mattr=" + attributes,
            f"-iterations={turns}",
            f.name,
        )
    return int(re.search(r"Total Cycles:\s+(\d+)", report).group(1)) / turns


class Choice:
    """A path of a loop; with `turns`, that path of the loop around it (which passes it once) and how often the inner one turns."""

    def __init__(self, loop, path, around=None, turns=1):
        self.loop, self.path, self.around, self.turns = loop, path, around, turns

    def work(self, measure):
        if not self.around:
            return measure(self.loop, self.path)
        return measure(*self.around) + (self.turns - 1) * measure(self.loop, self.path)

    def spills(self):
        return self.work(spills)

    def cycles(self, machine, core):
        if not self.around:
            return model(text_of(self.path), machine, core)
        return model(text_of(self.around[1]), machine, core) + (self.turns - 1) * model(
            text_of(self.path), machine, core
        )


def text_of(path):
    """The path as llvm-mca reads it: jumps go to its head, calls (whose code is counted elsewhere) are left out."""
    lines = [
        f"{x.name} {x.operands}" if x.target is None else f"{x.name} " + re.sub(r"0x[0-9a-f]+$", "head", x.operands)
        for x in path
        if not CALL.match(x.name)
    ]
    return "head:\n" + "\n".join(lines) + "\n"


def pick(paths, measure, longest):
    """The path of (loop, path) pairs with the most work, of those the shortest or the longest."""
    return max(paths, key=lambda p: (measure(*p), len(p[1]) if longest else -len(p[1])))


def has_call(path):
    return any(CALL.match(x.name) for x in path)


def around_of(all_loops, name, inner, path, measure, whole, calls, longest):
    """Choice of the loop directly around one that does `whole` work a turn."""
    held = [x for x in all_loops if inner.inside < x.inside]
    if not held and measure(inner, path) == whole:
        return Choice(inner, path)
    if not held:
        raise Missing(f"{name}: no loop around the one at {inner.head:#x}")
    outer = min(held, key=lambda x: len(x.inside))
    paths = [
        (outer, p)
        for p in outer.paths()
        if any(x.address == inner.head for x in p) and (calls is None or has_call(p) == calls)
    ]
    if not paths:
        raise Missing(
            f"{name}: no path of the loop around the one at {inner.head:#x} {'with' if calls else 'without'} a call"
        )
    around = pick(paths, measure, longest)
    turns = 1 + (whole - measure(*around)) / measure(inner, path)
    if turns < 1 or turns != int(turns):
        raise Missing(
            f"{name}: the loop at {inner.head:#x} and the one around it make {measure(*around)} and {measure(inner, path)}, which do not add up to {whole}"
        )
    if stores(*around):
        raise Missing(f"{name}: the loop around the one at {inner.head:#x} (head {outer.head:#x}) stores results")
    return Choice(inner, path, around, int(turns))


def choose(
    path, machine, function, measure, holds="", lacks=None, longest=False, around=None, calls=False, least=0, turn=None
):
    """The loop of the functions that match which does most of the measured work a turn, on its shortest or longest path; least: fused multiply-adds
    that it has; turn: its work, where loops of a function differ in that; holds, lacks: patterns of its instructions. around: the work of a turn of
    the loop directly around, which is then counted with it; calls: whether that one calls a function (None: either way), whose cycles are not counted."""
    counted, found, names = MEASURES[measure], [], []
    for name in functions(path, machine):
        if not re.search(function, name):
            continue
        names.append(name)
        for loop in loops(path, machine, name):
            for p in loop.paths():
                text = text_of(p)
                if has_call(p) or not re.search(holds, text) or (lacks and re.search(lacks, text)) or fused(p) < least:
                    continue
                work = counted(loop, p)
                if work and turn in (None, work):
                    found.append((loop, p))
    if not names:
        raise Missing(f"{path}: no function like {function}")
    if not found:
        raise Missing(f"{path}: no loop with {measure} {holds} in {', '.join(names)[:200]}")
    loop, best = pick(found, counted, longest)
    if around is None or machine == "armv7":  # there the inner loop stands alone
        return Choice(loop, best)
    return around_of(
        loops(path, machine, loop.function, innermost=False), loop.function, loop, best, counted, around, calls, longest
    )


def main():
    path, pattern = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    machine = (
        "aarch64"
        if "aarch64" in run(f"llvm-objdump-{LLVM}", "-f", path).split("architecture:")[1].split()[0]
        else "armv7"
    )
    for name in functions(path, machine):
        if not re.search(pattern, name):
            continue
        for loop in loops(path, machine, name):
            for p in loop.paths():
                counts = ", ".join(f"{key} {measure(loop, p)}" for key, measure in MEASURES.items())
                print(f"{name[:90]} at {loop.head:#x}: {len(p)} instructions, {counts}, spills {spills(loop, p)}")
                if os.environ.get("SHOW"):
                    print("\n".join(f"    {x.name} {x.operands}" for x in p))


if __name__ == "__main__":
    main()
