"""The index as it is now: a new generation takes the place of the old one without a stop."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hybridhash_jax.retrieval.index import Index, IndexFileError, open_index
from hybridhash_jax.retrieval.index.header import NAME, read_header
from hybridhash_jax.retrieval.names import shown
from hybridhash_jax.retrieval.search.damage import damage

_CACHED_BYTES = 64 * 2**20  # of filters
_LABELS = 200
Where = tuple[tuple[str, str], ...]


class Generation:
    """One generation of an index, and what is worked out of it once.

    Attributes:
      index: the index itself.
    """

    def __init__(self, index: Index):
        """Is for `Generations`, which closes the index."""
        self.index = index
        self._users, self._retired = 0, False
        self._lock = threading.Lock()
        self._filters: OrderedDict[Where, np.ndarray] = OrderedDict()
        self._labels: list[tuple[str, int]] | None = None

    def rows(self, where: Where) -> np.ndarray:
        """Which rows are searched, bool [num_rows]."""
        if not where:
            return self.index.alive
        with self._lock:
            if (known := self._filters.get(where)) is not None:
                self._filters.move_to_end(where)
                return known
        found = self.index.matching(where)
        with self._lock:
            self._filters[where] = found
            while len(self._filters) > 1 and len(self._filters) * found.nbytes > _CACHED_BYTES:
                self._filters.popitem(last=False)
        return found

    def labels(self) -> list[tuple[str, int]]:
        """The most frequent labels and how many images have each."""
        if self._labels is None:
            counts = sorted(self.index.labels().items(), key=lambda item: (-item[1], item[0]))
            self._labels = counts[:_LABELS]
        return self._labels

    def has(self, row: int) -> bool:
        """Is there an image in this row?"""
        return 0 <= row < self.index.num_rows and bool(self.index.alive[row])

    def take(self) -> None:
        """Keeps it open until `give_back`."""
        with self._lock:
            self._users += 1

    def give_back(self) -> None:
        """The last user of a retired one closes it."""
        with self._lock:
            self._users -= 1
            last = self._retired and not self._users
        if last:
            self.index.close()

    def retire(self) -> None:
        """It is closed as soon as nobody uses it."""
        self.take()
        self._retired = True
        self.give_back()


class Generations:
    """Gives the current generation to whoever asks."""

    def __init__(self, path: Path):
        """Opens the index; IndexFileError where there is none."""
        self._path = path
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._signature: tuple[object, ...] | None = _signature(path)
        self._now = Generation(open_index(path))
        self._trouble: str | None = None

    @contextlib.contextmanager
    def current(self) -> Iterator[Generation]:
        """The newest one, which stays open inside the block."""
        with self._lock:
            generation = self._now
            generation.take()
        try:
            yield generation
        finally:
            generation.give_back()

    def warnings(self) -> Sequence[str]:
        """What users should know of the index, a sentence each."""
        with self.current() as generation:
            return [*damage(generation.index), *([self._trouble] if self._trouble else [])]

    def refresh(self) -> bool:
        """Takes up a newer generation; returns whether there was one.

        What cannot be served leaves the old one, and a warning.
        """
        with self._refreshing:
            if (signature := _signature(self._path)) == self._signature:
                return False
            try:
                self._signature = None  # what cannot be read may be readable the next time
                index = open_index(self._path)
                self._signature = signature  # what is refused is not read again
                self._check(index)
            except (IndexFileError, OSError) as error:
                self._trouble = f"the index has changed and cannot be read, so that generation {self._now.index.generation} of it is served: {error}"  # fmt: skip
                return False
            self._trouble = None
            return self._replace(index)

    def close(self) -> None:
        """Closes the index once nobody uses it."""
        self._now.retire()

    def _replace(self, index: Index) -> bool:
        if _identity(index) == _identity(self._now.index):
            index.close()
            return False
        with self._lock:
            old, self._now = self._now, Generation(index)
        old.retire()
        return True

    def _check(self, index: Index) -> None:
        old, new = self._now.index.model, index.model
        if (old.fingerprint, old.bits) != (new.fingerprint, new.bits):
            index.close()
            raise IndexFileError(
                f"{shown(self._path)} now has codes of {new.name}; restart the service to serve them"
            )


def _identity(index: Index) -> tuple[object, ...]:
    return index.header, index.generation


def _signature(path: Path) -> tuple[object, ...]:
    """Changes with every commit, and is cheap."""
    try:
        files = [path / NAME, path / read_header(path).catalogue]
        stats = [os.stat(file) for file in files]
    except (OSError, IndexFileError):
        return ()
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in stats)
