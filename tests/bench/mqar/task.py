"""Multi-query associative recall (MQAR; Arora et al. 2023, "Zoology"): a sequence tells pairs of a key and a value, later it names keys, and the model must answer each
with its value. How many pairs a model recalls shows what its state holds.

ids: (count, length) int64. Token 0 fills gaps; keys are 1 .. 63, values 64 .. 127. answers: the same shape, a value where a key is asked for, elsewhere -100.
"""

import numpy as np

VOCAB, FIRST_VALUE = 128, 64


def sequences(rng, count, pairs, length):
    """rng: numpy.random.RandomState. Every key is asked for once; the places of the questions follow a power law, near ones more often than far ones."""
    slots = (length - 2 * pairs) // 2
    if slots < pairs or pairs >= FIRST_VALUE:
        raise ValueError(f"{pairs} pairs do not fit {length} tokens")
    keys = 1 + np.argsort(rng.rand(count, FIRST_VALUE - 1), axis=1)[:, :pairs]
    values = rng.randint(FIRST_VALUE, VOCAB, (count, pairs))
    ids, answers = np.zeros((count, length), np.int64), np.full((count, length), -100, np.int64)
    ids[:, 0 : 2 * pairs : 2], ids[:, 1 : 2 * pairs : 2] = keys, values
    # Slots without repetition, slot s with a weight of 1 / (s + 1): the largest of log weight + Gumbel noise.
    noise = -np.log(-np.log(rng.rand(count, slots)))
    places = 2 * pairs + 2 * np.argsort(np.log(np.arange(slots) + 1.0) - noise, axis=1)[:, :pairs]
    np.put_along_axis(ids, places, keys, 1)
    np.put_along_axis(ids, places + 1, values, 1)
    np.put_along_axis(answers, places, values, 1)
    return ids, answers


def test_set(pairs, length, count):
    """The same for everybody."""
    return sequences(np.random.RandomState(1000 * pairs + length), count, pairs, length)
