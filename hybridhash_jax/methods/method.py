"""What a method is: its head, its state, its loss, and what it does between epochs.

A method learns from batches of images and their labels. It is a frozen dataclass whose fields are
its options; all that it learns beside the network lies in a state, a pytree that travels with the
network's parameters, is saved with them, and is split over devices where its rows are images.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (JAX's own types are not complete.)

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from input_pipeline.options import Option

Tree = TypeVar("Tree")
State = Any  # a pytree of arrays; every method has its own
Sums = TypeVar("Sums", bound=Callable[[Any, Any], Any])


@runtime_checkable
class Rows(Protocol):
    """How the rows of a state lie on the devices, for losses that compare a batch with them."""

    def gather(self, batch: Tree) -> Tree:
        """A batch's arrays, whole on every device if the rows are split over devices."""
        ...

    def sum_over(self, sums: Sums) -> Sums:
        """Of (a batch, rows) -> sums, which sees one device's rows, the sums over all rows."""
        ...

    def on_each(self, function: Sums) -> Sums:
        """Of (what is whole, rows) -> new rows, the function on every device's own rows."""
        ...


class WholeRows:
    """All rows are on every device."""

    def gather(self, batch: Tree) -> Tree:
        """The batch itself."""
        return batch

    def sum_over(self, sums: Sums) -> Sums:
        """The function itself."""
        return sums

    def on_each(self, function: Sums) -> Sums:
        """The function itself."""
        return function


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a method knows of a batch beside the network's outputs.

    `parameters` are what the method trains beside the network, as they are now; they get a
    gradient. `rows` tells how the rows of the method's state lie on the devices. `second` is what
    the network says a second time, where the method wants that, see `Method.second`.
    """

    labels: jax.Array  # [B, classes] multi-hot, as the data set has them
    targets: jax.Array  # [B, classes] float32, what `Method.mix` made of them
    mask: jax.Array  # bool [B]; False is padding or an unreadable image, which must not count
    index: jax.Array  # int [B], each image's row among the training images; n for padding
    parameters: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict[str, jax.Array])
    rows: Rows = dataclasses.field(default_factory=WholeRows)
    second: jax.Array | None = None  # [B, K] float32


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch sees: `images` of the training images, drawn for it, `passes` times."""

    images: int
    passes: int = 1


def wide(x: jax.Array) -> jax.Array:
    """The array in float32, or in float64 if it is that: what losses are computed in."""
    return x.astype(jax.numpy.float64 if x.dtype == jax.numpy.float64 else jax.numpy.float32)


def signs(x: jax.Array) -> jax.Array:
    """The bits of a code as -1 and +1; 0 gives +1, as everywhere in codes."""
    return jax.numpy.where(x >= 0, 1, -1).astype(x.dtype)


def mean_where(values: jax.Array, kept: jax.Array) -> jax.Array:
    """The mean of the values where the booleans `kept`, of the same shape, are True; 0 for none."""
    count = jax.numpy.sum(kept, dtype=values.dtype)
    return jax.numpy.sum(jax.numpy.where(kept, values, 0)) / jax.numpy.maximum(count, 1)


def normalises_by_batch(head: str) -> bool:
    """Has this head a batch norm, whose outputs of a single image say nothing of it?"""
    return head.startswith("batch_norm")


def everywhere(is_row: bool, state: Any) -> Any:
    """A pytree like the state with `is_row` in place of every array."""
    return jax.tree.unflatten(jax.tree.structure(state), [is_row] * len(jax.tree.leaves(state)))


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """One way to train a network.

    Attributes:
      title: what people call it; `paper`: its authors, venue and year.
      head: the network's head that it needs, a key of `models.HEADS`.
      learns: "codes", which retrieval measures, or "classes", which top-1 and top-5 measure.
      group: the group of the configuration that holds its options; `options`: what they may be.
      is_fitted: is it fitted from features, by `fit`, instead of trained by steps?
      second: what `Examples.second` is: "view", outputs of the images augmented once more, with a
        gradient; or "momentum", those of parameters that follow the trained ones by `momentum`,
        without one; None: nothing.
      recipes: fields of the configuration by dotted name: "published", how its authors trained it
        (optimizer, schedule, batch, epochs); "features", what it wants on frozen features other
        than what all methods share there.
      grid: values of its own options that a comparison tries.
    """

    title: ClassVar[str]
    paper: ClassVar[str] = ""
    head: ClassVar[str] = "hybridhash"
    learns: ClassVar[str] = "codes"
    group: ClassVar[str]
    options: ClassVar[tuple[Option, ...]] = ()
    is_fitted: ClassVar[bool] = False
    second: ClassVar[str | None] = None
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @property
    def momentum(self) -> float:
        """Of the parameters behind `second` "momentum": how much of them a step keeps."""
        return 0.9

    @property
    def fewest_images(self) -> int:
        """Images that it takes at once to learn anything, such as the two of a pair."""
        return 2 if normalises_by_batch(self.head) else 1

    @property
    def supervision(self) -> str:
        """Whose labels it learns from: "train", the training images; "database", all of that."""
        return "train"

    def epoch(self, num_images: int) -> Epoch:
        """What an epoch over `num_images` training images sees: each of them once."""
        return Epoch(num_images)

    def check_labels(self, labels: np.ndarray) -> None:
        """Refuses training labels [n, classes] that it cannot learn from, with a ValueError."""
        del labels

    def check_bits(self, bits: int, images: int, width: int) -> None:
        """Refuses a code length that it cannot have, with a ValueError, before anything is computed.

        `images` is how many it learns from, `width` that of their features.
        """
        del bits, images, width

    def init_state(self, labels: jax.Array, bits: int, key: jax.Array) -> State:
        """The state before the first step; it is traced, so use jax.numpy alone.

        `labels` [n, classes] are those of the training images in their order, multi-hot; `bits` is
        K, the length of the network's output; `key` is the run's.
        """
        del labels, bits, key

    def start(self, state: State, labels: np.ndarray) -> State:
        """The first state with what the host computes before training, from labels [n, classes].

        It is called once, not traced, and gives arrays of the same shapes.
        """
        del labels
        return state

    def note(self, state: State) -> str | None:
        """What to know of what `start` found, in a sentence; None for nothing."""
        del state

    def init_parameters(self, num_classes: int, bits: int, key: jax.Array) -> dict[str, Any]:
        """What it trains beside the network, such as proxies, by name; drawn from `key`."""
        del num_classes, bits, key
        return {}

    def row_leaves(self, state: State) -> Any:
        """A pytree of booleans like the state: True where axis 0 is the training images."""
        return everywhere(False, state)

    def mix(
        self, images: jax.Array, labels: jax.Array, mask: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The images [B, H, W, 3] and targets [B, classes] that are trained on, float32."""
        del mask, key
        return images, labels.astype(jax.numpy.float32)

    @abc.abstractmethod
    def loss(
        self, outputs: jax.Array, examples: Examples, state: State, step: jax.Array
    ) -> tuple[jax.Array, State]:
        """The loss of a batch, a scalar in float32 or wider, and the next state.

        `outputs` [B, K] are float32; no gradient flows into `state`; `step` counts earlier steps.
        """

    def begin_epoch(self, state: State, images: jax.Array, rows: Rows) -> State:
        """The state before an epoch's first step; traced, like `init_state`.

        `images` int [m] are rows of the training images: those that the epoch sees, in order.
        """
        del images, rows
        return state

    def end_epoch(self, state: State, step: jax.Array, rows: Rows) -> State:
        """The state after an epoch's last step, before the next begins; traced."""
        del step, rows
        return state

    def fit(self, features: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """The head of a method that `is_fitted`: kernel [C, K] and bias [K], float32.

        The code of x is sign(x @ kernel + bias). `features` [n, C] are floats of any size, also a
        memory map, and are read in chunks; `bits` is K. A ValueError says what cannot be fitted.
        """
        del features, bits
        raise NotImplementedError(f"{type(self).__name__} is trained by steps")

    @property
    def acts_between_epochs(self) -> bool:
        """Does it have a `begin_epoch` or an `end_epoch` of its own?"""
        own = type(self)
        return (own.begin_epoch, own.end_epoch) != (Method.begin_epoch, Method.end_epoch)

    @property
    def starts_on_host(self) -> bool:
        """Does it have a `start` of its own?"""
        return type(self).start is not Method.start

    @property
    def learns_database_codes(self) -> bool:
        """Does it have `database_codes` of its own?"""
        return type(self).database_codes is not Method.database_codes

    def database_codes(self, state: State) -> jax.Array | None:
        """Learned embeddings [n, K] of the training images, whose signs are their codes.

        An asymmetric method has them; None means that the network encodes every image. So it does
        where a row is all zeros.
        """
        del state
        return None
