"""Approximate search: codes in lists of similar ones (faiss), of which a query looks at a few.

How many lists it looks at is chosen by measurement, so that the share of the true neighbours that
are found reaches a target. Rows written after the lists were built are scanned exactly.
"""

import contextlib
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridhash_jax.retrieval.engine.exact import Mask, Nearest, Words, check_arguments, nearest
from input_pipeline.atomic_file import write_atomically

_FIRST_WORDS = b"hybridhash lists of codes, format "
_FORMAT = b"1"
_FIELDS = ("words", "num_rows", "made_of", "lists", "probes", "recall", "k")
# Times k that are asked for where a mask leaves some out; beyond, an exact scan is as fast.
_MORE = (1, 4, 16)


class IvfError(ValueError):
    """Lists that cannot be built, read or used; the message says what would help."""


@dataclasses.dataclass(frozen=True)
class Ivf:
    """Lists of similar codes.

    Attributes:
      words: uint64 words a code.
      num_rows: rows from here on are not in the lists.
      made_of: what the caller named the codes they were built from.
      lists: how many there are.
      probes: how many a query looks at.
      recall: the share of the `k` nearest that it finds, measured when built.
      k: see recall.
      faiss_index: faiss's `IndexBinaryIVF`.
    """

    words: int
    num_rows: int
    made_of: str
    lists: int
    probes: int
    recall: float
    k: int
    faiss_index: Any

    def search(
        self,
        codes: Sequence[Words],
        query: Words,
        k: int | None = None,
        radius: int | None = None,
        mask: Mask | None = None,
        first_rows: Sequence[int] | None = None,
    ) -> Nearest:
        """Finds what `exact.nearest` finds, but only in the lists most similar to the query.

        Where the mask, or short lists, leave fewer than k, all codes are compared after all; the
        result's `exact` says so. `codes` are those of the index now, of which the first `num_rows`
        are in the lists. The mask must leave out rows in the lists whose codes are not given.
        """
        query = np.asarray(query)
        starts = check_arguments(codes, query[None], k, radius, mask, first_rows)
        ends = [start + len(array) for start, array in zip(starts, codes, strict=True)]
        self._check_size(len(query), max(ends, default=0) if mask is None else len(mask))
        with in_one_thread():
            reach = self._reach(query, k, radius, mask)
            if reach is None:
                return nearest(codes, query, k, radius, mask, starts)
            rows, distances = self._within(query, reach, mask)
        later = [
            (max(start, self.num_rows), array[max(self.num_rows - start, 0) :])
            for start, end, array in zip(starts, ends, codes, strict=True)
            if end > self.num_rows
        ]
        if later:
            starts, arrays = zip(*later, strict=True)
            new = nearest(arrays, query, None, reach, mask, starts)
            rows, distances = np.append(rows, new.rows), np.append(distances, new.distances)
        return _in_order(rows, distances, k)

    def _check_size(self, words: int, num_rows: int) -> None:
        if (words, max(num_rows, self.num_rows)) != (self.words, num_rows):
            raise IvfError(
                f"the lists are of {self.num_rows} codes of {self.words} words, which {num_rows} of "
                f"{words} words cannot hold; build them again"
            )

    def _reach(
        self, query: Words, k: int | None, radius: int | None, mask: Mask | None
    ) -> int | None:
        """Returns the largest distance to look at; None if the lists leave fewer than k."""
        largest = 64 * self.words if radius is None else min(radius, 64 * self.words)
        if k is None:
            return largest
        for more in _MORE if mask is not None else (1,):
            distances, rows = self.faiss_index.search(
                as_bytes(query[None]), min(more * k, self.faiss_index.ntotal)
            )
            kept = distances[0][(rows[0] >= 0) & (True if mask is None else mask[rows[0]])]
            if len(kept) >= k:
                return min(largest, int(kept[k - 1]))
            # Where the lists hold fewer codes than asked for, the rest are rows -1, very far away.
            if radius is not None and rows[0][-1] >= 0 and distances[0][-1] > radius:
                return largest  # fewer than k lie within it
        return None

    def _within(self, query: Words, reach: int, mask: Mask | None) -> tuple[np.ndarray, np.ndarray]:
        # All of the last distance, not those that faiss happens to keep: ties are cut by row.
        _, distances, rows = self.faiss_index.range_search(as_bytes(query[None]), reach + 1)
        distances = distances.astype(np.int64)
        return (rows, distances) if mask is None else (rows[mask[rows]], distances[mask[rows]])

    def save(self, path: Path) -> None:
        """Writes the lists to a file."""
        body = load_faiss().serialize_index_binary(self.faiss_index).tobytes()
        header = {name: getattr(self, name) for name in _FIELDS}
        content = json.dumps(header, sort_keys=True).encode() + b"\n" + body
        first_line = _FIRST_WORDS + _FORMAT + b", " + _checksum(content) + b"\n"
        write_atomically(path, first_line + content)


def load(path: Path, words: int) -> Ivf:
    """Reads lists that `save` wrote; refuses damaged ones, and those of codes of other words.

    Whether its `made_of` is what it should be is for the caller to see.
    """
    faiss = load_faiss()
    try:
        first_line, _, content = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise IvfError(f"{path} cannot be read ({error.strerror}); build it again") from error
    if not first_line.startswith(_FIRST_WORDS):
        raise IvfError(f"{path} holds no lists of codes; build it again")
    version, _, checksum = first_line.removeprefix(_FIRST_WORDS).partition(b", ")
    if version != _FORMAT:
        raise IvfError(
            f"{path} is of format {version.decode(errors='replace')}, this program reads "
            f"{_FORMAT.decode()}; build it again"
        )
    if checksum != _checksum(content):
        raise IvfError(f"{path} is damaged: its checksum differs; build it again")
    line, _, body = content.partition(b"\n")
    header = json.loads(line)
    if header["words"] != words:
        raise IvfError(
            f"{path} was built from codes of {header['words']} words; asked for {words}. Build it again"
        )
    try:
        index = faiss.deserialize_index_binary(np.frombuffer(body, np.uint8))
    except RuntimeError as error:
        raise IvfError(f"{path} is of another version of faiss; build it again") from error
    index.nprobe = header["probes"]
    return Ivf(**header, faiss_index=index)


def load_faiss() -> Any:
    """Imports faiss; an `IvfError` that names the package if it is not installed."""
    try:
        with warnings.catch_warnings():  # its wrappers are older than Python 3.12
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError as error:
        raise IvfError(
            "approximate search needs faiss, which is not installed: pip install faiss-cpu "
            "(requirements-search.txt, or the extra search). An exact search needs nothing more."
        ) from error
    return faiss


def _in_order(rows: np.ndarray, distances: np.ndarray, k: int | None) -> Nearest:
    order = np.lexsort((rows, distances))
    kept = order[:k]
    if not len(kept):
        return Nearest(np.empty(0, np.int64), np.empty(0, np.int64), 0, exact=False)
    at_last = int((distances == distances[kept[-1]]).sum())
    return Nearest(rows[kept], distances[kept], at_last, exact=False)


@contextlib.contextmanager
def in_one_thread() -> Iterator[None]:
    """Lets faiss compute in the calling thread, which then has as many threads as before."""
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def as_bytes(codes: Words) -> np.ndarray:
    """Codes as faiss takes them, uint8 [N, bits / 8]."""
    return np.ascontiguousarray(codes).view(np.uint8)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
