"""Which training images each step sees: a pure function of (seed, step)."""

import dataclasses
import functools

import numpy as np

from input_pipeline.permutation import permutation


def steps_per_epoch(n: int, batch_size: int) -> int:
    """How many batches hold `n` images, the last one possibly padded: ceil(n / batch_size)."""
    return -(-n // batch_size)


@dataclasses.dataclass(frozen=True)
class TrainingOrder:
    """The order of training images.

    An epoch draws `images` of the `num_images` training images (None: all of them) and sees them
    `passes` times, each time in the same order and batches.
    """

    num_images: int
    batch_size: int
    seed: int
    images: int | None = None
    passes: int = 1

    @property
    def images_per_pass(self) -> int:
        """At most as many as there are."""
        return min(self.images or self.num_images, self.num_images)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of all passes."""
        return self.passes * steps_per_epoch(self.images_per_pass, self.batch_size)

    def of_epoch(self, epoch: int) -> np.ndarray:
        """The images that an epoch sees, in order: int64, none twice. Not to be written to."""
        return _permutation(self.num_images, self.seed, epoch)[: self.images_per_pass]

    def of_step(self, step: int) -> np.ndarray:
        """The images of a batch, int64 [batch_size]; `num_images` pads the last of a pass."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return padded(self.of_epoch(epoch), self._in_pass(batch), self.batch_size, self.num_images)

    def ends_epoch(self, step: int) -> bool:
        """Were `step` steps a whole number of epochs?"""
        return step > 0 and step % self.steps_per_epoch == 0

    def images_in(self, step: int) -> int:
        """Images of the batch of `step`, without padding."""
        position = self._in_pass(step) * self.batch_size
        return min(self.batch_size, self.images_per_pass - position)

    def _in_pass(self, step: int) -> int:
        return step % (self.steps_per_epoch // self.passes)


# Several, because a prefetching thread may be in the next epoch already.
@functools.lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    order = permutation(n, seed, epoch)
    order.flags.writeable = False  # shared by all that ask for this epoch
    return order


def padded(order: np.ndarray, batch: int, batch_size: int, padding: int) -> np.ndarray:
    """The batch-th part of `order`, filled up with `padding` to `batch_size`, int64."""
    indices = np.full(batch_size, padding, np.int64)
    part = order[batch * batch_size : (batch + 1) * batch_size]
    indices[: len(part)] = part
    return indices
