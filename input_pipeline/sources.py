"""Where a batch's pixels come from: an array in memory, or image files that threads decode."""

import concurrent.futures
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from input_pipeline.errors import UnreadableImage
from input_pipeline.images.encoded import EncodedImages
from input_pipeline.images.transforms import WORDS, ImageTransform
from input_pipeline.options import Option
from input_pipeline.threads import available_cores

OPTIONS = (Option("num_workers", "decoding threads", at_least=0, may_change=True),)


class Source(Protocol):
    """Makes the images of a batch."""

    words_per_image: int  # random numbers that an image of a training batch is made with
    batches_at_once: int  # how many batches are worth making side by side

    def __len__(self) -> int: ...

    def images(
        self, rows: np.ndarray, words: np.ndarray | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        """(images, reasons by position for those that could not be read: zeros).

        Images are uint8 [b, H, W, 3], or vectors [b, D].
        `rows`: int [b], with -1 for padding: zeros. `words`: uint64 [b, words_per_image] in
        training.
        """
        ...

    def close(self) -> None:
        """Ends its threads."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Rows of an array as they are: augmentation is the device's work.

    `array`: images uint8 [N, H, W, 3], or vectors float16 or float32 [N, D]. It may be mapped from a
    file: only the rows of a batch are read.
    """

    array: np.ndarray

    words_per_image = 0
    batches_at_once = 1  # a gather is limited by memory

    def __len__(self) -> int:
        return len(self.array)

    def images(
        self, rows: np.ndarray, words: np.ndarray | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        """See `Source`; `words` are not used."""
        # Padding reads some valid row first, which keeps the gather a single call.
        valid = np.maximum(rows, 0)
        # `take` is a third quicker, but copies all of an array that lies at an odd address of a file.
        images = self.array.take(valid, axis=0) if self.array.flags.aligned else self.array[valid]
        if rows.min(initial=0) < 0:
            images[rows < 0] = 0
        return images, {}

    def close(self) -> None:
        """There are no threads."""


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Features [M, views, ...] of images, wherever they lie in the array."""

    array: np.ndarray  # may be memory-mapped
    places: np.ndarray  # int [N], of each image in the array; -1 where it has none
    reasons: Mapping[int, str]  # why an image has none, by row
    view: int | None = None  # None: one at random

    words_per_image = WORDS
    batches_at_once = 1

    def __len__(self) -> int:
        return len(self.places)

    def images(
        self, rows: np.ndarray, words: np.ndarray | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        """See `Source`; the type of the array. The first random number of an image is its view."""
        places = np.where(rows < 0, -1, self.places[rows])
        views = np.full(len(rows), self.view or 0)
        if self.view is None and words is not None:
            views = (words[:, 0] % np.uint64(self.array.shape[1])).astype(np.int64)
        found = self.array[np.maximum(places, 0), views]
        found[places < 0] = 0
        missing = np.flatnonzero((places < 0) & (rows >= 0)).tolist()
        return found, {i: self.reasons.get(int(rows[i]), "has no features") for i in missing}

    def close(self) -> None:
        """There are no threads."""


class DecodedSource:
    """Image files, decoded and transformed by threads."""

    # Not by processes: libjpeg, Pillow and our kernels let go of the interpreter while they work,
    # and pixels need no copying.

    words_per_image = WORDS
    # So that the last images of one batch and the first of the next are decoded side by side.
    batches_at_once = 2

    def __init__(self, encoded: EncodedImages, transform: ImageTransform, num_workers: int | None):
        """`num_workers`: threads; 0 decodes where batches are asked for; None: a thread a core."""
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, or None; got {num_workers}")
        self.encoded = encoded
        self.transform = transform
        self.num_workers = available_cores() if num_workers is None else num_workers
        # Its threads start with the first batch.
        self._pool = concurrent.futures.ThreadPoolExecutor(max(1, self.num_workers), "decode")

    def __len__(self) -> int:
        return len(self.encoded)

    def images(
        self, rows: np.ndarray, words: np.ndarray | None
    ) -> tuple[np.ndarray, dict[int, str]]:
        """See `Source`."""
        size = self.transform.size
        out = np.empty((len(rows), size, size, 3), np.uint8)

        def make(position: int) -> str | None:
            reason = None
            try:
                if (row := int(rows[position])) >= 0:
                    data = self.encoded.reader.read(row)
                    word = None if words is None else words[position]
                    self.transform(data, word, out[position])
                    return None
            except UnreadableImage as error:
                reason = str(error)
            except MemoryError:  # of its bytes; what decoding needs is told with the image's size
                reason = "too large for this machine's memory"
            out[position] = 0
            return reason

        apply = self._pool.map if self.num_workers else map
        reasons = list(apply(make, range(len(rows))))
        return out, {i: reason for i, reason in enumerate(reasons) if reason is not None}

    def close(self) -> None:
        """Ends the threads; there are no batches after it."""
        self._pool.shutdown(cancel_futures=True)
