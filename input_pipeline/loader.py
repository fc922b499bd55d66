"""Batches as a pure function of (seed, step), from memory or from image files.

One Grain element is one *batch* (an element costs ten times what copying a 32x32 image does), made
from its step alone: which rows, which flips, which crops. Nothing needs to be saved to resume.
"""

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import grain
import numpy as np

from input_pipeline.errors import DataError
from input_pipeline.images.transforms import REPLACEMENT
from input_pipeline.images.unreadable import Unreadable
from input_pipeline.order import TrainingOrder, padded, steps_per_epoch
from input_pipeline.permutation import random_words
from input_pipeline.sources import Source

# One batch: "image" uint8 [b, H, W, 3] or float [b, D], "label" uint8 [b, classes], "index" int32
# [b] (position in `rows`; len(rows) for padding and for the replacement of an unreadable training
# image) and "mask" bool [b] (False for padding and unreadable images of an evaluation, which are
# all zeros).
Batch = dict[str, np.ndarray]

# The second key integer of `random_words`.
_AUGMENTATION_STREAM = 5
# More unreadable images than this in a row are not bad luck.
_REPLACEMENTS = 100


def make_train_iterator(
    source: Source,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    order: TrainingOrder,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    prefetch_batches: int = 2,
    unreadable: Unreadable | None = None,
) -> grain.DatasetIterator[Batch]:
    """This process's part of the training batches from `start_step` on, without end.

    Args:
      source: N images; its random numbers are a function of (seed, step, place in the batch).
      labels: uint8 [N, classes].
      rows: int [n], the rows of `source` to train on.
      order: of these n rows. Its batch size is global; process p of P gets its p-th slice of
        batch_size / P rows. Its seed, in [0, 2**64), is the augmentation's as well.
      prefetch_batches: how many batches are prepared ahead, in background threads; 0 for none.
      unreadable: what to do with images that cannot be read; None: a DataError from the iterator.

    `close()` of the iterator ends the threads early, otherwise they end with it.
    """
    if len(rows) == 0:
        raise ValueError("there are no rows to train on; give at least one training image")
    if start_step < 0:
        raise ValueError(f"start_step must be 0 or more, got {start_step}")
    if order.num_images != len(rows):
        raise ValueError(
            f"the order is of {order.num_images} images, and there are {len(rows)} rows"
        )
    part = _part(order.batch_size, process_index, process_count)
    batches = _Batches(source, labels, rows, part, order.batch_size, unreadable or Unreadable())
    steps = range(start_step, sys.maxsize)  # Grain has no endless source; this is one in effect
    return _iterate(steps, functools.partial(batches.train, order), source, prefetch_batches)


def make_eval_batches(
    source: Source,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    prefetch_batches: int = 2,
    unreadable: Unreadable | None = None,
) -> grain.DatasetIterator[Batch]:
    """One pass over `rows` in order; over all processes every image comes exactly once.

    Every process gets the same number of batches, ceil(n / batch_size), so that collective
    operations stay in step; the last one is padded and masked, and a process may find nothing
    but padding in it. Arguments and errors are those of `make_train_iterator`, and `batch_size` is
    global, as that of its order; no rows give no
    batches. An image that cannot be read and is not an error is masked, with its index kept.
    """
    part = _part(batch_size, process_index, process_count)
    batches = _Batches(source, labels, rows, part, batch_size, unreadable or Unreadable())
    steps = range(steps_per_epoch(len(rows), batch_size))
    return _iterate(steps, batches.evaluation, source, prefetch_batches)


def _part(batch_size: int, process_index: int, process_count: int) -> slice:
    """This process's slice of a global batch."""
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be in 0..{process_count - 1}, got {process_index}")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} cannot be shared equally by {process_count} process(es); "
            f"choose a positive multiple of {process_count}"
        )
    per_process = batch_size // process_count
    return slice(process_index * per_process, (process_index + 1) * per_process)


def _iterate(
    steps: range, make: Callable[[int], Batch], source: Source, prefetch_batches: int
) -> grain.DatasetIterator[Batch]:
    threads = grain.ReadOptions(
        num_threads=min(source.batches_at_once, prefetch_batches),
        prefetch_buffer_size=prefetch_batches,
    )
    numbers = grain.MapDataset.range(steps.start, steps.stop)
    return iter(numbers.map(make).to_iter_dataset(threads))


@dataclass(frozen=True, eq=False)
class _Batches:
    """Makes this process's part of a batch from its number."""

    source: Source
    labels: np.ndarray
    rows: np.ndarray
    part: slice
    batch_size: int
    unreadable: Unreadable

    def __post_init__(self):
        count, rows = len(self.source), self.rows
        if count != len(self.labels):
            raise ValueError(f"{count} images but {len(self.labels)} label rows; give one each")
        if len(rows) and not (0 <= np.min(rows) and np.max(rows) < count):
            raise ValueError(
                f"rows must be in 0..{count - 1}, the rows of the images; got "
                f"{np.min(rows)}..{np.max(rows)}"
            )

    def train(self, order: TrainingOrder, step: int) -> Batch:
        index = order.of_step(step)[self.part]
        shape = self.batch_size, self.source.words_per_image
        words = random_words(math.prod(shape), order.seed, _AUGMENTATION_STREAM, step)
        words = words.reshape(shape)[self.part]
        rows = self._rows_of(index)
        images, reasons = self.source.images(rows, words)
        for position in sorted(reasons):
            self.unreadable.found(int(rows[position]), reasons[position], replaceable=True)
            images[position], rows[position] = self._replacement(words[position])
            # Its bank row belongs to its own turn in the epoch.
            index[position] = len(self.rows)
        return self._batch(images, rows, index)

    def evaluation(self, number: int) -> Batch:
        count = len(self.rows)
        index = padded(np.arange(count), number, self.batch_size, count)[self.part]
        rows = self._rows_of(index)
        images, reasons = self.source.images(rows, None)
        for position, reason in sorted(reasons.items()):
            self.unreadable.found(int(rows[position]), reason, replaceable=False)
            rows[position] = -1
        return self._batch(images, rows, index)

    def _replacement(self, words: np.ndarray) -> tuple[np.ndarray, int]:
        """The first readable image from a random place of the training rows on."""
        first = int(words[REPLACEMENT])
        for attempt in range(min(_REPLACEMENTS, len(self.rows))):
            row = int(self.rows[(first + attempt) % len(self.rows)])
            images, reasons = self.source.images(np.array([row]), words[None])
            if not reasons:
                return images[0], row
            self.unreadable.found(row, reasons[0], replaceable=True)
        raise DataError(
            f"{_REPLACEMENTS} training images in a row cannot be read; see why with "
            "python -m input_pipeline.check"
        )

    def _rows_of(self, index: np.ndarray) -> np.ndarray:
        """Rows of the source; -1 for padding."""
        real = index < len(self.rows)
        found = np.full(len(index), -1, np.int64)
        found[real] = self.rows[index[real]]
        return found

    def _batch(self, images: np.ndarray, rows: np.ndarray, index: np.ndarray) -> Batch:
        mask = rows >= 0
        label = self.labels.take(np.maximum(rows, 0), axis=0)
        label[~mask] = 0
        return {"image": images, "label": label, "index": index.astype(np.int32), "mask": mask}
