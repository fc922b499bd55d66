"""What a search finds: images, with their distances."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from hybridhash_jax.retrieval.engine import Nearest
from hybridhash_jax.retrieval.index import Entry, Index


@dataclasses.dataclass(frozen=True)
class Found:
    """An image that was found.

    Attributes:
      row: its place in the index.
      path: relative to the index's root, as `os.fsdecode` gives it.
      distance: in bits, from the query.
      label: that of its entry; empty for none.
      width: in pixels.
      height: in pixels.
      file: the whole path; None where the index has no root.
    """

    row: int
    path: str
    distance: int
    label: str
    width: int
    height: int
    file: Path | None


class Answer(list[Found]):
    """The images nearest to one query, by distance, then by row.

    Attributes:
      at_last: how many of all images that were searched have the last of these distances. Learned
        codes tie, so where the answer ends at k there may be more of them than it shows.
      exact: False where only lists of similar codes were looked at, see kind="ivf".
    """

    def __init__(self, found: Iterable[Found] = (), at_last: int = 0, exact: bool = True):
        super().__init__(found)
        self.at_last, self.exact = at_last, exact

    @property
    def left_out(self) -> int:
        """How many images as near as the last one are not in the answer."""
        shown = sum(one.distance == self[-1].distance for one in self) if self else 0
        return self.at_last - shown


def answer_of(index: Index, nearest: Nearest) -> Answer:
    """The images of rows."""
    root = index.root

    def found(row: int, distance: int, entry: Entry) -> Found:
        path = os.fsdecode(entry.path)
        file = None if root is None else root / path
        return Found(row, path, distance, entry.label, entry.width, entry.height, file)

    rows = [int(row) for row in nearest.rows]
    numbers = zip(rows, map(int, nearest.distances), index.entries(rows), strict=True)
    return Answer((found(*one) for one in numbers), nearest.at_last, nearest.exact)
