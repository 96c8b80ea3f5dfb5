"""Tables of the cycles that cores' models take for the hot kernels on Arm; called by arm.sh. The kernels stand in arm_kernels.py."""

import argparse
import os
import sys

import arm_kernels
import arm_loops
from arm_loops import Missing

# A row of 64-bit Arm has cores with dot products and cores without.
FAST, OLD = arm_loops.CORES["aarch64"][:4], arm_loops.CORES["aarch64"][4:]
COMPILERS = {"clang": "", "GCC": "-gcc"}


class Figures:
    """Of a kernel as a compiler made it: cycles by core, and loads and stores of the stack."""

    def __init__(self, cycles, stack):
        self.cycles, self.stack = cycles, stack


def object_of(o, machine, compiler, target, source):
    folder = "runnel_fast" if source.startswith("text/") else "runnel_cpu_" + target
    return os.path.join(o.build, machine + COMPILERS[compiler], "runtime", "CMakeFiles", folder + ".dir", source + ".o")


def peer_object(o, target, rule):
    return os.path.join(o.peer, f"{'quants' if 'vec_dot' in rule['function'] else 'repack'}.{target}.o")


def figures(machine, cores, path, parts):
    cycles, stack = {core.title: 0 for core in cores}, 0
    for rule in parts:
        rule = dict(rule)
        work, measure = rule.pop("work"), rule["measure"]
        chosen = arm_loops.choose(path, machine, **rule)
        turns = work / chosen.work(arm_loops.MEASURES[measure])
        stack += chosen.spills() * turns
        for core in cores:
            cycles[core.title] += chosen.cycles(machine, core) * turns
    return Figures(cycles, stack)


def many_figures(o, k, target, cores, compiler, machine="aarch64"):
    return figures(machine, cores, object_of(o, machine, compiler, target, k.source), k.parts)


def rows_of(o, k):
    """(who, figures) of a kernel on 64-bit Arm: with dot products beside what the oldest cores run, then with matrix instructions."""
    has_matrix_kernels = k.source.startswith("ops/matmul") and k.parts[0]["measure"] == "products"
    rows = []
    for compiler in COMPILERS:
        fast, old = many_figures(o, k, "neon_dotprod", FAST, compiler), many_figures(o, k, "neon", OLD, compiler)
        rows.append((compiler, Figures({**fast.cycles, **old.cycles}, fast.stack)))
    if o.peer and k.peer:
        fast = figures("aarch64", FAST, peer_object(o, "neon_dotprod", k.peer["neon_dotprod"]), [k.peer["neon_dotprod"]])
        old = figures("aarch64", OLD, peer_object(o, "neon", k.peer["neon"]), [k.peer["neon"]]).cycles if "neon" in k.peer else {}
        rows.append(("peer", Figures({**fast.cycles, **old}, fast.stack)))
    if has_matrix_kernels:
        rows += [(compiler + ", i8mm", many_figures(o, k, "neon_i8mm", FAST, compiler)) for compiler in COMPILERS]
        if o.peer and "neon_i8mm" in k.peer:
            rows.append(("peer, i8mm", figures("aarch64", FAST, peer_object(o, "neon_i8mm", k.peer["neon_i8mm"]), [k.peer["neon_i8mm"]])))
    return rows


def table(title, cores, rows):
    lines = [f"| {title} | by | " + " | ".join(c.title for c in cores) + " | stack |", "|---|---|" + "---|" * (len(cores) + 1)]
    last = None
    for name, who, f in rows:
        cells = [f"{f.cycles[c.title]:.0f}" if c.title in f.cycles else "" for c in cores]
        lines.append(f"| {name if name != last else ''} | {who} | " + " | ".join(cells) + f" | {f.stack:.0f} |")
        last = name
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("--peer", default="")
    o = p.parse_args()
    for s in arm_kernels.SECTIONS:
        rows = []
        for k in s.kernels:
            try:
                rows += [(k.name, who, f) for who, f in rows_of(o, k)]
            except Missing as e:
                print("MISSING", k.name, e)
        print(table(s.title, FAST + OLD, rows))


if __name__ == "__main__":
    sys.exit(main())
