"""Scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, which come with the package. Each pixel is a token."""

import numpy as np
from sklearn.datasets import load_digits

SIDE, TESTED = 8, 500


def digits(tested):
    """Images [n, 1, 8, 8] float32 from -1 to 1 and their classes [n]; tested: the 500 on which nothing is trained."""
    data = load_digits()
    order = np.random.RandomState(0).permutation(len(data.target))
    order = order[:TESTED] if tested else order[TESTED:]
    return (data.images[order, None] / 8 - 1).astype(np.float32), data.target[order]
