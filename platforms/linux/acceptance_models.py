"""Models and inputs of arm64_acceptance.sh: python3 acceptance_models.py FOLDER     (PYTHONPATH=tests/e2e, RUNNEL_BIN=... as for the tests there)

--compare A B: two files of runnel eval; they must agree within 1e-4 of the largest logit.
"""

import os
import shutil
import sys

import support


def compare(a, b):
    (shape, x), (other, y) = (support.read_safetensors(path)["logits"] for path in (a, b))
    assert shape == other, (shape, other)
    largest, difference = max(map(abs, x)), max(abs(p - q) for p, q in zip(x, y))
    print(f"{shape[0]} rows of {shape[1]} logits: largest difference {difference / largest:.1e} of the largest")
    sys.exit(difference > 1e-4 * largest)


def main():
    if sys.argv[1] == "--compare":
        compare(*sys.argv[2:])
    folder = sys.argv[1]
    for name in ("gemma3", "mamba2", "qwen3_next"):
        support.run(
            "runnel-convert", os.path.join(support.GOLDENS, "tiny_" + name), "-o", os.path.join(folder, name + ".rnl")
        )
        support.write_ids(
            os.path.join(folder, name + ".ids"), list(support.golden("tiny_" + name, "ids.safetensors")["ids"][1])
        )
    typeseg = os.path.join(support.GOLDENS, "typeseg")
    support.run(
        "runnel-convert",
        os.path.join(typeseg, "typeseg.json"),
        "--weights-file",
        os.path.join(typeseg, "typeseg.safetensors"),
        "-o",
        os.path.join(folder, "typeseg.rnl"),
    )
    with open(os.path.join(folder, "labels.txt"), "w") as f:
        f.writelines(f"kind{i}\n" for i in range(5))
    support.Case.setUpClass()
    shutil.copy(
        support.Case.chat_model("chat", "tiny_gemma3", max_position_embeddings=4096), os.path.join(folder, "chat.rnl")
    )
    support.Case.tearDownClass()


if __name__ == "__main__":
    main()
