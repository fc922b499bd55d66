"""The rows that are exported, each with an id that stays the same when an image is encoded anew."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from hybridhash_jax.retrieval.index import Entry, Index
from hybridhash_jax.retrieval.names import shown, shown_label
from input_pipeline.progress import Progress

COLUMNS = ("path", "label", "width", "height")
TEXTS = ("path", "label")
_AT_ONCE = 1 << 16
_POSITIVE = np.int64((1 << 63) - 1)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some of the rows.

    Attributes:
      ids: int64 [n].
      digests: int64 [n]; they change with anything that is exported of a row.
      packed: codes, uint8 [n, ceil(bits / 8)].
      values: of each wanted column, a text or a number a row. In a text is escaped what is no
        printable letter, once, see `names.shown`.
    """

    ids: Int64[np.ndarray, " n"]
    digests: Int64[np.ndarray, " n"]
    packed: UInt8[np.ndarray, "n bytes"]
    values: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.ids)


class Rows:
    """All rows of an index that are searched, in their order.

    Attributes:
      index: which they are of.
      columns: of `COLUMNS`, what goes with each code.
      rows: int64 [n], the index's row numbers.
      ids: int64 [n], all different; see `id_of`.
      digests: int64 [n], see `Batch`.
    """

    def __init__(self, index: Index, columns: Sequence[str]):
        """Reads all entries and codes once; keeps 32 bytes of each."""
        self.index, self.columns = index, tuple(columns)
        self.rows = np.flatnonzero(index.alive)
        ids, self.digests = np.empty((2, len(self.rows)), np.int64)
        with Progress(f"reading {shown(index.path)}", len(self.rows), "codes") as told:
            for first in range(0, len(self.rows), _AT_ONCE):
                part = slice(first, first + _AT_ONCE)
                entries = index.entries(self.rows[part])
                codes = index.packed(self.rows[part])
                ids[part] = [id_of(entry.path) for entry in entries]
                self.digests[part] = list(map(self._digest, entries, codes))
                told.update(len(entries))
        self.ids = all_different(ids)
        self._order = np.argsort(self.ids)

    def __len__(self) -> int:
        return len(self.rows)

    def places(self, ids: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Where each id is in `ids`; -1 for one that is not there."""
        at = np.searchsorted(self.ids, ids, sorter=self._order)
        found = self._order[np.minimum(at, len(self) - 1)]
        return np.where(self.ids[found] == ids, found, -1)

    def batches(self, places: Int64[np.ndarray, " m"], size: int) -> Iterator[Batch]:
        """Some of the rows, at most `size` at once."""
        for first in range(0, len(places), size):
            chosen = places[first : first + size]
            rows = self.rows[chosen]
            entries = self.index.entries(rows) if self.columns else []
            values = {name: [_value(entry, name) for entry in entries] for name in self.columns}
            yield Batch(self.ids[chosen], self.digests[chosen], self.index.packed(rows), values)

    def _digest(self, entry: Entry, code: np.ndarray) -> int:
        content = repr([code.tobytes(), *[getattr(entry, name) for name in self.columns]])
        return _number(hashlib.sha256(content.encode()).digest())


def id_of(path: bytes) -> int:
    """From the first 8 bytes of the path's SHA-256, big-endian, without the highest bit."""
    return _number(hashlib.sha256(path).digest())


def all_different(ids: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Of equal ids, later ones become the next that is free.

    A billion paths have two equal ones in one of twenty cases, a hundred million in one of two
    thousand.
    """
    while True:
        order = np.argsort(ids, kind="stable")
        ordered = ids[order]
        later = order[1:][ordered[1:] == ordered[:-1]]
        if not len(later):
            return ids
        ids = ids.copy()
        ids[later] = (ids[later] + 1) & _POSITIVE


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big") & int(_POSITIVE)


def _value(entry: Entry, column: str) -> Any:
    if column == "path":
        return shown(entry.path)
    return shown_label(entry.label) if column == "label" else getattr(entry, column)
