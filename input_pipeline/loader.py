"""Batches from images in memory, as a pure function of (seed, step).

Grain's usual pipeline handles one image at a time, and its cost per element is the cost of
Python: about ten times that of copying a 32x32 image. So here one Grain element is one *batch
of row numbers*, computed from the step alone, and a single gather fetches its images. Nothing
needs to be saved to resume: step t has the same batch whenever, and on however many processes,
it is asked for.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grain
import numpy as np

from input_pipeline.permutation import permutation

# One batch: "image" uint8 [b, H, W, 3], "label" uint8 [b, classes], "index" int32 [b] (position
# in `rows`; len(rows) for padding) and "mask" bool [b] (False for padding, which is all zeros).
Batch = dict[str, np.ndarray]


def steps_per_epoch(n: int, batch_size: int) -> int:
    """How many batches hold `n` images, the last one possibly padded: ceil(n / batch_size)."""
    return -(-n // batch_size)


def batch_indices(rows: np.ndarray, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Which images the global training batch of a step holds.

    Epoch e, that is step // steps_per_epoch, visits every row once in the order of
    `permutation(n, seed, e)`; its last batch is filled up with n, meaning "no image".

    Args:
      rows: int [n], rows of the image array; only their number matters here.
      batch_size: global batch size, over all processes.
      seed: in [0, 2**64).
      step: 0 or more.

    Returns:
      int64 [batch_size], positions in `rows`, 0..n-1, or n for padding.
    """
    n = len(rows)
    epoch, batch = divmod(step, steps_per_epoch(n, batch_size))
    return _padded(_epoch_order(n, seed, epoch), batch, batch_size)


def make_train_iterator(
    images: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    prefetch_batches: int = 2,
) -> grain.DatasetIterator[Batch]:
    """This process's part of the training batches from `start_step` on, without end.

    Args:
      images: uint8 [N, H, W, 3].
      labels: uint8 [N, classes].
      rows: int [n], the rows of `images` to train on.
      batch_size: global; process p of P gets its p-th slice of batch_size / P rows.
      seed: order of the images, in [0, 2**64).
      start_step: the first step to deliver; earlier ones are not read.
      process_index, process_count: usually `jax.process_index()` and `jax.process_count()`.
      prefetch_batches: how many batches one background thread prepares ahead; 0 for no thread.
        A single thread is enough, because the gather is limited by memory.

    Returns:
      A Grain iterator of `Batch`; its `close()` ends the thread early, otherwise it ends with
      the iterator.

    Raises:
      ValueError: for no rows, rows outside the images, a batch size that the processes cannot
        share equally, or a negative step.
    """
    per_process = _check(images, labels, rows, batch_size, process_index, process_count)
    if len(rows) == 0:
        raise ValueError("there are no rows to train on; give at least one training image")
    if start_step < 0:
        raise ValueError(f"start_step must be 0 or more, got {start_step}")
    gather = _Gather(images, labels, rows, process_index * per_process, per_process)
    batches = grain.MapDataset.source(
        _Steps(lambda step: batch_indices(rows, batch_size, seed, step), start_step)
    )
    threads = grain.ReadOptions(
        num_threads=min(1, prefetch_batches), prefetch_buffer_size=prefetch_batches
    )
    return iter(batches.map(gather).to_iter_dataset(threads))


def make_eval_batches(
    images: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """One pass over `rows` in order; over all processes every image comes exactly once.

    Every process gets the same number of batches, ceil(n / batch_size), so that collective
    operations stay in step; the last one is padded and masked, and a process may find nothing
    but padding in it. Arguments and errors are those of `make_train_iterator`; no rows give no
    batches. A plain generator: the device computes while the next batch is gathered.
    """
    per_process = _check(images, labels, rows, batch_size, process_index, process_count)
    gather = _Gather(images, labels, rows, process_index * per_process, per_process)
    order = np.arange(len(rows))
    batches = range(steps_per_epoch(len(rows), batch_size))
    return (gather(_padded(order, batch, batch_size)) for batch in batches)


# Several, because a prefetching thread may be in the next epoch already.
@functools.lru_cache(maxsize=4)
def _epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    order = permutation(n, seed, epoch)
    order.flags.writeable = False  # shared by all that ask for this epoch
    return order


def _padded(order: np.ndarray, batch: int, batch_size: int) -> np.ndarray:
    """The batch-th part of `order`, filled up with len(order) to `batch_size`."""
    indices = np.full(batch_size, len(order), np.int64)
    part = order[batch * batch_size : (batch + 1) * batch_size]
    indices[: len(part)] = part
    return indices


@dataclass(frozen=True)
class _Steps:
    """Grain data source: element i holds the indices of step start_step + i."""

    indices: Callable[[int], np.ndarray]
    start_step: int

    def __len__(self) -> int:
        return sys.maxsize - self.start_step  # Grain has no endless source; this is one in effect

    def __getitem__(self, index: int) -> np.ndarray:
        return self.indices(self.start_step + index)


@dataclass(frozen=True, eq=False)
class _Gather:
    """From the global batch's indices to this process's `Batch`."""

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    first: int
    count: int

    def __call__(self, indices: np.ndarray) -> Batch:
        index = indices[self.first : self.first + self.count]
        mask = index < len(self.rows)
        # Padding reads some valid row first, which keeps the gather a single call.
        rows = self.rows[np.minimum(index, len(self.rows) - 1)]
        image, label = self.images.take(rows, axis=0), self.labels.take(rows, axis=0)
        if not mask.all():
            image[~mask] = 0
            label[~mask] = 0
        return {"image": image, "label": label, "index": index.astype(np.int32), "mask": mask}


def _check(
    images: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    batch_size: int,
    process_index: int,
    process_count: int,
) -> int:
    """Checks what both factories share; returns the batch size of one process."""
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} label rows; give one each")
    if len(rows) and not (0 <= np.min(rows) and np.max(rows) < len(images)):
        raise ValueError(
            f"rows must be in 0..{len(images) - 1}, the rows of the images; got "
            f"{np.min(rows)}..{np.max(rows)}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be in 0..{process_count - 1}, got {process_index}")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch_size {batch_size} cannot be shared equally by {process_count} process(es); "
            f"choose a positive multiple of {process_count}"
        )
    return batch_size // process_count
