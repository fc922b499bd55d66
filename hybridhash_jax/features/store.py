"""Features that a frozen network gives for images, kept on disk and found by the images' checksums.

A cache folder holds a folder for each key, which stands for everything that features depend on beside
the image. A second split, added photographs, or a run that was stopped find there what is known.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridhash_jax.features import row_files
from hybridhash_jax.features.keys import (
    ELSEWHERE,
    FACTS,
    LOCK,
    VERSION,
    key_of,
    read_facts,
    tell_of_another_version,
)
from hybridhash_jax.features.values import check_values
from hybridhash_jax.runtime import failures, lock_file
from hybridhash_jax.runtime.console import logger
from input_pipeline.atomic_file import write_json
from input_pipeline.errors import DataError

_POLL_SECONDS = 0.5


def needed_bytes(num_images: int, views: int, row_shape: Sequence[int]) -> int:
    """What the features of so many images take on disk."""
    row = views * math.prod(row_shape) * row_files.FLOAT16.itemsize
    return num_images * (row + row_files.ENTRY.itemsize)


def open_store(
    folder: str | Path, facts: Mapping[str, Any], row_shape: Sequence[int], *, views: int = 1
) -> "FeatureStore":
    """The features with these facts in a cache folder; writes nothing.

    Args:
      folder: the cache folder; need not be there.
      facts: JSON of what the features depend on: parameters, stage, image size, preprocessing.
      row_shape: the shape of one view's features.
      views: how many views of an image are kept.

    Raises:
      DataError: the folder is none, cannot be read, or is a bucket.
    """
    if "://" in str(folder):
        raise DataError(
            f"features are memory-mapped and cannot be kept in {folder}; give a local folder with "
            "--config.features.dir=FOLDER"
        )
    content = {
        "store": VERSION,
        "row_shape": [int(size) for size in row_shape],
        "views": int(views),
        "dtype": "float16",
        "facts": dict(facts),
    }
    content = json.loads(json.dumps(content))  # as it is read again: lists for tuples
    store = FeatureStore(Path(folder).expanduser().absolute(), content)
    if not len(store):
        tell_of_another_version(store.path, content)
    return store


class FeatureStore:
    """Rows of features, float16 [views, *row_shape] an image, and whose they are.

    Attributes:
      path: the key's folder.
      row_shape: the shape of one view's features.
      views: how many views of an image are kept.
      array: float16 [n, views, *row_shape], memory-mapped and read-only, also after others changed
        or removed the files.
    """

    array: np.ndarray

    def __init__(self, cache: Path, content: dict[str, Any]):
        """For `open_store`: what facts.json holds."""
        self.path = cache / key_of(content)
        self.row_shape = tuple(content["row_shape"])
        self.views = content["views"]
        self._content = content
        self._row_bytes = self.views * math.prod(self.row_shape) * row_files.FLOAT16.itemsize
        self._is_writing = False
        self.reload()
        if len(self):
            with contextlib.suppress(OSError):
                os.utime(self.path / FACTS)  # when it was used last, for pruning

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.array)

    @property
    def num_bytes(self) -> int:
        """What the rows take on disk."""
        return needed_bytes(len(self), self.views, self.row_shape)

    def missing(self, sums: np.ndarray) -> np.ndarray:
        """int64 [m] positions of images without a row, each distinct image once.

        `sums`: uint8 [N, 16]. Reads the rows that it finds, to see that they are whole.
        """
        first = dict(reversed([(one, i) for i, one in enumerate(_as_bytes(sums))]))
        self._check([self._places[one] for one in first if one in self._places])
        return np.array(sorted(i for one, i in first.items() if one not in self._places), np.int64)

    def rows(self, sums: np.ndarray) -> np.ndarray:
        """int64 [N] places in `array` of the images with checksums uint8 [N, 16].

        Raises:
          DataError: images that have no row, or whose row is damaged.
        """
        if len(absent := self.missing(sums)):
            raise DataError(
                f"{self.path} has no features of {len(absent):,} of the {len(sums):,} images"
            )
        return np.array([self._places[one] for one in _as_bytes(sums)], np.int64)

    def append(
        self, sums: np.ndarray, features: np.ndarray, names: Sequence[str] | None = None
    ) -> None:
        """Writes the rows of images; only inside `writing`. Keeps those that are there.

        Args:
          sums: uint8 [k, 16].
          features: floats [k, views, *row_shape].
          names: k names for messages; None names checksums.

        Raises:
          DataError: values that float16 does not hold, or a disk that is full or fails. Nothing of
            this call is kept then, and everything before it.
        """
        if not self._is_writing:
            raise RuntimeError("append belongs into a block of `with store.writing()`")
        features = np.asarray(features)
        expected = (len(sums), self.views, *self.row_shape)
        if features.shape != expected:
            raise ValueError(f"features must be {expected}, got {features.shape}")
        check_values(features, sums, names)
        if row_files.sizes(self.path) != self._sizes():  # something else wrote there
            self._repair()
            self.reload()
        new = self.missing(sums)
        if not len(new):
            return
        rows = features[new].astype(row_files.FLOAT16)
        entries = np.empty(len(new), row_files.ENTRY)
        entries["sum"] = sums[new]
        pairs = zip(entries["sum"], rows, strict=True)
        entries["check"] = [row_files.check_of(one, row) for one, row in pairs]
        try:
            row_files.append(self.path, entries, rows)
        except OSError as error:
            raise self._unwritable(error, rows.nbytes) from error
        self._take(entries)

    def reload(self) -> None:
        """Takes what is on the disk now; DataError."""
        self.array = np.empty((0, self.views, *self.row_shape), row_files.FLOAT16)
        self._places: dict[bytes, int] = {}
        self._entries = np.empty(0, row_files.ENTRY)  # of rows that were there before
        self._is_seen = np.empty(0, bool)  # which of them were looked at
        try:
            if not self._is_folder():
                return
            if self._has_facts():
                length = row_files.length(self.path, self._row_bytes)
                self._entries = row_files.read_index(self.path, length)
                self._is_seen = np.zeros(len(self._entries), bool)
                self._take(self._entries)
            elif (self.path / row_files.ROWS).exists():
                logger.warning(
                    "%s is damaged or not of its folder; the features there are made anew",
                    self.path / FACTS,
                )
        except FileNotFoundError:  # pruned just now
            return
        except OSError as error:
            raise DataError(
                f"kept features cannot be read from {self.path} ({failures.reason(error)}); "
                f"{ELSEWHERE}"
            ) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the key inside the block; waits while another process does, and says for whom.

        The rows that the other one wrote are there then, so ask `missing` inside the block.

        Raises:
          DataError: nothing can be written there.
        """
        with contextlib.ExitStack() as stack:
            self._hold(stack)
            try:
                self._repair()
            except (OSError, DataError) as error:
                raise self._unwritable(error) from error
            self.reload()
            self._is_writing = True
            try:
                yield
            finally:
                self._is_writing = False

    def _hold(self, stack: contextlib.ExitStack) -> None:
        is_told = False
        while True:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock_file.held(self.path / LOCK))
                return
            except FileNotFoundError:
                continue  # pruned just now
            except OSError as error:
                raise self._unwritable(error) from error
            except lock_file.HeldError as error:
                if not is_told:
                    logger.info(
                        "waiting for %s, which computes the same features since %s (%s)",
                        lock_file.described(error.holder), error.holder.get("since", "?"), self.path,
                    )  # fmt: skip
                    is_told = True
            time.sleep(_POLL_SECONDS)

    def _repair(self) -> None:
        """Leaves files that rows can be appended to; the lock is held."""
        if not self._has_facts():
            for name in (row_files.ROWS, row_files.INDEX):
                (self.path / name).unlink(missing_ok=True)  # others keep what they have mapped
            write_json(self.path / FACTS, self._content)
        if surplus := row_files.surplus(self.path, self._row_bytes):
            logger.info("removing %s bytes without a whole row from %s", f"{surplus:,}", self.path)
        row_files.cut(self.path, self._row_bytes)

    def _sizes(self) -> tuple[int, int]:
        """What the sizes of the two files should be."""
        return len(self) * row_files.ENTRY.itemsize, len(self) * self._row_bytes

    def _has_facts(self) -> bool:
        """Are the files there of these features?"""
        return read_facts(self.path) == self._content

    def _is_folder(self) -> bool:
        for place in (self.path.parent, self.path):
            if place.exists() and not place.is_dir():
                raise DataError(f"{place} is a file, not a folder for features; {ELSEWHERE}")
        return self.path.is_dir()

    def _take(self, entries: np.ndarray) -> None:
        """Makes the rows of these entries known, which follow those that are."""
        start, end = len(self), len(self) + len(entries)
        self.array = row_files.map_rows(self.path, (end, *self.array.shape[1:]))
        # A row that was damaged is written again, so the last one of an image counts.
        self._places.update(zip(_as_bytes(entries["sum"]), range(start, end), strict=True))

    def _check(self, places: Sequence[int]) -> None:
        """Looks at rows that were not looked at, and forgets those that are damaged."""
        old = np.sort(np.array([p for p in places if p < len(self._entries)], np.int64))
        new = old[~self._is_seen[old]]
        bad = row_files.damaged(self._entries, self.array, new)
        self._is_seen[new] = True
        for one in _as_bytes(self._entries["sum"][bad]):
            del self._places[one]
        if len(bad):
            logger.warning(
                "%s of the %s rows in %s are damaged and are made anew",
                f"{len(bad):,}", f"{len(self):,}", self.path,
            )  # fmt: skip

    def _unwritable(self, error: Exception, num_bytes: int = 0) -> DataError:
        if failures.is_full_disk(error):
            return DataError(
                f"the disk is full: {num_bytes:,} more bytes of features do not fit into "
                f"{self.path}. What was kept before is whole. Make room, give the cache less with "
                f"--config.features.budget_gb=NUMBER, {ELSEWHERE}"
            )
        return DataError(
            f"features cannot be kept in {self.path} ({failures.reason(error)}); {ELSEWHERE}"
        )


def _as_bytes(sums: np.ndarray) -> list[bytes]:
    """The checksums uint8 [N, 16], as what a dictionary takes."""
    size = row_files.SUM_BYTES
    if sums.dtype != np.uint8 or sums.shape[1:] != (size,):
        raise ValueError(f"checksums must be uint8 [N, {size}], got {sums.dtype} {sums.shape}")
    data = sums.tobytes()
    return [data[start : start + size] for start in range(0, len(data), size)]
