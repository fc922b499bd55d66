"""Popcount for Numba, and Hamming distances of one query to a block of items."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

BLOCK = 4096  # items whose distances are kept at a time, 8 KB


def _compile_popcount(typing_context: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


# The set bits of a uint64, one instruction where the machine has it; NumPy's own is unknown to
# Numba.
popcount: Any = intrinsic(_compile_popcount)


@numba.njit(nogil=True, cache=True)
def distances(query: np.ndarray, words: np.ndarray, start: int, out: np.ndarray) -> None:
    """Hamming distances of one query, [W], to the items from `start` on, as many as in `out`."""
    for word in range(query.shape[0]):
        of_query, row = query[word], words[word, start : start + out.shape[0]]
        if word == 0:
            for i in range(out.shape[0]):
                out[i] = popcount(of_query ^ row[i])
        else:
            for i in range(out.shape[0]):
                out[i] += popcount(of_query ^ row[i])


@numba.njit(nogil=True, cache=True)
def shared_labels(query: np.ndarray, labels: np.ndarray, start: int, out: np.ndarray) -> None:
    """Numbers of labels that they share, likewise."""
    for word in range(query.shape[0]):
        of_query, row = query[word], labels[word, start : start + out.shape[0]]
        if word == 0:
            for i in range(out.shape[0]):
                out[i] = popcount(of_query & row[i])
        else:
            for i in range(out.shape[0]):
                out[i] += popcount(of_query & row[i])
