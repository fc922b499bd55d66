"""A table of names, a row a pattern, that serves both directions."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybridhash_jax.pretrained.names.layouts import KEEP, Layout


class Row(NamedTuple):
    """One kind of array; {i} and {j} stand for numbers, the same in both names."""

    theirs: str
    ours: str
    layout: Layout


def layer(theirs: str, ours: str, layout: Layout, *, bias: bool = True) -> list[Row]:
    """The rows of one layer: its weight and, where it has one, its bias."""
    rows = [Row(theirs + ".weight", ours + "/kernel", layout)]
    return rows + ([Row(theirs + ".bias", ours + "/bias", KEEP)] if bias else [])


def norm(theirs: str, ours: str) -> list[Row]:
    """The rows of a normalisation's scale and bias."""
    return [
        Row(theirs + ".weight", ours + "/scale", KEEP),
        Row(theirs + ".bias", ours + "/bias", KEEP),
    ]


class Table:
    """The names of a PyTorch program's arrays, and ours."""

    def __init__(self, rows: Sequence[Row]):
        self._from_theirs = [(_pattern(row.theirs), row) for row in rows]
        self._from_ours = [(_pattern(row.ours), row) for row in rows]

    def to_ours(self, name: str, array: np.ndarray) -> tuple[str, np.ndarray] | None:
        """(our path, the array in our axes), or None for a name that no row has."""
        for pattern, row in self._from_theirs:
            if match := pattern.fullmatch(name):
                return row.ours.format(**match.groupdict()), row.layout.to_ours(array)
        return None

    def to_theirs(self, path: str, array: np.ndarray) -> tuple[str, np.ndarray] | None:
        """(their name, the array in PyTorch's axes): the inverse of `to_ours`."""
        for pattern, row in self._from_ours:
            if match := pattern.fullmatch(path):
                return row.theirs.format(**match.groupdict()), row.layout.to_torch(array)
        return None


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template)
    return re.compile(re.sub(r"\\\{([ij])\\\}", r"(?P<\1>\\d+)", escaped))
