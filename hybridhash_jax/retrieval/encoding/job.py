"""Encodes what is to do, segment by segment: threads decode while the network computes."""

import collections
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hybridhash_jax.encode import EncodedBatch
from hybridhash_jax.retrieval.encoding.comparison import file_facts
from hybridhash_jax.retrieval.encoding.encoder import Encoder
from hybridhash_jax.retrieval.encoding.errors import EncoderError
from hybridhash_jax.retrieval.encoding.listing import label_of
from hybridhash_jax.retrieval.encoding.path_list import PathList
from hybridhash_jax.retrieval.encoding.prepare import Preparation, Prepared
from hybridhash_jax.retrieval.encoding.unreadable import Refused, write_unreadable
from hybridhash_jax.retrieval.index.records import Entry
from input_pipeline.errors import UnreadableFile, UnreadableImage

if TYPE_CHECKING:
    from hybridhash_jax.retrieval.index import Writer

_NAN = "look for a diverged training run or a damaged checkpoint, or name another --checkpoint"
SEGMENT = 4096  # files of the listing, at whose borders what is encoded is written


@dataclasses.dataclass(frozen=True)
class _Read:
    """One file that was looked at: what was taken of it, or why not."""

    place: int  # in the listing
    path: bytes
    size: int
    modified_ns: int
    prepared: Prepared | None
    refused: Refused | None = None


@dataclasses.dataclass
class _Collected:
    """What is encoded and not yet written."""

    entries: list[Entry] = dataclasses.field(default_factory=list[Entry])
    packed: list[np.ndarray] = dataclasses.field(default_factory=list[np.ndarray])
    hashes: list[np.uint64 | None] = dataclasses.field(default_factory=list[np.uint64 | None])
    thumbnails: list[bytes | None] = dataclasses.field(default_factory=list[bytes | None])
    broken: list[bytes] = dataclasses.field(default_factory=list[bytes])

    def make_even(self) -> None:
        """Drops what an interruption left half done; thumbnails come last."""
        count = len(self.thumbnails)
        del self.entries[count:], self.packed[count:], self.hashes[count:]


class FolderJob:
    """Encodes files into an index.

    Attributes:
      refused: every file that is known to be unreadable; what was known before is put in first.
      encoded, unreadable: how many files ended so.
    """

    def __init__(
        self,
        encoder: Encoder,
        preparation: Preparation,
        writer: "Writer",
        root: Path,
        *,
        num_workers: int,
        segment: int = SEGMENT,
    ):
        """Files are below `root`; `segment` is how many of a listing go into one of the index."""
        self.encoder, self.preparation, self.writer = encoder, preparation, writer
        self.top, self.index = os.fsencode(root), writer.index.path
        self.num_workers, self.segment = max(1, num_workers), segment
        self.refused: dict[bytes, Refused] = {}
        self.encoded = self.unreadable = 0
        self._collected, self._part = _Collected(), 0

    def run(
        self,
        paths: PathList,
        to_do: np.ndarray,
        on_images: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Encodes the files at the places `to_do` of a listing, in order.

        Segments end where multiples of `segment` are in the listing, so that a run that was killed
        and goes on writes the same ones. What is less than half of one waits for the next.
        """
        named = ((place, paths[place]) for place in to_do.tolist())
        with concurrent.futures.ThreadPoolExecutor(self.num_workers, "decode") as pool:
            reads = self._read_ahead(pool, named)
            try:
                self._encode(reads, on_images)
            except KeyboardInterrupt:
                self._collected.make_even()
                self._write()  # what is encoded is kept
                raise
            finally:
                reads.close()
                pool.shutdown(cancel_futures=True)
        self._write()

    def _encode(self, reads: Iterable[_Read], on_images: Callable[[int], object]) -> None:
        """One batch is computed while the one before it is collected."""
        before: tuple[list[_Read], EncodedBatch | None] | None = None
        for window in _windows(reads, self.encoder.batch_size):
            crops = [read.prepared.crop for read in window if read.prepared]
            now = window, self.encoder.start(np.stack(crops)) if crops else None
            if before is not None:
                self._collect(*before)
                on_images(len(before[0]))
            before = now
        if before is not None:
            self._collect(*before)
            on_images(len(before[0]))

    def _read_ahead(
        self, pool: concurrent.futures.Executor, named: Iterable[tuple[int, bytes]]
    ) -> Generator[_Read, None, None]:
        """Files in order, decoded by threads while a batch is computed."""
        ahead = self.encoder.batch_size + 4 * self.num_workers
        pending: collections.deque[concurrent.futures.Future[_Read]] = collections.deque()
        for place, path in named:
            pending.append(pool.submit(self._read, place, path))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _read(self, place: int, path: bytes) -> _Read:
        size, modified = file_facts(self.top, path)  # before: what changes later is read again
        try:
            prepared = self.preparation.of_file(os.path.join(self.top, path))
            return _Read(place, path, size, modified, prepared)
        except UnreadableFile as error:
            refused = Refused(str(error))  # which may end without a change of the file
        except UnreadableImage as error:
            refused = Refused(str(error), size, modified)
        except MemoryError:
            refused = Refused("too large for this machine's memory")
        return _Read(place, path, size, modified, None, refused)

    def _collect(self, window: list[_Read], batch: EncodedBatch | None) -> None:
        count = sum(read.prepared is not None for read in window)
        codes: Iterator[tuple[np.ndarray, bool]] = iter(())
        if batch is not None:
            packed, is_nan = self.encoder.fetch(batch, count)
            if count > 1 and is_nan.all():
                raise EncoderError(f"{self.encoder.model.name} gives NaN for every image: {_NAN}")
            codes = zip(packed, is_nan.tolist(), strict=True)
        for read in window:
            if (part := read.place // self.segment) != self._part:
                self._part = part
                if len(self._collected.entries) >= self.segment // 2:
                    self._write()
            self._add(read, next(codes) if read.prepared else None)

    def _add(self, read: _Read, code: tuple[np.ndarray, bool] | None) -> None:
        refused = read.refused
        if code is not None and code[1]:
            refused = Refused("the network's output is NaN", read.size, read.modified_ns)
        if refused is not None or code is None or read.prepared is None:
            assert refused is not None
            self.refused[read.path] = refused
            self.unreadable += 1
            if refused.size is not None:
                self._collected.broken.append(read.path)
            return
        self.refused.pop(read.path, None)
        self.encoded += 1
        one, to = read.prepared, self._collected
        size, changed = read.size, read.modified_ns
        to.entries.append(
            Entry(read.path, size, changed, one.width, one.height, label_of(read.path))
        )
        to.packed.append(code[0].copy())  # not a view, which would keep its batch
        to.hashes.append(one.hash)
        to.thumbnails.append(one.thumbnail)

    def _write(self) -> None:
        """One segment; and what could not be read."""
        done, self._collected = self._collected, _Collected()
        if done.entries:
            hashes = np.asarray(done.hashes, np.uint64) if self.preparation.hashes else None
            thumbnails = done.thumbnails if self.preparation.thumbnails else None
            self.writer.add(done.entries, np.stack(done.packed), hashes, thumbnails)
        if done.broken:
            self.writer.remove(done.broken)  # what it was before is no longer there
        write_unreadable(self.index, self.refused)


def _windows(reads: Iterable[_Read], size: int) -> Iterator[list[_Read]]:
    """Lists of which at most `size` could be read, unreadable ones between them."""
    window: list[_Read] = []
    good = 0
    for read in reads:
        window.append(read)
        good += read.prepared is not None
        if good == size or len(window) >= 4 * size:
            yield window
            window, good = [], 0
    if window:
        yield window
