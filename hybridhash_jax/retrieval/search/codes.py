"""From codes to rows of an index: the exact scan over all that is searched."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt64

from hybridhash_jax.retrieval.engine import Nearest, nearest_of_many
from hybridhash_jax.retrieval.index import Index, IndexFileError

Kind = Literal["exact", "ivf"]
Where = Mapping[str, str] | Sequence[tuple[str, str]]
KINDS: tuple[Kind, ...] = ("exact", "ivf")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked for, of every query.

    Attributes:
      k: at most so many images; None is all within `radius`.
      radius: the largest distance, in bits; None is any.
      where: conditions that are all fulfilled, such as ("label", "cat") and ("path", "2024/*").
      kind: "exact", or "ivf", which misses some.
    """

    k: int | None = 10
    radius: int | None = None
    where: tuple[tuple[str, str], ...] = ()
    kind: Kind = "exact"

    def check(self, bits: int) -> None:
        """Raises ValueError for what cannot be asked of codes of so many bits."""
        if self.k is None and self.radius is None:
            raise ValueError("give k, radius, or both: else every image is an answer")
        if self.k is not None and self.k < 1:
            raise ValueError(f"k={self.k}; give 1 or more")
        if self.radius is not None and not 0 <= self.radius <= bits:
            raise ValueError(
                f"radius={self.radius}; codes of {bits} bits are 0 to {bits} apart, so give that"
            )
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r}; accepted: {', '.join(KINDS)}")


def conditions(where: Where) -> tuple[tuple[str, str], ...]:
    """Conditions as pairs, from a dict or from pairs."""
    pairs = where.items() if isinstance(where, Mapping) else where
    return tuple((key, value) for key, value in pairs)


def nearest_rows(
    index: Index, queries: UInt64[np.ndarray, "Q words"], wanted: Wanted
) -> list[Nearest]:
    """The nearest rows of an index for each query, by distance, then by row."""
    wanted.check(index.model.bits)
    codes = [segment.codes for segment in index.segments]
    if not (codes and len(queries)):
        nothing = np.zeros(0, np.int64)
        return [Nearest(nothing, nothing, 0) for _ in queries]
    found = nearest_of_many(codes, queries, wanted.k, wanted.radius, _mask(index, wanted))
    return [Nearest(_rows(index, one.rows), one.distances, one.at_last) for one in found]


def selected(index: Index, wanted: Wanted) -> Bool[np.ndarray, " num_rows"]:
    """Which rows are searched."""
    return index.matching(wanted.where) if wanted.where else index.alive


def check_not_empty(index: Index, wanted: Wanted, shown: str) -> None:
    """Raises IndexFileError where no image is searched at all, with what would do."""
    if not len(index):
        raise IndexFileError(
            f"{shown} holds no images; fill it with hybridhash encode FOLDER --index={shown}"
        )
    if wanted.where and not selected(index, wanted).any():
        given = " and ".join(f"{key}={value}" for key, value in wanted.where)
        names = [name or "(none)" for name in index.labels()]
        labels = ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" * (len(names) > 20))
        raise IndexFileError(f"no image of {shown} has {given}; its labels are: {labels}")


def _mask(index: Index, wanted: Wanted) -> Bool[np.ndarray, " N"] | None:
    """Of the codes in the order of segments, from which damaged ones are missing; None is all."""
    rows = selected(index, wanted)
    parts = [rows[one.first_row : one.first_row + len(one.codes)] for one in index.segments]
    mask = np.concatenate(parts)
    return None if mask.all() else mask


def _rows(index: Index, places: np.ndarray) -> np.ndarray:
    """Rows of the index from places among the codes, which damaged segments are missing from."""
    first_rows = np.array([segment.first_row for segment in index.segments])
    starts = np.cumsum([0, *(len(segment.codes) for segment in index.segments[:-1])])
    segment = np.searchsorted(starts, places, side="right") - 1
    return places + (first_rows - starts)[segment]
