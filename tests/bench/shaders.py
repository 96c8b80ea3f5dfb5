"""Tables of what GPUs' compilers make of the hot shaders; called by shaders.sh. No GPU is needed: the drivers compile for
devices that are not there. Counts are static: a loop's body counts once."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

import shader_cases

RADV = "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json"
README = "shaders/README.md"
BEGIN, END = "<!-- shaders: bash tests/bench/shaders.sh --markdown -->", "<!-- end of shaders -->"


class Missing(Exception):
    pass


class Compiler:
    """One of a driver for a device: environment, and how its machine code spells loads and multiply-adds of 32-bit
    floats, of pairs of halves and of four bytes."""

    def __init__(self, kind, device, icd, environment, loads, adds):
        self.kind, self.device, self.icd, self.environment = kind, device, icd, environment
        self.loads, self.adds = re.compile(loads), [(re.compile(pattern), count) for pattern, count in adds]

    def is_there(self):
        return os.path.exists(self.icd) and all(map(os.path.exists, self.environment.get("LD_PRELOAD", "").split()))

    def run(self, program, spirv, constants):
        """Statistics by name and the lines of the code. A driver that fails is an error with its name."""
        environment = {
            **os.environ,
            **self.environment,
            "VK_ICD_FILENAMES": self.icd,
            "VK_LOADER_LAYERS_DISABLE": "~implicit~",
        }
        command = [program, spirv, *(f"{i}={v}" for i, v in sorted(constants.items()))]
        r = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if r.returncode != 0:
            raise Missing(f"{self.device}: {spirv}: {r.stderr.strip()[-400:]}")
        head, _, code = r.stdout.partition("\ncode\n")
        numbers = dict(line.split("\t") for line in head.splitlines())
        for line in r.stderr.splitlines():  # panvk's own words
            if line.startswith("SHADER-DB:"):
                numbers.update({name: value for value, name in re.findall(r"([\d.]+) ([a-z]+)", line)})
                numbers["spills"], numbers["fills"] = re.search(r"(\d+):(\d+) spills:fills", line).groups()
        return numbers, code.splitlines()


def compilers(folder):
    """All that are asked for, whether they are there or not."""
    amd = dict(
        loads=r"(buffer|global|s_buffer|ds)_(load|read)",
        adds=((r"v_(fma|mac|fmac|mad)\w*_f32", 1), (r"v_pk_fma", 2), (r"v_dot4", 4)),
    )
    adreno = dict(loads=r"\b(ldib|isam|ldg|ldl|ldc)\b", adds=((r"\bmad\.f32", 1), (r"\bmad\.f16", 1), (r"\bdp4acc", 4)))
    mali = dict(loads=r"^\s*(LD_|LOAD)", adds=((r"FMA\.f32", 1), (r"FMA\.v2f16", 2), (r"\bIDPADD\.v4", 4)))
    for family in ("polaris10", "vega10", "navi10", "navi21"):
        yield Compiler("AMD", family, RADV, {"RADV_FORCE_FAMILY": family}, **amd)
    shim = os.path.join(folder, "b/src/freedreno/drm-shim/libfreedreno_noop_drm_shim.so")
    icd = os.path.join(folder, "b/src/freedreno/vulkan/freedreno_devenv_icd.x86_64.json")
    for number in ("660", "740", "750"):
        yield Compiler("Adreno", "Adreno " + number, icd, {"FD_GPU_ID": number, "LD_PRELOAD": shim}, **adreno)
    shim = os.path.join(folder, "b/src/panfrost/drm-shim/libpanfrost_noop_drm_shim.so")
    icd = os.path.join(folder, "b/src/panfrost/vulkan/panfrost_devenv_icd.x86_64.json")
    for name, number in (("Mali-G52", "7212"), ("Mali-G610", "a867")):
        words = {
            "PAN_GPU_ID": number,
            "LD_PRELOAD": shim,
            "BIFROST_MESA_DEBUG": "shaderdb",
            "PAN_I_WANT_A_BROKEN_VULKAN_DRIVER": "1",
        }
        yield Compiler("Mali", name, icd, words, **mali)


def loops(lines):
    """(first, last) line of every loop: from the target of a branch back to the branch."""
    labels, found, instructions = {}, [], []
    for at, line in enumerate(lines):
        label = re.match(r"\s*(\w+):\s*$", line)
        if label:
            labels[label.group(1)] = at
        elif line.strip() and not re.match(r"\s*[;@]", line):
            instructions.append(at)
    place = {at: i for i, at in enumerate(instructions)}
    for at, line in enumerate(lines):
        jump = re.match(r"\s*(?:s_c?branch\w*|\(?.*\b(?:br|jump)\b.*?#)\s*(\w+)", line)
        if jump and labels.get(jump.group(1), at) < at:
            found.append((labels[jump.group(1)], at))
        back = re.search(r"\bBRANCH\S* .*offset:(-\d+)", line)
        if back:
            found.append((instructions[place[at] + 1 + int(back.group(1))], at))
    return found


def inner_loop(compiler, lines):
    """(multiply-adds, loads, instructions) of the loop without loops in it that has the most multiply-adds; of all code
    where there is no loop."""
    found = loops(lines)
    inner = [a for a in found if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in found)] or [(0, len(lines))]

    def count(bounds):
        body = [
            line
            for line in lines[bounds[0] : bounds[1] + 1]
            if line.strip() and not re.match(r"\s*(\w+:\s*$|[;@])", line)
        ]
        repeats = [1 + int((re.search(r"\(rpt(\d)\)", line) or [0, 0])[1]) for line in body]
        adds = sum(
            n * times for line, times in zip(body, repeats) for pattern, n in compiler.adds if pattern.search(line)
        )
        return adds, sum(bool(compiler.loads.search(line)) for line in body), sum(repeats)

    return max(map(count, inner))


def ratio(a, b):
    """ "-" where the loop that was found has none of either: it is not the one that multiplies."""
    return f"{a / b:.2f}" if a and b else "-"


def figures(compiler, program, spirv, constants):
    numbers, lines = compiler.run(program, spirv, constants)
    adds, loads, instructions = inner_loop(compiler, lines)
    number = lambda name: int(float(numbers[name]))
    result = {"loads": ratio(loads, adds), "instructions": ratio(instructions if loads else 0, adds)}
    if compiler.kind == "AMD":
        result.update(registers=number("VGPRs"), waves=number("Subgroups per SIMD"), private=number("Scratch size"))
        result["spills"] = number("Spilled VGPRs") + number("Spilled SGPRs")
    elif compiler.kind == "Adreno":
        result.update(registers=number("Registers used"), waves=number("Max Waves Per Core"))
        result["private"] = number("STP Count") + number("LDP Count")
    else:
        result.update({pipe: float(numbers[pipe]) for pipe in ("fma", "cvt", "sfu", "ls") if pipe in numbers})
        result.update(waves=number("threads"), private=number("spills") + number("fills"))
        result["inner"] = ratio(64 * loads, adds)
    return result


def cells(compiler, f):
    """Columns of a table for a compiler's kind."""
    if compiler.kind == "AMD":
        return [f["loads"], f["instructions"], f["registers"], f["waves"], f"{f['private']}, {f['spills']}"]
    if compiler.kind == "Adreno":
        return [f["loads"], f["instructions"], f["registers"], f["waves"], f["private"]]
    pipes = " / ".join(f"{f[pipe]:.1f}" for pipe in ("fma", "cvt", "sfu", "ls") if pipe in f)
    return [f["loads"], f["inner"], pipes, f["waves"], f["private"]]


HEADERS = {
    "AMD": ["loads", "instructions", "registers", "waves", "scratch, spilled"],
    "Adreno": ["loads", "instructions", "registers", "waves", "private"],
    "Mali": ["loads", "ls / fma of the loop", "fma / cvt / sfu / ls", "threads", "private"],
}


def constant_ids(folder, source):
    """Numbers of a shader's constants by name, those of what it includes too."""
    path = os.path.join(folder, source)
    with open(path) as f:
        text = f.read()
    ids = {name: int(number) for number, name in re.findall(r"constant_id = (\d+)\) const \w+ (\w+)", text)}
    for included in re.findall(r'#include "(.*?)"', text):
        ids.update(constant_ids(os.path.dirname(path), included))
    return ids


class Shaders:
    """The project's own, from their sources."""

    def __init__(self, folder, work):
        self.folder, self.work, self.rows = folder, work, {}
        with open(os.path.join(folder, "variants.txt")) as f:
            for line in f:
                if line.strip() and not line.startswith("#"):
                    name, source, *options = line.split()
                    self.rows[name] = source, [o for o in options if not re.match("(needs|for)=", o)]

    def spirv(self, name):
        source, options = self.rows[name]
        path = os.path.join(self.work, name + ".spv")
        if not os.path.exists(path):
            compile_glsl(os.path.join(self.folder, source), path, options)
        return path

    def constants(self, name, values):
        ids = constant_ids(self.folder, self.rows[name][0])
        unknown = values.keys() - ids.keys()
        if unknown:
            raise Missing(f"{name} has no constant {', '.join(sorted(unknown))}")
        return {ids[constant]: value for constant, value in values.items()}


def compile_glsl(source, path, options):
    command = ["glslangValidator", "-V", "--target-env", "vulkan1.1", "-g0", "--quiet", *options, "-o", path, source]
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode != 0:
        raise Missing(f"{source}: {r.stdout.strip()[-400:]}")


def measure(o, used):
    """[(case, {device: figures})]"""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        shaders = Shaders(o.shaders, work)
        jobs = [
            (name, shaders.spirv(variant), shaders.constants(variant, values))
            for name, variant, values, _ in shader_cases.CASES
            if re.search(o.only, name)
        ]
        for name, spirv, constants in jobs:
            found = {}
            for c in used:
                try:
                    found[c.device] = figures(c, o.program, spirv, constants)
                except Missing as e:
                    found[c.device] = None
                    print(f"shaders.py: {e}", file=sys.stderr)
            rows.append((name, found))
    return rows


def tables(o, used, absent, rows):
    before = {}
    if o.before:
        with open(o.before) as f:
            before = dict(json.load(f))
    lines = []
    for c in used:
        lines += [
            "",
            f"{c.device}:",
            "",
            "| shader | " + " | ".join(HEADERS[c.kind]) + " |",
            "|" + "---|" * (1 + len(HEADERS[c.kind])),
        ]
        for name, found in rows:
            new = cells(c, found[c.device]) if found[c.device] else ["refused"] + [""] * (len(HEADERS[c.kind]) - 1)
            old = before.get(name, {}).get(c.device)
            if old:
                new = [str(b) if str(a) == str(b) else f"{a} → {b}" for a, b in zip(cells(c, old), new)]
            lines.append(f"| {name} | " + " | ".join(map(str, new)) + " |")
    lines += ["", "Compilers that were not there: " + (", ".join(c.device for c in absent) or "none") + "."]
    return "\n".join(lines[1:])


# Loads a multiply-add, at most, of cases whose name has this pattern. Rows of the split head do not begin at multiples of
# four words; a chip without products of bytes has other code for int8.
MOST_LOADS = (
    ("^products (?!.*int8).*many tokens", 0.1),
    ("^products (?!.*(int8|split)).*one token", 0.2),
    ("split", 0.35),
)


def check(rows):
    """What the budgets promise of AMD's compiler: nothing in scratch, nothing spilled, at most 64 registers where Mali
    has no more, few loads in products."""
    for_mali, wrong = {name for name, _, _, is_for_mali in shader_cases.CASES if is_for_mali}, []
    for name, found in rows:
        for device, f in found.items():
            if f is None:
                wrong.append(f"{name}: {device} does not compile it")
            elif f["private"] or f["spills"]:
                wrong.append(f"{name}: {device}: {f['private']} bytes of scratch, {f['spills']} registers spilled")
            elif name in for_mali and f["registers"] > 64:
                wrong.append(f"{name}: {device}: {f['registers']} registers, at most 64")
            for pattern, most in MOST_LOADS:
                if f and re.search(pattern, name) and not float(f["loads"].replace("-", "inf")) <= most:
                    wrong.append(f"{name}: {device}: {f['loads']} loads a multiply-add, at most {most}")
    return wrong


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--program", required=True, help="shader_stats")
    p.add_argument("--compilers", default="build/gpu_compilers", help="folder that gpu_compilers.sh made")
    p.add_argument("--shaders", default="shaders", help="folder of the sources")
    p.add_argument("--only", default="", help="pattern of cases' names")
    p.add_argument("--devices", default="", help="pattern of devices' names")
    p.add_argument("--save", default="", metavar="FILE", help="writes the figures")
    p.add_argument("--before", default="", metavar="FILE", help="figures to show beside")
    p.add_argument("--markdown", action="store_true", help=f"writes the tables into {README}")
    p.add_argument(
        "--check", action="store_true", help="holds the figures of AMD's compiler to the budgets; 77 without one"
    )
    o = p.parse_args()
    wanted = [c for c in compilers(o.compilers) if re.search(o.devices, c.device) and (not o.check or c.kind == "AMD")]
    used = [c for c in wanted if c.is_there()]
    absent = [c for c in wanted if not c.is_there()]
    if not used:
        print("shaders.py: none of these compilers is here: " + ", ".join(c.device for c in absent), file=sys.stderr)
        return 77
    rows = measure(o, used)
    if o.save:
        with open(o.save, "w") as f:
            json.dump(rows, f, indent=1)
    if o.check:
        wrong = check(rows)
        print("\n".join(wrong) or f"{len(rows)} shaders keep to their budgets on {len(used)} devices")
        return 1 if wrong else 0
    text = tables(o, used, absent, rows)
    if not o.markdown:
        print(text)
        return 0
    with open(README) as f:
        head, _, rest = f.read().partition(BEGIN)
    with open(README, "w") as f:
        f.write(head + BEGIN + "\n" + text + "\n" + rest[rest.index(END) :])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as e:
        sys.exit(f"shaders.py: {e}")
