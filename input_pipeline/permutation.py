"""Random orders and numbers that are the same on every machine and in every NumPy version.

Published checksums and resumed runs depend on them, and NEP 19 lets NumPy's methods change between
releases, but not raw bit streams: here the sorted words of Philox4x64-10 (Salmon et al., "Parallel
Random Numbers: As Easy as 1, 2, 3", SC 2011), with its key and counter set directly.
"""

import numpy as np

_WORD = 2**64
_MAX_KEYS = 3


def permutation(n: int, *key: int) -> np.ndarray:
    """A random order of 0..n-1, int64 [n], that depends on `n` and the integers `key` only.

    `key` is one to three integers in [0, 2**64), for example a seed and an epoch; any other tuple,
    also of another length, gives an independent order.
    """
    if n < 0:
        raise ValueError(f"permutation: n must be 0 or more, got {n}")
    # A stable sort, so that even two equal words (probability ~ n**2 / 2**65) have one answer.
    return np.argsort(_philox(0, key).random_raw(n), kind="stable").astype(np.int64)


def random_words(count: int, *key: int) -> np.ndarray:
    """Random words, uint64 [count], that depend on the integers `key` only, as in `permutation`.

    A longer draw starts with the words of a shorter one. No words are those of a `permutation`.
    """
    if count < 0:
        raise ValueError(f"random_words: count must be 0 or more, got {count}")
    return _philox(1, key).random_raw(count)


def _philox(use: int, key: tuple[int, ...]) -> np.random.Philox:
    if not 1 <= len(key) <= _MAX_KEYS or any(not 0 <= k < _WORD for k in key):
        raise ValueError(
            f"permutation, random_words: give 1 to {_MAX_KEYS} key integers (seeds), each in "
            f"[0, 2**64), got {key}"
        )
    first, second, third = (*key, 0, 0)[:_MAX_KEYS]
    # Philox counts up in the low words of its counter, so the high ones are free to tell apart
    # more streams; the length in there keeps (1,) and (1, 0) different.
    return np.random.Philox(
        key=np.array([first, second], np.uint64),
        counter=np.array([0, 0, third, use * _WORD // 2 + len(key)], np.uint64),
    )
