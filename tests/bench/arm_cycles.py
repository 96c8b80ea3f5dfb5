"""Tables of the cycles that cores' models take for the hot kernels on Arm; called by arm.sh. The kernels stand in arm_kernels.py."""

import argparse
import math
import os
import re
import sys

import arm_kernels
import arm_loops
from arm_loops import Missing

# A row of 64-bit Arm has cores with dot products and cores without.
FAST, OLD = arm_loops.CORES["aarch64"][:4], arm_loops.CORES["aarch64"][4:]
BUDGETS, SLACK = "tests/budgets/arm_cycles.txt", 0.03
README = "platforms/raspberrypi/README.md"
BEGIN, END = "<!-- cycles: bash tests/bench/arm.sh --markdown -->", "<!-- end of cycles -->"
COMPILERS = {"clang": "", "GCC": "-gcc"}


class Figures:
    """Of a kernel as a compiler made it: cycles by core, and loads and stores of the stack."""

    def __init__(self, cycles, stack):
        self.cycles, self.stack = cycles, stack


def object_of(build, machine, compiler, target, source):
    folder = "runnel_fast" if source.startswith("text/") else "runnel_cpu_" + target
    return os.path.join(build, machine + COMPILERS[compiler], "runtime", "CMakeFiles", folder + ".dir", source + ".o")


def peer_object(o, target, rule):
    return os.path.join(o.peer, f"{'quants' if 'vec_dot' in rule['function'] else 'repack'}.{target}.o")


def figures(machine, cores, path, parts):
    cycles, stack = {core.title: 0 for core in cores}, 0
    for rule in parts[:1] if machine == "armv7" else parts:
        rule = dict(rule)
        work, measure = rule.pop("work"), rule["measure"]
        chosen = arm_loops.choose(path, machine, **rule)
        turns = work / chosen.work(arm_loops.MEASURES[measure])
        stack += chosen.spills() * turns
        for core in cores:
            cycles[core.title] += chosen.cycles(machine, core) * turns
    return Figures(cycles, stack)


def many_figures(o, k, target, cores, compiler, machine="aarch64"):
    return figures(machine, cores, object_of(o.build, machine, compiler, target, k.source), k.parts)


def has_matrix_kernels(k):
    return k.source.startswith("ops/matmul") and k.parts[0]["measure"] == "products"


def rows_of(o, k, compilers=tuple(COMPILERS)):
    """(who, figures) of a kernel on 64-bit Arm: with dot products beside what the oldest cores run, then with matrix instructions."""
    rows = []
    for compiler in compilers:
        fast, old = many_figures(o, k, "neon_dotprod", FAST, compiler), many_figures(o, k, "neon", OLD, compiler)
        rows.append((compiler, Figures({**fast.cycles, **old.cycles}, fast.stack)))
    if o.peer and k.peer:
        fast = figures(
            "aarch64", FAST, peer_object(o, "neon_dotprod", k.peer["neon_dotprod"]), [k.peer["neon_dotprod"]]
        )
        old = (
            figures("aarch64", OLD, peer_object(o, "neon", k.peer["neon"]), [k.peer["neon"]]).cycles
            if "neon" in k.peer
            else {}
        )
        rows.append(("peer", Figures({**fast.cycles, **old}, fast.stack)))
    if has_matrix_kernels(k):
        rows += [(compiler + ", i8mm", many_figures(o, k, "neon_i8mm", FAST, compiler)) for compiler in compilers]
        if o.peer and "neon_i8mm" in k.peer:
            rows.append(
                (
                    "peer, i8mm",
                    figures("aarch64", FAST, peer_object(o, "neon_i8mm", k.peer["neon_i8mm"]), [k.peer["neon_i8mm"]]),
                )
            )
    return rows


def table(title, cores, rows):
    lines = [
        f"| {title} | by | " + " | ".join(c.title for c in cores) + " | stack |",
        "|---|---|" + "---|" * (len(cores) + 1),
    ]
    last = None
    for name, who, f in rows:
        cells = [f"{f.cycles[c.title]:.0f}" if c.title in f.cycles else "" for c in cores]
        lines.append(f"| {name if name != last else ''} | {who} | " + " | ".join(cells) + f" | {f.stack:.0f} |")
        last = name
    return "\n".join(lines) + "\n"


def kernels(pattern=""):
    found = [(section, k) for section in arm_kernels.SECTIONS for k in section.kernels if re.search(pattern, k.name)]
    if not found:
        raise Missing(f"no kernel like {pattern}")
    return found


def objects(preset):
    """What a build has to make for the tables."""
    machine, compiler = preset.split("-")[0], "GCC" if preset.endswith("-gcc") else "clang"
    found = set()
    for _, k in kernels():
        if machine == "armv7" and not k.armv7:
            continue
        for target in (
            ["neon"] if machine == "armv7" else ["neon", "neon_dotprod"] + ["neon_i8mm"] * has_matrix_kernels(k)
        ):
            found.add(os.path.relpath(object_of("", machine, compiler, target, k.source), preset))
    return sorted(found)


def tables(o):
    cores, text = FAST + OLD, []
    for section in arm_kernels.SECTIONS:
        rows = [(k.name, who, f) for s, k in kernels(o.only) if s is section for who, f in rows_of(o, k)]
        if rows:
            text.append(table(section.title, cores, rows))
    small = arm_loops.CORES["armv7"]
    for section in arm_kernels.SECTIONS:
        rows = [
            (k.name, "clang", many_figures(o, k, "neon", small, "clang", "armv7"))
            for s, k in kernels(o.only)
            if s is section and k.armv7
        ]
        if rows:
            text.append(table("32-bit, " + section.title, small, rows))
    return "\n".join(text)


def version_of(compiler):
    return re.search(r"(\d+)\.\d+", arm_loops.run(*compiler, "--version")).group(1)


def write_readme(text):
    with open(README) as f:
        before, rest = f.read().split(BEGIN)
    after = rest.split(END)[1]
    versions = f"clang {version_of(['clang'])}, GCC {version_of(['aarch64-linux-gnu-g++'])}; models of LLVM {arm_loops.LLVM}, of A72 and A53 LLVM {arm_loops.OLDER_LLVM}."
    with open(README, "w") as f:
        f.write(f"{before}{BEGIN}\n{versions}\n\n{text}{END}{after}")


def own_figures(o):
    """Of what the reference compiler made: {(kernel, who): figures}."""
    return {
        (k.name, who): f for _, k in kernels(o.only) for who, f in rows_of(o, k, ["clang"]) if who.startswith("clang")
    }


def write_budgets(o):
    with open(BUDGETS, "w") as f:
        f.write(
            f"# Most cycles of tests/bench/arm_kernels.py's kernels as clang {version_of(['clang'])} makes them, by core: {' '.join(c.title for c in FAST + OLD)}. Written by tests/bench/arm.sh --budgets.\n"
        )
        for (name, who), found in own_figures(o).items():
            cells = [
                str(math.ceil(found.cycles[c.title] * (1 + SLACK))) if c.title in found.cycles else "-"
                for c in FAST + OLD
            ]
            f.write(f"{name} | {who} | {' '.join(cells)}\n")


def check(o):
    """Whether every kernel keeps to its budget; those of another version of the compiler are not comparable."""
    budgets, wrong = {}, []
    with open(BUDGETS) as f:
        made_by = re.search(r"clang (\d+)", f.readline()).group(1)
        for line in f:
            name, who, cells = line.split(" | ")
            budgets[name, who] = cells.split()
    if made_by != version_of(["clang"]):
        wrong.append(f"the budgets are those of clang {made_by}; this is clang {version_of(['clang'])}")
    found = own_figures(o)
    wrong += [f"{name}, {who}: no budget" for name, who in found.keys() - budgets.keys()]
    wrong += [
        f"{name}, {who}: a budget without a kernel"
        for name, who in budgets.keys() - found.keys()
        if re.search(o.only, name)
    ]
    for key in found.keys() & budgets.keys():
        for core, most in zip(FAST + OLD, budgets[key]):
            cycles = found[key].cycles.get(core.title)
            if (cycles is None) != (most == "-") or cycles is not None and cycles > float(most):
                wrong.append(
                    f"{', '.join(key)}: {cycles and round(cycles)} cycles on {core.title}, at most {most} are allowed"
                )
    print("\n".join(sorted(wrong)) or f"{len(found)} kernels keep to their cycles")
    return not wrong


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("--peer", default="", help="folder with the peer's objects")
    p.add_argument("--only", default="", help="pattern of kernels' names")
    p.add_argument("--objects", metavar="PRESET", help="names what that build has to make")
    p.add_argument("--markdown", action="store_true")
    p.add_argument("--budgets", action="store_true")
    p.add_argument("--check", action="store_true")
    o = p.parse_args()
    try:
        if o.objects:
            print("\n".join(objects(o.objects)))
        elif o.check:
            return 0 if check(o) else 1
        elif o.budgets or o.markdown:
            if o.budgets:
                write_budgets(o)
            if o.markdown:
                write_readme(tables(o))
        else:
            print(tables(o))
    except Missing as e:
        print(f"arm_cycles.py: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
