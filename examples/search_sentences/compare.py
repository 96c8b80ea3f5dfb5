"""Vectors and answers beside those of the package's own runtime, sentence-transformers:

    python3 examples/search_sentences/compare.py FILE "question" ["question" ...]

Prints a line for each way to convert the model: bytes of its file, the largest difference of a number in any vector,
the lowest cosine between a sentence's two vectors, how many questions have the same nearest sentence. Ends with 1
where the whole model in f32 differs by more than 1e-5.
"""

import argparse
import sys
import tempfile

import numpy as np
from search import CONTEXT, Index, checkpoint, open_model, sentences_of
from sentence_transformers import SentenceTransformer

WAYS = (
    {"weights": "f32"},
    {"weights": "q8"},
    {"weights": "q4"},
    {"weights": "f32", "prune": "tome:r=1"},
    {"weights": "f32", "prune": "tome:r=2"},
    {"weights": "f32", "prune": "tome:r=2,exact=3"},
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("questions", nargs="+", metavar="question")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as f:
        sentences = sentences_of(f.read())
    original = SentenceTransformer(str(checkpoint()), device="cpu")
    wanted = original.encode(sentences, normalize_embeddings=True)
    asked = original.encode(options.questions, normalize_embeddings=True)
    nearest = (wanted @ asked.T).argmax(axis=0)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for i, way in enumerate(WAYS):
            model = open_model(f"{scratch}/{i}.rnl", **way)
            index = Index(model, sentences)
            if i == 0:
                lengths = [min(CONTEXT, len(model.tokenize(s))) for s in sentences]
                mean = np.mean(lengths)
                print(f"{len(sentences)} sentences of {min(lengths)} to {max(lengths)} tokens, {mean:.0f} in the mean")
            difference = np.abs(index.vectors - wanted).max()
            cosine = (index.vectors * wanted).sum(axis=1).min()
            same = sum(index.find(q, 1)[0][0] == n for q, n in zip(options.questions, nearest))
            name = " ".join(f"{key}={value}" for key, value in way.items())
            print(
                f"{name}: {model.info.file_bytes / 1e6:.1f} MB, largest difference {difference:.1e}, "
                f"lowest cosine {cosine:.4f}, {same} of {len(nearest)} answers the same",
                flush=True,
            )
            failed |= i == 0 and not difference <= 1e-5
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
