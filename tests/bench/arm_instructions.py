"""Cycles for 1,024 multiply-adds by kind of instruction, operands in registers, by llvm-mca's models of Arm cores: what a kernel of
that kind cannot go below. usage: arm_instructions.py   (Debian: llvm-19)"""

import subprocess

KINDS = (
    # name, instruction, multiply-adds of one
    ("f32: fmla", "fmla v{d}.4s, v{a}.4s, v{b}.4s", 4),
    ("f16, sums in f16: fmla", "fmla v{d}.8h, v{a}.8h, v{b}.8h", 8),
    ("f16, sums in f32: fmlal", "fmlal v{d}.4s, v{a}.4h, v{b}.4h", 4),
    ("bf16: bfdot", "bfdot v{d}.4s, v{a}.8h, v{b}.8h", 8),
    ("bf16: bfmmla", "bfmmla v{d}.4s, v{a}.8h, v{b}.8h", 16),
    ("int8: sdot", "sdot v{d}.4s, v{a}.16b, v{b}.16b", 16),
    ("int8: smmla", "smmla v{d}.4s, v{a}.16b, v{b}.16b", 32),
)
CPUS = {"N1": "neoverse-n1", "V1": "neoverse-v1", "A510": "cortex-a510", "A55": "cortex-a55"}
FEATURES = "+dotprod,+fullfp16,+fp16fml,+bf16,+i8mm"
SUMS = 24  # registers of sums, so that no instruction waits for another
ROUNDS = 100


def cycles(instruction, count, cpu):
    loop = "".join(instruction.format(d=i % SUMS, a=24 + i % 4, b=28 + i % 4) + "\n" for i in range(count))
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={cpu}", f"-mattr={FEATURES}", f"-iterations={ROUNDS}"]
    out = subprocess.run(command, input=loop, capture_output=True, text=True, check=True).stdout
    total = next(line for line in out.splitlines() if line.startswith("Total Cycles"))
    return round(int(total.split()[-1]) / ROUNDS)


print("| 1,024 multiply-adds | " + " | ".join(CPUS) + " |")
print("|---" * (len(CPUS) + 1) + "|")
for name, instruction, work in KINDS:
    print(f"| {name} | " + " | ".join(str(cycles(instruction, 1024 // work, cpu)) for cpu in CPUS.values()) + " |")
