"""From codes to rows of an index: the exact scan over all that is searched."""

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, UInt64

from hybridhash_jax.retrieval.engine import Nearest, nearest_batch
from hybridhash_jax.retrieval.index import Index, IndexFileError
from hybridhash_jax.retrieval.names import shown as shown_name
from hybridhash_jax.retrieval.search.damage import damage
from input_pipeline.messages import shortened
from input_pipeline.threads import available_cores, map_in_threads

if TYPE_CHECKING:
    from hybridhash_jax.retrieval.engine.ivf import Ivf

Kind = Literal["exact", "ivf"]
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
        for name, value in (("k", self.k), ("radius", self.radius)):
            if value is not None and not isinstance(value, int | np.integer):
                raise ValueError(f"{name}={value!r}; give a whole number")
        if self.k is None and self.radius is None:
            raise ValueError("give k, radius, or both: else every image is an answer")
        if self.k is not None and self.k < 1:
            raise ValueError(f"k={self.k}; give 1 or more")
        if self.radius is not None and not 0 <= self.radius <= bits:
            raise ValueError(
                f"radius={self.radius}; codes of {bits} bits are at most {bits} apart; give 0 to {bits}"
            )
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r}; accepted: {', '.join(KINDS)}")


def nearest_rows(
    index: Index,
    queries: UInt64[np.ndarray, "Q words"],
    wanted: Wanted,
    lists: "Ivf | None" = None,
    rows: Bool[np.ndarray, " num_rows"] | None = None,
    num_workers: int | None = None,
) -> list[Nearest]:
    """The nearest rows of an index for each query, by distance, then by row.

    Args:
      index: what is searched.
      queries: uint64 [Q, words].
      wanted: of each query.
      lists: where an approximate answer is wanted.
      rows: what `selected` gives, where it is known.
      num_workers: threads, each of which has some of the queries; None is one a core.
    """
    wanted.check(index.model.bits)
    if not len(queries):
        return []
    rows = selected(index, wanted) if rows is None else rows
    codes = [segment.codes for segment in index.segments]
    where = {
        "k": wanted.k,
        "radius": wanted.radius,
        "mask": None if rows.all() else rows,
        "first_rows": [segment.first_row for segment in index.segments],
    }
    if lists is not None:  # faiss has one number of threads for all of the process
        return [lists.search(codes, query, **where) for query in queries]
    workers = min(num_workers or available_cores(), len(queries))
    parts = np.array_split(queries, workers)
    search = functools.partial(nearest_batch, codes, **where)
    with contextlib.closing(map_in_threads(search, parts, workers)) as answers:
        return [one for answer in answers for one in answer]


def selected(index: Index, wanted: Wanted) -> Bool[np.ndarray, " num_rows"]:
    """Which rows are searched."""
    return index.matching(wanted.where) if wanted.where else index.alive


def check_not_empty(
    index: Index, wanted: Wanted, rows: Bool[np.ndarray, " num_rows"], shown: str
) -> None:
    """Raises IndexFileError where none of the rows is searched, with what would do."""
    if not len(index) and index.damaged:
        raise IndexFileError(f"{shown} has nothing to search: {damage(index)[0]}")
    if not len(index):
        raise IndexFileError(
            f"{shown} holds no images; fill it with hybridhash encode FOLDER --index={shown}"
        )
    if not rows.any():
        given = " and ".join(f"{key}={value}" for key, value in wanted.where)
        hints = _labels(index) if "label" in dict(wanted.where) else []
        if "path" in dict(wanted.where):
            one = index.entries(np.flatnonzero(index.alive)[:1])[0].path
            hints.append(f"its paths are such as {shown_name(one)}")
        raise IndexFileError(f"no image of {shown} has {given}; {'; '.join(hints)}")


def _labels(index: Index) -> list[str]:
    """Which labels may be asked for; "" is that of images without a folder."""
    labels = index.labels()
    names = shortened([name for name in labels if name], 20)
    hints = [f"its labels are: {names}"] if names else []
    return [*hints, "label= finds images without a label"] if "" in labels else hints
